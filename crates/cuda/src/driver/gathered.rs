//! What a queue gathers (`gathering.rs`), and the graphs that it has made.

use super::launch_graph::{LaunchGraph, Launches};
use cudarc::driver::sys;
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
    pub(super) gathers: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    /// Calls of `Queue::gather` that have not ended.
    pub(super) depth: usize,
    /// Whether the queue records what it is given: that is enqueued at once.
    pub(super) recording: bool,
    /// Whether the driver has refused a graph: there are no more then.
    refused: bool,
    pub(super) launches: Launches,
    /// The one used last is the first.
    pub(super) graphs: Vec<LaunchGraph>,
    /// Of the last two that were enqueued, the last one first: the hashes of their shapes and of their kernels.
    last_two: [Option<(u64, u64)>; 2],
}

impl State {
    /// Enqueues what was gathered as a graph, where there is one for it or is to be. Else nothing was enqueued.
    pub(super) fn enqueue_graph(&mut self, stream: sys::CUstream) -> bool {
        if self.refused || self.recording || self.launches.len() < LEAST_LAUNCHES {
            return false;
        }
        let launches = &mut self.launches;
        let hashes = launches.hashes();
        let seen = self.last_two.iter().flatten();
        let (shapes_seen, kernels_seen) =
            seen.fold((false, false), |(s, k), last| (s || last.0 == hashes.0, k || last.1 == hashes.1));
        self.last_two = [Some(hashes), self.last_two[0]];
        // Shapes that come again have a graph of their own, in which little is to be written. For others, those of a new length, say, to write
        // all of a graph costs less than to make one.
        let of_shapes = self.graphs.iter().position(|graph| graph.has_shapes_of(launches));
        let of_kernels = || self.graphs.iter().position(|graph| graph.has_kernels_of(launches));
        let at = if shapes_seen { of_shapes } else { of_shapes.or_else(of_kernels) };
        let used = match at.map(|at| self.graphs.remove(at)) {
            None if !kernels_seen => return false,
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when kernels are kept.
    pub(super) fn change(&self, state: &mut State, change: impl FnOnce(&mut State)) {
        change(state);
        self.gathers.store(state.depth > 0 && !state.recording, Ordering::Release);
    }
}
