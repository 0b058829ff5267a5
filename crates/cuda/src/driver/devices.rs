//! The devices that the driver reports, asked without cudarc, which panics where the driver is missing.

use super::info::{DeviceInfo, MIN_DRIVER, Unavailable};
use std::{
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
};

const NAMES: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// All devices that the driver reports, or why there are none. The driver library is opened once.
pub(super) fn enumerate() -> Result<Vec<DeviceInfo>, Unavailable> {
    static FOUND: OnceLock<Result<Vec<DeviceInfo>, Unavailable>> = OnceLock::new();
    FOUND.get_or_init(|| enumerate_from(NAMES)).clone()
}

/// As [`enumerate`], through the first library of these names that opens.
fn enumerate_from(names: &[&str]) -> Result<Vec<DeviceInfo>, Unavailable> {
    let mut errors = Vec::new();
    let library = names.iter().find_map(|name| {
        // SAFETY: opening a library runs its initialisers; these are the driver's own, made for this.
        unsafe { libloading::Library::new(*name) }.map_err(|e| errors.push(format!("{name}: {e}"))).ok()
    });
    let Some(library) = library else {
        return Err(Unavailable::NoDriver(errors.join("; ")));
    };
    // The driver stays open for the life of the process: cudarc opens it again, and unloading it is not safe.
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    let driver = Driver::load(library)?;

    let check = |code: c_int| match code {
        0 => Ok(()),
        100 => Err(Unavailable::NoDevice),
        code => Err(Unavailable::DriverFailed { code, meaning: meaning(code).into() }),
    };
    // SAFETY: signatures are those of cuda.h for the driver ABI, stable since CUDA 3.2; every pointer is to a
    // live local of the right type and size.
    unsafe {
        let mut version = 0;
        if (driver.version)(&mut version) == 0 && version > 0 {
            let found = ((version / 1000) as u32, (version % 1000 / 10) as u32);
            if found < MIN_DRIVER {
                return Err(Unavailable::OldDriver { found });
            }
        }
        check((driver.init)(0))?;
        let mut count = 0;
        check((driver.count)(&mut count))?;
        let found = ((version / 1000) as u32, (version % 1000 / 10) as u32);
        (0..count)
            .map(|i| {
                let mut dev = 0;
                check((driver.get)(&mut dev, i))?;
                let mut name = [0 as c_char; 256];
                check((driver.name)(name.as_mut_ptr(), 255, dev))?;
                let mut memory = 0usize;
                check((driver.memory)(&mut memory, dev))?;
                let attribute = |which| {
                    let mut value = 0;
                    check((driver.attribute)(&mut value, which, dev)).map(|()| value as u32)
                };
                Ok(DeviceInfo {
                    ordinal: i as usize,
                    name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
                    memory: memory as u64,
                    capability: (attribute(75)?, attribute(76)?),
                    driver: found,
                    multiprocessors: attribute(16)?,
                })
            })
            .collect()
    }
}

/// The functions of the driver library that are called before cudarc opens it.
struct Driver {
    init: unsafe extern "C" fn(u32) -> c_int,
    version: unsafe extern "C" fn(*mut c_int) -> c_int,
    count: unsafe extern "C" fn(*mut c_int) -> c_int,
    get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
}

impl Driver {
    fn load(library: &'static libloading::Library) -> Result<Driver, Unavailable> {
        fn symbol<T: Copy>(library: &libloading::Library, name: &str) -> Result<T, Unavailable> {
            // SAFETY: T is the function type that cuda.h gives for this name (see `Driver`).
            unsafe { library.get::<T>(name.as_bytes()) }
                .map(|s| *s)
                .map_err(|e| Unavailable::DamagedDriver(format!("{name}: {e}")))
        }
        Ok(Driver {
            init: symbol(library, "cuInit")?,
            version: symbol(library, "cuDriverGetVersion")?,
            count: symbol(library, "cuDeviceGetCount")?,
            get: symbol(library, "cuDeviceGet")?,
            name: symbol(library, "cuDeviceGetName")?,
            memory: symbol(library, "cuDeviceTotalMem_v2")?,
            attribute: symbol(library, "cuDeviceGetAttribute")?,
        })
    }
}

/// What an error code of `cuInit` means, for users.
fn meaning(code: c_int) -> &'static str {
    match code {
        2 => "out of memory",
        3 => "it is not initialised",
        34 => "it is a stub library, not a driver",
        35 => "it is older than the kernel module or the program",
        46 => "the devices are busy or unavailable",
        101 => "an invalid device was named",
        802 => "the system is not ready (fabric manager)",
        803 => "driver library and kernel module have different versions",
        804 => "forward compatibility is not supported on this GPU",
        999 => "unknown error (often a container without the GPU's device files)",
        _ => "it reported an error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_no_driver() {
        match enumerate_from(&["s4-no-such-library.so"]) {
            Err(Unavailable::NoDriver(text)) => assert!(text.contains("s4-no-such-library")),
            other => panic!("{other:?}"),
        }
        // A library that is not the driver.
        #[cfg(target_os = "linux")]
        match enumerate_from(&["libc.so.6"]) {
            Err(Unavailable::DamagedDriver(text)) => assert!(text.contains("cuInit"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
