//! The backend contract's operations on memory: buffers, views, transfers, whole-array operations.

use super::{
    buffer::{Buf, Ints, Mut, Ref, floats},
    download::AsyncDownload,
    replay::Graph,
};
use crate::{device::Cuda, driver::args};
use s4_backend::{Error, Memory, Result, checks::same_len};
use std::{marker::PhantomData, ops::Range};

/// Operations take scratch from the device's cache, so the workspace itself is empty.
#[derive(Debug, Default)]
pub struct Workspace(());

impl Memory for Cuda {
    type Scalar = f32;
    type Buf = Buf;
    type Ints = Ints;
    type Ref<'a> = Ref<'a>;
    type Mut<'a> = Mut<'a>;
    type Workspace = Workspace;
    type AsyncDownload = AsyncDownload;
    type Graph = Graph;

    fn device_id(&self) -> String {
        format!("cuda:{}", self.queue().info.ordinal)
    }

    fn alloc(&self, len: usize) -> Result<Buf> {
        let block = self.buffer("alloc", 4 * len)?;
        block.count_change();
        self.zero(block.span())?;
        Ok(Buf { block, len })
    }

    fn alloc_ints(&self, len: usize) -> Result<Ints> {
        let block = self.buffer("alloc_ints", 4 * len)?;
        block.count_change();
        self.zero(block.span())?;
        Ok(Ints { block, len })
    }

    fn workspace(&self) -> Workspace {
        Workspace(())
    }

    fn allocations(&self) -> u64 {
        self.allocator().requests() + self.queue().pins()
    }

    fn host_waits(&self) -> u64 {
        self.queue().waits()
    }

    fn device_memory(&self) -> u64 {
        self.allocator().held_bytes() as u64
    }

    fn time_multiple(&self) -> usize {
        8
    }

    fn runs_ahead(&self) -> bool {
        true
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

    fn ints_len(&self, ints: &Ints) -> usize {
        ints.len
    }

    fn shorten<'short, 'long: 'short>(&self, view: Ref<'long>) -> Ref<'short> {
        view
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
        same_len("upload", "the host array", dst.len(), src.len())?;
        if src.is_empty() { Ok(()) } else { self.queue().upload(dst.span, src) }
    }

    fn upload_ints(&self, dst: &mut Ints, src: &[i32]) -> Result<()> {
        if dst.len < src.len() {
            return Err(Error::shape("upload_ints", dst.len, src.len()));
        }
        if src.is_empty() { Ok(()) } else { self.queue().upload(dst.block.span(), src) }
    }

    fn download(&self, dst: &mut [f32], src: Ref<'_>) -> Result<()> {
        same_len("download", "the view", dst.len(), src.len())?;
        if dst.is_empty() { Ok(()) } else { self.queue().download(dst, src.span) }
    }

    fn async_download(&self, len: usize) -> Result<AsyncDownload> {
        AsyncDownload::new(self.queue(), len)
    }

    fn start_download(&self, download: &mut AsyncDownload, src: Ref<'_>) -> Result<()> {
        same_len("start_download", "the download", download.len(), src.len())?;
        download.start(src.span)
    }

    fn wait_download<'a>(&self, download: &'a mut AsyncDownload) -> Result<&'a [f32]> {
        download.wait()
    }

    fn replay(&self, graph: &mut Graph, key: [u64; 2], body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.replay_graph(graph, key, body)
    }

    fn enqueue_together(&self, elements: usize, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.gather("enqueue_together", elements, body)
    }

    fn fill(&self, dst: Mut<'_>, value: f32) -> Result<()> {
        if value.to_bits() == 0 {
            return self.zero(dst.span);
        }
        self.launch_elementwise(("memory", "fill"), dst.len(), args![&dst, value, dst.len()])
    }

    fn copy(&self, dst: Mut<'_>, src: Ref<'_>) -> Result<()> {
        same_len("copy", "the source", dst.len(), src.len())?;
        if src.len() == 0 { Ok(()) } else { self.copy_span(dst.span, src.span) }
    }

    fn axpy(&self, dst: Mut<'_>, alpha: f32, src: Ref<'_>) -> Result<()> {
        same_len("axpy", "the source", dst.len(), src.len())?;
        self.launch_elementwise(("memory", "axpy"), dst.len().div_ceil(4), args![&dst, alpha, src, dst.len()])
    }

    fn transpose(&self, dst: Mut<'_>, src: Ref<'_>, batch: usize, rows: usize, cols: usize) -> Result<()> {
        same_len("transpose", "the source", batch * rows * cols, src.len())?;
        same_len("transpose", "the destination", src.len(), dst.len())?;
        if rows == 1 || cols == 1 {
            return self.copy(dst, src);
        }
        let matrix_len = rows * cols;
        // A grid's dimensions have limits; large inputs take several launches.
        for b0 in (0..batch).step_by(32768) {
            let b = (batch - b0).min(32768);
            for r0 in (0..rows).step_by(32768 * 32) {
                let grid = (cols.div_ceil(32), (rows - r0).min(32768 * 32).div_ceil(32), b);
                let (d, s) = (
                    floats(dst.span, b0 * matrix_len..(b0 + b) * matrix_len),
                    floats(src.span, b0 * matrix_len..(b0 + b) * matrix_len),
                );
                self.launch(("memory", "transpose"), grid, (32, 8), 0, args![d, s, rows, cols, r0])?;
            }
        }
        Ok(())
    }
}
