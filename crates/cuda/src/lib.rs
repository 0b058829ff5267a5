//! The contract on NVIDIA GPUs. Nothing is needed at run time but the driver; kernels are compiled when the
//! crate is built (`build.rs`) and embedded.
//!
//! `unsafe` stands in `device.rs` (the driver's memory calls) and `launch.rs` (modules and launches) alone.

mod device;
mod kernels;
mod probe;

pub use kernels::{architectures, available};
pub use probe::{DeviceInfo, MIN_CAPABILITY, MIN_DRIVER, Unavailable, diagnose_text, probe};
