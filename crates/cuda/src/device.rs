//! The driver: probing it without cudarc (which panics where it is missing), and the few calls on memory and
//! streams that everything else is made of.

use crate::probe::{DeviceInfo, MIN_DRIVER, Unavailable};
use cudarc::driver::{result, sys};
use s4_backend::{Code, Error, Result};
use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

const NAMES: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// All devices that the driver reports, or why there are none. The driver library is opened once.
pub(crate) fn enumerate() -> Result<Vec<DeviceInfo>, Unavailable> {
    static FOUND: OnceLock<Result<Vec<DeviceInfo>, Unavailable>> = OnceLock::new();
    FOUND.get_or_init(|| enumerate_from(NAMES)).clone()
}

/// The same, through a library of any name.
pub(crate) fn enumerate_from(names: &[&str]) -> Result<Vec<DeviceInfo>, Unavailable> {
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

/// What the usual failures of `cuInit` mean for a user.
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

/// Device memory that is known to be inside one live allocation. Made by [`Queue::alloc`] and cut smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    ptr: u64,
    bytes: usize,
}

impl Span {
    /// Memory of no device, for tests of what keeps account of it.
    #[cfg(test)]
    pub(crate) fn at(ptr: u64, bytes: usize) -> Span {
        Span { ptr, bytes }
    }
    /// The address, for a kernel.
    pub(crate) fn ptr(self) -> u64 {
        self.ptr
    }
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
    /// A part. Panics outside (a bug of the caller).
    pub(crate) fn part(self, offset: usize, bytes: usize) -> Span {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "view outside its buffer");
        Span { ptr: self.ptr + offset as u64, bytes }
    }
}

/// Which devices of this process had a fault: their context is gone until the process ends.
static LOST: [AtomicBool; 64] = [const { AtomicBool::new(false) }; 64];

/// Refuses a device that had a fault in this process.
pub(crate) fn whole(op: &'static str, ordinal: usize) -> Result<()> {
    if !LOST[ordinal % 64].load(Ordering::Relaxed) {
        return Ok(());
    }
    let got = format!("cuda:{ordinal} after a kernel fault; start a new process to use it again");
    Err(Error::new(Code::Device, op, "a working GPU", got))
}

/// A recorded graph, freed by [`Queue::forget`].
pub(crate) struct Exec(sys::CUgraphExec);

// SAFETY: a plain reference into the driver, which locks its own state.
unsafe impl Send for Exec {}
// SAFETY: as above.
unsafe impl Sync for Exec {}

/// Page-locked memory that transfers pass through, and the event after which the last of them has ended.
pub(crate) struct Pinned {
    ptr: *mut c_void,
    bytes: usize,
    done: sys::CUevent,
}

// SAFETY: the memory belongs to this value alone, and is read and written through it; the driver locks its own state.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

/// From this size an upload goes through page-locked memory: from pageable memory the driver would make the host
/// wait until the queue has come to it. Smaller ones the driver takes along at once.
const STAGED_FROM: usize = 64 << 10;
/// Larger ones are not worth as much locked memory.
const STAGED_TO: usize = 256 << 20;
/// Uploads of one size (a power of two) on their way at once; a further one waits for the first of them. Two arrays of the
/// batch under way and two of the next. It is taken in turn, whatever has ended: what a steady step asks for does not
/// depend on time.
const STAGES: usize = 4;

/// One device with its primary context and one stream.
pub(crate) struct Queue {
    pub(crate) info: DeviceInfo,
    ctx: sys::CUcontext,
    stream: sys::CUstream,
    waits: AtomicU64,
    pins: AtomicU64,
    stages: Mutex<Vec<Pinned>>,
}

