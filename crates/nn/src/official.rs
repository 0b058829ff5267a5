//! Official PyTorch S4 (V4) state dicts of one block.
#![allow(unused_variables, clippy::todo)]
use crate::Block;
use s4_backend::{Backend, Result};
use std::{collections::HashMap, path::Path};

/// A named tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f64>,
}

/// A block from an official state dict (names as in the state dict, with or without a common prefix). `config` is JSON: what a
/// state dict does not say (`mode`, `disc`, `dt_transform`, `real_transform`, `imag_transform`, `bidirectional`, `activation`,
/// `final_act`, …; defaults as in the official code). C̃ (`l_kernel` > 0) becomes C by an f64 solve.
pub fn block_from_official<B: Backend>(
    be: B,
    tensors: &HashMap<String, NamedTensor>,
    config: &str,
) -> Result<Block<B>> {
    todo!()
}
/// From a safetensors file; without `config`, its metadata must hold one under `config`.
pub fn block_from_official_file<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<Block<B>> {
    todo!()
}
