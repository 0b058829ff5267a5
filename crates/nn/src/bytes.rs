//! Scalars as the little-endian bytes of safetensors.

use s4_backend::{Result, Scalar, host_memory};
use safetensors::Dtype;

/// A scalar type in the words of the safetensors format.
pub(crate) fn safetensors_dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

/// The little-endian bytes of all elements, in their own type.
pub(crate) fn to_bytes<T: Scalar>(x: &[T]) -> Result<Vec<u8>> {
    let len = size_of_val(x);
    let mut bytes = host_memory::reserved("s4-node", "the bytes of a tensor", len, len)?;
    match T::DTYPE {
        s4_backend::Dtype::F32 => {
            x.iter().for_each(|v| bytes.extend_from_slice(&(Scalar::to_f64(*v) as f32).to_le_bytes()));
        }
        s4_backend::Dtype::F64 => {
            x.iter().for_each(|v| bytes.extend_from_slice(&Scalar::to_f64(*v).to_le_bytes()))
        }
    }
    Ok(bytes)
}

/// Elements from bytes of F32, F64, I32 or I64, rounded where `T` is the narrower type. Empty for any other type.
pub(crate) fn from_bytes<T: Scalar>(dtype: Dtype, bytes: &[u8]) -> Result<Vec<T>> {
    match dtype {
        Dtype::F32 => converted(bytes, |b| T::from_f64(f32::from_le_bytes(b) as f64)),
        Dtype::F64 => converted(bytes, |b| T::from_f64(f64::from_le_bytes(b))),
        Dtype::I32 => converted(bytes, |b| T::from_f64(i32::from_le_bytes(b) as f64)),
        Dtype::I64 => converted(bytes, |b| T::from_f64(i64::from_le_bytes(b) as f64)),
        _ => Ok(Vec::new()),
    }
}

/// Converts each group of `N` bytes to an element.
fn converted<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let (groups, _) = bytes.as_chunks::<N>();
    let mut elements = host_memory::reserved("s4-node", "a tensor", groups.len(), groups.len())?;
    elements.extend(groups.iter().map(|b| element(*b)));
    Ok(elements)
}
