//! Reduction over time, (batch, heads, len) → (batch, heads), and zeros for the positions beyond a sequence's length.

use crate::{
    Cpu, Ints,
    linalg::{gemm::Tiles, math::sum, simd::simd},
};
use s4_backend::{PoolBackward, PoolForward, Pooling, Result, Scalar, SeqShape, ZeroBeyondLengths};

/// First position of the largest value; NaN counts as largest.
fn first_max<T: Scalar>(x: &[T]) -> usize {
    let mut at = 0;
    for (t, &v) in x.iter().enumerate() {
        if v > x[at] || (v.is_nan() && !x[at].is_nan()) {
            at = t;
        }
    }
    at
}

/// log((1/n) Σ eˣ) about the largest x, so that nothing overflows.
fn log_mean_exp<T: Scalar>(x: &[T]) -> f64 {
    let top = x[first_max(x)].to_f64();
    let total: f64 = x.iter().map(|&v| (v.to_f64() - top).exp()).sum();
    top + (total / x.len() as f64).ln()
}

pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: PoolForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let PoolForward { y, x, lengths, pooling, shape: SeqShape { batch, heads, len } } = args;
    let lengths = lengths.map(Ints::as_slice);
    let level = be.level();
    Tiles::new(y, batch, 1, heads, heads.max(1)).for_each(be, |mut tile| {
        let b = tile.batch();
        let n = lengths.map_or(len, |l| l[b] as usize);
        for (h, y) in tile.row(0).iter_mut().enumerate() {
            let x = &x[(b * heads + h) * len..][..n];
            *y = match pooling {
                Pooling::Mean => simd!(level, _FMA => sum(x)) / T::from_f64(n as f64),
                Pooling::Sum => simd!(level, _FMA => sum(x)),
                Pooling::First => x[0],
                Pooling::Last => x[n - 1],
                Pooling::Max => x[first_max(x)],
                Pooling::LogMeanExp => T::from_f64(log_mean_exp(x)),
            };
        }
    });
    Ok(())
}

pub(crate) fn backward<T: Scalar>(be: &Cpu<T>, args: PoolBackward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let PoolBackward { dx, dy, x, lengths, pooling, shape: SeqShape { batch, heads, len } } = args;
    let lengths = lengths.map(Ints::as_slice);
    Tiles::new(dx, batch, heads, len, len.max(1)).for_each(be, |mut tile| {
        let b = tile.batch();
        let n = lengths.map_or(len, |l| l[b] as usize);
        for h in 0..heads {
            let (dy, x) = (dy[b * heads + h], &x[(b * heads + h) * len..][..n]);
            let (dx, rest) = tile.row(h).split_at_mut(n);
            rest.fill(T::zero());
            match pooling {
                Pooling::Mean => dx.fill(dy / T::from_f64(n as f64)),
                Pooling::Sum => dx.fill(dy),
                Pooling::LogMeanExp => {
                    // ∂y/∂x_t = e^{x_t − y}/n.
                    let (y, scale) = (log_mean_exp(x), dy.to_f64() / n as f64);
                    for (dx, &x) in dx.iter_mut().zip(x) {
                        *dx = T::from_f64(scale * (x.to_f64() - y).exp());
                    }
                }
                Pooling::First | Pooling::Last | Pooling::Max => {
                    dx.fill(T::zero());
                    let at = match pooling {
                        Pooling::First => 0,
                        Pooling::Last => n - 1,
                        _ => first_max(x),
                    };
                    dx[at] = dy;
                }
            }
        }
    });
    Ok(())
}

/// Sets positions beyond each sequence's length to 0.
pub(crate) fn zero_beyond_lengths<T: Scalar>(be: &Cpu<T>, args: ZeroBeyondLengths<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let ZeroBeyondLengths { x, lengths, shape: SeqShape { batch, heads, len } } = args;
    Tiles::new(x, batch, heads, len, len.max(1)).for_each(be, |mut tile| {
        let n = lengths.as_slice()[tile.batch()] as usize;
        for h in 0..heads {
            tile.row(h)[n..].fill(T::zero());
        }
    });
    Ok(())
}
