//! Scalars as the little-endian bytes of safetensors.

use s4_backend::Scalar;
use safetensors::Dtype;

/// A scalar type in the words of the safetensors format.
pub(crate) fn safetensors_dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

/// The little-endian bytes of all elements, in their own type.
pub(crate) fn to_bytes<T: Scalar>(x: &[T]) -> Vec<u8> {
    match T::DTYPE {
        s4_backend::Dtype::F32 => x.iter().flat_map(|v| (Scalar::to_f64(*v) as f32).to_le_bytes()).collect(),
        s4_backend::Dtype::F64 => x.iter().flat_map(|v| Scalar::to_f64(*v).to_le_bytes()).collect(),
    }
}

/// Elements from bytes of F32 or F64, rounded where `T` is the narrower type. Empty for any other type.
pub(crate) fn from_bytes<T: Scalar>(dtype: Dtype, bytes: &[u8]) -> Vec<T> {
    let (groups_of_4, _) = bytes.as_chunks::<4>();
    let (groups_of_8, _) = bytes.as_chunks::<8>();
    match dtype {
        Dtype::F32 => groups_of_4.iter().map(|b| T::from_f64(f32::from_le_bytes(*b) as f64)).collect(),
        Dtype::F64 => groups_of_8.iter().map(|b| T::from_f64(f64::from_le_bytes(*b))).collect(),
        _ => Vec::new(),
    }
}
