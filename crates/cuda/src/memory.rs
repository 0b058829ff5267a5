//! Buffers, views and transfers.

pub(crate) use crate::pool::Block;
use crate::{
    cache::Life,
    device::{Pinned, Queue, Span},
    graph::Graph,
    launch::{Arg, Modules, args},
    pool::Pool,
    precision::Precision,
    probe::probe,
};
use s4_backend::{Code, Error, Memory, Result};
use std::{
    marker::PhantomData,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// How a GPU is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Most bytes to take of the device; `None` for all there are.
    pub memory_limit: Option<usize>,
    /// Use only this image of the kernels (`"compute_75"`), to test PTX; `None` for the best.
    pub architecture: Option<String>,
    /// How exactly products are computed.
    pub precision: Precision,
}

/// One GPU with one queue. Clones share it; all work of a `Cuda` and its clones runs in order.
#[derive(Clone)]
pub struct Cuda {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) pool: Mutex<Pool>,
    pub(crate) allocations: AtomicU64,
    /// Changes whenever a buffer is made or freed; recorded graphs hold addresses of buffers.
    epoch: AtomicU64,
    pub(crate) limit: usize,
    pub(crate) precision: Precision,
    pub(crate) modules: Modules,
    pub(crate) queue: Queue,
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
        let (queue, modules) = (Queue::open(info)?, Modules::new(options.architecture.clone()));
        modules.try_compiler(&queue)?;
        Ok(Cuda {
            inner: Arc::new(Inner {
                queue,
                modules,
                pool: Mutex::default(),
                allocations: AtomicU64::new(0),
                epoch: AtomicU64::new(0),
                limit: options.memory_limit.unwrap_or(usize::MAX),
                precision: options.precision,
            }),
        })
    }

    /// Kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.inner.modules.launches()
    }

    /// Every kernel of this build for this chip, as `module::kernel`.
    pub fn kernels(&self) -> Vec<String> {
        self.inner.modules.kernels(self.inner.queue.info.capability)
    }

    /// Those that this value has launched: what a test leaves out is the rest.
    pub fn launched(&self) -> Vec<String> {
        self.inner.modules.launched()
    }

    /// How often a buffer was made or freed so far.
    pub(crate) fn epoch(&self) -> u64 {
        self.inner.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn zero(&self, span: Span) -> Result<()> {
        self.inner.queue.zero(span)
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
        let side = |n: usize, most: usize| {
            u32::try_from(n).ok().filter(|_| n <= most).ok_or_else(|| {
                Error::new(Code::Value, kernel.1, "sizes within the GPU's grid", format!("{grid:?} blocks"))
            })
        };
        let grid = (side(grid.0, i32::MAX as usize)?, side(grid.1, 65535)?, side(grid.2, 65535)?);
        self.inner.modules.launch(&self.inner.queue, kernel, grid, block, shared, args)
    }

    /// A kernel with a grid-stride loop over `n` elements.
    pub(crate) fn each(&self, kernel: (&'static str, &'static str), n: usize, args: &[Arg]) -> Result<()> {
        let most = self.inner.queue.info.multiprocessors as usize * 16;
        self.launch(kernel, (n.div_ceil(256).min(most), 1, 1), (256, 1), 0, args)
    }

    /// Multiprocessors of the chip, for choosing how finely to split work.
    pub(crate) fn processors(&self) -> usize {
        self.inner.queue.info.multiprocessors as usize
    }
}

