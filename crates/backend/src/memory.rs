//! Memory of a device: buffers, views of them, and a reused workspace.

use crate::{Result, Scalar};
use std::ops::Range;

/// Allocation, transfer and elementary whole-buffer operations.
///
/// A backend value is cheap to clone and stands for one device with one queue.
/// Buffers free themselves when dropped.
pub trait Memory: Clone + Send + Sync + Sized + 'static {
    /// Element type of [`Memory::Buf`], and of host arrays exchanged with it.
    type Scalar: Scalar;
    /// Owned device memory of scalars.
    type Buf: Send + Sync + 'static;
    /// Owned device memory of 32-bit integers: tokens, labels, lengths.
    type Ints: Send + Sync + 'static;
    /// Shared view.
    type Ref<'a>: Copy + Send + Sync;
    /// Exclusive view.
    type Mut<'a>: Send;
    /// Grow-only scratch memory, one per model; operations take what they need and leave garbage in it.
    type Workspace: Send + 'static;
    /// A download that need not be waited for at once, and the host memory that it fills.
    type AsyncDownload: Send + Sync + 'static;
    /// Work that [`Memory::replay`] has recorded.
    type Graph: Default + Send + Sync + 'static;

    /// `"cpu"`, `"cuda:0"`.
    fn device_name(&self) -> String;
    /// A zeroed buffer.
    fn alloc(&self, len: usize) -> Result<Self::Buf>;
    /// A zeroed integer buffer.
    fn alloc_ints(&self, len: usize) -> Result<Self::Ints>;
    /// An empty workspace.
    fn workspace(&self) -> Self::Workspace;
    /// How often this backend has asked the system for memory so far (buffers, workspaces, plans).
    /// A steady training or streaming step leaves it unchanged.
    fn allocations(&self) -> u64;
    /// How often the host has waited for the device so far; zero on the CPU.
    fn host_waits(&self) -> u64;
    /// Bytes of its device that this backend holds, in use or for reuse; zero on the CPU.
    fn device_memory(&self) -> u64;

    /// Elements of a buffer.
    fn len(&self, buf: &Self::Buf) -> usize;
    /// View of part of a buffer. Panics on a range outside it (a bug of the caller).
    fn view<'a>(&self, buf: &'a Self::Buf, range: Range<usize>) -> Self::Ref<'a>;
    /// Exclusive view of part of a buffer.
    fn view_mut<'a>(&self, buf: &'a mut Self::Buf, range: Range<usize>) -> Self::Mut<'a>;
    /// Elements of a view.
    fn ref_len(&self, view: Self::Ref<'_>) -> usize;
    /// Elements of an exclusive view.
    fn mut_len(&self, view: &Self::Mut<'_>) -> usize;
    /// Elements of an integer buffer.
    fn ints_len(&self, ints: &Self::Ints) -> usize;
    /// The integers themselves where the host can read them without waiting, so that the contract's checks can look
    /// at their values; elsewhere they were checked before they were uploaded.
    fn host_ints<'a>(&self, ints: &'a Self::Ints) -> Option<&'a [i32]> {
        let _ = ints;
        None
    }
    /// A shorter borrow of a shared view.
    fn shorten<'short, 'long: 'short>(&self, view: Self::Ref<'long>) -> Self::Ref<'short>;
    /// Part of a view.
    fn sub<'a>(&self, view: Self::Ref<'a>, range: Range<usize>) -> Self::Ref<'a>;
    /// Splits an exclusive view in two.
    fn split_mut<'a>(&self, view: Self::Mut<'a>, at: usize) -> (Self::Mut<'a>, Self::Mut<'a>);
    /// A shorter borrow of an exclusive view.
    fn reborrow<'a>(&self, view: &'a mut Self::Mut<'_>) -> Self::Mut<'a>;
    /// A shared view of an exclusive one.
    fn freeze<'a>(&self, view: &'a Self::Mut<'_>) -> Self::Ref<'a>;

    /// Host to device. The source may be reused as soon as the call returns.
    fn upload(&self, dst: Self::Mut<'_>, src: &[Self::Scalar]) -> Result<()>;
    /// Host to device, integers; `dst` must have `src.len()` elements or more.
    fn upload_ints(&self, dst: &mut Self::Ints, src: &[i32]) -> Result<()>;
    /// Device to host; waits for all that was enqueued before.
    fn download(&self, dst: &mut [Self::Scalar], src: Self::Ref<'_>) -> Result<()>;
    /// Host memory for downloads of `len` elements by [`Memory::start_download`].
    fn async_download(&self, len: usize) -> Result<Self::AsyncDownload>;
    /// Enqueues a download of as many elements as `download` has memory for; its last result is overwritten.
    fn start_download(&self, download: &mut Self::AsyncDownload, src: Self::Ref<'_>) -> Result<()>;
    /// Waits for the download that was started last, but for nothing that was enqueued after it, and gives its result.
    fn wait_download<'a>(&self, download: &'a mut Self::AsyncDownload) -> Result<&'a [Self::Scalar]>;
    /// A host array seen as device memory, where the two are one: transfers are then left out.
    fn host_ref<'a>(&self, host: &'a [Self::Scalar]) -> Option<Self::Ref<'a>> {
        let _ = host;
        None
    }
    /// As [`Memory::host_ref`], to be written to.
    fn host_mut<'a>(&self, host: &'a mut [Self::Scalar]) -> Option<Self::Mut<'a>> {
        let _ = host;
        None
    }
    /// Whether numbers on the host are all finite; a backend that has threads there may use them.
    fn all_finite(&self, host: &[Self::Scalar]) -> bool {
        crate::scalar::all_finite(host)
    }
    /// Enqueues what `body` enqueues. For one `graph` and one `key` that is the same work on the same buffers each
    /// time, so a backend may record it and then enqueue it as a whole: `body` only enqueues (no transfer from or to
    /// the host), leaves the host's own values as they are, and may run more than once or not at all. Nothing else
    /// uses the backend meanwhile.
    fn replay(
        &self,
        graph: &mut Self::Graph,
        key: [u64; 2],
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>;

    /// dst ← value.
    fn fill(&self, dst: Self::Mut<'_>, value: Self::Scalar) -> Result<()>;
    /// dst ← src.
    fn copy(&self, dst: Self::Mut<'_>, src: Self::Ref<'_>) -> Result<()>;
    /// dst ← dst + alpha·src.
    fn axpy(&self, dst: Self::Mut<'_>, alpha: Self::Scalar, src: Self::Ref<'_>) -> Result<()>;
    /// (batch, rows, cols) → (batch, cols, rows).
    fn transpose(
        &self,
        dst: Self::Mut<'_>,
        src: Self::Ref<'_>,
        batch: usize,
        rows: usize,
        cols: usize,
    ) -> Result<()>;
}
