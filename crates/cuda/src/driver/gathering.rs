//! Work that is gathered, and given to the driver at once. A small model's training step has hundreds of kernels, each of which ends before
//! the host has launched the next; as one graph they follow one another without the host.
//!
//! While a queue gathers, kernels are kept with their arguments instead of launched. Everything else that is enqueued, every return of memory to
//! the driver and every wait for the queue has them enqueued first, so that the order of the work is that of the calls, whatever comes between. (A wait for
//! an event is for what was enqueued before it.) What the driver refuses then is the error of the call that gathers; nothing is kept after it.
//! Kernels that were seen before go as a graph, into which all is written that differs from the last time; others one by one. So
//! nothing has to be known of what a recording would depend on: the arguments are compared each time. What would run beside the queue
//! (`beside.rs`) is a branch of the graph, ordered by the same rules.

use super::{
    arguments::Arg,
    gathered::State,
    launch_graph::{KernelLaunch, LaunchGraph},
    queue::Queue,
};
use s4_backend::Result;
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::Ordering,
};

impl Queue {
    /// Gathers the kernels that `body` launches, and enqueues them when it has ended. After an error of `body` too: what came before it is
    /// done, as it would be otherwise. Where the driver refuses some of them, what comes after those is not done either.
    pub(crate) fn gather(&self, op: &'static str, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.begin_gathering(op)?;
        let done = catch_unwind(AssertUnwindSafe(body));
        // Under one lock: what other threads launch is behind what was gathered, whose memory may be theirs now.
        let mut state = self.gathered.lock();
        let enqueued = catch_unwind(AssertUnwindSafe(|| self.enqueue_gathered_of(op, &mut state)));
        self.gathered.change(&mut state, |state| state.depth -= 1);
        if let Some(side) = &self.side {
            side.lock().gathering = state.depth > 0;
        }
        let failed = if state.depth == 0 { state.failed.take() } else { None };
        drop(state);
        let result = done.unwrap_or_else(|panic| resume_unwind(panic));
        enqueued.unwrap_or_else(|panic| resume_unwind(panic));
        result.and(failed.map_or(Ok(()), Err))
    }

    fn begin_gathering(&self, op: &'static str) -> Result<()> {
        let mut state = self.gathered.lock();
        if let (Some(side), 0) = (&self.side, state.depth) {
            // The groups are those of gathered work from here on.
            self.bind(op)?;
            let mut groups = side.lock();
            self.check(op, side.join(&mut groups, self.main_stream(), u64::MAX))?;
            groups.gathering = true;
        }
        self.gathered.change(&mut state, |state| state.depth += 1);
        Ok(())
    }

    /// Whether kernels are kept instead of launched.
    pub(crate) fn gathers(&self) -> bool {
        self.gathered.gathers.load(Ordering::Acquire)
    }

    /// Keeps a launch, on the queue or beside it; false where the queue does not gather.
    pub(super) fn keep(&self, launch: KernelLaunch, args: &[Arg], beside: bool) -> bool {
        if !self.gathers() {
            return false;
        }
        let mut state = self.gathered.lock();
        // It may have ended meanwhile.
        let gathers = self.gathers();
        if gathers {
            state.keep(self.side.as_ref(), launch, args, beside);
        }
        gathers
    }

    /// Enqueues what was gathered so far. An error is that of the call that gathers, whoever has it enqueued.
    pub(super) fn enqueue_gathered(&self, op: &'static str) {
        if self.gathers() {
            self.enqueue_gathered_of(op, &mut self.gathered.lock());
        }
    }

    fn enqueue_gathered_of(&self, op: &'static str, state: &mut State) {
        if state.launches.len() == 0 {
            return;
        }
        let stream = self.main_stream();
        let enqueued = self.bind(op).and_then(|()| match state.enqueue_graph(stream) {
            true => Ok(()),
            false => state.launches.launch_each(stream).or_else(|(kernel, e)| self.check(kernel, Err(e))),
        });
        state.clear(self.side.as_ref());
        if let Err(error) = enqueued {
            state.failed.get_or_insert(error);
        }
    }

    /// Has the next gathered launch of the queue wait for those beside it in the groups up to `number`; false where the queue does not gather.
    pub(super) fn join_gathered(&self, number: u64) -> bool {
        if !self.gathers() {
            return false;
        }
        let mut state = self.gathered.lock();
        let gathers = self.gathers();
        if let (true, Some(side)) = (gathers, &self.side) {
            state.join(side, &mut side.lock(), number);
        }
        gathers
    }

    /// Has all work enqueued at once while a graph is recorded.
    pub(super) fn set_recording_apart(&self, op: &'static str, recording: bool) {
        let mut state = self.gathered.lock();
        self.enqueue_gathered_of(op, &mut state);
        self.gathered.change(&mut state, |state| state.recording = recording);
    }

    /// Frees the graphs: their kernels are to be unloaded. Nothing may run on the queue any more.
    pub(crate) fn forget_graphs(&self) {
        let mut graphs = std::mem::take(&mut self.gathered.lock().graphs);
        if self.bind("drop").is_ok() {
            graphs.iter_mut().for_each(LaunchGraph::free);
        }
    }
}
