//! Tensors in host memory, as the bytes of their values.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The tensors of a model by name.
pub type StateDict = BTreeMap<String, Tensor>;

/// Type of a tensor's values.
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
    /// Bytes of one value.
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

/// A tensor: values in row-major order, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Number of elements of a shape; `None` where it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s))
}

impl Tensor {
    /// A tensor of these bytes; an error where their number is not that of the shape.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        if element_count(&shape).and_then(|n| n.checked_mul(dtype.size())) != Some(bytes.len()) {
            return Err(Error::new(
                "tensor",
                format!("the bytes of {dtype:?} {shape:?}"),
                format!("{} bytes", bytes.len()),
            ));
        }
        Ok(Tensor { dtype, shape, bytes })
    }

    /// A tensor of these values: of F64 where `dtype` is F64, of F32 for every other `dtype`.
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
    /// Size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// The values in row-major order, little-endian.
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

    /// The same values in another shape, which must have as many elements.
    pub fn reshaped(mut self, shape: Vec<usize>) -> Result<Self> {
        if element_count(&shape) != element_count(&self.shape) {
            return Err(Error::new(
                "tensor",
                format!("a shape of as many values as {:?}", self.shape),
                format!("{shape:?}"),
            ));
        }
        self.shape = shape;
        Ok(self)
    }

    /// The values as f64: exact but for integers beyond 2^53. A complex number becomes two values, re and im.
    pub fn to_f64(&self) -> Vec<f64> {
        let (pairs, _) = self.bytes.as_chunks::<2>();
        let (quads, _) = self.bytes.as_chunks::<4>();
        let (octets, _) = self.bytes.as_chunks::<8>();
        match self.dtype {
            Dtype::F64 | Dtype::C128 => octets.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 | Dtype::C64 => quads.iter().map(|b| f32::from_le_bytes(*b) as f64).collect(),
            Dtype::F16 => pairs.iter().map(|b| half_to_f64(u16::from_le_bytes(*b))).collect(),
            Dtype::Bf16 => {
                pairs.iter().map(|b| f32::from_bits((u16::from_le_bytes(*b) as u32) << 16) as f64).collect()
            }
            Dtype::I64 => octets.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::I32 => quads.iter().map(|b| i32::from_le_bytes(*b) as f64).collect(),
            Dtype::I16 => pairs.iter().map(|b| i16::from_le_bytes(*b) as f64).collect(),
            Dtype::I8 => self.bytes.iter().map(|&b| b as i8 as f64).collect(),
            Dtype::U8 | Dtype::Bool => self.bytes.iter().map(|&b| b as f64).collect(),
        }
    }
}

/// The value of an IEEE half-precision number from its bits.
fn half_to_f64(bits: u16) -> f64 {
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
