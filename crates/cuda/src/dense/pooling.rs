//! Reductions over time (`kernels/dense/pooling.cu`), and zeros beyond the lengths of sequences
//! (`kernels/dense/zero_beyond_lengths.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{PoolBackward, PoolForward, Result, ZeroBeyondLengths};

/// x ← 0 beyond each sequence's length.
pub(super) fn zero_beyond_lengths(be: &Cuda, args: &ZeroBeyondLengths<'_, Cuda>) -> Result<()> {
    let ZeroBeyondLengths { x, lengths, shape } = args;
    be.launch_elementwise(
        ("zero_beyond_lengths", "zero_beyond_lengths"),
        x.len(),
        args![x, *lengths, x.len(), shape.heads, shape.len],
    )
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
