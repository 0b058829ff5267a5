//! Rows of a table picked by token (`kernels/dense/embedding.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{EmbeddingBackward, EmbeddingForward, Result, SeqShape};

pub(super) fn forward(be: &Cuda, args: &EmbeddingForward<'_, Cuda>) -> Result<()> {
    let EmbeddingForward { y, table, tokens, shape, .. } = args;
    let arguments = args![y, *table, *tokens, y.len(), shape.heads, shape.len];
    be.launch_elementwise(("embedding", "embedding"), y.len(), arguments)
}

pub(super) fn backward(be: &Cuda, args: &EmbeddingBackward<'_, Cuda>) -> Result<()> {
    let EmbeddingBackward { dtable, dy, tokens, vocabulary, shape } = args;
    let (&vocabulary, &SeqShape { batch, heads, len }) = (vocabulary, shape);
    let positions = batch * len;
    // The positions are cut into `splits` ranges: enough to fill the chip where the vocabulary is small.
    let splits = positions.div_ceil(4096).min((4096 / vocabulary.max(1)).max(1)).clamp(1, 64);
    let part = be.scratch("embedding_backward", splits * dtable.len())?;
    be.launch(
        ("embedding", "embedding_backward"),
        (vocabulary, heads.div_ceil(128), splits),
        (128, 1),
        0,
        args![&part, *dy, *tokens, positions, vocabulary, heads, len],
    )?;
    be.launch_elementwise(("gemm", "reduce_parts"), dtable.len(), args![dtable, &part, dtable.len(), splits])
}
