//! The state space model: one discretization, its recurrence, its kernel, and its three algorithms.
//!
//! `params` → `discretize` → one of
//!
//! - `step`: the recurrence, one time step at a time, or of many sequences in blocks of time steps (`step_blocks`);
//! - `kernel` (by blocks of powers, `kernel_blocks`) or `cauchy` (the paper's Algorithm 1), then `conv`;
//! - `chunk`: chunked state passing.
//!
//! Whole sequences whose time steps have intervals of their own go by `intervals`, a recurrence a step.
//!
//! `sequence` is the operation on whole sequences that a layer calls; it picks among the last two.

mod cauchy;
mod chains;
mod chains_backward;
mod chunk;
mod conv;
mod discretize;
#[cfg(test)]
mod golden_tests;
mod intervals;
mod kernel;
mod kernel_blocks;
mod params;
mod recurrence;
mod recurrence_simd;
mod rows;
pub(crate) mod sequence;
pub(crate) mod step;
mod step_blocks;
mod step_moves;
mod step_simd;
mod step_sizes;
mod step_tiles;
mod workers;
