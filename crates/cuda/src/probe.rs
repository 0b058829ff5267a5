//! What NVIDIA hardware and driver this machine has, in words, without ever failing.

use crate::{Cuda, device, kernels};
use s4_backend::{Code, Error};
use std::fmt;

/// Oldest driver that runs CUDA 12 code (R525).
pub const MIN_DRIVER: (u32, u32) = (12, 0);
/// Oldest chip that has kernels here (Turing).
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

/// Why no GPU is used; each cause has its own.
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

/// The usable GPUs, or the first reason why there is none. Cheap after the first call; never panics.
pub fn probe() -> Result<Vec<DeviceInfo>, Unavailable> {
    let found = std::panic::catch_unwind(device::enumerate).unwrap_or_else(|e| {
        let text = e
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "no message".into());
        Err(Unavailable::Panicked(text))
    })?;
    let fits = |capability| kernels::pick("memory", capability, None).is_some();
    judge(found, kernels::available(), fits)
}

/// What the list of devices means for us. Ordinals stay those of the driver.
fn judge(
    found: Vec<DeviceInfo>,
    kernels: bool,
    fits: impl Fn((u32, u32)) -> bool,
) -> Result<Vec<DeviceInfo>, Unavailable> {
    if found.is_empty() {
        return Err(Unavailable::NoDevice);
    }
    let names = found
        .iter()
        .map(|d| format!("{} ({}.{})", d.name, d.capability.0, d.capability.1))
        .collect::<Vec<_>>()
        .join(", ");
    let usable: Vec<_> = found.into_iter().filter(|d| d.capability >= MIN_CAPABILITY).collect();
    if usable.is_empty() {
        return Err(Unavailable::OldDevice(names));
    }
    if !kernels {
        return Err(Unavailable::NoKernels);
    }
    let usable: Vec<_> = usable.into_iter().filter(|d| fits(d.capability)).collect();
    if usable.is_empty() {
        return Err(Unavailable::OtherKernels(names, kernels::architectures()));
    }
    Ok(usable)
}

/// What keeps a listed GPU from work: a fault in this process, or code that the driver has to compile and cannot.
fn state(d: &DeviceInfo) -> String {
    if device::whole("diagnose", d.ordinal).is_err() {
        return ", lost".into();
    }
    // A context is opened only to ask this.
    if kernels::compiled_by_driver(d.capability, None)
        && let Err(e) = Cuda::new(d.ordinal)
    {
        return format!(", not usable: {e}");
    }
    String::new()
}

/// A few lines for `diagnose()`: devices or the reason, and what this build carries.
pub fn diagnose_text() -> String {
    let mut text = match probe() {
        Ok(devices) => devices
            .iter()
            .map(|d| {
                let state = state(d);
                format!(
                    "cuda:{}: {}, {:.1} GiB, compute capability {}.{}, driver CUDA {}.{}{state}",
                    d.ordinal,
                    d.name,
                    d.memory as f64 / (1u64 << 30) as f64,
                    d.capability.0,
                    d.capability.1,
                    d.driver.0,
                    d.driver.1
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Err(reason) => format!("cuda: not used: {reason}"),
    };
    text.push_str("\nGPU kernels in this build: ");
    text.push_str(&kernels::architectures());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(capability: (u32, u32)) -> DeviceInfo {
        DeviceInfo {
            ordinal: 0,
            name: "Test".into(),
            memory: 1 << 30,
            capability,
            driver: (12, 4),
            multiprocessors: 1,
        }
    }

    #[test]
    fn each_case_has_its_reason() {
        let judge = |found, kernels| judge(found, kernels, |capability| capability < (9, 0));
        assert_eq!(judge(vec![], true), Err(Unavailable::NoDevice));
        assert_eq!(judge(vec![device((7, 0))], true), Err(Unavailable::OldDevice("Test (7.0)".into())));
        assert_eq!(judge(vec![device((9, 0))], false), Err(Unavailable::NoKernels));
        assert_eq!(judge(vec![device((6, 1)), device((8, 6))], true).unwrap(), vec![device((8, 6))]);
        let other = judge(vec![device((9, 0))], true).unwrap_err();
        assert_eq!(other, Unavailable::OtherKernels("Test (9.0)".into(), kernels::architectures()));
        assert!(other.to_string().contains("Test (9.0)"));
    }

    #[test]
    fn probing_never_panics_and_says_why() {
        let text = diagnose_text();
        match probe() {
            Ok(devices) => assert!(text.contains(&devices[0].name)),
            Err(reason) => {
                assert!(text.contains(&reason.to_string()));
                let error = Error::from(reason.clone());
                assert_eq!(error.code, Code::Device);
                assert!(error.to_string().contains(&reason.to_string()));
            }
        }
    }

    #[test]
    fn a_missing_library_is_no_driver() {
        match device::enumerate_from(&["s4-no-such-library.so"]) {
            Err(Unavailable::NoDriver(text)) => assert!(text.contains("s4-no-such-library")),
            other => panic!("{other:?}"),
        }
        // A library that is not the driver.
        #[cfg(target_os = "linux")]
        match device::enumerate_from(&["libc.so.6"]) {
            Err(Unavailable::DamagedDriver(text)) => assert!(text.contains("cuInit"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
