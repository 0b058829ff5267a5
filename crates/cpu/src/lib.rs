//! The contract on the CPU, generic over f32 and f64.
//!
//! Each file holds one family, the readable form first and the fast form beside it. Work is split in parts
//! that depend on the sizes alone, never on the number of threads, so results are the same bits on any pool.

mod activation;
mod cauchy;
mod cauchy_backward;
mod chunk;
mod conv;
mod dense;
mod dropout;
mod embedding;
mod fft;
mod gemm;
mod huge;
mod kernel;
mod linear;
mod loss;
mod math;
mod memory;
mod mix;
mod norm;
mod optim;
mod par;
mod params;
mod pool;
mod reduce;
mod simd;
mod ssm;
#[cfg(test)]
mod ssm_golden;
mod step;
mod step_simd;
mod vandermonde;
mod workspace;

pub use memory::{Cpu, Ints};
pub use simd::Level;
pub use ssm::SsmPlan;
pub use workspace::Workspace;
