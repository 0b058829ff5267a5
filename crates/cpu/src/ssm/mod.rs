//! The state space model: one discretization, its recurrence, its kernel, and its three algorithms.
//!
//! `params` → `discretize` → either `step` (one sample), `kernel` with `conv` (by blocks of powers or by Cauchy
//! sums), or `chunk` (chunked state passing). `sequence` is the operation that a layer calls.

mod cauchy;
mod chains;
mod chains_backward;
mod chunk;
mod conv;
mod discretize;
#[cfg(test)]
mod golden_tests;
mod kernel;
mod kernel_blocks;
mod params;
mod recurrence;
mod recurrence_simd;
mod rows;
pub(crate) mod sequence;
mod step;
mod step_simd;
mod workers;
