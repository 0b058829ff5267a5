//! Reductions over time (`kernels/dense/pooling.cu`), and zeros beyond the lengths of sequences
//! (`kernels/dense/mask.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{Mask, PoolBackward, PoolForward, Result};

/// x ← 0 beyond each sequence's length.
pub(super) fn mask(be: &Cuda, args: &Mask<'_, Cuda>) -> Result<()> {
    let Mask { x, lengths, shape } = args;
    be.each(("mask", "mask"), x.len(), args![x, *lengths, x.len(), shape.heads, shape.len])
}

pub(super) fn forward(be: &Cuda, args: &PoolForward<'_, Cuda>) -> Result<()> {
    let PoolForward { y, x, lengths, pooling, shape } = args;
    let rows = shape.batch * shape.heads;
    let arguments = args![y, *x, *lengths, pooling.code(), rows, shape.heads, shape.len];
    be.launch(("pooling", "pool"), (rows.div_ceil(4), 1, 1), (128, 1), 0, arguments)
}

pub(super) fn backward(be: &Cuda, args: &PoolBackward<'_, Cuda>) -> Result<()> {
    let PoolBackward { dx, dy, x, lengths, pooling, shape } = args;
    let rows = shape.batch * shape.heads;
    let arguments = args![dx, *dy, *x, *lengths, pooling.code(), rows, shape.heads, shape.len];
    be.launch(("pooling", "pool_backward"), (rows.div_ceil(4), 1, 1), (128, 1), 0, arguments)
}
