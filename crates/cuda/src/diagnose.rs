//! A text on the NVIDIA hardware and driver of this machine; never fails.

use crate::{
    device::Cuda,
    driver::{self, DeviceInfo, probe},
};

/// Why a listed GPU cannot be used, as a suffix of its line, or nothing: a fault in this process, or code that the
/// driver would have to compile and cannot.
fn unusable_suffix(d: &DeviceInfo) -> String {
    if driver::refuse_lost("diagnose", d.ordinal).is_err() {
        return ", lost".into();
    }
    // A context is opened only to ask this.
    if driver::compiled_by_driver(d.capability, None)
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
                let state = unusable_suffix(d);
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
    text.push_str(&driver::architectures());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use s4_backend::{Code, Error};

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
}
