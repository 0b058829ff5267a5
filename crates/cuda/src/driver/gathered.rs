//! What a queue gathers (`gathering.rs`), and the graphs that it has made.

use super::{
    arguments::Arg,
    launch_graph::{KernelLaunch, LaunchGraph, Launches},
    side_stream::{Groups, SideStream},
};
use cudarc::driver::sys;
use s4_backend::Error;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
/// So many that were enqueued last are known when they come again.
const MAX_SEEN: usize = 8;

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
    /// The first error of what was enqueued: nothing more is kept then.
    pub(super) failed: Option<Error>,
    pub(super) launches: Launches,
    /// The last launch of the queue itself, and the last one beside it.
    last: Option<u32>,
    last_beside: Option<u32>,
    /// Of each group beside the queue its number and its last launch.
    groups: Vec<(u64, u32)>,
    /// The launch beside the queue that the next one of the queue is to wait for.
    joined: Option<u32>,
    /// Whether the queue was given a launch since the last one beside it.
    group_ended: bool,
    /// The one used last is the first.
    pub(super) graphs: Vec<LaunchGraph>,
    /// Of those that were enqueued last, the last one first: the hashes of their shapes and of their kernels.
    seen: VecDeque<(u64, u64)>,
}

impl State {
    /// Keeps a launch. Those beside the queue wait for each other and for what the queue was given before, and the queue for those that use
    /// some of the same memory, as in `beside.rs`.
    pub(super) fn keep(
        &mut self,
        side: Option<&SideStream>,
        mut launch: KernelLaunch,
        args: &[Arg],
        beside: bool,
    ) {
        if self.failed.is_some() {
            return;
        }
        let number = Some(self.launches.len() as u32);
        let spans = args.iter().filter_map(Arg::memory);
        match side {
            Some(side) if beside => {
                let mut groups = side.lock();
                let is_open = !self.group_ended
                    && self.groups.last().is_some_and(|last| groups.latest_waiting() == Some(last.0));
                if !is_open {
                    self.groups.push((side.begin_gathered_group(&mut groups), 0));
                }
                groups.add(spans);
                if let Some(group) = self.groups.last_mut() {
                    group.1 = self.launches.len() as u32;
                }
                launch.behind = [self.last_beside, self.last.filter(|_| !is_open)];
                (self.last_beside, self.group_ended) = (number, false);
            }
            _ => {
                if let Some(side) = side.filter(|side| side.is_outstanding()) {
                    let mut groups = side.lock();
                    if let Some(user) = spans.filter_map(|span| groups.last_user(span)).max() {
                        self.join(side, &mut groups, user);
                    }
                }
                launch.behind = [self.last, self.joined.take()];
                (self.last, self.group_ended) = (number, true);
            }
        }
        self.launches.push(launch, args);
    }

    /// Has the next launch of the queue wait for the groups beside it up to `number`.
    pub(super) fn join(&mut self, side: &SideStream, groups: &mut Groups, number: u64) {
        let last = self.groups.iter().rfind(|group| group.0 <= number).map(|group| group.1);
        self.joined = self.joined.max(last);
        side.note_joined(groups, number);
    }

    /// Forgets what was gathered, which has been enqueued: what the queue is given next is behind all of it.
    pub(super) fn clear(&mut self, side: Option<&SideStream>) {
        self.launches.clear();
        self.groups.clear();
        (self.last, self.last_beside, self.joined, self.group_ended) = (None, None, None, false);
        if let Some(side) = side {
            side.note_joined(&mut side.lock(), u64::MAX);
            side.count_enqueued();
        }
    }

    /// Enqueues what was gathered as a graph, where there is one for it or is to be. Else nothing was enqueued.
    pub(super) fn enqueue_graph(&mut self, stream: sys::CUstream) -> bool {
        if self.refused || self.recording || self.launches.len() < LEAST_LAUNCHES {
            return false;
        }
        let launches = &mut self.launches;
        let hashes = launches.hashes();
        let shapes_seen = self.seen.iter().any(|seen| seen.0 == hashes.0);
        let kernels_seen = self.seen.iter().any(|seen| seen.1 == hashes.1);
        self.seen.push_front(hashes);
        self.seen.truncate(MAX_SEEN);
        // Shapes that come again have a graph of their own, in which little is to be written, while there is room for one. For others, those of a
        // new length, say, to write all of a graph costs less than to make one: the one that was used least lately.
        let of_shapes = self.graphs.iter().position(|graph| graph.has_shapes_of(launches));
        let of_kernels = || self.graphs.iter().rposition(|graph| graph.has_kernels_of(launches));
        let gets_own = shapes_seen && self.graphs.len() < MAX_GRAPHS;
        let at = if gets_own { of_shapes } else { of_shapes.or_else(of_kernels) };
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
        let Ok(graph) = used else {
            // They may be what the memory is missing for.
            self.refused = true;
            self.graphs.drain(..).for_each(|mut graph| graph.free());
            return false;
        };
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
