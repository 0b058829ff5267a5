//! A table row for each token: y (batch, heads, len) from table (vocabulary, heads), tokens (batch, len).

use crate::{Cpu, Ints, linalg::gemm::Tiles, linalg::reduce::ints, memory::cpu::expect_len};
use s4_backend::{Error, Result, Scalar, SeqShape};

fn check<'a>(op: &'static str, tokens: &'a Ints, vocabulary: usize, shape: &SeqShape) -> Result<&'a [i32]> {
    let tokens = ints(op, tokens, shape.batch * shape.len)?;
    match tokens.iter().find(|&&t| t < 0 || t as usize >= vocabulary) {
        Some(t) => Err(Error::value(op, format!("tokens from 0 to {}", vocabulary.saturating_sub(1)), t)),
        None => Ok(tokens),
    }
}

pub(crate) fn forward<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    table: &[T],
    tokens: &Ints,
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "embedding_forward";
    let &SeqShape { heads, len, .. } = shape;
    expect_len(OP, shape.elements(), y.len())?;
    let vocabulary = table.len() / heads.max(1);
    expect_len(OP, vocabulary * heads, table.len())?;
    let tokens = check(OP, tokens, vocabulary, shape)?;
    // Tiles of 64 samples: the 64 table rows stay in cache while each head walks over them.
    Tiles::new(y, shape.batch, heads, len, 64).for_each(be, |mut tile| {
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
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    dtable: &mut [T],
    dy: &[T],
    tokens: &Ints,
    vocabulary: usize,
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "embedding_backward";
    let &SeqShape { batch, heads, len } = shape;
    expect_len(OP, shape.elements(), dy.len())?;
    expect_len(OP, vocabulary * heads, dtable.len())?;
    let tokens = check(OP, tokens, vocabulary, shape)?;
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
