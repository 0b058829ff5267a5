//! The SSM: whole sequences by chunk passes or by a kernel and FFT convolution, and one time step at a time.

mod backward;
mod bidirectional_pass;
mod cauchy;
mod cauchy_backward;
mod chunk_call;
mod chunk_pass;
mod chunk_rows;
mod chunk_states;
mod conv;
mod discretize;
mod forward;
mod impulse_kernel;
mod intervals;
mod matrices;
mod operands;
mod ops;
mod pass_backward;
mod pass_constants;
mod plan;
mod saved_powers;
mod segment_ends;
mod segments;
mod sizes;
mod step;

pub(crate) use chunk_rows::{ChunkRowSizes, ChunkRows};
pub use plan::SsmPlan;
pub use step::StepPlan;
