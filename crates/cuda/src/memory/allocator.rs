//! Accounts of the device memory taken, and the cache by which a steady step asks the driver for none.

use super::cache::{BlockUse, Cache, SetAside, block_bytes_for};
use crate::driver::{Arg, Queue, Span};
use s4_backend::{Code, Error, Result};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// The memory of one queue's device.
pub(crate) struct Allocator {
    pool: Mutex<Pool>,
    /// Most bytes to take of the device.
    limit: usize,
    /// Whether to wait for work beside the queue, and use its memory, before the driver is asked for more; not for gathered work.
    frugal: bool,
    /// How often the driver was asked for memory.
    requests: AtomicU64,
    /// Changes whenever a buffer is made or freed; recorded graphs hold addresses of buffers.
    epoch: AtomicU64,
    queue: Arc<Queue>,
}

/// The memory taken of the device, except what live blocks own.
#[derive(Default)]
struct Pool {
    free: Cache,
    /// Freed memory that work beside the queue uses, with the number of the latest such work: free when the queue waits for that.
    in_use_beside: Vec<(u64, Span)>,
    /// Bytes that the driver has given, in use or free.
    driver_bytes: usize,
    /// Whether a graph is being recorded: its scratch then stays apart from the common cache.
    recording: bool,
}

/// Owned device memory; returns to the cache when dropped.
pub(crate) struct DeviceBlock {
    span: Span,
    owner: Arc<Allocator>,
}

impl DeviceBlock {
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// Counts that a buffer on this memory was made or freed.
    pub(super) fn count_change(&self) {
        self.owner.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        let mut pool = self.owner.pool();
        match self.owner.queue.last_user(self.span) {
            Some(number) => pool.in_use_beside.push((number, self.span)),
            None => pool.free.put(self.span),
        }
    }
}

impl From<&DeviceBlock> for Arg {
    fn from(x: &DeviceBlock) -> Arg {
        x.span.into()
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        // Freeing waits for work that may use the memory.
        let _ = self.queue.join_beside("free", u64::MAX);
        for span in self.pool().free.drain() {
            self.queue.free(span);
        }
    }
}

/// Returns the common free memory to the pool when recording ends, also by a panic.
struct Recording<'a> {
    allocator: &'a Allocator,
    common: Option<SetAside>,
}

impl Recording<'_> {
    /// Ends the recording; gives the scratch that it has used.
    fn end(&mut self) -> Vec<Span> {
        let Some(common) = self.common.take() else { return Vec::new() };
        let mut pool = self.allocator.pool();
        pool.recording = false;
        pool.free.restore(common).into_spans().collect()
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let own = self.end();
        self.allocator.give_back(own);
    }
}

