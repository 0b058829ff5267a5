//! Rows of f16 in which the pass of `bidirectional_pass.rs` reads and leaves sequences (`kernels/ssm/bidirectional_pass_sm90.cu`): one row of T
//! numbers for each chunk, with a power of two, in an order of time steps of its own. A mix hands the gradient of the SSM's output over in this form.

use super::sizes::{StateBytes, T};
use crate::driver::{Span, TensorMap};
use s4_backend::Result;

/// Sizes of the rows of one array (batch, heads, len).
#[derive(Clone, Copy)]
pub(crate) struct ChunkRowSizes {
    heads: usize,
    batch: usize,
    len: usize,
}

/// The arrays of such rows.
#[derive(Clone, Copy)]
pub(crate) struct ChunkRows {
    /// (H, B, chunks, T), f16.
    pub(crate) values: Span,
    /// (H, B·chunks, to a multiple of 4): powers of two.
    pub(crate) exponents: Span,
    /// (H, 4): the bits of the largest magnitude of each head, and place for those of the states.
    pub(crate) largest: Span,
}

/// Of the values and the exponents of rows of all heads, what begins at head `from`.
pub(super) fn rows_from_head(
    [values, exponents]: [Span; 2],
    from: usize,
    (batch, chunks): (usize, usize),
) -> [Span; 2] {
    let skipped = StateBytes::new(T, from, batch, chunks, true);
    [(values, skipped.values), (exponents, skipped.exponents)].map(|(x, at)| x.part(at, x.bytes() - at))
}

impl ChunkRowSizes {
    pub(crate) fn of((heads, batch): (usize, usize), len: usize) -> ChunkRowSizes {
        ChunkRowSizes { heads, batch, len }
    }

    fn chunks(&self) -> usize {
        self.len.div_ceil(T)
    }

    fn bytes(&self) -> [usize; 3] {
        let StateBytes { values, exponents } =
            StateBytes::new(T, self.heads, self.batch, self.chunks(), true);
        [values, exponents, 4 * 4 * self.heads]
    }

    /// Whether the rows take no more memory than the array in f32.
    pub(crate) fn fits(&self) -> bool {
        self.bytes().iter().sum::<usize>() <= 4 * self.heads * self.batch * self.len
    }

    /// The memory of the array in f32, divided.
    pub(crate) fn parts(&self, span: Span) -> ChunkRows {
        let mut at = 0;
        let [values, exponents, largest] = self.bytes().map(|bytes| {
            at += bytes;
            span.part(at - bytes, bytes)
        });
        ChunkRows { values, exponents, largest }
    }

    /// The values for the copy engine, (batch, heads, time steps of whole chunks), in boxes of 64 heads and a chunk.
    pub(crate) fn map(&self, op: &'static str, values: Span) -> Result<TensorMap> {
        let columns = self.chunks() * T;
        TensorMap::of_f16(op, values, [columns, self.heads, self.batch], [self.batch * columns, columns], 64)
    }
}
