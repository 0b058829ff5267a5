//! Rows of a table picked by token (`kernels/dense/embedding.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{EmbeddingBackward, EmbeddingForward, Result, SeqShape};

/// Tokens of a vocabulary whose gradients a block of `embedding_backward_few` holds in shared memory.
const FEW: usize = 256;

pub(super) fn forward(be: &Cuda, args: &EmbeddingForward<'_, Cuda>) -> Result<()> {
    let EmbeddingForward { y, table, tokens, shape, .. } = args;
    let arguments = args![y, *table, *tokens, y.len(), shape.heads, shape.len];
    be.launch_elementwise(("embedding", "embedding"), y.len().div_ceil(4), arguments)
}

pub(super) fn backward(be: &Cuda, args: &EmbeddingBackward<'_, Cuda>) -> Result<()> {
    let EmbeddingBackward { dtable, dy, tokens, vocabulary, shape } = args;
    let (&vocabulary, &SeqShape { batch, heads, len }) = (vocabulary, shape);
    let positions = batch * len;
    // The positions are cut into `splits` ranges: enough to fill the chip where the vocabulary is small.
    let few = vocabulary <= FEW;
    let (range, cells) = if few { (1024, 16384) } else { (4096, 4096) };
    let splits = positions.div_ceil(range).min((cells / vocabulary.max(1)).max(1)).clamp(1, 64);
    let part = be.scratch("embedding_backward", splits * dtable.len())?;
    let (kernel, grid, block) = match few {
        true => ("embedding_backward_few", (heads.div_ceil(32), splits, 1), (32, 4)),
        false => ("embedding_backward", (vocabulary, heads.div_ceil(128), splits), (128, 1)),
    };
    let arguments = args![&part, *dy, *tokens, positions, vocabulary, heads, len];
    be.launch(("embedding", kernel), grid, block, 0, arguments)?;
    be.launch_elementwise(("gemm", "reduce_parts"), dtable.len(), args![dtable, &part, dtable.len(), splits])
}
