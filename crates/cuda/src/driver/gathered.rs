//! Work that is gathered, and given to the driver at once. A small model's training step has hundreds of kernels, each of which ends before
//! the host has launched the next; as one graph they follow one another without the host.
//!
//! While a queue gathers, kernels are kept with their arguments instead of launched. Everything else that is enqueued, every wait and every
//! return of memory to the driver has them enqueued first, so that the order of the work is that of the calls, whatever comes between.
//! Kernels that were seen before go as a graph, into which all is written that differs from the last time; others one by one. So
//! nothing has to be known of what a recording would depend on: the arguments are compared each time.

use super::{
    arguments::Arg,
    launch_graph::{KernelLaunch, LaunchGraph, Launches},
    queue::Queue,
};
use cudarc::driver::sys;
use s4_backend::Result;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// When the work of a training step is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Never: each kernel is launched at once.
    Never,
    /// Where the kernels are small.
    BySize,
    /// Always, for tests.
    Always,
}

impl Gather {
    /// What the environment variable `S4_CUDA_GATHER` says: `0` for never, `always`, else by size.
    pub(crate) fn from_environment() -> Gather {
        match std::env::var("S4_CUDA_GATHER").as_deref() {
            Ok("0") => Gather::Never,
            Ok("always") => Gather::Always,
            _ => Gather::BySize,
        }
    }
}

/// Fewer launches are not worth a graph.
const LEAST_LAUNCHES: usize = 16;
/// Graphs that are kept.
const MAX_GRAPHS: usize = 4;

/// What a queue gathers, and the graphs it has made.
#[derive(Default)]
pub(super) struct Gathered {
    state: Mutex<State>,
    /// Whether kernels are kept instead of launched.
    gathers: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Calls of [`Queue::gather`] that have not ended.
    depth: usize,
    /// Whether the queue records what it is given: that is enqueued at once.
    recording: bool,
    /// Whether the driver has refused a graph: there are no more then.
    refused: bool,
    launches: Launches,
    /// The one used last is the first.
    graphs: Vec<LaunchGraph>,
    /// Hashes of the shapes of the last two that were enqueued, the last one first.
    last_shapes: [Option<u64>; 2],
}

impl State {
    /// Enqueues what was gathered as a graph, where there is one for it or is to be. Else nothing was enqueued.
    fn enqueue_graph(&mut self, stream: sys::CUstream) -> bool {
        if self.refused || self.recording || self.launches.len() < LEAST_LAUNCHES {
            return false;
        }
        let shapes = self.launches.hash_of_shapes();
        let was_seen = self.last_shapes.contains(&Some(shapes));
        self.last_shapes = [Some(shapes), self.last_shapes[0]];
        let launches = &mut self.launches;
        // Shapes that come again have a graph of their own, in which little is to be written. For those of a new length, say, to write all of
        // another graph costs less than to make one.
        let of_shapes = self.graphs.iter().position(|graph| graph.has_shapes_of(launches));
        let at = match of_shapes {
            None if !was_seen => self.graphs.iter().position(|graph| graph.has_kernels_of(launches)),
            _ => of_shapes,
        };
        let used = match at.map(|at| self.graphs.remove(at)) {
            None if !was_seen => return false,
            None => LaunchGraph::of(launches, stream),
            Some(mut graph) => match graph.launch(launches, stream) {
                Ok(()) => Ok(graph),
                Err(e) => {
                    graph.free();
                    Err(e)
                }
            },
        };
        self.refused = used.is_err();
        let Ok(graph) = used else { return false };
        self.graphs.insert(0, graph);
        self.graphs.drain(MAX_GRAPHS.min(self.graphs.len())..).for_each(|mut graph| graph.free());
        true
    }
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, state: &mut State, change: impl FnOnce(&mut State)) {
        change(state);
        self.gathers.store(state.depth > 0 && !state.recording, Ordering::Release);
    }
}

impl Queue {
    /// Gathers the kernels that `body` launches, and enqueues them when it has ended. After an error of `body` too: what came before it is
    /// done, as it would be otherwise.
    pub(crate) fn gather(&self, op: &'static str, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.gathered.change(&mut self.gathered.lock(), |state| state.depth += 1);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        self.gathered.change(&mut self.gathered.lock(), |state| state.depth -= 1);
        let enqueued = self.enqueue_gathered_of(op, &mut self.gathered.lock());
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
        self.enqueue_gathered(op)?;
        self.gathered.change(&mut self.gathered.lock(), |state| state.recording = recording);
        Ok(())
    }

    /// Frees the graphs: their kernels are to be unloaded. Nothing may run on the queue any more.
    pub(crate) fn forget_graphs(&self) {
        let mut graphs = std::mem::take(&mut self.gathered.lock().graphs);
        if self.bind("drop").is_ok() {
            graphs.iter_mut().for_each(LaunchGraph::free);
        }
    }
}
