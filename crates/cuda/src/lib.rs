//! The contract on NVIDIA GPUs. Nothing is needed at run time but the driver; kernels are compiled when the
//! crate is built (`build.rs`) and embedded.
//!
//! `unsafe` stands in `device.rs` (the driver's memory calls) and `launch.rs` (modules and launches) alone.

mod cache;
mod chunk;
mod chunk_grad;
mod conv;
mod dense;
mod device;
mod discrete;
mod gemm;
mod graph;
mod kernel;
mod kernels;
mod launch;
mod memory;
mod mix;
mod mix90;
mod optim;
mod pool;
mod precision;
mod probe;
mod rows;
mod sides;
mod ssm;
mod step;
mod turn;

pub use graph::Graph;
pub use kernels::{architectures, available};
pub use memory::{Buf, Cuda, Ints, Later, Mut, Options, Ref, Workspace};
pub use precision::Precision;
pub use probe::{DeviceInfo, MIN_CAPABILITY, MIN_DRIVER, Unavailable, diagnose_text, probe};
pub use ssm::SsmPlan;
pub use step::StepPlan;
