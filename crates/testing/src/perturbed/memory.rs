//! The memory operations of the perturbed backend.

use super::{Perturbed, RELATIVE_ERROR};
use s4_backend::{Backend, Memory, Result, Scalar};
use std::ops::Range;

/// The outputs of the operations of [`Memory`], of those that have any.
pub(super) const OUTPUTS: &[(&str, &[&[&str]])] = &[
    ("alloc", &[&["buffer"]]),
    ("alloc_ints", &[&["buffer"]]),
    ("upload", &[&["dst"]]),
    ("upload_ints", &[&["dst"]]),
    ("download", &[&["dst"]]),
    ("wait_download", &[&["result"]]),
    ("all_finite", &[&["answer"]]),
    ("fill", &[&["dst"]]),
    ("copy", &[&["dst"]]),
    ("axpy", &[&["dst"]]),
    ("transpose", &[&["dst"]]),
];

/// A download of the inner backend, and its result where that was made wrong.
pub struct PerturbedDownload<B: Memory> {
    inner: B::AsyncDownload,
    wrong: Vec<B::Scalar>,
}

impl<B: Backend> Memory for Perturbed<B> {
    type Scalar = B::Scalar;
    type Buf = B::Buf;
    type Ints = B::Ints;
    type Ref<'a> = B::Ref<'a>;
    type Mut<'a> = B::Mut<'a>;
    type Workspace = B::Workspace;
    type AsyncDownload = PerturbedDownload<B>;
    type Graph = B::Graph;

    fn device_id(&self) -> String {
        self.inner.device_id()
    }
    fn alloc(&self, len: usize) -> Result<B::Buf> {
        let mut buf = self.inner.alloc(len)?;
        if self.is_target("alloc", "buffer") {
            self.inner.fill(self.inner.view_mut(&mut buf, 0..len), B::Scalar::from_f64(RELATIVE_ERROR))?;
        }
        Ok(buf)
    }
    fn alloc_ints(&self, len: usize) -> Result<B::Ints> {
        let mut ints = self.inner.alloc_ints(len)?;
        if self.is_target("alloc_ints", "buffer") {
            self.inner.upload_ints(&mut ints, &vec![1; len])?;
        }
        Ok(ints)
    }
    fn workspace(&self) -> B::Workspace {
        self.inner.workspace()
    }
    fn time_multiple(&self) -> usize {
        self.inner.time_multiple()
    }

