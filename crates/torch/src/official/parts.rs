//! The pieces of a model while it is mapped.

use super::{layer::Tilde, step::Step};
use serde_json::{Map, Value as Json};

/// Options, tensors, and which of them hold C̃.
#[derive(Default)]
pub(super) struct Parts {
    pub config: Map<String, Json>,
    pub steps: Vec<Step>,
    pub tildes: Vec<Tilde>,
}
