//! Copies between host and device that transpose: features are last in the caller's arrays, time is last on the device.

use crate::growable_buffer::GrowableBuffer;
use s4_backend::{Backend, Result, host_memory};

/// Sizes of `batch` matrices before they are transposed, (batch, rows, cols) → (batch, cols, rows).
#[derive(Clone, Copy)]
pub(crate) struct MatrixSizes {
    /// Number of matrices.
    pub batch: usize,
    /// Rows of each matrix before the transposition.
    pub rows: usize,
    /// Columns of each matrix before the transposition.
    pub cols: usize,
}

impl MatrixSizes {
    pub fn new(batch: usize, rows: usize, cols: usize) -> Self {
        MatrixSizes { batch, rows, cols }
    }
    /// Number of elements of all matrices.
    fn elements(&self) -> usize {
        self.batch * self.rows * self.cols
    }
    /// Whether the matrices are vectors, which have the same memory layout transposed.
    fn is_vector(&self) -> bool {
        self.rows == 1 || self.cols == 1
    }
}

/// Copies matrices of the host, (batch, rows, cols), to the device transposed, (batch, cols, rows). `dst` grows where it
/// must; `staging` holds the copy before it is transposed, where the device cannot read the host's memory.
pub(crate) fn upload_transposed<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    dst: &mut GrowableBuffer<B>,
    src: &[B::Scalar],
    sizes: MatrixSizes,
) -> Result<()> {
    let MatrixSizes { batch, rows, cols } = sizes;
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

/// A new host array (batch, cols, rows) from matrices of the device, (batch, rows, cols), transposed.
pub(crate) fn download_transposed<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    src: B::Ref<'_>,
    sizes: MatrixSizes,
) -> Result<Vec<B::Scalar>> {
    let mut transposed = host_memory::zeros("s4-node", "a result", sizes.elements())?;
    download_transposed_into(be, staging, &mut transposed, src, sizes)?;
    Ok(transposed)
}

/// As [`download_transposed`], but into the caller's `host`, (batch, cols, rows).
pub(crate) fn download_transposed_into<B: Backend>(
    be: &B,
    staging: &mut GrowableBuffer<B>,
    host: &mut [B::Scalar],
    src: B::Ref<'_>,
    sizes: MatrixSizes,
) -> Result<()> {
    let MatrixSizes { batch, rows, cols } = sizes;
    if sizes.is_vector() {
        return be.download(host, src);
    }
    if let Some(host) = be.host_mut(host) {
        return be.transpose(host, src, batch, rows, cols);
    }
    let n = host.len();
    staging.ensure(be, n)?;
    be.transpose(staging.get_mut(be, n), src, batch, rows, cols)?;
    be.download(host, staging.get(be, n))
}
