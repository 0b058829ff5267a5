//! The modules of the embedded images, loaded when first used, and their functions.

use super::{images, queue::Queue};
use cudarc::driver::{result, sys};
use s4_backend::{Code, Error, Result};
use std::{
    collections::HashMap,
    ffi::CString,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Copy)]
pub(super) struct Function {
    pub(super) handle: sys::CUfunction,
    shared: u32,
}

/// The modules of one queue, loaded when first used.
pub(crate) struct Modules {
    force: Option<String>,
    /// For development (`S4_CUDA_CHECK`): wait after every launch, so that an error names the kernel that faulted.
    pub(super) wait_after_launch: bool,
    /// For development (`S4_CUDA_TIMES`): how often each kernel ran and for how long, the host's time from the launch to its end, which
    /// includes some ten microseconds of a launch and a wait. Printed when the last module is unloaded.
    pub(super) times: Option<Mutex<KernelTimes>>,
    /// For tests: the number of the launch after which a kernel that faults is launched.
    pub(super) fault: Option<u64>,
    modules: Mutex<HashMap<&'static str, Handle>>,
    functions: Mutex<HashMap<(&'static str, &'static str), Function>>,
    pub(super) launches: AtomicU64,
}

/// Launches and their time by module and kernel.
pub(super) type KernelTimes = HashMap<(&'static str, &'static str), (u64, Duration)>;

#[derive(Clone, Copy)]
struct Handle(sys::CUmodule);

// SAFETY: module and function handles are plain references into the context, valid on any thread it is bound to.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Send for Function {}

impl Modules {
    /// `force` names one architecture of the build, e.g. `"compute_75"`.
    pub(crate) fn new(force: Option<String>) -> Modules {
        Modules {
            force,
            wait_after_launch: std::env::var_os("S4_CUDA_CHECK").is_some_and(|v| v != "0"),
            times: std::env::var_os("S4_CUDA_TIMES").is_some_and(|v| v != "0").then(Mutex::default),
            fault: std::env::var("S4_CUDA_FAULT").ok().and_then(|n| n.parse().ok()),
            modules: Mutex::default(),
            functions: Mutex::default(),
            launches: AtomicU64::new(0),
        }
    }

    pub(crate) fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// Unloads every module; nothing may run on the queue any more.
    pub(crate) fn unload(&mut self, queue: &Queue) {
        self.print_times();
        self.functions.get_mut().unwrap_or_else(|e| e.into_inner()).clear();
        let modules = std::mem::take(self.modules.get_mut().unwrap_or_else(|e| e.into_inner()));
        if queue.bind("unload").is_ok() {
            for Handle(module) in modules.into_values() {
                // SAFETY: it was loaded by `load`, once, and no function of it is known any more.
                let _ = unsafe { result::module::unload(module) };
            }
        }
    }

