//! Checkpoints: safetensors with the whole configuration in the metadata.
#![allow(unused_variables, clippy::todo)]
use crate::{Model, ModelConfig, Trainer};
use s4_backend::{Backend, Result};
use std::path::Path;

/// What a checkpoint gives.
pub struct Loaded<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// With the optimiser's state, where it was saved.
    pub trainer: Option<Trainer<B>>,
    /// The caller's own JSON.
    pub extra: Option<String>,
}

/// Configuration of a checkpoint and its dtype, without loading it.
pub fn inspect(path: &Path) -> Result<(ModelConfig, String)> {
    todo!()
}
/// Writes to a temporary file beside `path`, then renames. `extra`: any JSON of the caller's (epoch, …).
pub fn save<B: Backend>(
    path: &Path,
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<()> {
    todo!()
}
/// The bytes that [`save`] writes.
pub fn save_bytes<B: Backend>(
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<Vec<u8>> {
    todo!()
}
/// Reads a checkpoint; `ERR_S4_CHECKPOINT` with the reason when it is damaged.
pub fn load<B: Backend>(be: B, path: &Path) -> Result<Loaded<B>> {
    todo!()
}
/// From bytes.
pub fn load_bytes<B: Backend>(be: B, bytes: &[u8]) -> Result<Loaded<B>> {
    todo!()
}