/// Owned floats on the GPU.
pub struct Buf {
    block: Block,
    len: usize,
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.block.inner.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

/// Owned integers on the GPU.
pub struct Ints {
    block: Block,
    len: usize,
}

impl Drop for Ints {
    fn drop(&mut self) {
        self.block.inner.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Ints {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Shared view of floats.
#[derive(Clone, Copy)]
pub struct Ref<'a> {
    span: Span,
    life: PhantomData<&'a f32>,
}

/// Exclusive view of floats.
pub struct Mut<'a> {
    span: Span,
    life: PhantomData<&'a mut f32>,
}

impl Ref<'_> {
    pub(crate) fn len(self) -> usize {
        self.span.bytes() / 4
    }
    pub(crate) fn span(self) -> Span {
        self.span
    }
}

impl Mut<'_> {
    pub(crate) fn len(&self) -> usize {
        self.span.bytes() / 4
    }
    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl From<Ref<'_>> for Arg {
    fn from(x: Ref<'_>) -> Arg {
        x.span.into()
    }
}
impl From<&Mut<'_>> for Arg {
    fn from(x: &Mut<'_>) -> Arg {
        x.span.into()
    }
}
impl From<&Ints> for Arg {
    fn from(x: &Ints) -> Arg {
        x.block.span().into()
    }
}
/// A download's room in page-locked memory, and where the host reads it.
pub struct Later {
    pinned: Option<Pinned>,
    host: Vec<f32>,
    inner: Arc<Inner>,
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.inner.queue.leave(pinned);
        }
    }
}

/// Operations take scratch from the device's cache, so the workspace itself is empty.
#[derive(Debug, Default)]
pub struct Workspace(());

fn floats(span: Span, range: Range<usize>) -> Span {
    assert!(range.start <= range.end, "a range that runs backwards");
    span.part(range.start * 4, (range.end - range.start) * 4)
}

impl Memory for Cuda {
    type Scalar = f32;
    type Buf = Buf;
    type Ints = Ints;
    type Ref<'a> = Ref<'a>;
    type Mut<'a> = Mut<'a>;
    type Workspace = Workspace;
    type Later = Later;
    type Graph = Graph;

    fn device_name(&self) -> String {
        format!("cuda:{}", self.inner.queue.info.ordinal)
    }

    fn alloc(&self, len: usize) -> Result<Buf> {
        let block = self.memory("alloc", 4 * len, Life::Buffer)?;
        self.inner.epoch.fetch_add(1, Ordering::Relaxed);
        self.zero(block.span())?;
        Ok(Buf { block, len })
    }

    fn alloc_ints(&self, len: usize) -> Result<Ints> {
        let block = self.memory("alloc_ints", 4 * len, Life::Buffer)?;
        self.inner.epoch.fetch_add(1, Ordering::Relaxed);
        self.zero(block.span())?;
        Ok(Ints { block, len })
    }

    fn workspace(&self) -> Workspace {
        Workspace(())
    }

    fn allocations(&self) -> u64 {
        self.inner.allocations.load(Ordering::Relaxed) + self.inner.queue.pins()
    }

    fn host_waits(&self) -> u64 {
        self.inner.queue.waits()
    }

    fn device_memory(&self) -> u64 {
        self.memory_held() as u64
    }

    fn len(&self, buf: &Buf) -> usize {
        buf.len
    }

