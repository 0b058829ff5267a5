//! Random numbers of tests, and conversions to a backend's type.

use s4_backend::{Scalar, random::Rng};

/// n standard normal numbers that f32 holds exactly, so that every backend sees the same ones.
pub fn noise(seed: u64, stream: u32, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed, stream);
    (0..n).map(|_| f64::from(rng.normal() as f32)).collect()
}

/// In the type T.
pub fn cast<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

/// In f64.
pub fn wide<T: Scalar>(x: &[T]) -> Vec<f64> {
    x.iter().map(|&x| Scalar::to_f64(x)).collect()
}
