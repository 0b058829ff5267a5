//! A table row for each token: y (batch, heads, len) from table (vocabulary, heads), tokens (batch, len).

use crate::{Cpu, linalg::gemm::Tiles};
use s4_backend::{EmbeddingBackward, EmbeddingForward, Result, Scalar, SeqShape};

pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: EmbeddingForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let EmbeddingForward { y, table, tokens, shape: SeqShape { batch, heads, len }, .. } = args;
    let tokens = tokens.as_slice();
    // Tiles of 64 time steps: the 64 table rows stay in cache from head to head.
    Tiles::new(y, batch, heads, len, 64).for_each(be, |mut tile| {
        let tokens = &tokens[tile.batch() * len + tile.start()..];
        for h in 0..heads {
            for (y, &token) in tile.row(h).iter_mut().zip(tokens) {
                *y = table[token as usize * heads + h];
            }
        }
    });
    Ok(())
}

/// dtable[token] += dy, in the order of (row, time) for each head.
pub(crate) fn backward<T: Scalar>(be: &Cpu<T>, args: EmbeddingBackward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let EmbeddingBackward { dtable, dy, tokens, vocabulary, shape: SeqShape { batch, heads, len } } = args;
    let tokens = tokens.as_slice();
    // A task owns 16 heads (a cache line of each table row) of the whole table.
    Tiles::new(dtable, 1, vocabulary, heads, 16).for_each(be, |mut tile| {
        let (h0, n) = (tile.start(), tile.cols());
        for b in 0..batch {
            for (t, &token) in tokens[b * len..][..len].iter().enumerate() {
                let row = tile.row(token as usize);
                for h in 0..n {
                    row[h] += dy[(b * heads + h0 + h) * len + t];
                }
            }
        }
    });
    Ok(())
}
