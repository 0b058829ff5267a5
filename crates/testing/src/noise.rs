//! Random numbers for tests, and conversions between f64 and a backend's type.

use s4_backend::{Scalar, random::Rng};

/// n standard normal numbers, rounded to f32, so that backends of f32 and f64 get the same ones.
pub fn noise(seed: u64, stream: u32, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed, stream);
    (0..n).map(|_| f64::from(rng.normal() as f32)).collect()
}

/// The numbers in the type T, rounded.
pub fn cast<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

/// The numbers in f64, exactly.
pub fn wide<T: Scalar>(x: &[T]) -> Vec<f64> {
    x.iter().map(|&x| Scalar::to_f64(x)).collect()
}