impl Allocator {
    pub(crate) fn new(queue: Arc<Queue>, limit: usize, frugal: bool) -> Allocator {
        Allocator {
            pool: Mutex::default(),
            limit,
            frugal,
            requests: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            queue,
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whether the work that is enqueued now is small, and there is no limit to its memory.
    pub(crate) fn spends_memory(&self) -> bool {
        self.limit == usize::MAX && self.queue.gathers()
    }

    /// How often the driver was asked for device memory.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How often a buffer was made or freed so far.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Bytes taken of the device: in use, and kept for reuse.
    pub(crate) fn held_bytes(&self) -> usize {
        self.pool().driver_bytes
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        let mut pool = self.pool.lock().unwrap_or_else(|e| e.into_inner());
        if !pool.in_use_beside.is_empty() {
            let joined = self.queue.joined_beside();
            let Pool { free, in_use_beside, .. } = &mut *pool;
            for (_, span) in in_use_beside.extract_if(.., |(number, _)| *number <= joined) {
                free.put(span);
            }
        }
        pool
    }

    /// Runs `body` with scratch that is taken newly of the device, and gives that scratch to the caller.
    pub(super) fn with_own_scratch<R>(&self, body: impl FnOnce() -> R) -> (R, Vec<Span>) {
        let mut recording = Recording { allocator: self, common: Some(self.set_aside()) };
        let result = body();
        (result, recording.end())
    }

    fn set_aside(&self) -> SetAside {
        let mut pool = self.pool();
        pool.recording = true;
        pool.free.set_aside()
    }

    /// Returns scratch to the common cache.
    pub(super) fn give_back(&self, scratch: Vec<Span>) {
        let mut pool = self.pool();
        scratch.into_iter().for_each(|span| pool.free.put(span));
    }

    /// Gives cached memory back to the device.
    pub(crate) fn trim(&self) {
        // Memory in use beside the queue is free behind that. An error shows again where work is enqueued.
        let _ = self.queue.join_beside("trim", u64::MAX);
        let mut pool = self.pool();
        if pool.recording {
            return;
        }
        for span in pool.free.drain() {
            pool.driver_bytes -= span.bytes();
            self.queue.free(span);
        }
    }

    /// Device memory with arbitrary contents.
    pub(crate) fn block(
        self: &Arc<Self>,
        op: &'static str,
        bytes: usize,
        block_use: BlockUse,
    ) -> Result<DeviceBlock> {
        let own = |span| DeviceBlock { span, owner: self.clone() };
        let cached = self.pool().free.take(bytes, block_use);
        if let Some(span) = cached {
            return Ok(own(span));
        }
        if self.frugal
            && !self.spends_memory()
            && let Some(span) = self.used_beside(op, bytes, block_use)?
        {
            return Ok(own(span));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(span) = self.take(bytes, block_use)? {
            return Ok(own(span));
        }
        if let Some(span) = self.used_beside(op, bytes, block_use)? {
            return Ok(own(span));
        }
        // A request that would not fit even if all cached memory were returned leaves the cache as it is, so that the
        // next, smaller batch finds its memory.
        let block_bytes = block_bytes_for(bytes);
        let Available { free, limit, .. } = self.available()?;
        if block_bytes <= free.min(limit) {
            self.trim();
            if let Some(span) = self.take(bytes, block_use)? {
                return Ok(own(span));
            }
        }
        let Available { free, limit, total } = self.available()?;
        let ordinal = self.queue.info.ordinal;
        let got = match self.limit {
            usize::MAX => format!("{free} of {total} bytes free on cuda:{ordinal}"),
            most => {
                format!("{limit} of {most} bytes of memoryLimit free, {free} of {total} on cuda:{ordinal}")
            }
        };
        Err(Error::new(Code::Memory, op, format!("{block_bytes} bytes of GPU memory"), got))
    }

    /// Has the queue wait for the work beside it, whose memory is free then, and takes a free block.
    fn used_beside(&self, op: &'static str, bytes: usize, block_use: BlockUse) -> Result<Option<Span>> {
        self.queue.join_beside(op, u64::MAX)?;
        Ok(self.pool().free.take(bytes, block_use))
    }

    /// Takes memory of the device, or `None` where there is not enough.
    fn take(&self, bytes: usize, block_use: BlockUse) -> Result<Option<Span>> {
        let (block_bytes, mut pool) = (block_bytes_for(bytes), self.pool());
        if block_bytes > self.limit.saturating_sub(pool.driver_bytes) {
            return Ok(None);
        }
        let span = self.queue.alloc(block_bytes)?;
        if span.is_some() {
            pool.driver_bytes += block_bytes;
        }
        Ok(span.map(|span| pool.free.add(span, bytes, block_use)))
    }

    /// Bytes that would be available if all cached memory were returned to the device.
    fn available(&self) -> Result<Available> {
        let (free, total) = self.queue.memory()?;
        let pool = self.pool();
        let kept = pool.free.drainable();
        let limit = self.limit.saturating_sub(pool.driver_bytes).saturating_add(kept);
        Ok(Available { free: free + kept, limit, total })
    }
}

/// Bytes of the device that are free, bytes left of the allocator's limit, and bytes of the whole device.
struct Available {
    free: usize,
    limit: usize,
    total: usize,
}
