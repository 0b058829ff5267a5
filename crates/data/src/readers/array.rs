//! Arrays of numbers as files hold them.

use crate::{DataError, Result};

/// Values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Also booleans.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// 16 bits without sign.
    U16(Vec<u16>),
    /// 16 bits.
    I16(Vec<i16>),
    /// 32 bits without sign.
    U32(Vec<u32>),
    /// 32 bits.
    I32(Vec<i32>),
    /// 64 bits without sign.
    U64(Vec<u64>),
    /// 64 bits.
    I64(Vec<i64>),
    /// Single precision; half precision is widened to it.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

/// Numbers with a shape, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberArray {
    /// May be empty: one number.
    pub shape: Vec<usize>,
    /// As many as the shape's product.
    pub values: Numbers,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Stored {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Stored::U8 | Stored::I8 => 1,
            Stored::U16 | Stored::I16 | Stored::F16 => 2,
            Stored::U32 | Stored::I32 | Stored::F32 => 4,
            Stored::U64 | Stored::I64 | Stored::F64 => 8,
        }
    }
}

macro_rules! decode {
    ($bytes:expr, $big:expr, $type:ty) => {{
        let (chunks, _) = $bytes.as_chunks::<{ size_of::<$type>() }>();
        let mut values: Vec<$type> = Vec::new();
        values
            .try_reserve_exact(chunks.len())
            .map_err(|_| DataError::new(format!("no memory for an array of {} numbers", chunks.len())))?;
        match $big {
            true => values.extend(chunks.iter().map(|c| <$type>::from_be_bytes(*c))),
            false => values.extend(chunks.iter().map(|c| <$type>::from_le_bytes(*c))),
        }
        values
    }};
}

impl Numbers {
    /// Numbers from their bytes.
    pub(super) fn decode(bytes: Vec<u8>, stored: Stored, big_endian: bool) -> Result<Numbers> {
        Ok(match stored {
            Stored::U8 => Numbers::U8(bytes),
            Stored::I8 => Numbers::I8(decode!(bytes, big_endian, i8)),
            Stored::U16 => Numbers::U16(decode!(bytes, big_endian, u16)),
            Stored::I16 => Numbers::I16(decode!(bytes, big_endian, i16)),
            Stored::U32 => Numbers::U32(decode!(bytes, big_endian, u32)),
            Stored::I32 => Numbers::I32(decode!(bytes, big_endian, i32)),
            Stored::U64 => Numbers::U64(decode!(bytes, big_endian, u64)),
            Stored::I64 => Numbers::I64(decode!(bytes, big_endian, i64)),
            Stored::F32 => Numbers::F32(decode!(bytes, big_endian, f32)),
            Stored::F64 => Numbers::F64(decode!(bytes, big_endian, f64)),
            Stored::F16 => {
                Numbers::F32(decode!(bytes, big_endian, u16).into_iter().map(half_to_single).collect())
            }
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::U8(v) => v.len(),
            Numbers::I8(v) => v.len(),
            Numbers::U16(v) => v.len(),
            Numbers::I16(v) => v.len(),
            Numbers::U32(v) => v.len(),
            Numbers::I32(v) => v.len(),
            Numbers::U64(v) => v.len(),
            Numbers::I64(v) => v.len(),
            Numbers::F32(v) => v.len(),
            Numbers::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each as double precision; 64-bit integers beyond 2⁵³ are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Numbers::U8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::I8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::U16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::I16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::U32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::U64(v) => v.iter().map(|x| *x as f64).collect(),
            Numbers::I64(v) => v.iter().map(|x| *x as f64).collect(),
            Numbers::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Numbers::F64(v) => v.clone(),
        }
    }

    /// From the order with the first axis fastest to the order with the last axis fastest.
    pub(super) fn from_fortran(self, shape: &[usize]) -> Numbers {
        fn turn<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
            let mut strides = vec![1; shape.len()];
            for axis in 1..shape.len() {
                strides[axis] = strides[axis - 1] * shape[axis - 1];
            }
            let mut place = vec![0; shape.len()];
            let mut from = 0;
            let mut turned = Vec::with_capacity(values.len());
            for _ in 0..values.len() {
                turned.push(values[from]);
                for axis in (0..shape.len()).rev() {
                    place[axis] += 1;
                    from += strides[axis];
                    if place[axis] < shape[axis] {
                        break;
                    }
                    from -= strides[axis] * shape[axis];
                    place[axis] = 0;
                }
            }
            turned
        }
        match self {
            Numbers::U8(v) => Numbers::U8(turn(&v, shape)),
            Numbers::I8(v) => Numbers::I8(turn(&v, shape)),
            Numbers::U16(v) => Numbers::U16(turn(&v, shape)),
            Numbers::I16(v) => Numbers::I16(turn(&v, shape)),
            Numbers::U32(v) => Numbers::U32(turn(&v, shape)),
            Numbers::I32(v) => Numbers::I32(turn(&v, shape)),
            Numbers::U64(v) => Numbers::U64(turn(&v, shape)),
            Numbers::I64(v) => Numbers::I64(turn(&v, shape)),
            Numbers::F32(v) => Numbers::F32(turn(&v, shape)),
            Numbers::F64(v) => Numbers::F64(turn(&v, shape)),
        }
    }
}

/// Bytes of an array of this shape; `None` where that overflows.
pub(super) fn byte_count(shape: &[usize], stored: Stored) -> Option<u64> {
    let product = shape.iter().try_fold(1u64, |p, n| p.checked_mul(*n as u64))?;
    product.checked_mul(stored.bytes())
}

/// IEEE 754 half precision, exactly.
fn half_to_single(bits: u16) -> f32 {
    let sign = if bits & 0x8000 != 0 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3FF);
    match (bits >> 10) & 0x1F {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}
