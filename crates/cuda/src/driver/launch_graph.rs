//! Launches that are kept, and a CUDA graph of them: one call of the driver instead of one for each. What has changed since the last time
//! (arguments, numbers of blocks) is written into the graph.

use super::arguments::Arg;
use cudarc::driver::{result, result::DriverError, sys};
use std::{
    ffi::c_void,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Most arguments of a kernel.
pub(super) const MAX_ARGUMENTS: usize = 40;

/// One launch, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KernelLaunch {
    pub(super) kernel: &'static str,
    pub(super) function: sys::CUfunction,
    pub(super) grid: (u32, u32, u32),
    pub(super) block: (u32, u32),
    /// Bytes of dynamic shared memory per block.
    pub(super) shared: u32,
    /// The launches that it is to wait for, by their numbers.
    pub(super) behind: [Option<u32>; 2],
}

/// Launches in their order, with copies of their arguments.
#[derive(Default)]
pub(super) struct Launches {
    launches: Vec<KernelLaunch>,
    /// Where the arguments of each launch end in `arguments`.
    ends: Vec<usize>,
    /// Where each argument begins in `words`.
    arguments: Vec<usize>,
    words: Vec<u64>,
}

// SAFETY: functions are plain references into the context, valid on any thread it is bound to.
unsafe impl Send for Launches {}

impl Launches {
    pub(super) fn push(&mut self, launch: KernelLaunch, args: &[Arg]) {
        assert!(args.len() <= MAX_ARGUMENTS);
        for arg in args {
            self.arguments.push(self.words.len());
            match arg {
                Arg::Word(word) => self.words.push(*word),
                Arg::Memory(span) => self.words.push(span.ptr()),
                Arg::Map(map) => self.words.extend_from_slice(&map.map.opaque),
            }
        }
        self.launches.push(launch);
        self.ends.push(self.arguments.len());
    }

    pub(super) fn clear(&mut self) {
        self.launches.clear();
        self.ends.clear();
        self.arguments.clear();
        self.words.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.launches.len()
    }

    /// Of all that is not an argument (equal kernels with equal numbers of blocks), and of the kernels alone.
    pub(super) fn hashes(&self) -> (u64, u64) {
        let (mut shapes, mut kernels) = (DefaultHasher::new(), DefaultHasher::new());
        self.launches.hash(&mut shapes);
        self.launches.iter().for_each(|launch| (launch.function, launch.behind).hash(&mut kernels));
        (shapes.finish(), kernels.finish())
    }

    /// Numbers of the arguments of launch `i`.
    fn arguments_of(&self, i: usize) -> std::ops::Range<usize> {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        begin..self.ends[i]
    }

    fn words_of(&self, i: usize) -> &[u64] {
        let first_word = |argument: usize| self.arguments.get(argument).copied().unwrap_or(self.words.len());
        let arguments = self.arguments_of(i);
        &self.words[first_word(arguments.start)..first_word(arguments.end)]
    }

    /// The addresses of the arguments of launch `i`, and a null pointer behind the last.
    fn pointers_of(&self, i: usize) -> [*mut c_void; MAX_ARGUMENTS + 1] {
        let mut pointers = [std::ptr::null_mut(); MAX_ARGUMENTS + 1];
        for (pointer, &at) in pointers.iter_mut().zip(&self.arguments[self.arguments_of(i)]) {
            *pointer = std::ptr::from_ref(&self.words[at]).cast_mut().cast();
        }
        pointers
    }

    /// Launches them one by one, each behind all before it. The context is current; an error comes with the name of its kernel.
    pub(super) fn launch_each(&self, stream: sys::CUstream) -> Result<(), (&'static str, DriverError)> {
        for (i, launch) in self.launches.iter().enumerate() {
            let mut pointers = self.pointers_of(i);
            let &KernelLaunch { kernel, function, grid, block, shared, .. } = launch;
            let arguments = &mut pointers[..self.arguments_of(i).len()];
            // SAFETY: as in `Modules::launch`, of which these are copies; the memory is live, for whoever frees memory has what was
            // gathered enqueued first.
            unsafe {
                result::launch_kernel(function, grid, (block.0, block.1, 1), shared, stream, arguments)
            }
            .map_err(|e| (kernel, e))?;
        }
        Ok(())
    }

    /// What the driver reads of launch `i` with its arguments at `pointers`.
    fn node(
        &self,
        i: usize,
        pointers: &mut [*mut c_void; MAX_ARGUMENTS + 1],
    ) -> sys::CUDA_KERNEL_NODE_PARAMS {
        let &KernelLaunch { function, grid, block, shared, .. } = &self.launches[i];
        *pointers = self.pointers_of(i);
        sys::CUDA_KERNEL_NODE_PARAMS {
            func: function,
            gridDimX: grid.0,
            gridDimY: grid.1,
            gridDimZ: grid.2,
            blockDimX: block.0,
            blockDimY: block.1,
            blockDimZ: 1,
            sharedMemBytes: shared,
            kernelParams: pointers.as_mut_ptr(),
            extra: std::ptr::null_mut(),
            kern: std::ptr::null_mut(),
            ctx: std::ptr::null_mut(),
        }
    }
}

