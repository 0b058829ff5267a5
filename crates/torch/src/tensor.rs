//! A tensor on the host, as the bytes of its values.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Names and their tensors.
pub type StateDict = BTreeMap<String, Tensor>;

/// Types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// Complex: real and imaginary part in F32.
    C64,
    /// Complex: real and imaginary part in F64.
    C128,
}

impl Dtype {
    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Dtype::C128 => 16,
            Dtype::F64 | Dtype::I64 | Dtype::C64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }
}

/// Values in row-major order, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Elements of a shape; `None` where they overflow.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s))
}

impl Tensor {
    /// From its parts; refused where the bytes are not those of the shape.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        if elements(&shape).and_then(|n| n.checked_mul(dtype.size())) != Some(bytes.len()) {
            return Err(Error::new(
                "tensor",
                format!("the bytes of {dtype:?} {shape:?}"),
                format!("{} bytes", bytes.len()),
            ));
        }
        Ok(Tensor { dtype, shape, bytes })
    }

    /// F32 or F64 values; `dtype` F64 keeps every bit, everything else is stored as F32.
    pub fn from_f64(dtype: Dtype, shape: Vec<usize>, values: &[f64]) -> Result<Self> {
        match dtype {
            Dtype::F64 => Tensor::new(dtype, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
            _ => {
                let bytes = values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
                Tensor::new(Dtype::F32, shape, bytes)
            }
        }
    }

    /// Type of the values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }
    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Little-endian values.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Number of values.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }
    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The same values in another shape of as many elements.
    pub fn reshaped(mut self, shape: Vec<usize>) -> Result<Self> {
        if elements(&shape) != elements(&self.shape) {
            return Err(Error::new(
                "tensor",
                format!("a shape of as many values as {:?}", self.shape),
                format!("{shape:?}"),
            ));
        }
        self.shape = shape;
        Ok(self)
    }

    /// Values as f64, exact but for integers beyond 2^53; complex ones as pairs of (re, im).
    pub fn to_f64(&self) -> Vec<f64> {
        let (two, _) = self.bytes.as_chunks::<2>();
        let (four, _) = self.bytes.as_chunks::<4>();
        let (eight, _) = self.bytes.as_chunks::<8>();
        match self.dtype {
            Dtype::F64 | Dtype::C128 => eight.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 | Dtype::C64 => four.iter().map(|b| f32::from_le_bytes(*b) as f64).collect(),
            Dtype::F16 => two.iter().map(|b| f16(u16::from_le_bytes(*b))).collect(),
            Dtype::Bf16 => {
                two.iter().map(|b| f32::from_bits((u16::from_le_bytes(*b) as u32) << 16) as f64).collect()
            }
            Dtype::I64 => eight.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::I32 => four.iter().map(|b| i32::from_le_bytes(*b) as f64).collect(),
            Dtype::I16 => two.iter().map(|b| i16::from_le_bytes(*b) as f64).collect(),
            Dtype::I8 => self.bytes.iter().map(|&b| b as i8 as f64).collect(),
            Dtype::U8 | Dtype::Bool => self.bytes.iter().map(|&b| b as f64).collect(),
        }
    }
}

/// IEEE half precision.
fn f16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f64);
    match (exponent, bits & 1023) {
        (0, _) => sign * fraction * 2f64.powi(-24),
        (31, 0) => sign * f64::INFINITY,
        (31, _) => f64::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_floats() {
        let half =
            |bits: u16| Tensor::new(Dtype::F16, vec![], bits.to_le_bytes().to_vec()).unwrap().to_f64()[0];
        assert_eq!(
            [0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00].map(half),
            [1.0, -2.0, 65504.0, 2f64.powi(-24), f64::INFINITY]
        );
        assert!(half(0x7c01).is_nan());
        let wide = Tensor::new(Dtype::Bf16, vec![1], vec![0x80, 0xbf]).unwrap();
        assert_eq!(wide.to_f64(), [-1.0]);
    }

    #[test]
    fn bytes_and_shape_must_agree() {
        assert!(Tensor::new(Dtype::F32, vec![2], vec![0; 7]).is_err());
        assert!(Tensor::new(Dtype::F32, vec![usize::MAX, 2], vec![]).is_err());
        assert!(Tensor::new(Dtype::F32, vec![0, 3], vec![]).unwrap().is_empty());
    }
}
