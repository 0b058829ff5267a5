//! The GPUs that this build can use.

use super::{
    devices, images,
    info::{DeviceInfo, MIN_CAPABILITY, Unavailable},
};

/// The usable GPUs, or the first reason why there is none. Cheap after the first call; never panics.
pub fn probe() -> Result<Vec<DeviceInfo>, Unavailable> {
    let found = std::panic::catch_unwind(devices::enumerate).unwrap_or_else(|e| {
        let text = e
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "no message".into());
        Err(Unavailable::Panicked(text))
    })?;
    let fits = |capability| images::pick("memory", capability, None).is_some();
    judge(found, images::available(), fits)
}

/// The usable devices among those found, or why there is none. A device keeps the ordinal that the driver gives it.
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
        return Err(Unavailable::OtherKernels(names, images::architectures()));
    }
    Ok(usable)
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
        assert_eq!(other, Unavailable::OtherKernels("Test (9.0)".into(), images::architectures()));
        assert!(other.to_string().contains("Test (9.0)"));
    }
}
