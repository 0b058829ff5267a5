//! The contract on NVIDIA GPUs. Nothing is needed at run time but the driver; kernels are compiled when the
//! crate is built (`build.rs`) and embedded.
//!
//! `driver` is what CUDA's driver offers, and alone has `unsafe`; `memory` are buffers and the allocator; `device` is
//! one GPU with its queue; `ssm` and `dense` are the operations, each beside the kernels of the same folder and name
//! (`kernels/ssm`, `kernels/dense`).

#![deny(unsafe_code)]

mod dense;
mod device;
mod diagnose;
#[allow(unsafe_code)]
mod driver;
mod memory;
mod precision;
mod ssm;

pub use device::{Cuda, Options};
pub use diagnose::diagnose_text;
pub use driver::{DeviceInfo, MIN_CAPABILITY, MIN_DRIVER, Unavailable, architectures, available, probe};
pub use memory::{AsyncDownload, Buf, Graph, Ints, Mut, Ref, Workspace};
pub use precision::Precision;
pub use ssm::{SsmPlan, StepPlan};