    fn view<'a>(&self, buf: &'a Buf, range: Range<usize>) -> Ref<'a> {
        assert!(range.end <= buf.len, "view outside its buffer");
        Ref { span: floats(buf.block.span(), range), life: PhantomData }
    }

    fn view_mut<'a>(&self, buf: &'a mut Buf, range: Range<usize>) -> Mut<'a> {
        assert!(range.end <= buf.len, "view outside its buffer");
        Mut { span: floats(buf.block.span(), range), life: PhantomData }
    }

    fn ref_len(&self, view: Ref<'_>) -> usize {
        view.len()
    }

    fn mut_len(&self, view: &Mut<'_>) -> usize {
        view.len()
    }

    fn sub<'a>(&self, view: Self::Ref<'a>, range: Range<usize>) -> Self::Ref<'a> {
        Ref { span: floats(view.span, range), life: PhantomData }
    }

    fn split_mut<'a>(&self, view: Self::Mut<'a>, at: usize) -> (Self::Mut<'a>, Self::Mut<'a>) {
        let len = view.len();
        (
            Mut { span: floats(view.span, 0..at), life: PhantomData },
            Mut { span: floats(view.span, at..len), life: PhantomData },
        )
    }

    fn reborrow<'a>(&self, view: &'a mut Mut<'_>) -> Mut<'a> {
        Mut { span: view.span, life: PhantomData }
    }

    fn freeze<'a>(&self, view: &'a Mut<'_>) -> Ref<'a> {
        Ref { span: view.span, life: PhantomData }
    }

    fn upload(&self, dst: Mut<'_>, src: &[f32]) -> Result<()> {
        same_len("upload", dst.len(), src.len())?;
        if src.is_empty() { Ok(()) } else { self.inner.queue.upload(dst.span, src) }
    }

    fn upload_ints(&self, dst: &mut Ints, src: &[i32]) -> Result<()> {
        if dst.len < src.len() {
            return Err(Error::shape("upload_ints", dst.len, src.len()));
        }
        if src.is_empty() { Ok(()) } else { self.inner.queue.upload(dst.block.span(), src) }
    }

    fn download(&self, dst: &mut [f32], src: Ref<'_>) -> Result<()> {
        same_len("download", dst.len(), src.len())?;
        if dst.is_empty() { Ok(()) } else { self.inner.queue.download(dst, src.span) }
    }

    fn later(&self, len: usize) -> Result<Later> {
        let pinned = self.inner.queue.landing("later", (4 * len).max(4))?;
        Ok(Later { pinned: Some(pinned), host: vec![0.0; len], inner: self.inner.clone() })
    }

    fn send(&self, later: &mut Later, src: Ref<'_>) -> Result<()> {
        same_len("send", later.host.len(), src.len())?;
        match &mut later.pinned {
            Some(pinned) => self.inner.queue.send(pinned, src.span),
            None => Ok(()),
        }
    }

    fn arrived<'a>(&self, later: &'a mut Later) -> Result<&'a [f32]> {
        if let Some(pinned) = &mut later.pinned {
            self.inner.queue.arrived(&mut later.host, pinned)?;
        }
        Ok(&later.host)
    }

    fn synchronize(&self) -> Result<()> {
        self.inner.queue.synchronize()
    }

    fn replay(&self, graph: &mut Graph, key: [u64; 2], body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.replay_graph(graph, key, body)
    }

    fn fill(&self, dst: Mut<'_>, value: f32) -> Result<()> {
        if value.to_bits() == 0 {
            return self.zero(dst.span);
        }
        self.each(("memory", "fill"), dst.len(), args![&dst, value, dst.len()])
    }

    fn copy(&self, dst: Mut<'_>, src: Ref<'_>) -> Result<()> {
        same_len("copy", dst.len(), src.len())?;
        if src.len() == 0 { Ok(()) } else { self.inner.queue.copy(dst.span, src.span) }
    }

    fn axpy(&self, dst: Mut<'_>, alpha: f32, src: Ref<'_>) -> Result<()> {
        same_len("axpy", dst.len(), src.len())?;
        self.each(("memory", "axpy"), dst.len(), args![&dst, alpha, src, dst.len()])
    }

    fn transpose(&self, dst: Mut<'_>, src: Ref<'_>, batch: usize, rows: usize, cols: usize) -> Result<()> {
        same_len("transpose", batch * rows * cols, src.len())?;
        same_len("transpose", src.len(), dst.len())?;
        if rows == 1 || cols == 1 {
            return self.copy(dst, src);
        }
        let size = rows * cols;
        // Grid sides have limits; long inputs go in parts.
        for b0 in (0..batch).step_by(32768) {
            let b = (batch - b0).min(32768);
            for r0 in (0..rows).step_by(32768 * 32) {
                let grid = (cols.div_ceil(32), (rows - r0).min(32768 * 32).div_ceil(32), b);
                let (d, s) = (
                    floats(dst.span, b0 * size..(b0 + b) * size),
                    floats(src.span, b0 * size..(b0 + b) * size),
                );
                self.launch(("memory", "transpose"), grid, (32, 8), 0, args![d, s, rows, cols, r0])?;
            }
        }
        Ok(())
    }
}

/// The check that every operation makes before it touches memory.
pub(crate) fn same_len(op: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::shape(op, format!("{expected} elements"), format!("{got}")))
    }
}
