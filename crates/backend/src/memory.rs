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
    /// View of part of a buffer, to be read.
    type Ref<'a>: Copy + Send + Sync;
    /// View of part of a buffer, to be read and written; no other view covers the same part meanwhile.
    type Mut<'a>: Send;
    /// Grow-only scratch memory, one per model; operations take what they need and leave garbage in it.
    type Workspace: Send + 'static;
    /// A transfer to the host that runs while the caller goes on, and the host memory that it fills.
    type AsyncDownload: Send + Sync + 'static;
    /// A sequence of operations that [`Memory::replay`] has recorded.
    type Graph: Default + Send + Sync + 'static;

    /// The device as the API names it: `"cpu"`, `"cuda:0"`.
    fn device_id(&self) -> String;
    /// A new buffer of `len` zeros.
    fn alloc(&self, len: usize) -> Result<Self::Buf>;
    /// Elements of a cache line of the host, where buffers are in its memory and begin anywhere in a line; else 0.
    fn elements_of_line(&self) -> usize {
        0
    }
    /// The first element of a buffer with which a cache line of the host begins.
    fn begin_of_line(&self, _buf: &Self::Buf) -> usize {
        0
    }
    /// A new integer buffer of `len` zeros.
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

    /// Whether operations go on while the host does something else: work that may turn out to be too much can then be enqueued
    /// ahead of results that are not known yet.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// Sequences whose number of time steps is a multiple of this go through the device's fast kernels.
    fn time_multiple(&self) -> usize {
        1
    }

    /// Handles of this device through which threads of the host work side by side, each with all of its operations by itself: for work in
    /// many parts that do not wait for each other. One for each thread; none where operations are not done by the host's threads.
    fn handles_of_threads(&self) -> Vec<Self> {
        Vec::new()
    }
    /// `work` on each of the items; at the same time, where this backend has threads on the host.
    fn side_by_side<I: Send>(&self, items: &mut [I], work: impl Fn(&mut I) + Send + Sync) {
        items.iter_mut().for_each(work);
    }

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
    /// A view of a host array, where the device computes in host memory, so that callers can leave out transfers;
    /// `None` on other devices.
    fn host_ref<'a>(&self, host: &'a [Self::Scalar]) -> Option<Self::Ref<'a>> {
        let _ = host;
        None
    }
    /// A view of a host array to be written to, where the device computes in host memory; `None` on other devices.
    fn host_mut<'a>(&self, host: &'a mut [Self::Scalar]) -> Option<Self::Mut<'a>> {
        let _ = host;
        None
    }
    /// Whether numbers on the host are all finite; a backend that has threads there may use them.
    fn all_finite(&self, host: &[Self::Scalar]) -> bool {
        crate::scalar::all_finite(host)
    }
    /// Enqueues the operations that `body` enqueues. For the same `graph` and the same `key` these must be the same
    /// operations on the same buffers each time, so that a backend may record them once and then enqueue the recording
    /// as a whole. `body` must only enqueue (no transfer from or to the host) and change no value of the host, because
    /// it may run more than once or not at all. Nothing else may use the backend meanwhile.
    fn replay(
        &self,
        graph: &mut Self::Graph,
        key: [u64; 2],
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>;

    /// Enqueues the operations that `body` enqueues. A backend may wait with them until `body` ends, or until the host wants a
    /// result, and give them to the device together; those of other threads too. `elements`: how many numbers the larger ones of them
    /// go through, by which the backend decides. They have the results that they have without this call; where the device refuses them the error is
    /// this call's, and buffers that `body` has allocated hold anything.
    fn enqueue_together(&self, elements: usize, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _ = elements;
        body()
    }

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
