//! Transfers between host and device: large ones pass through page-locked memory, so that the host need not wait.

use super::{pinned::Pinned, queue::Queue, span::Span};
use cudarc::driver::{result, sys};
use s4_backend::{Code, Error, Result};

/// From this size an upload goes through page-locked memory: from pageable memory the driver would make the host
/// wait until the queue has come to it. Smaller ones the driver takes along at once.
const STAGED_FROM: usize = 64 << 10;
/// Larger ones are not worth as much locked memory.
const STAGED_TO: usize = 256 << 20;
/// Uploads of one size (a power of two) on their way at once; a further one waits for the first of them. Two arrays of
/// the batch under way and two of the next. The oldest is reused even where a younger one has already ended, so that
/// what a steady step asks for does not depend on timing.
const STAGES: usize = 4;

impl Queue {
    pub(crate) fn upload<T: Copy>(&self, dst: Span, src: &[T]) -> Result<()> {
        self.bind("upload")?;
        assert!(size_of_val(src) <= dst.bytes());
        if (STAGED_FROM..=STAGED_TO).contains(&size_of_val(src)) && self.upload_staged(dst, src)? {
            return Ok(());
        }
        // SAFETY: the destination is live and large enough; from pageable memory the driver takes its copy of the
        // source before it returns.
        let call = |stream| unsafe { result::memcpy_htod_async(dst.ptr(), src, stream) };
        self.enqueue("upload", std::iter::once(dst), call)
    }

    /// An upload through page-locked memory, for which the host does not wait; false where there is none.
    fn upload_staged<T: Copy>(&self, dst: Span, src: &[T]) -> Result<bool> {
        let bytes = size_of_val(src);
        let size = bytes.next_power_of_two();
        // In the order of use: the first of a size is its oldest.
        let mut stages = self.stages().lock();
        let count = stages.iter().filter(|p| p.bytes == size).count();
        let fresh = if count < STAGES { self.pin("upload", size)? } else { None };
        let stage = match (fresh, stages.iter().position(|p| p.bytes == size)) {
            (Some(fresh), _) => fresh,
            (None, None) => return Ok(false),
            (None, Some(oldest)) => {
                let stage = stages.remove(oldest);
                // SAFETY: the event is live; the query changes nothing.
                if unsafe { result::event::query(stage.done_event) }.is_err() {
                    self.count_wait();
                    if let Err(e) = self.wait_event("upload", stage.done_event) {
                        stages.insert(0, stage);
                        return Err(e);
                    }
                }
                stage
            }
        };
        // SAFETY: `stage` has `bytes` bytes or more and no copy from it is under way (its event has passed); the
        // destination is live and large enough; the event is recorded behind the copy.
        let call = |stream| unsafe {
            std::ptr::copy_nonoverlapping(src.as_ptr().cast::<u8>(), stage.ptr.cast::<u8>(), bytes);
            let from = std::slice::from_raw_parts(stage.ptr.cast::<u8>(), bytes);
            result::memcpy_htod_async(dst.ptr(), from, stream)
                .and_then(|()| result::event::record(stage.done_event, stream))
        };
        let started = self.enqueue("upload", std::iter::once(dst), call);
        stages.push(stage);
        started?;
        Ok(true)
    }

    /// Page-locked memory, or `None` where there is none.
    fn pin(&self, op: &'static str, bytes: usize) -> Result<Option<Pinned>> {
        self.count_pin();
        // SAFETY: the memory is freed once, by `Pinned::free`; flags 0 is plain page-locked memory.
        let Ok(ptr) = (unsafe { result::malloc_host(bytes, 0) }) else { return Ok(None) };
        match result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
            Ok(done_event) => Ok(Some(Pinned { ptr, bytes, done_event })),
            Err(e) => {
                // SAFETY: nothing else knows the memory.
                let _ = unsafe { result::free_host(ptr) };
                self.check(op, Err(e))
            }
        }
    }

    /// Page-locked memory for [`Queue::start_download`].
    pub(crate) fn pin_for_download(&self, op: &'static str, bytes: usize) -> Result<Pinned> {
        self.bind(op)?;
        self.pin(op, bytes)?.ok_or_else(|| {
            Error::new(Code::Memory, op, format!("{bytes} bytes of page-locked memory"), "none available")
        })
    }

    /// Enqueues a download.
    pub(crate) fn start_download(&self, to: &mut Pinned, src: Span) -> Result<()> {
        self.bind("start_download")?;
        assert!(src.bytes() <= to.bytes);
        // SAFETY: both ranges are live and large enough; `to` is read after its event alone, which is recorded behind
        // the copy, and freed after it.
        let call = |stream| unsafe {
            let dst = std::slice::from_raw_parts_mut(to.ptr.cast::<u8>(), src.bytes());
            result::memcpy_dtoh_async(dst, src.ptr(), stream)
                .and_then(|()| result::event::record(to.done_event, stream))
        };
        self.enqueue("start_download", std::iter::once(src), call)
    }

    /// Waits for the last download into `from`, and copies it.
    pub(crate) fn wait_download<T: Copy>(&self, dst: &mut [T], from: &mut Pinned) -> Result<()> {
        self.bind("wait_download")?;
        assert!(size_of_val(dst) <= from.bytes);
        self.count_wait();
        self.wait_event("wait_download", from.done_event)?;
        // SAFETY: after its event no copy into the memory is under way, which has the bytes of `dst`; the two do not overlap, for `from` owns its memory.
        unsafe {
            std::ptr::copy_nonoverlapping(from.ptr.cast::<u8>(), dst.as_mut_ptr().cast(), size_of_val(dst));
        }
        Ok(())
    }

    /// Frees page-locked memory, after the transfer under way.
    pub(crate) fn unpin_after_transfer(&self, pinned: Pinned) {
        if self.bind("unpin").is_ok() {
            let _ = self.wait_event("unpin", pinned.done_event);
        }
        pinned.free();
    }

    pub(crate) fn download<T: Copy>(&self, dst: &mut [T], src: Span) -> Result<()> {
        self.bind("download")?;
        assert!(size_of_val(dst) <= src.bytes());
        // SAFETY: the source is live and large enough, and `synchronize` returns before `dst` can go away.
        let call = |stream| unsafe { result::memcpy_dtoh_async(dst, src.ptr(), stream) };
        let r = self.enqueue("download", std::iter::once(src), call);
        self.synchronize()?;
        r
    }
}
