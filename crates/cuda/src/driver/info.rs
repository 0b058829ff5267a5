//! Descriptions of a usable GPU, and of why none is usable.

use s4_backend::{Code, Error};
use std::fmt;

/// Oldest driver that runs CUDA 12 code (R525).
pub const MIN_DRIVER: (u32, u32) = (12, 0);
/// Lowest compute capability that has kernels in this crate (Turing).
pub const MIN_CAPABILITY: (u32, u32) = (7, 5);

/// One usable GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Index, as in `"cuda:0"`.
    pub ordinal: usize,
    /// Marketing name.
    pub name: String,
    /// Bytes of device memory in total.
    pub memory: u64,
    /// Compute capability, (major, minor).
    pub capability: (u32, u32),
    /// CUDA version of the driver, (major, minor).
    pub driver: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

/// Why no GPU is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No `libcuda.so.1` (`nvcuda.dll`) could be opened.
    NoDriver(String),
    /// The driver library lacks a symbol that every supported driver has.
    DamagedDriver(String),
    /// The driver is older than [`MIN_DRIVER`].
    OldDriver {
        /// What the driver reports.
        found: (u32, u32),
    },
    /// The driver would not start; its error code and what it means.
    DriverFailed {
        /// CUresult.
        code: i32,
        /// In words.
        meaning: String,
    },
    /// The driver works and sees no GPU.
    NoDevice,
    /// All GPUs are older than [`MIN_CAPABILITY`].
    OldDevice(String),
    /// This build has no kernels (no NVRTC when it was built).
    NoKernels,
    /// This build has kernels for other GPUs; the ones that are here, and what it has.
    OtherKernels(String, String),
    /// The probe itself panicked; its message.
    Panicked(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoDriver(e) => write!(f, "no NVIDIA driver on this machine ({e})"),
            Unavailable::DamagedDriver(e) => write!(f, "the NVIDIA driver library is incomplete ({e})"),
            Unavailable::OldDriver { found } => write!(
                f,
                "the NVIDIA driver is too old: it offers CUDA {}.{}, {}.{} or newer (driver 525) is needed",
                found.0, found.1, MIN_DRIVER.0, MIN_DRIVER.1
            ),
            Unavailable::DriverFailed { code, meaning } => {
                write!(f, "the NVIDIA driver did not start: {meaning} (error {code})")
            }
            Unavailable::NoDevice => write!(f, "the NVIDIA driver works but sees no GPU"),
            Unavailable::OldDevice(name) => write!(
                f,
                "the GPU is too old: {name}; compute capability {}.{} or newer is needed",
                MIN_CAPABILITY.0, MIN_CAPABILITY.1
            ),
            Unavailable::NoKernels => write!(
                f,
                "this build of s4-node has no GPU kernels (NVRTC was not found when it was built; run scripts/nvrtc.mjs and build again)"
            ),
            Unavailable::OtherKernels(name, have) => write!(
                f,
                "this build of s4-node has no kernels for {name}, only {have}; build again with S4_CUDA_ARCHS naming that chip"
            ),
            Unavailable::Panicked(e) => write!(f, "probing the GPU failed unexpectedly ({e})"),
        }
    }
}

impl std::error::Error for Unavailable {}

impl From<Unavailable> for Error {
    fn from(reason: Unavailable) -> Error {
        Error::new(Code::Device, "device 'cuda'", "a usable NVIDIA GPU", reason)
    }
}
