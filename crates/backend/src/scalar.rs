//! The floating-point type of a backend's buffers.

use num_traits::{Float, FloatConst, NumAssign};
use std::{fmt, iter::Sum};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE double precision (CPU only).
    F64,
}

impl Dtype {
    /// `"f32"` or `"f64"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

/// `f32` or `f64`. Both are plain old data, so that a generic backend may cast its slices to those of the one type
/// that it has special code for.
pub trait Scalar:
    Float
    + FloatConst
    + NumAssign
    + Sum
    + Default
    + Send
    + Sync
    + bytemuck::Pod
    + fmt::Debug
    + fmt::Display
    + 'static
{
    /// The type as a value at run time.
    const DTYPE: Dtype;
    /// The value of this type nearest to x.
    fn from_f64(x: f64) -> Self;
    /// The same number as f64; exact.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Scalar for f64 {
    const DTYPE: Dtype = Dtype::F64;
    fn from_f64(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Whether no element of x is NaN or infinite.
pub fn all_finite<T: Scalar>(x: &[T]) -> bool {
    // x·0 is 0 for a finite x and NaN for others, so that the sum of all x·0 is 0 exactly when every x is finite.
    // 32 independent sums without a branch compile to SIMD instructions.
    let mut partial_sums = [T::zero(); 32];
    let (blocks, remainder) = x.as_chunks::<32>();
    for block in blocks {
        for (sum, &v) in partial_sums.iter_mut().zip(block) {
            *sum += v * T::zero();
        }
    }
    partial_sums.iter().copied().sum::<T>() + remainder.iter().map(|&v| v * T::zero()).sum::<T>() == T::zero()
}

#[cfg(test)]
mod tests {
    use super::all_finite;

    #[test]
    fn one_number_that_is_not_finite_is_found_anywhere() {
        let mut x: Vec<f32> = (0..100).map(|i| 3e38 * (i as f32 - 50.0).signum()).collect();
        assert!(all_finite(&x) && all_finite::<f64>(&[]));
        for i in 0..x.len() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let good = std::mem::replace(&mut x[i], bad);
                assert!(!all_finite(&x), "{bad} at {i}");
                x[i] = good;
            }
        }
    }
}