    /// Prints the times of the kernels, the longest first, with their share of all.
    #[allow(
        clippy::print_stderr,
        reason = "a table that a developer has asked for by a variable of the environment"
    )]
    fn print_times(&mut self) {
        let Some(times) = self.times.take() else { return };
        let times = times.into_inner().unwrap_or_else(|e| e.into_inner());
        let total: Duration = times.values().map(|(_, time)| *time).sum();
        let mut rows: Vec<_> = times.into_iter().collect();
        rows.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        eprintln!("{:>10} {:>6} {:>8} {:>10}  kernel", "ms", "%", "launches", "us each");
        for ((module, kernel), (count, time)) in rows {
            let (ms, share) = (time.as_secs_f64() * 1e3, 100.0 * time.as_secs_f64() / total.as_secs_f64());
            let each = 1e3 * ms / count as f64;
            eprintln!("{ms:>10.3} {share:>6.2} {count:>8} {each:>10.1}  {module}::{kernel}");
        }
    }

    /// Loads the smallest module where the driver has to compile it, to see whether it can.
    pub(crate) fn try_compiler(&self, queue: &Queue) -> Result<()> {
        if !images::compiled_by_driver(queue.info.capability, self.force.as_deref()) {
            return Ok(());
        }
        queue.bind("device 'cuda'")?;
        self.load(queue, "memory").map(|_| ())
    }

    /// The number in the name of the architecture in use (90 for `sm_90a`), 0 where there is no image.
    pub(crate) fn generation(&self, queue: &Queue) -> u32 {
        images::pick("chunk_pass", queue.info.capability, self.force.as_deref())
            .map_or(0, |i| images::generation(i.arch))
    }

    /// Kernels of the images in use, as `module::kernel`.
    pub(crate) fn kernels(&self, capability: (u32, u32)) -> Vec<String> {
        images::modules()
            .into_iter()
            .filter_map(|module| images::pick(module, capability, self.force.as_deref()))
            .flat_map(|image| {
                images::names(image).into_iter().map(|name| format!("{}::{name}", image.module))
            })
            .collect()
    }

    /// The kernels launched since this value was made, as `module::kernel`, each once.
    pub(crate) fn launched_kernels(&self) -> Vec<String> {
        let touched = self.functions.lock().unwrap_or_else(|e| e.into_inner());
        touched.keys().map(|(module, kernel)| format!("{module}::{kernel}")).collect()
    }

    fn load(&self, queue: &Queue, module: &'static str) -> Result<Handle> {
        let mut modules = self.modules.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&handle) = modules.get(module) {
            return Ok(handle);
        }
        let capability = queue.info.capability;
        let image = images::pick(module, capability, self.force.as_deref()).ok_or_else(|| {
            Error::new(
                Code::Device,
                "device 'cuda'",
                format!("kernels for compute capability {}.{}", capability.0, capability.1),
                format!("a build with {}", images::architectures()),
            )
        })?;
        let mut bytes = miniz_oxide::inflate::decompress_to_vec(image.deflated)
            .map_err(|e| Error::new(Code::Internal, "device 'cuda'", "whole kernels", e))?;
        bytes.push(0); // PTX is a C string
        // SAFETY: `bytes` is a whole cubin or zero-terminated PTX; the driver copies it.
        let loaded = unsafe { result::module::load_data(bytes.as_ptr().cast()) };
        let handle = match loaded {
            Ok(m) => Handle(m),
            Err(e) if e.0 as i32 == 221 => {
                return Err(Error::new(
                    Code::Device,
                    "device 'cuda'",
                    "the driver's compiler (libnvidia-ptxjitcompiler) for a chip newer than this build",
                    "none: the container lacks it",
                ));
            }
            Err(e) => queue.check("device 'cuda'", Err(e))?,
        };
        modules.insert(module, handle);
        Ok(handle)
    }

    pub(super) fn function(
        &self,
        queue: &Queue,
        module: &'static str,
        kernel: &'static str,
        shared: u32,
    ) -> Result<Function> {
        let key = (module, kernel);
        if let Some(&f) = self.functions.lock().unwrap_or_else(|e| e.into_inner()).get(&key)
            && f.shared >= shared
        {
            return Ok(f);
        }
        let handle = self.load(queue, module)?;
        let name = CString::new(kernel).expect("kernel names have no zero");
        // SAFETY: the module stays loaded for the life of the context.
        let f = unsafe { result::module::get_function(handle.0, name) };
        let handle = f.map_err(|_| {
            Error::new(Code::Internal, kernel, format!("a kernel in module {module}"), "no such kernel")
        })?;
        let dynamic = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if shared > 48 << 10 {
            // SAFETY: the function is live; the driver refuses sizes beyond the chip's.
            queue.check(kernel, unsafe {
                result::function::set_function_attribute(handle, dynamic, shared as i32)
            })?;
        }
        let f = Function { handle, shared: shared.max(48 << 10) };
        self.functions.lock().unwrap_or_else(|e| e.into_inner()).insert(key, f);
        Ok(f)
    }
}