// SAFETY: driver handles may be used from any thread once the context is current there, which `bind` sees to.
unsafe impl Send for Queue {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Queue {}

impl Queue {
    pub(crate) fn open(info: &DeviceInfo) -> Result<Queue> {
        whole("device 'cuda'", info.ordinal)?;
        // The probe has opened the driver, so cudarc finds it; a panic of its loader is an error all the same.
        let opened = std::panic::catch_unwind(|| -> std::result::Result<_, result::DriverError> {
            result::init()?;
            let dev = result::device::get(info.ordinal as c_int)?;
            // SAFETY: `dev` is a valid device; the context is released in `drop`, the stream destroyed there.
            unsafe {
                let ctx = result::primary_ctx::retain(dev)?;
                let stream = result::ctx::set_current(ctx)
                    .and_then(|()| result::stream::create(result::stream::StreamKind::NonBlocking));
                if stream.is_err() {
                    let _ = result::primary_ctx::release(dev);
                }
                Ok((ctx, stream?))
            }
        });
        let (ctx, stream) = match opened {
            Ok(Ok(pair)) => pair,
            Ok(Err(e)) => {
                return Err(Error::new(code(e), "device 'cuda'", "a context on the GPU", words(e)));
            }
            Err(_) => {
                return Err(Error::new(
                    Code::Device,
                    "device 'cuda'",
                    "a complete driver",
                    "one without needed functions",
                ));
            }
        };
        Ok(Queue {
            info: info.clone(),
            ctx,
            stream,
            waits: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            stages: Mutex::default(),
        })
    }

    /// Makes the context current on this thread; refuses a device that had a fault.
    pub(crate) fn bind(&self, op: &'static str) -> Result<()> {
        whole(op, self.info.ordinal)?;
        // SAFETY: the context is retained for as long as `self` lives.
        self.check(op, unsafe { result::ctx::set_current(self.ctx) })
    }

    /// Turns a driver error into ours; faults that kill the context mark the device lost.
    pub(crate) fn check<T>(
        &self,
        op: &'static str,
        r: std::result::Result<T, result::DriverError>,
    ) -> Result<T> {
        r.map_err(|e| {
            let number = e.0 as i32;
            if matches!(number, 214 | 700 | 702 | 710 | 714..=719) {
                LOST[self.info.ordinal % 64].store(true, Ordering::Relaxed);
            }
            Error::new(code(e), op, "the GPU to do it", words(e))
        })
    }