    fn runs_ahead(&self) -> bool {
        self.inner.runs_ahead()
    }
    fn allocations(&self) -> u64 {
        self.inner.allocations()
    }
    fn host_waits(&self) -> u64 {
        self.inner.host_waits()
    }
    fn device_memory(&self) -> u64 {
        self.inner.device_memory()
    }
    fn len(&self, buf: &B::Buf) -> usize {
        self.inner.len(buf)
    }
    fn view<'a>(&self, buf: &'a B::Buf, range: Range<usize>) -> B::Ref<'a> {
        self.inner.view(buf, range)
    }
    fn view_mut<'a>(&self, buf: &'a mut B::Buf, range: Range<usize>) -> B::Mut<'a> {
        self.inner.view_mut(buf, range)
    }
    fn ref_len(&self, view: B::Ref<'_>) -> usize {
        self.inner.ref_len(view)
    }
    fn mut_len(&self, view: &B::Mut<'_>) -> usize {
        self.inner.mut_len(view)
    }
    fn ints_len(&self, ints: &B::Ints) -> usize {
        self.inner.ints_len(ints)
    }
    fn host_ints<'a>(&self, ints: &'a B::Ints) -> Option<&'a [i32]> {
        self.inner.host_ints(ints)
    }
    fn shorten<'short, 'long: 'short>(&self, view: B::Ref<'long>) -> B::Ref<'short> {
        self.inner.shorten(view)
    }
    fn sub<'a>(&self, view: B::Ref<'a>, range: Range<usize>) -> B::Ref<'a> {
        self.inner.sub(view, range)
    }
    fn split_mut<'a>(&self, view: B::Mut<'a>, at: usize) -> (B::Mut<'a>, B::Mut<'a>) {
        self.inner.split_mut(view, at)
    }
    fn reborrow<'a>(&self, view: &'a mut B::Mut<'_>) -> B::Mut<'a> {
        self.inner.reborrow(view)
    }
    fn freeze<'a>(&self, view: &'a B::Mut<'_>) -> B::Ref<'a> {
        self.inner.freeze(view)
    }

    fn upload(&self, mut dst: B::Mut<'_>, src: &[B::Scalar]) -> Result<()> {
        self.inner.upload(self.inner.reborrow(&mut dst), src)?;
        self.perturb_overwritten("upload", "dst", dst)
    }
    fn upload_ints(&self, dst: &mut B::Ints, src: &[i32]) -> Result<()> {
        if self.is_target("upload_ints", "dst") {
            return self.inner.upload_ints(dst, &src.iter().map(|x| x + 1).collect::<Vec<_>>());
        }
        self.inner.upload_ints(dst, src)
    }
    fn download(&self, dst: &mut [B::Scalar], src: B::Ref<'_>) -> Result<()> {
        self.inner.download(dst, src)?;
        if self.is_target("download", "dst") {
            dst.iter_mut().for_each(|x| *x = Self::perturbed_scalar(*x));
        }
        Ok(())
    }
    fn async_download(&self, len: usize) -> Result<PerturbedDownload<B>> {
        Ok(PerturbedDownload { inner: self.inner.async_download(len)?, wrong: Vec::new() })
    }
    fn start_download(&self, download: &mut PerturbedDownload<B>, src: B::Ref<'_>) -> Result<()> {
        self.inner.start_download(&mut download.inner, src)
    }
    fn wait_download<'a>(&self, download: &'a mut PerturbedDownload<B>) -> Result<&'a [B::Scalar]> {
        let result = self.inner.wait_download(&mut download.inner)?;
        if self.is_target("wait_download", "result") {
            download.wrong = result.iter().map(|&x| Self::perturbed_scalar(x)).collect();
            return Ok(&download.wrong);
        }
        Ok(result)
    }
    fn host_ref<'a>(&self, host: &'a [B::Scalar]) -> Option<B::Ref<'a>> {
        self.inner.host_ref(host)
    }
    fn host_mut<'a>(&self, host: &'a mut [B::Scalar]) -> Option<B::Mut<'a>> {
        self.inner.host_mut(host)
    }
    fn all_finite(&self, host: &[B::Scalar]) -> bool {
        self.inner.all_finite(host) != self.is_target("all_finite", "answer")
    }
    fn replay(
        &self,
        graph: &mut B::Graph,
        key: [u64; 2],
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.inner.replay(graph, key, body)
    }

    fn fill(&self, mut dst: B::Mut<'_>, value: B::Scalar) -> Result<()> {
        self.inner.fill(self.inner.reborrow(&mut dst), value)?;
        self.perturb_overwritten("fill", "dst", dst)
    }
    fn copy(&self, mut dst: B::Mut<'_>, src: B::Ref<'_>) -> Result<()> {
        self.inner.copy(self.inner.reborrow(&mut dst), src)?;
        self.perturb_overwritten("copy", "dst", dst)
    }
    fn axpy(&self, mut dst: B::Mut<'_>, alpha: B::Scalar, src: B::Ref<'_>) -> Result<()> {
        let before = self.copy_if_target("axpy", "dst", &dst)?;
        self.inner.axpy(self.inner.reborrow(&mut dst), alpha, src)?;
        self.perturb_accumulated(before, dst)
    }
    fn transpose(
        &self,
        mut dst: B::Mut<'_>,
        src: B::Ref<'_>,
        batch: usize,
        rows: usize,
        cols: usize,
    ) -> Result<()> {
        self.inner.transpose(self.inner.reborrow(&mut dst), src, batch, rows, cols)?;
        self.perturb_overwritten("transpose", "dst", dst)
    }
}
