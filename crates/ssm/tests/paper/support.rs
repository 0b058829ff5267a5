//! The golden files as the oracles take them.

use s4_ssm::{C64, Ssm};
use s4_testing::golden::Golden;
pub use s4_testing::{golden::cases, relative};
use std::collections::BTreeMap;

pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// Every tensor as f64, and the configuration.
pub fn read(name: &str) -> (Tensors, serde_json::Value) {
    let Golden { tensors, config } = Golden::read(name);
    (tensors, config)
}

pub fn complex(data: &[f64]) -> Vec<C64> {
    data.chunks_exact(2).map(|x| C64::new(x[0], x[1])).collect()
}

pub fn flat(x: &[C64]) -> Vec<f64> {
    x.iter().flat_map(|x| [x.re, x.im]).collect()
}

/// The heads of a case, from the official names, with Δ·rate and the C given.
pub fn heads(tensors: &Tensors, prefix: &str, config: &serde_json::Value, c: &[f64], rate: f64) -> Vec<Ssm> {
    let golden = Golden { config: config.clone(), tensors: tensors.clone() };
    golden.layer("golden", prefix, c).heads(rate)
}
