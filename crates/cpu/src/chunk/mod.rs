//! Chunked state passing: S4 on a sequence of any length without a kernel of that length.
//!
//! `discrete` → `constants` (Φ, one chunk as a matrix) → `forward`; `backward` → `constants_backward` →
//! `discrete`. `tasks` cuts the work, `states` ends rows inside a chunk, `pass` runs it all for a layer.

mod backward;
mod chain;
mod constants;
mod constants_backward;
mod discrete;
mod forward;
mod pass;
mod states;
mod tasks;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

pub(crate) use chain::step as recurrence;
pub(crate) use chain::step_backward as recurrence_backward;
pub(crate) use constants::{Chains, Dims, HeadState, turn};
pub(crate) use constants_backward::chains_backward;
pub(crate) use discrete::{Discrete, discretize, discretize_backward};
pub(crate) use forward::Terms;
pub(crate) use pass::{CHUNK, ChunkPlan, Sizes};
