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

/// `f32` or `f64`. Plain old data, so that a backend may hand slices to code for one of the two.
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
    /// Run-time name of the type.
    const DTYPE: Dtype;
    /// Nearest value.
    fn from_f64(x: f64) -> Self;
    /// Exact widening.
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

/// Whether all of x are finite.
pub fn all_finite<T: Scalar>(x: &[T]) -> bool {
    // A sum of x·0 is 0 exactly when every x is finite; many lanes, no branch.
    let mut lanes = [T::zero(); 32];
    let (head, tail) = x.as_chunks::<32>();
    for c in head {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += v * T::zero();
        }
    }
    lanes.iter().copied().sum::<T>() + tail.iter().map(|&v| v * T::zero()).sum::<T>() == T::zero()
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