    pub(crate) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// New memory, or `None` where there is not enough.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Option<Span>> {
        self.bind("alloc")?;
        // SAFETY: the memory is freed once, by `free`.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(ptr) => Ok(Some(Span { ptr, bytes })),
            Err(e) if e.0 as i32 == 2 => Ok(None),
            Err(e) => self.check("alloc", Err(e)),
        }
    }

    /// Frees what [`Queue::alloc`] gave; waits for work that may use it.
    pub(crate) fn free(&self, span: Span) {
        if self.bind("free").is_ok() {
            // SAFETY: `span` is a whole allocation that its one owner gives up here.
            let _ = unsafe { result::free_sync(span.ptr) };
        }
    }

    /// (free, total) bytes of the device.
    pub(crate) fn memory(&self) -> Result<(usize, usize)> {
        self.bind("memory")?;
        self.check("memory", result::mem_get_info())
    }

    pub(crate) fn upload<T: Copy>(&self, dst: Span, src: &[T]) -> Result<()> {
        self.bind("upload")?;
        assert!(size_of_val(src) <= dst.bytes);
        if (STAGED_FROM..=STAGED_TO).contains(&size_of_val(src)) && self.upload_staged(dst, src)? {
            return Ok(());
        }
        // SAFETY: the destination is live and large enough; from pageable memory the driver takes its copy of the
        // source before it returns.
        self.check("upload", unsafe { result::memcpy_htod_async(dst.ptr, src, self.stream) })
    }

    /// An upload through page-locked memory, for which the host does not wait; false where there is none to have.
    fn upload_staged<T: Copy>(&self, dst: Span, src: &[T]) -> Result<bool> {
        let bytes = size_of_val(src);
        let size = bytes.next_power_of_two();
        // In the order of use: the first of a size is its oldest.
        let mut stages = self.stages.lock().unwrap_or_else(|e| e.into_inner());
        let same = stages.iter().filter(|p| p.bytes == size).count();
        let fresh = if same < STAGES { self.pin("upload", size)? } else { None };
        let stage = match (fresh, stages.iter().position(|p| p.bytes == size)) {
            (Some(fresh), _) => fresh,
            (None, None) => return Ok(false),
            (None, Some(oldest)) => {
                let stage = stages.remove(oldest);
                // SAFETY: the event is live; the query changes nothing.
                if unsafe { result::event::query(stage.done) }.is_err() {
                    self.waits.fetch_add(1, Ordering::Relaxed);
                    // SAFETY: as above.
                    let ended = unsafe { result::event::synchronize(stage.done) };
                    if let Err(e) = self.check("upload", ended) {
                        stages.insert(0, stage);
                        return Err(e);
                    }
                }
                stage
            }
        };
        // SAFETY: `stage` has `bytes` bytes or more and no copy from it is under way (its event has passed); the
        // destination is live and large enough; the event is recorded behind the copy.
        let sent = unsafe {
            std::ptr::copy_nonoverlapping(src.as_ptr().cast::<u8>(), stage.ptr.cast::<u8>(), bytes);
            let from = std::slice::from_raw_parts(stage.ptr.cast::<u8>(), bytes);
            result::memcpy_htod_async(dst.ptr, from, self.stream)
                .and_then(|()| result::event::record(stage.done, self.stream))
        };
        stages.push(stage);
        self.check("upload", sent)?;
        Ok(true)
    }

    /// Page-locked memory, or `None` where there is none to have.
    fn pin(&self, op: &'static str, bytes: usize) -> Result<Option<Pinned>> {
        self.pins.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the memory is freed once, by `unpin`; flags 0 is plain page-locked memory.
        let Ok(ptr) = (unsafe { result::malloc_host(bytes, 0) }) else { return Ok(None) };
        match result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
            Ok(done) => Ok(Some(Pinned { ptr, bytes, done })),
            Err(e) => {
                // SAFETY: nothing else knows the memory.
                let _ = unsafe { result::free_host(ptr) };
                self.check(op, Err(e))
            }
        }
    }

    /// Page-locked memory for [`Queue::send`].
    pub(crate) fn landing(&self, op: &'static str, bytes: usize) -> Result<Pinned> {
        self.bind(op)?;
        self.pin(op, bytes)?.ok_or_else(|| {
            Error::new(Code::Memory, op, format!("{bytes} bytes of page-locked memory"), "none to have")
        })
    }

    /// Enqueues a download.
    pub(crate) fn send(&self, to: &mut Pinned, src: Span) -> Result<()> {
        self.bind("send")?;
        assert!(src.bytes <= to.bytes);
        // SAFETY: both ranges are live and large enough; `to` is read after its event alone, which is recorded behind
        // the copy, and freed after it.
        let sent = unsafe {
            let dst = std::slice::from_raw_parts_mut(to.ptr.cast::<u8>(), src.bytes);
            result::memcpy_dtoh_async(dst, src.ptr, self.stream)
                .and_then(|()| result::event::record(to.done, self.stream))
        };
        self.check("send", sent)
    }

    /// Waits for the last download into `from`, and copies it.
    pub(crate) fn arrived<T: Copy>(&self, dst: &mut [T], from: &mut Pinned) -> Result<()> {
        self.bind("arrived")?;
        assert!(size_of_val(dst) <= from.bytes);
        self.waits.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the event is live; after it no copy into the memory is under way, which has the bytes of `dst`.
        let done = unsafe { result::event::synchronize(from.done) };
        self.check("arrived", done)?;
        // SAFETY: as above; the two do not overlap, for `from` owns its memory.
        unsafe {
            std::ptr::copy_nonoverlapping(from.ptr.cast::<u8>(), dst.as_mut_ptr().cast(), size_of_val(dst));
        }
        Ok(())
    }

    /// Frees page-locked memory, after the transfer under way.
    pub(crate) fn leave(&self, pinned: Pinned) {
        if self.bind("leave").is_ok() {
            // SAFETY: the event is live.
            let _ = unsafe { result::event::synchronize(pinned.done) };
        }
        self.unpin(pinned);
    }

    fn unpin(&self, stage: Pinned) {
        // SAFETY: the entry's only owner gives memory and event up; its copy has ended or its device is lost.
        unsafe {
            let _ = result::event::destroy(stage.done);
            let _ = result::free_host(stage.ptr);
        }
    }

    pub(crate) fn download<T: Copy>(&self, dst: &mut [T], src: Span) -> Result<()> {
        self.bind("download")?;
        assert!(size_of_val(dst) <= src.bytes);
        // SAFETY: the source is live and large enough, and `synchronize` returns before `dst` can go away.
        let r = unsafe { result::memcpy_dtoh_async(dst, src.ptr, self.stream) };
        self.synchronize()?;
        self.check("download", r)
    }

    pub(crate) fn copy(&self, dst: Span, src: Span) -> Result<()> {
        self.bind("copy")?;
        assert!(dst.bytes == src.bytes);
        // SAFETY: both ranges are live and of equal size.
        self.check("copy", unsafe { result::memcpy_dtod_async(dst.ptr, src.ptr, src.bytes, self.stream) })
    }

    pub(crate) fn zero(&self, dst: Span) -> Result<()> {
        if dst.bytes == 0 {
            return Ok(());
        }
        self.bind("zero")?;
        // SAFETY: the range is live.
        self.check("zero", unsafe { result::memset_d8_async(dst.ptr, 0, dst.bytes, self.stream) })
    }

    /// Records what `body` enqueues instead of running it; `None` where that cannot be recorded.
    pub(crate) fn record(
        &self,
        op: &'static str,
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Exec>> {
        self.bind(op)?;
        // Relaxed: the cache may ask for memory, which is no work of the stream.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is live and ends its capture below, whatever `body` does.
        self.check(op, unsafe { result::stream::begin_capture(self.stream, mode) })?;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: the capture was begun above; the graph is destroyed once, after it was instantiated.
        let exec = unsafe {
            result::stream::end_capture(self.stream).and_then(|graph| {
                let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
                result::graph::destroy(graph)?;
                exec
            })
        };
        match done {
            Ok(Ok(())) => Ok(exec.ok().map(Exec)),
            Ok(Err(e)) => {
                if let Ok(exec) = exec {
                    self.forget(&mut Exec(exec));
                }
                Err(e)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Enqueues a recorded graph. Its buffers are live: the caller compares the epochs.
    pub(crate) fn launch(&self, op: &'static str, graph: &Exec) -> Result<()> {
        self.bind(op)?;
        // SAFETY: graph and stream are live.
        self.check(op, unsafe { result::graph::launch(graph.0, self.stream) })
    }

    /// Frees a recorded graph, once.
    pub(crate) fn forget(&self, graph: &mut Exec) {
        let exec = std::mem::replace(&mut graph.0, std::ptr::null_mut());
        if !exec.is_null() && self.bind("replay").is_ok() {
            // SAFETY: the handle was taken out above, so it is destroyed once; the driver lets a launch under way end.
            let _ = unsafe { result::graph::exec_destroy(exec) };
        }
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.bind("synchronize")?;
        self.waits.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the stream lives as long as `self`.
        self.check("synchronize", unsafe { result::stream::synchronize(self.stream) })
    }

    /// How often page-locked memory was asked for.
    pub(crate) fn pins(&self) -> u64 {
        self.pins.load(Ordering::Relaxed)
    }

    /// How often the host waited.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nothing uses the stream any more (buffers keep the queue alive); errors of a lost device are
        // of no use here.
        unsafe {
            let _ = result::ctx::set_current(self.ctx);
            let _ = result::stream::synchronize(self.stream);
        }
        for stage in std::mem::take(self.stages.get_mut().unwrap_or_else(|e| e.into_inner())) {
            self.unpin(stage);
        }
        // SAFETY: as above.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            if let Ok(dev) = result::device::get(self.info.ordinal as c_int) {
                let _ = result::primary_ctx::release(dev);
            }
        }
    }
}

/// Modules, graphs and contexts take memory as well, which may be short.
fn code(e: result::DriverError) -> Code {
    if e.0 as i32 == 2 { Code::Memory } else { Code::Device }
}

/// "CUDA_ERROR_…: what it means".
fn words(e: result::DriverError) -> String {
    let text = |r: std::result::Result<&CStr, result::DriverError>| {
        r.map_or_else(|_| format!("error {}", e.0 as i32), |s| s.to_string_lossy().into_owned())
    };
    format!("{}: {}", text(e.error_name()), text(e.error_string()))
}
