//! Golden files and errors for the tests of this crate.

pub use s4_backend::{Backend, Memory, Scalar};
pub use s4_cpu::Cpu;
pub use s4_nn::{Algorithm, CallOptions, HostOptions};
pub use s4_testing::{
    cast, close,
    golden::{Golden, folder as golden_dir},
    wide,
};

/// All block cases.
pub fn cases() -> Vec<String> {
    // The kernel of one is truncated, which a state dict does not say: run with that option by the tests of the public API.
    s4_testing::golden::cases().into_iter().filter(|name| name != "dplr_short").collect()
}

/// (batch, rows, cols) → (batch, cols, rows).
pub fn swap<T: Copy>(x: &[T], batch: usize, rows: usize, cols: usize) -> Vec<T> {
    assert_eq!(x.len(), batch * rows * cols);
    let at = |b: usize, c: usize, r: usize| x[(b * rows + r) * cols + c];
    (0..batch).flat_map(|b| (0..cols).flat_map(move |c| (0..rows).map(move |r| at(b, c, r)))).collect()
}

/// Smooth noise.
pub fn noise(seed: u64, n: usize) -> Vec<f64> {
    s4_testing::noise(seed, 99, n)
}

/// Rows of these lengths.
pub fn with_lengths<T>(lengths: &[i32]) -> HostOptions<'_, T> {
    CallOptions { lengths: Some(lengths), ..Default::default() }
}

/// By this algorithm.
pub fn by<T: 'static>(algorithm: Algorithm) -> HostOptions<'static, T> {
    CallOptions { algorithm, ..Default::default() }
}

/// At this rate.
pub fn at_rate<T: 'static>(rate: f64) -> HostOptions<'static, T> {
    CallOptions { rate, ..Default::default() }
}

/// With dropout and batch statistics.
pub fn in_training<T: 'static>(training: bool) -> HostOptions<'static, T> {
    CallOptions { training, ..Default::default() }
}
