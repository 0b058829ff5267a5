//! The contract on the CPU, generic over f32 and f64.
//!
//! Each file holds one family, the readable form first and the fast form beside it. Work is split in parts
//! that depend on the sizes alone, never on the number of threads, so results are the same bits on any pool.

mod gemm;
mod memory;
mod simd;
mod workspace;

mod conv;
mod dense;
mod kernel;
mod optim;
mod params;
mod ssm;
mod step;

pub use memory::{Cpu, Ints};
pub use simd::Level;
pub use workspace::Workspace;
