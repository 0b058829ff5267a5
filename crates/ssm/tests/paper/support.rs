//! Golden files (arrays computed by the official code) in the forms that the oracles take.

use s4_ssm::{C64, Ssm};
use s4_testing::golden::Golden;
pub use s4_testing::{golden::cases, relative};
use std::collections::BTreeMap;

pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// Every tensor of a golden file as (shape, f64 values), and the configuration that it was computed with.
pub fn read_golden(name: &str) -> (Tensors, serde_json::Value) {
    let Golden { tensors, config } = Golden::read(name);
    (tensors, config)
}

/// Complex numbers from alternating real and imaginary parts.
pub fn complex(data: &[f64]) -> Vec<C64> {
    data.chunks_exact(2).map(|x| C64::new(x[0], x[1])).collect()
}

/// Alternating real and imaginary parts of complex numbers.
pub fn interleaved(x: &[C64]) -> Vec<f64> {
    x.iter().flat_map(|x| [x.re, x.im]).collect()
}

/// The SSM of every head of a golden file, whose tensors have the official names after `prefix`; with the given C,
/// and every Δ multiplied by `rate`.
pub fn head_ssms(
    tensors: &Tensors,
    prefix: &str,
    config: &serde_json::Value,
    c: &[f64],
    rate: f64,
) -> Vec<Ssm> {
    let golden = Golden { config: config.clone(), tensors: tensors.clone() };
    golden.layer("golden", prefix, c).heads(rate)
}
