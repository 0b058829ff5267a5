//! Host arrays to and from the device, transposed on the way: features last outside, time last inside.

use crate::growable::GrowableBuffer;
use s4_backend::{Backend, Result, host_memory};

/// Sizes of an array before its transpose, (batch, rows, cols) → (batch, cols, rows).
#[derive(Clone, Copy)]
pub(crate) struct Matrices {
    pub batch: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Matrices {
    pub fn new(batch: usize, rows: usize, cols: usize) -> Self {
        Matrices { batch, rows, cols }
    }
    fn elements(&self) -> usize {
        self.batch * self.rows * self.cols
    }
    /// Both layouts are the same memory.
    fn is_vector(&self) -> bool {
        self.rows == 1 || self.cols == 1
    }
}

/// Host (batch, rows, cols) → device (batch, cols, rows), which grows to hold it.
pub(crate) fn upload_transposed<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    dst: &mut GrowableBuffer<B>,
    src: &[B::Scalar],
    sizes: Matrices,
) -> Result<()> {
    let Matrices { batch, rows, cols } = sizes;
    let n = src.len();
    dst.ensure(be, n)?;
    if sizes.is_vector() {
        return be.upload(dst.get_mut(be, n), src);
    }
    if let Some(src) = be.host_ref(src) {
        return be.transpose(dst.get_mut(be, n), src, batch, rows, cols);
    }
    staging.ensure(be, n)?;
    be.upload(staging.get_mut(be, n), src)?;
    be.transpose(dst.get_mut(be, n), staging.get(be, n), batch, rows, cols)
}

/// Device (batch, rows, cols) → a new host array (batch, cols, rows).
pub(crate) fn download_transposed<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    src: B::Ref<'_>,
    sizes: Matrices,
) -> Result<Vec<B::Scalar>> {
    let mut out = host_memory::zeros("s4-node", "a result", sizes.elements())?;
    download_transposed_into(be, staging, &mut out, src, sizes)?;
    Ok(out)
}

/// As [`download_transposed`], into an array of the caller's.
pub(crate) fn download_transposed_into<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    out: &mut [B::Scalar],
    src: B::Ref<'_>,
    sizes: Matrices,
) -> Result<()> {
    let Matrices { batch, rows, cols } = sizes;
    if sizes.is_vector() {
        return be.download(out, src);
    }
    if let Some(out) = be.host_mut(out) {
        return be.transpose(out, src, batch, rows, cols);
    }
    let n = out.len();
    staging.ensure(be, n)?;
    be.transpose(staging.get_mut(be, n), src, batch, rows, cols)?;
    be.download(out, staging.get(be, n))
}
