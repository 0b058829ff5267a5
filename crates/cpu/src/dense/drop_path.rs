//! Drop path: what a block adds, kept or dropped for whole sequences.

use crate::{Cpu, linalg::gemm::Tiles};
use s4_backend::{DropPath, Result, Scalar, random::DropKey};

/// Elements that one task takes.
const ELEMENTS: usize = 1 << 14;

pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: DropPath<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let DropPath { y, x, residual, probability, key, batch, elements } = args;
    let threshold = if probability > 0.0 { DropKey::threshold(probability) } else { 0 };
    let scale = T::from_f64(1.0 / (1.0 - probability));
    Tiles::new(y, batch, 1, elements, ELEMENTS).for_each(be, |mut tile| {
        let (b, first) = (tile.batch(), tile.batch() * elements + tile.start());
        let kept = key.draws(b as u64 / 4)[b % 4] >= threshold;
        let factor = if kept { scale } else { T::zero() };
        let y = tile.row(0);
        let x = &x[first..][..y.len()];
        match residual {
            Some(residual) => {
                for ((y, &x), &r) in y.iter_mut().zip(x).zip(&residual[first..]) {
                    *y = r + factor * x;
                }
            }
            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = factor * x),
        }
    });
    Ok(())
}
