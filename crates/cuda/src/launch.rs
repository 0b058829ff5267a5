//! Modules and launches: the one place where kernels meet arguments.

use crate::{device::Queue, device::Span, kernels};
use cudarc::driver::{result, sys};
use s4_backend::{Code, Error, Result};
use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A kernel argument, as the kernel reads it: bytes, lowest first, or the map of an array.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    Word(u64),
    Map(Map),
}

impl From<i32> for Arg {
    fn from(x: i32) -> Arg {
        Arg::Word(x as u32 as u64)
    }
}
impl From<u32> for Arg {
    fn from(x: u32) -> Arg {
        Arg::Word(x as u64)
    }
}
impl From<bool> for Arg {
    fn from(x: bool) -> Arg {
        Arg::Word(x as u64)
    }
}
/// Sizes are `i64` (or, where small, `int`) in kernels.
impl From<usize> for Arg {
    fn from(x: usize) -> Arg {
        Arg::Word(x as u64)
    }
}
impl From<u64> for Arg {
    fn from(x: u64) -> Arg {
        Arg::Word(x)
    }
}
impl From<f32> for Arg {
    fn from(x: f32) -> Arg {
        Arg::Word(x.to_bits() as u64)
    }
}
impl From<f64> for Arg {
    fn from(x: f64) -> Arg {
        Arg::Word(x.to_bits())
    }
}
impl From<Span> for Arg {
    fn from(x: Span) -> Arg {
        Arg::Word(x.ptr())
    }
}
impl From<Map> for Arg {
    fn from(x: Map) -> Arg {
        Arg::Map(x)
    }
}
/// An absent array is a null pointer.
impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(x: Option<T>) -> Arg {
        x.map_or(Arg::Word(0), Into::into)
    }
}

/// `args![a, b, c]`: an array of [`Arg`].
macro_rules! args {
    ($($x:expr),* $(,)?) => { &[$($crate::launch::Arg::from($x)),*] };
}
pub(crate) use args;

/// What the numbers of a mapped array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F16,
    F32,
}

/// An array as Hopper's copy engine takes boxes of it (`kernels/hopper.cuh`): rows of 128 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map(sys::CUtensorMap);

impl Map {
    /// `span` as (matrices, rows, columns), columns the fast index, in boxes of `height` rows. Addresses and rows are
    /// multiples of 16 bytes.
    pub(crate) fn new(
        op: &'static str,
        span: Span,
        number: Number,
        (matrices, rows, columns): (usize, usize, usize),
        height: usize,
    ) -> Result<Map> {
        use sys::{CUtensorMapDataType_enum as Type, CUtensorMapSwizzle_enum as Swizzle};
        let (kind, size) = match number {
            Number::F16 => (Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2),
            Number::F32 => (Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4),
        };
        assert!(matrices * rows * columns * size <= span.bytes(), "a map beyond its array");
        let sides = [columns as u64, rows as u64, matrices as u64];
        let strides = [(columns * size) as u64, (columns * rows * size) as u64];
        let (shape, every) = ([(128 / size) as u32, height as u32, 1], [1u32; 3]);
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: the driver writes a map and reads arrays of its rank; the array lies inside one live allocation.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map,
                kind,
                3,
                span.ptr() as *mut c_void,
                sides.as_ptr(),
                strides.as_ptr(),
                shape.as_ptr(),
                every.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        match result {
            sys::CUresult::CUDA_SUCCESS => Ok(Map(map)),
            e => Err(Error::new(
                Code::Internal,
                op,
                format!("an array to map, {sides:?} {number:?}"),
                format!("{e:?}"),
            )),
        }
    }
}

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    shared: u32,
}

