//! One GPU: its queue, its memory, its kernels, and how kernels are launched.

use crate::{
    driver::{Arg, Beside, Gather, Launch, Modules, Queue, Span, args, probe, shared_memory},
    memory::{Allocator, BlockUse, DeviceBlock},
    precision::Precision,
};
use s4_backend::{Code, Error, Result};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How a GPU is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Most bytes to take of the device; `None` for all there are.
    pub memory_limit: Option<usize>,
    /// Use only this image of the kernels (`"compute_75"`), to test PTX; `None`: the best one for the chip.
    pub architecture: Option<String>,
    /// How exactly products are computed.
    pub precision: Precision,
    /// When small kernels run beside large ones; `None`: what `S4_CUDA_SIDE` says. Results are the same.
    pub beside: Option<Beside>,
    /// When the kernels of a training step are given to the driver together; `None`: what `S4_CUDA_GATHER` says. Results are the same.
    pub gather: Option<Gather>,
    /// Cut work as for a chip of so many multiprocessors: a test of long segments needs fewer sequences so. `None`: as many as there are.
    pub processors: Option<usize>,
}

/// From this many numbers on that the large kernels of an operation go through, small ones run beside them: of fewer the waits cost
/// the host about what the device gains. The kernels of fewer are gathered, since each ends before the host has launched the next.
const LARGE_ENOUGH: usize = 4 << 20;

/// One GPU with one queue. Clones share it; all work of a `Cuda` and its clones has the results of one order.
#[derive(Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
    /// Whether kernels are launched beside the queue.
    launches_beside: bool,
}

struct Inner {
    modules: Modules,
    precision: Precision,
    beside: Beside,
    gather: Gather,
    processors: Option<usize>,
    /// The number of the latest work beside the queue that computes gradients of parameters.
    gradients_beside: AtomicU64,
    allocator: Arc<Allocator>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No kernel may run when its code is unloaded.
        let _ = self.allocator.queue().synchronize();
        self.allocator.queue().forget_graphs();
        self.modules.unload(self.allocator.queue());
    }
}

impl Cuda {
    /// GPU `ordinal`, with [`Options::default`].
    pub fn new(ordinal: usize) -> Result<Cuda> {
        Self::with(ordinal, &Options::default())
    }

    /// GPU `ordinal`. Errors say why there is none (`ERR_S4_DEVICE`).
    pub fn with(ordinal: usize, options: &Options) -> Result<Cuda> {
        let devices = probe()?;
        let info = devices.iter().find(|d| d.ordinal == ordinal).ok_or_else(|| {
            let have: Vec<_> = devices.iter().map(|d| format!("cuda:{}", d.ordinal)).collect();
            Error::new(
                Code::Device,
                "device 'cuda'",
                format!("one of {}", have.join(", ")),
                format!("cuda:{ordinal}"),
            )
        })?;
        let beside = options.beside.unwrap_or_else(Beside::from_environment);
        let (queue, modules) = (Queue::open(info, beside)?, Modules::new(options.architecture.clone()));
        modules.try_compiler(&queue)?;
        let precision = options.precision;
        // Products of 'highest' take the most memory, and the most time, of which small kernels are a smaller part.
        let frugal = precision == Precision::Highest;
        let limit = options.memory_limit.unwrap_or(usize::MAX);
        let allocator = Arc::new(Allocator::new(Arc::new(queue), limit, frugal));
        Ok(Cuda {
            inner: Arc::new(Inner {
                modules,
                precision,
                beside,
                gather: options.gather.unwrap_or_else(Gather::from_environment),
                processors: options.processors,
                gradients_beside: AtomicU64::new(0),
                allocator,
            }),
            launches_beside: false,
        })
    }

    /// This GPU, with its kernels launched beside the queue (`driver/beside.rs`), where the large kernels that they run beside go through
    /// `elements` numbers; as it is where those are few. For kernels whose results nothing needs soon.
    pub(crate) fn beside(&self, elements: usize) -> Cuda {
        let launches_beside = match self.inner.beside {
            Beside::Never => false,
            // Of gathered work a wait is an edge of the graph, and costs the host nothing.
            Beside::BySize => elements >= LARGE_ENOUGH || (elements > 0 && self.spends_memory()),
            Beside::Always => true,
        };
        Cuda { inner: self.inner.clone(), launches_beside }
    }

    /// Enqueues what `body` enqueues, together where the large operations go through few numbers, `elements`.
    pub(crate) fn gather(
        &self,
        op: &'static str,
        elements: usize,
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let gathers = match self.inner.gather {
            Gather::Never => false,
            // What is to run beside the queue is not gathered.
            Gather::BySize => elements < LARGE_ENOUGH && self.inner.beside != Beside::Always,
            Gather::Always => true,
        };
        match gathers && self.inner.modules.may_be_kept() {
            true => self.queue().gather(op, body),
            false => body(),
        }
    }

    /// Whether work may take some more memory where it ends sooner: what is gathered is small, unless the caller has set a limit.
    pub(crate) fn spends_memory(&self) -> bool {
        self.allocator().spends_memory()
    }

    /// Remembers that gradients of parameters are computed beside the queue.
    pub(crate) fn note_gradients(&self) {
        self.inner.gradients_beside.store(self.queue().latest_beside(), Ordering::Relaxed);
    }

