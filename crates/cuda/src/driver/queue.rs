//! A device with its context and its stream, and the basic calls of the driver: memory, copies, waiting.

use super::{
    comm_watch::{CommWatch, WaitFailure},
    gathered::Gathered,
    info::DeviceInfo,
    pinned::StagingMemory,
    side_stream::{Beside, SideStream},
    span::Span,
};
use cudarc::driver::{result, sys};
use s4_backend::{Code, Error, Result};
use std::{
    ffi::{CStr, c_int},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Which devices of this process had a fault: their context is gone until the process ends.
static LOST: [AtomicBool; 64] = [const { AtomicBool::new(false) }; 64];

/// Refuses a device that had a fault in this process.
pub(crate) fn refuse_lost(op: &'static str, ordinal: usize) -> Result<()> {
    if !LOST[ordinal % 64].load(Ordering::Relaxed) {
        return Ok(());
    }
    let got = format!("cuda:{ordinal} after a kernel fault; start a new process to use it again");
    Err(Error::new(Code::Device, op, "a working GPU", got))
}

/// One device with its primary context and one stream, in whose order work is done, and a second one beside it.
pub(crate) struct Queue {
    pub(crate) info: DeviceInfo,
    ctx: sys::CUcontext,
    stream: sys::CUstream,
    /// What `beside.rs` has; none where all work is to be in one order.
    pub(super) side: Option<SideStream>,
    /// What `gathering.rs` has.
    pub(super) gathered: Gathered,
    waits: AtomicU64,
    pins: AtomicU64,
    stages: StagingMemory,
    /// The group of ranks that work on this queue takes part in. Waits do not block then, so that they can end.
    watch: Mutex<Option<Arc<CommWatch>>>,
}

// SAFETY: driver handles may be used from any thread once the context is current there, which `bind` sees to.
unsafe impl Send for Queue {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Queue {}

impl Queue {
    pub(crate) fn open(info: &DeviceInfo, beside: Beside) -> Result<Queue> {
        refuse_lost("device 'cuda'", info.ordinal)?;
        // The probe has opened the driver, so cudarc finds it; a panic of its loader is an error all the same.
        let opened = std::panic::catch_unwind(|| -> std::result::Result<_, result::DriverError> {
            result::init()?;
            let dev = result::device::get(info.ordinal as c_int)?;
            // SAFETY: `dev` is a valid device; the context is released in `drop`, the streams destroyed there.
            unsafe {
                let ctx = result::primary_ctx::retain(dev)?;
                let streams = result::ctx::set_current(ctx).and_then(|()| match beside {
                    Beside::Never => {
                        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
                        stream.map(|stream| (stream, None))
                    }
                    _ => SideStream::open().map(|(stream, side)| (stream, Some(side))),
                });
                if streams.is_err() {
                    let _ = result::primary_ctx::release(dev);
                }
                let (stream, side) = streams?;
                Ok((ctx, stream, side))
            }
        });
        let (ctx, stream, side) = match opened {
            Ok(Ok(all)) => all,
            Ok(Err(e)) => {
                return Err(Error::new(
                    code(e),
                    "device 'cuda'",
                    "a context on the GPU",
                    driver_error_text(e),
                ));
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
            side,
            gathered: Gathered::default(),
            waits: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            stages: StagingMemory::default(),
            watch: Mutex::default(),
        })
    }

    /// Makes the context current on this thread; refuses a device that had a fault.
    pub(crate) fn bind(&self, op: &'static str) -> Result<()> {
        refuse_lost(op, self.info.ordinal)?;
        // SAFETY: the context is retained for as long as `self` lives.
        self.check(op, unsafe { result::ctx::set_current(self.ctx) })
    }

    /// Turns a driver error into [`Error`]; a fault that destroys the context marks the device as lost.
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
            Error::new(code(e), op, "the GPU to do it", driver_error_text(e))
        })
    }

    /// Has waits end where this group of ranks fails; with `None` they block again.
    pub(super) fn watch_by(&self, watch: Option<Arc<CommWatch>>) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Whether work on this queue takes part in a group of ranks.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Refuses the device from here on: it has work that does not end.
    pub(super) fn mark_lost(&self) {
        LOST[self.info.ordinal % 64].store(true, Ordering::Relaxed);
    }

    /// Waits for the device: by `block`, or where there are other ranks by asking `is_done` until it says so.
    pub(super) fn wait(
        &self,
        op: &'static str,
        block: impl FnOnce() -> std::result::Result<(), result::DriverError>,
        is_done: impl Fn() -> std::result::Result<(), result::DriverError>,
    ) -> Result<()> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match watch {
            None => self.check(op, block()),
            Some(watch) => watch.wait(is_done).or_else(|failure| match failure {
                WaitFailure::Driver(e) => self.check(op, Err(e)),
                WaitFailure::Group { error, lost } => {
                    if lost {
                        self.mark_lost();
                    }
                    Err(error)
                }
            }),
        }
    }

    /// [`Queue::wait`] for an event that was recorded on the queue.
    pub(super) fn wait_event(&self, op: &'static str, event: sys::CUevent) -> Result<()> {
        // SAFETY: the caller's event is live; the query changes nothing.
        self.wait(
            op,
            || unsafe { result::event::synchronize(event) },
            || unsafe { result::event::query(event) },
        )
    }

    /// The stream in whose order work is done. What is enqueued on it goes through `beside.rs`.
    pub(super) fn main_stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Allocates device memory; `None` where there is not enough.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Option<Span>> {
        self.bind("alloc")?;
        // SAFETY: the memory is freed once, by `free`.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(ptr) => Ok(Some(Span::of_allocation(ptr, bytes))),
            Err(e) if e.0 as i32 == 2 => Ok(None),
            Err(e) => self.check("alloc", Err(e)),
        }
    }

    /// Frees what [`Queue::alloc`] gave; waits for work that may use it.
    pub(crate) fn free(&self, span: Span) {
        self.enqueue_gathered("free");
        if self.is_watched() {
            // The driver waits for the device without an end.
            let _ = self.synchronize();
        }
        if self.bind("free").is_ok() {
            // SAFETY: `span` is a whole allocation that its one owner gives up here.
            let _ = unsafe { result::free_sync(span.ptr()) };
        }
    }

    /// (free, total) bytes of the device.
    pub(crate) fn memory(&self) -> Result<(usize, usize)> {
        self.bind("memory")?;
        self.check("memory", result::mem_get_info())
    }

    pub(crate) fn copy(&self, dst: Span, src: Span) -> Result<()> {
        self.bind("copy")?;
        assert!(dst.bytes() == src.bytes());
        // SAFETY: both ranges are live and of equal size.
        self.enqueue("copy", [dst, src].into_iter(), |stream| unsafe {
            result::memcpy_dtod_async(dst.ptr(), src.ptr(), src.bytes(), stream)
        })
    }

    pub(crate) fn zero(&self, dst: Span) -> Result<()> {
        if dst.bytes() == 0 {
            return Ok(());
        }
        self.bind("zero")?;
        // SAFETY: the range is live.
        self.enqueue("zero", std::iter::once(dst), |stream| unsafe {
            result::memset_d8_async(dst.ptr(), 0, dst.bytes(), stream)
        })
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.bind("synchronize")?;
        self.enqueue_gathered("synchronize");
        self.join_beside("synchronize", u64::MAX)?;
        self.count_wait();
        // SAFETY: the stream lives as long as `self`; the query changes nothing.
        self.wait(
            "synchronize",
            || unsafe { result::stream::synchronize(self.stream) },
            || unsafe { sys::cuStreamQuery(self.stream) }.result(),
        )
    }

    pub(super) fn stages(&self) -> &StagingMemory {
        &self.stages
    }

    pub(super) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
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
        // A device that was given up with work that does not end: a wait for it would not end either.
        // SAFETY: the stream is live; the query changes nothing.
        let busy = || unsafe { sys::cuStreamQuery(self.stream) } == sys::CUresult::CUDA_ERROR_NOT_READY;
        let stuck = || busy() || self.side.as_ref().is_some_and(SideStream::is_busy);
        if refuse_lost("drop", self.info.ordinal).is_err() && stuck() {
            return;
        }
        // SAFETY: nothing uses the stream any more (buffers keep the queue alive); errors of a lost device are
        // of no use here.
        unsafe {
            let _ = result::ctx::set_current(self.ctx);
            let _ = result::stream::synchronize(self.stream);
        }
        for stage in self.stages.take() {
            stage.free();
        }
        if let Some(side) = &mut self.side {
            side.close();
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

/// The code of a driver error: `Memory` where memory is short (modules, graphs and contexts take some too), else
/// `Device`.
fn code(e: result::DriverError) -> Code {
    if e.0 as i32 == 2 { Code::Memory } else { Code::Device }
}

/// The name and meaning of a driver error: "CUDA_ERROR_…: what it means".
fn driver_error_text(e: result::DriverError) -> String {
    let text = |r: std::result::Result<&CStr, result::DriverError>| {
        r.map_or_else(|_| format!("error {}", e.0 as i32), |s| s.to_string_lossy().into_owned())
    };
    format!("{}: {}", text(e.error_name()), text(e.error_string()))
}