/// A graph of launches.
pub(super) struct LaunchGraph {
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
    nodes: Vec<sys::CUgraphNode>,
    /// What the graph launches.
    launches: Launches,
}

// SAFETY: plain references into the driver, which locks its own state.
unsafe impl Send for LaunchGraph {}

impl LaunchGraph {
    /// Makes a graph of `launches`, enqueues it, and takes them out. The context is current.
    pub(super) fn of(launches: &mut Launches, stream: sys::CUstream) -> Result<LaunchGraph, DriverError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: the driver writes the handle.
        unsafe { sys::cuGraphCreate(&raw mut graph, 0) }.result()?;
        let (exec, nodes) = (std::ptr::null_mut(), Vec::with_capacity(launches.len()));
        let mut made = LaunchGraph { graph, exec, nodes, launches: Launches::default() };
        match made.build(launches).and_then(|()| made.enqueue(launches, stream)) {
            Ok(()) => Ok(made),
            Err(e) => {
                made.free();
                Err(e)
            }
        }
    }

    fn build(&mut self, launches: &Launches) -> Result<(), DriverError> {
        for i in 0..launches.len() {
            let (mut node, mut pointers) = (std::ptr::null_mut(), [std::ptr::null_mut(); MAX_ARGUMENTS + 1]);
            let params = launches.node(i, &mut pointers);
            let behind = launches.launches[i].behind.into_iter().flatten();
            let behind: Vec<_> = behind.map(|number| self.nodes[number as usize]).collect();
            // SAFETY: the graph is live, `behind` are nodes of it, and the driver copies the arguments, which are those of
            // `Modules::launch`.
            let added = unsafe {
                sys::cuGraphAddKernelNode_v2(
                    &raw mut node,
                    self.graph,
                    behind.as_ptr(),
                    behind.len(),
                    &raw const params,
                )
            };
            added.result()?;
            self.nodes.push(node);
        }
        // SAFETY: as above.
        self.exec = unsafe { result::graph::instantiate(self.graph, sys::CUgraphInstantiate_flags(0)) }?;
        Ok(())
    }

    /// Whether it launches the same kernels with the same numbers of blocks.
    pub(super) fn has_shapes_of(&self, launches: &Launches) -> bool {
        self.launches.launches == launches.launches
    }

    /// Whether it can be made to launch these: they are of the same kernels, which wait for the same ones.
    pub(super) fn has_kernels_of(&self, launches: &Launches) -> bool {
        let mut pairs = self.launches.launches.iter().zip(&launches.launches);
        self.nodes.len() == launches.len()
            && pairs.all(|(old, new)| (old.function, old.behind) == (new.function, new.behind))
    }

    /// Has it launch `launches`, of the same kernels, enqueues it, and takes them out. The context is current. After an error nothing was
    /// enqueued, and the graph is to be freed: some of it may have changed.
    pub(super) fn launch(
        &mut self,
        launches: &mut Launches,
        stream: sys::CUstream,
    ) -> Result<(), DriverError> {
        for (i, &node) in self.nodes.iter().enumerate() {
            let (old, new) = (&self.launches, &*launches);
            if old.launches[i] == new.launches[i] && old.words_of(i) == new.words_of(i) {
                continue;
            }
            let mut pointers = [std::ptr::null_mut(); MAX_ARGUMENTS + 1];
            let params = new.node(i, &mut pointers);
            // SAFETY: graph and node are live and of one another; the driver copies the arguments. Launches under way keep theirs.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.exec, node, &raw const params) }.result()?;
        }
        self.enqueue(launches, stream)
    }

    /// Enqueues it, which launches `launches` now, and takes them out.
    fn enqueue(&mut self, launches: &mut Launches, stream: sys::CUstream) -> Result<(), DriverError> {
        // SAFETY: graph and stream are live.
        unsafe { result::graph::launch(self.exec, stream) }?;
        std::mem::swap(&mut self.launches, launches);
        Ok(())
    }

    /// Frees it, once. The context is current.
    pub(super) fn free(&mut self) {
        let (graph, exec) = (std::mem::replace(&mut self.graph, std::ptr::null_mut()), self.exec);
        if graph.is_null() {
            return;
        }
        // SAFETY: the handles are freed here alone; the driver lets a launch under way end.
        unsafe {
            if !exec.is_null() {
                let _ = result::graph::exec_destroy(exec);
            }
            let _ = result::graph::destroy(graph);
        }
    }
}
