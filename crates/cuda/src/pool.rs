//! Whose the memory of a device is: the cache that makes a steady step ask the driver for nothing, and who has taken what.

use crate::{
    Cuda,
    cache::{Cache, Free, Life, class},
    device::Span,
    launch::Arg,
    memory::Inner,
};
use s4_backend::{Code, Error, Result};
use std::sync::{Arc, MutexGuard, atomic::Ordering};

/// All memory that was taken of the device and is not in a block's hands.
#[derive(Default)]
pub(crate) struct Pool {
    free: Cache,
    /// Bytes, in use or free.
    taken: usize,
    /// Scratch of a graph that is being recorded stays where it is.
    recording: bool,
}

/// Puts the common memory back in its place when recording ends, also by a panic.
struct Apart<'a> {
    inner: &'a Inner,
    common: Option<Free>,
}

impl Apart<'_> {
    /// What the recording has used.
    fn end(&mut self) -> Vec<Span> {
        let Some(common) = self.common.take() else { return Vec::new() };
        let mut pool = self.inner.pool();
        pool.recording = false;
        pool.free.restore(common).into_spans().collect()
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        let own = self.end();
        let mut pool = self.inner.pool();
        own.into_iter().for_each(|span| pool.free.put(span));
    }
}

/// Owned device memory; returns to the cache when dropped.
pub(crate) struct Block {
    span: Span,
    pub(crate) inner: Arc<Inner>,
}

impl Block {
    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.inner.pool().free.put(self.span);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Freeing waits for the queue, so no kernel runs any more when its code goes.
        for span in self.pool().free.drain() {
            self.queue.free(span);
        }
        let _ = self.queue.synchronize();
        self.modules.unload(&self.queue);
    }
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl From<&Block> for Arg {
    fn from(x: &Block) -> Arg {
        x.span.into()
    }
}

impl Cuda {
    /// In use and kept for reuse.
    pub(crate) fn memory_held(&self) -> usize {
        self.inner.pool().taken
    }

    /// Runs `body` with scratch memory of its own, which the caller has afterwards.
    pub(crate) fn with_own_scratch<R>(&self, body: impl FnOnce() -> R) -> (R, Vec<Span>) {
        let mut apart = Apart { inner: &self.inner, common: Some(self.set_apart()) };
        let result = body();
        (result, apart.end())
    }

    fn set_apart(&self) -> Free {
        let mut pool = self.inner.pool();
        pool.recording = true;
        pool.free.set_aside()
    }

    /// Scratch goes back to the common cache.
    pub(crate) fn give_back(&self, scratch: Vec<Span>) {
        let mut pool = self.inner.pool();
        scratch.into_iter().for_each(|span| pool.free.put(span));
    }

    /// Gives cached memory back to the device.
    pub fn trim(&self) {
        let mut pool = self.inner.pool();
        if pool.recording {
            return;
        }
        for span in pool.free.drain() {
            pool.taken -= span.bytes();
            self.inner.queue.free(span);
        }
    }

    /// Scratch with arbitrary contents.
    pub(crate) fn block(&self, op: &'static str, bytes: usize) -> Result<Block> {
        self.memory(op, bytes, Life::Scratch)
    }

    /// Device memory with arbitrary contents.
    pub(crate) fn memory(&self, op: &'static str, bytes: usize, life: Life) -> Result<Block> {
        let inner = &self.inner;
        let own = |span| Block { span, inner: inner.clone() };
        if let Some(span) = inner.pool().free.take(bytes, life) {
            return Ok(own(span));
        }
        let size = class(bytes);
        let take = || -> Result<Option<Span>> {
            let mut pool = inner.pool();
            if size > inner.limit.saturating_sub(pool.taken) {
                return Ok(None);
            }
            let span = inner.queue.alloc(size)?;
            if span.is_some() {
                pool.taken += size;
            }
            Ok(span.map(|span| pool.free.add(span, bytes, life)))
        };
        inner.allocations.fetch_add(1, Ordering::Relaxed);
        if let Some(span) = take()? {
            return Ok(own(span));
        }
        // Free bytes of the device and of the limit, if all that is kept for reuse were given back.
        let room = || -> Result<(usize, usize, usize)> {
            let (free, total) = inner.queue.memory()?;
            let pool = inner.pool();
            let kept = pool.free.drainable();
            Ok((free + kept, inner.limit.saturating_sub(pool.taken).saturating_add(kept), total))
        };
        // What would not fit even then leaves it where it is, so that the next smaller batch finds what it had.
        let (free, left, _) = room()?;
        if size <= free.min(left) {
            self.trim();
            if let Some(span) = take()? {
                return Ok(own(span));
            }
        }
        let (free, left, total) = room()?;
        let ordinal = inner.queue.info.ordinal;
        let got = match inner.limit {
            usize::MAX => format!("{free} of {total} bytes free on cuda:{ordinal}"),
            limit => {
                format!("{left} of {limit} bytes of memoryLimit free, {free} of {total} on cuda:{ordinal}")
            }
        };
        Err(Error::new(Code::Memory, op, format!("{size} bytes of GPU memory"), got))
    }

    /// Scratch of `len` floats; goes back to the cache when dropped.
    pub(crate) fn scratch(&self, op: &'static str, len: usize) -> Result<Block> {
        self.block(op, len * 4)
    }

    /// Scratch of `len` doubles.
    pub(crate) fn scratch64(&self, op: &'static str, len: usize) -> Result<Block> {
        self.block(op, len * 8)
    }
}
