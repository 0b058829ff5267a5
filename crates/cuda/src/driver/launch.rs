//! Launches of kernels, with the unsafe call that hands them their arguments.

use super::{
    arguments::{Arg, args},
    launch_graph::{KernelLaunch, MAX_ARGUMENTS},
    modules::Modules,
    queue::Queue,
};
use cudarc::driver::result;
use s4_backend::Result;
use std::{ffi::c_void, sync::atomic::Ordering, time::Instant};

/// Which kernel, and with how many blocks, threads and bytes it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    /// Module (the stem of its `.cu`) and kernel.
    pub(crate) kernel: (&'static str, &'static str),
    pub(crate) grid: (u32, u32, u32),
    pub(crate) block: (u32, u32),
    /// Bytes of dynamic shared memory per block.
    pub(crate) shared: usize,
    /// Whether it runs beside the queue (`beside.rs`).
    pub(crate) beside: bool,
}

impl Modules {
    /// Enqueues a kernel. Arguments are in the kernel's order; sizes were checked by the operation.
    pub(crate) fn launch(&self, queue: &Queue, launch: &Launch, args: &[Arg]) -> Result<()> {
        let &Launch { kernel: (module, kernel), grid, block, shared, beside } = launch;
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        queue.bind(kernel)?;
        let f = self.function(queue, module, kernel, shared as u32)?;
        let (function, shared_bytes) = (f.handle, shared as u32);
        let kept = KernelLaunch { kernel, function, grid, block, shared: shared_bytes, behind: [None; 2] };
        if queue.keep(kept, args, beside) {
            let count = self.launches.fetch_add(1, Ordering::Relaxed);
            return self.launch_fault_after(queue, count);
        }
        let mut pointers = [std::ptr::null_mut::<c_void>(); MAX_ARGUMENTS];
        assert!(args.len() <= MAX_ARGUMENTS);
        for (pointer, a) in pointers.iter_mut().zip(args) {
            *pointer = match a {
                Arg::Word(word) => std::ptr::from_ref(word).cast_mut().cast(),
                Arg::Memory(span) => std::ptr::from_ref(span.address()).cast_mut().cast(),
                Arg::Map(map) => std::ptr::from_ref(&map.map).cast_mut().cast(),
            };
        }
        let begun = self.times.as_ref().map(|_| Instant::now());
        // SAFETY: every pointer is to eight live bytes or to a map, at least the size of the parameter it stands for,
        // which the driver reads; arrays are `Span`s of live allocations whose lengths the call's `check` compared with
        // the sizes passed. tests/against_cpu/every.rs launches every kernel of a build with these argument lists.
        let call = |stream| unsafe {
            result::launch_kernel(
                f.handle,
                grid,
                (block.0, block.1, 1),
                shared as u32,
                stream,
                &mut pointers[..args.len()],
            )
        };
        let spans = args.iter().filter_map(Arg::memory);
        // Where every launch is waited for there is one order.
        let r = match beside && begun.is_none() && !self.wait_after_launch {
            true => queue.enqueue_beside(kernel, spans, call),
            false => queue.enqueue(kernel, spans, call),
        };
        let count = self.launches.fetch_add(1, Ordering::Relaxed);
        r?;
        self.launch_fault_after(queue, count)?;
        if self.wait_after_launch || begun.is_some() {
            // SAFETY: the stream is live.
            queue.check(kernel, unsafe { result::stream::synchronize(queue.main_stream()) })?;
        }
        if let (Some(times), Some(begun)) = (&self.times, begun) {
            let mut times = times.lock().unwrap_or_else(|e| e.into_inner());
            let entry = times.entry((module, kernel)).or_default();
            *entry = (entry.0 + 1, entry.1 + begun.elapsed());
        }
        Ok(())
    }

    /// For tests: a kernel that faults, after the launch of this number.
    fn launch_fault_after(&self, queue: &Queue, number: u64) -> Result<()> {
        if self.fault != Some(number) {
            return Ok(());
        }
        let kernel = ("memory", "fault");
        let fault = Launch { kernel, grid: (1, 1, 1), block: (1, 1), shared: 0, beside: false };
        self.launch(queue, &fault, args![16usize])
    }

    /// Whether launches may be kept, to be given to the driver together: not where each is waited for.
    pub(crate) fn may_be_kept(&self) -> bool {
        !self.wait_after_launch && self.times.is_none()
    }
}
