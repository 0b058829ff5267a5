//! Arrays of numbers in the types in which files store them.

use crate::{DataError, Result};

/// A list of numbers of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// 8 bits without sign, also for booleans.
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

/// An array of numbers with a shape, the last axis contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberArray {
    /// Size of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The values, as many as the product of the sizes.
    pub values: Numbers,
}

/// The type in which a file stores numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredType {
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

impl StoredType {
    pub(super) fn bytes(self) -> u64 {
        match self {
            StoredType::U8 | StoredType::I8 => 1,
            StoredType::U16 | StoredType::I16 | StoredType::F16 => 2,
            StoredType::U32 | StoredType::I32 | StoredType::F32 => 4,
            StoredType::U64 | StoredType::I64 | StoredType::F64 => 8,
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
    /// Numbers from the bytes of a file.
    pub(super) fn decode(bytes: Vec<u8>, stored_type: StoredType, big_endian: bool) -> Result<Numbers> {
        Ok(match stored_type {
            StoredType::U8 => Numbers::U8(bytes),
            StoredType::I8 => Numbers::I8(decode!(bytes, big_endian, i8)),
            StoredType::U16 => Numbers::U16(decode!(bytes, big_endian, u16)),
            StoredType::I16 => Numbers::I16(decode!(bytes, big_endian, i16)),
            StoredType::U32 => Numbers::U32(decode!(bytes, big_endian, u32)),
            StoredType::I32 => Numbers::I32(decode!(bytes, big_endian, i32)),
            StoredType::U64 => Numbers::U64(decode!(bytes, big_endian, u64)),
            StoredType::I64 => Numbers::I64(decode!(bytes, big_endian, i64)),
            StoredType::F32 => Numbers::F32(decode!(bytes, big_endian, f32)),
            StoredType::F64 => Numbers::F64(decode!(bytes, big_endian, f64)),
            StoredType::F16 => {
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

    /// The numbers in double precision; 64-bit integers beyond 2⁵³ are rounded.
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

    /// Reorders an array whose first axis is contiguous (Fortran's order) to one whose last axis is.
    pub(super) fn from_fortran(self, shape: &[usize]) -> Numbers {
        fn to_row_major<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
            let mut strides = vec![1; shape.len()];
            for axis in 1..shape.len() {
                strides[axis] = strides[axis - 1] * shape[axis - 1];
            }
            let mut index_of_axis = vec![0; shape.len()];
            let mut source = 0;
            let mut row_major = Vec::with_capacity(values.len());
            for _ in 0..values.len() {
                row_major.push(values[source]);
                for axis in (0..shape.len()).rev() {
                    index_of_axis[axis] += 1;
                    source += strides[axis];
                    if index_of_axis[axis] < shape[axis] {
                        break;
                    }
                    source -= strides[axis] * shape[axis];
                    index_of_axis[axis] = 0;
                }
            }
            row_major
        }
        match self {
            Numbers::U8(v) => Numbers::U8(to_row_major(&v, shape)),
            Numbers::I8(v) => Numbers::I8(to_row_major(&v, shape)),
            Numbers::U16(v) => Numbers::U16(to_row_major(&v, shape)),
            Numbers::I16(v) => Numbers::I16(to_row_major(&v, shape)),
            Numbers::U32(v) => Numbers::U32(to_row_major(&v, shape)),
            Numbers::I32(v) => Numbers::I32(to_row_major(&v, shape)),
            Numbers::U64(v) => Numbers::U64(to_row_major(&v, shape)),
            Numbers::I64(v) => Numbers::I64(to_row_major(&v, shape)),
            Numbers::F32(v) => Numbers::F32(to_row_major(&v, shape)),
            Numbers::F64(v) => Numbers::F64(to_row_major(&v, shape)),
        }
    }
}

/// Number of bytes of an array of this shape; `None` where it overflows.
pub(super) fn byte_count(shape: &[usize], stored_type: StoredType) -> Option<u64> {
    let product = shape.iter().try_fold(1u64, |p, n| p.checked_mul(*n as u64))?;
    product.checked_mul(stored_type.bytes())
}

/// The value of an IEEE 754 half-precision number from its bits, exactly.
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
