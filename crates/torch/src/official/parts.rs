//! The parts of a model that are collected while it is mapped.

use super::{layer::CTilde, mapping::TensorMapping};
use serde_json::{Map, Value as Json};

/// This library's options, how each tensor is mapped, and which tensors hold C̃ in place of C.
#[derive(Default)]
pub(super) struct MappedParts {
    pub config: Map<String, Json>,
    pub mappings: Vec<TensorMapping>,
    pub c_tildes: Vec<CTilde>,
}
