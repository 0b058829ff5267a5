//! Scalars as the little-endian bytes of safetensors.

use s4_backend::Scalar;
use safetensors::Dtype;

/// The file's name of a scalar type.
pub(crate) fn dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

/// Exact.
pub(crate) fn to_bytes<T: Scalar>(x: &[T]) -> Vec<u8> {
    match T::DTYPE {
        s4_backend::Dtype::F32 => x.iter().flat_map(|v| (Scalar::to_f64(*v) as f32).to_le_bytes()).collect(),
        s4_backend::Dtype::F64 => x.iter().flat_map(|v| Scalar::to_f64(*v).to_le_bytes()).collect(),
    }
}

/// From F32 or F64, rounded where the scalar is narrower.
pub(crate) fn from_bytes<T: Scalar>(dtype: Dtype, bytes: &[u8]) -> Vec<T> {
    to_f64(dtype, bytes).into_iter().map(T::from_f64).collect()
}

/// From F32, F64, or integers of 32 or 64 bits; others give nothing.
pub(crate) fn to_f64(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let (four, _) = bytes.as_chunks::<4>();
    let (eight, _) = bytes.as_chunks::<8>();
    match dtype {
        Dtype::F32 => four.iter().map(|b| f32::from_le_bytes(*b) as f64).collect(),
        Dtype::F64 => eight.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::I32 => four.iter().map(|b| i32::from_le_bytes(*b) as f64).collect(),
        Dtype::I64 => eight.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        _ => Vec::new(),
    }
}
