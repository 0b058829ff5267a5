//! Chunked state passing: S4 on a sequence of any length without a kernel of that length.
//!
//! `discretize` → `constants` (Φ, one chunk as a matrix) → `forward`; `backward` → `constants_backward` →
//! `discretize`. `tasks` cuts the work, `states` ends sequences inside a chunk, `pass` runs it all for a layer.

mod backward;
mod constants;
mod constants_backward;
mod forward;
mod pass;
mod scan;
mod states;
mod tasks;
#[cfg(test)]
mod tests;

pub(crate) use forward::PhiBlocks;
pub(crate) use pass::{CHUNK, ChunkBackward, ChunkForward, ChunkPlan, ChunkSizes};
