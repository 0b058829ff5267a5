//! Work that is gathered, and given to the driver at once. A small model's training step has hundreds of kernels, each of which ends before
//! the host has launched the next; as one graph they follow one another without the host.
//!
//! While a queue gathers, kernels are kept with their arguments instead of launched. Everything else that is enqueued, every wait and every
//! return of memory to the driver has them enqueued first, so that the order of the work is that of the calls, whatever comes between.
//! Kernels that were seen before go as a graph, into which all is written that differs from the last time; others one by one. So
//! nothing has to be known of what a recording would depend on: the arguments are compared each time.

use super::{
    arguments::Arg,
    gathered::State,
    launch_graph::{KernelLaunch, LaunchGraph},
    queue::Queue,
};
use s4_backend::Result;
use std::sync::atomic::Ordering;

impl Queue {
    /// Gathers the kernels that `body` launches, and enqueues them when it has ended. After an error of `body` too: what came before it is
    /// done, as it would be otherwise.
    pub(crate) fn gather(&self, op: &'static str, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.gathered.change(&mut self.gathered.lock(), |state| state.depth += 1);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // Under one lock: what other threads launch is behind what was gathered, whose memory may be theirs now.
        let mut state = self.gathered.lock();
        let enqueued = self.enqueue_gathered_of(op, &mut state);
        self.gathered.change(&mut state, |state| state.depth -= 1);
        drop(state);
        match done {
            Ok(result) => result.and(enqueued),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Whether kernels are kept instead of launched.
    pub(crate) fn gathers(&self) -> bool {
        self.gathered.gathers.load(Ordering::Acquire)
    }

    /// Keeps a launch; false where the queue does not gather.
    pub(super) fn keep(&self, launch: KernelLaunch, args: &[Arg]) -> bool {
        if !self.gathers() {
            return false;
        }
        let mut state = self.gathered.lock();
        // It may have ended meanwhile.
        let gathers = self.gathers();
        if gathers {
            state.launches.push(launch, args);
        }
        gathers
    }

    /// Enqueues what was gathered so far.
    pub(super) fn enqueue_gathered(&self, op: &'static str) -> Result<()> {
        match self.gathers() {
            true => self.enqueue_gathered_of(op, &mut self.gathered.lock()),
            false => Ok(()),
        }
    }

    fn enqueue_gathered_of(&self, op: &'static str, state: &mut State) -> Result<()> {
        if state.launches.len() == 0 {
            return Ok(());
        }
        let enqueued = self.bind(op).and_then(|()| self.join_beside(op, u64::MAX)).and_then(|()| match state
            .enqueue_graph(self.main_stream())
        {
            true => Ok(()),
            false => state
                .launches
                .launch_each(self.main_stream())
                .or_else(|(kernel, e)| self.check(kernel, Err(e))),
        });
        state.launches.clear();
        if let Some(side) = &self.side {
            side.count_enqueued();
        }
        enqueued
    }

    /// Has all work enqueued at once while a graph is recorded.
    pub(super) fn set_recording_apart(&self, op: &'static str, recording: bool) -> Result<()> {
        let mut state = self.gathered.lock();
        let enqueued = self.enqueue_gathered_of(op, &mut state);
        self.gathered.change(&mut state, |state| state.recording = recording);
        enqueued
    }

    /// Frees the graphs: their kernels are to be unloaded. Nothing may run on the queue any more.
    pub(crate) fn forget_graphs(&self) {
        let mut graphs = std::mem::take(&mut self.gathered.lock().graphs);
        if self.bind("drop").is_ok() {
            graphs.iter_mut().for_each(LaunchGraph::free);
        }
    }
}
