//! The backend contract (`s4_backend::Backend`) on NVIDIA GPUs. At run time nothing is needed but the driver; kernels
//! are compiled when the crate is built (`build.rs`) and embedded.
//!
//! `driver` wraps the calls of CUDA's driver, and only there is `unsafe` allowed; `memory` has the buffers and their
//! allocator; `device` is one GPU with its queue; `ssm` and `dense` are the operations, each beside the kernels of the
//! same folder and name (`kernels/ssm`, `kernels/dense`).

#![deny(unsafe_code)]

mod comm;
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
pub use driver::{
    Beside, DeviceInfo, Gather, MIN_CAPABILITY, MIN_DRIVER, Unavailable, architectures, available, probe,
};
pub use memory::{AsyncDownload, Buf, Graph, Ints, Mut, Ref, Workspace};
pub use precision::Precision;
pub use ssm::{SsmPlan, StepPlan};