/// The modules of one queue, loaded when first used.
pub(crate) struct Modules {
    force: Option<String>,
    check: bool,
    fault: Option<u64>,
    modules: Mutex<HashMap<&'static str, Handle>>,
    functions: Mutex<HashMap<(&'static str, &'static str), Function>>,
    launches: AtomicU64,
}

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
            check: std::env::var_os("S4_CUDA_CHECK").is_some_and(|v| v != "0"),
            // Tests of what a kernel fault leaves behind: this launch is followed by one that faults.
            fault: std::env::var("S4_CUDA_FAULT").ok().and_then(|n| n.parse().ok()),
            modules: Mutex::default(),
            functions: Mutex::default(),
            launches: AtomicU64::new(0),
        }
    }

    pub(crate) fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// Gives every module back; nothing runs on the queue any more.
    pub(crate) fn unload(&mut self, queue: &Queue) {
        self.functions.get_mut().unwrap_or_else(|e| e.into_inner()).clear();
        let modules = std::mem::take(self.modules.get_mut().unwrap_or_else(|e| e.into_inner()));
        if queue.bind("unload").is_ok() {
            for Handle(module) in modules.into_values() {
                // SAFETY: it was loaded by `load`, once, and no function of it is known any more.
                let _ = unsafe { result::module::unload(module) };
            }
        }
    }

    /// Loads the smallest module where the driver has to compile it, to see that it can.
    pub(crate) fn try_compiler(&self, queue: &Queue) -> Result<()> {
        if !kernels::compiled_by_driver(queue.info.capability, self.force.as_deref()) {
            return Ok(());
        }
        queue.bind("device 'cuda'")?;
        self.load(queue, "memory").map(|_| ())
    }

    /// The generation of the images in use, 0 where there is none.
    pub(crate) fn generation(&self, queue: &Queue) -> u32 {
        kernels::pick("chunk", queue.info.capability, self.force.as_deref())
            .map_or(0, |i| kernels::generation(i.arch))
    }

    /// Kernels of the images in use, as `module::kernel`.
    pub(crate) fn kernels(&self, capability: (u32, u32)) -> Vec<String> {
        kernels::modules()
            .into_iter()
            .filter_map(|module| kernels::pick(module, capability, self.force.as_deref()))
            .flat_map(|image| {
                kernels::names(image).into_iter().map(|name| format!("{}::{name}", image.module))
            })
            .collect()
    }

    /// Those that were launched so far.
    pub(crate) fn launched(&self) -> Vec<String> {
        let touched = self.functions.lock().unwrap_or_else(|e| e.into_inner());
        touched.keys().map(|(module, kernel)| format!("{module}::{kernel}")).collect()
    }

    fn load(&self, queue: &Queue, module: &'static str) -> Result<Handle> {
        let mut modules = self.modules.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&handle) = modules.get(module) {
            return Ok(handle);
        }
        let capability = queue.info.capability;
        let image = kernels::pick(module, capability, self.force.as_deref()).ok_or_else(|| {
            Error::new(
                Code::Device,
                "device 'cuda'",
                format!("kernels for compute capability {}.{}", capability.0, capability.1),
                format!("a build with {}", kernels::architectures()),
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

    fn function(
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

    /// Enqueues `module::kernel`. Arguments are in the kernel's order; sizes were checked by the operation.
    pub(crate) fn launch(
        &self,
        queue: &Queue,
        (module, kernel): (&'static str, &'static str),
        grid: (u32, u32, u32),
        block: (u32, u32),
        shared: usize,
        args: &[Arg],
    ) -> Result<()> {
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        queue.bind(kernel)?;
        let f = self.function(queue, module, kernel, shared as u32)?;
        let mut pointers = [std::ptr::null_mut::<c_void>(); 40];
        assert!(args.len() <= 40);
        for (pointer, a) in pointers.iter_mut().zip(args) {
            *pointer = match a {
                Arg::Word(word) => std::ptr::from_ref(word).cast_mut().cast(),
                Arg::Map(map) => std::ptr::from_ref(&map.0).cast_mut().cast(),
            };
        }
        // SAFETY: every pointer is to eight live bytes or to a map, at least the size of the parameter it stands for,
        // which the driver reads; arrays are `Span`s of live allocations whose lengths the operation compared with the
        // sizes it passes. The conformance suite runs every kernel with these argument lists.
        let r = unsafe {
            result::launch_kernel(
                f.handle,
                grid,
                (block.0, block.1, 1),
                shared as u32,
                queue.stream(),
                &mut pointers[..args.len()],
            )
        };
        let count = self.launches.fetch_add(1, Ordering::Relaxed);
        queue.check(kernel, r)?;
        if self.fault == Some(count) {
            self.launch(queue, ("memory", "fault"), (1, 1, 1), (1, 1), 0, args![16usize])?;
        }
        if self.check {
            // Development: name the kernel that faulted.
            // SAFETY: the stream is live.
            queue.check(kernel, unsafe { result::stream::synchronize(queue.stream()) })?;
        }
        Ok(())
    }
}