    /// Has the queue wait for the gradients that were last computed beside it: then the memory for them is free again.
    pub(crate) fn join_gradients(&self, op: &'static str) -> Result<()> {
        self.queue().join_beside(op, self.inner.gradients_beside.load(Ordering::Relaxed))
    }

    /// Whether kernels are launched beside the queue.
    pub(crate) fn launches_beside(&self) -> bool {
        self.launches_beside
    }

    pub(crate) fn allocator(&self) -> &Arc<Allocator> {
        &self.inner.allocator
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        self.inner.allocator.queue()
    }

    /// How exactly products are computed.
    pub(crate) fn precision(&self) -> Precision {
        self.inner.precision
    }

    /// Waits for all that was enqueued.
    pub fn synchronize(&self) -> Result<()> {
        self.queue().synchronize()
    }

    /// Gives cached memory back to the device.
    pub fn trim(&self) {
        self.allocator().trim();
    }

    /// Kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.inner.modules.launches()
    }

    /// Every kernel of this build for this chip, as `module::kernel`.
    pub fn kernels(&self) -> Vec<String> {
        self.inner.modules.kernels(self.queue().info.capability)
    }

    /// The kernels launched since this value was made, as `module::kernel`, each once; for a test that every kernel is
    /// launched.
    pub fn launched_kernels(&self) -> Vec<String> {
        self.inner.modules.launched_kernels()
    }

    pub(crate) fn zero(&self, span: Span) -> Result<()> {
        let n = span.bytes() / 4;
        match self.queue().gathers() && span.bytes() % 4 == 0 {
            true => self.launch_elementwise(("memory", "fill"), n, args![span, 0f32, n]),
            false => self.queue().zero(span),
        }
    }

    /// dst ← src, of equal size. Like [`Cuda::zero`], gathered work has a kernel in the place of the driver's own call.
    pub(crate) fn copy_span(&self, dst: Span, src: Span) -> Result<()> {
        assert!(dst.bytes() == src.bytes());
        let n = dst.bytes() / 4;
        match self.queue().gathers() && [dst.bytes() as u64, dst.ptr(), src.ptr()].iter().all(|x| x % 4 == 0)
        {
            true => self.launch_elementwise(("memory", "copy"), n.div_ceil(4), args![dst, src, n]),
            false => self.queue().copy(dst, src),
        }
    }

    /// Enqueues a kernel with blocks of `block` = (x, y) threads.
    pub(crate) fn launch(
        &self,
        kernel: (&'static str, &'static str),
        grid: (usize, usize, usize),
        block: (u32, u32),
        shared: usize,
        args: &[Arg],
    ) -> Result<()> {
        let dimension = |n: usize, most: usize| {
            u32::try_from(n).ok().filter(|_| n <= most).ok_or_else(|| {
                Error::new(Code::Value, kernel.1, "sizes within the GPU's grid", format!("{grid:?} blocks"))
            })
        };
        let grid =
            (dimension(grid.0, i32::MAX as usize)?, dimension(grid.1, 65535)?, dimension(grid.2, 65535)?);
        let launch = Launch { kernel, grid, block, shared, beside: self.launches_beside };
        self.inner.modules.launch(self.queue(), &launch, args)
    }

    /// Launches a kernel whose threads loop over `n` elements with the stride of the grid.
    pub(crate) fn launch_elementwise(
        &self,
        kernel: (&'static str, &'static str),
        n: usize,
        args: &[Arg],
    ) -> Result<()> {
        let most = self.queue().info.multiprocessors as usize * 16;
        self.launch(kernel, (n.div_ceil(256).min(most), 1, 1), (256, 1), 0, args)
    }

    /// Multiprocessors of the chip, for choosing how finely to split work.
    pub(crate) fn processors(&self) -> usize {
        self.inner.processors.unwrap_or(self.queue().info.multiprocessors as usize)
    }

    /// Whether chip and build have matrix products of 16-bit numbers (`kernels/common/split16.cuh`).
    pub(crate) fn multiplies_split16(&self) -> bool {
        self.inner.modules.generation(self.queue()) >= 80
    }

    /// Whether chip and build have products by warpgroups (`kernels/common/wgmma.cuh`): Hopper's machine code.
    pub(crate) fn multiplies_by_warpgroups(&self) -> bool {
        self.inner.modules.generation(self.queue()) == 90
    }

    /// Shared memory that one block may have, bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        shared_memory(self.queue().info.capability)
    }

    /// Device memory with arbitrary contents, for a buffer that outlives the operation.
    pub(crate) fn buffer(&self, op: &'static str, bytes: usize) -> Result<DeviceBlock> {
        self.allocator().block(op, bytes, BlockUse::Buffer)
    }

    /// Scratch with arbitrary contents for one operation; returns to the cache when dropped.
    pub(crate) fn block(&self, op: &'static str, bytes: usize) -> Result<DeviceBlock> {
        self.allocator().block(op, bytes, BlockUse::Scratch)
    }

    /// Scratch of `len` floats.
    pub(crate) fn scratch(&self, op: &'static str, len: usize) -> Result<DeviceBlock> {
        self.block(op, len * 4)
    }

    /// Scratch of `len` doubles.
    pub(crate) fn scratch64(&self, op: &'static str, len: usize) -> Result<DeviceBlock> {
        self.block(op, len * 8)
    }
}
