//! Batch norm: mean and variance of each head over the time steps of all sequences.

use crate::{
    Cpu, Ints, Workspace,
    linalg::{
        gemm::Tiles,
        math::{LANES, deviation, fma, fold, sum},
        simd::simd,
    },
};
use s4_backend::{BatchNormBackward, BatchNormForward, BatchNormRecompute, Result, Scalar, SeqShape};

/// Valid time steps of a sequence: its own length, or len where no lengths are given.
fn valid_steps(lengths: Option<&[i32]>, sequence: usize, len: usize) -> usize {
    lengths.map_or(len, |l| l[sequence] as usize)
}

/// y = γ(x − μ)·rstd + β with the batch's statistics, or the running ones when not training; 0 beyond lengths.
pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: BatchNormForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let BatchNormForward { y, stats, running, x, gamma, beta, lengths, eps, momentum, training, shape } =
        args;
    let SeqShape { batch, heads, len } = shape;
    let lengths_slice = lengths.map(Ints::as_slice);
    let level = be.level();
    let count: usize = (0..batch).map(|b| valid_steps(lengths_slice, b, len)).sum();
    let row = |b: usize, h: usize| &x[(b * heads + h) * len..][..valid_steps(lengths_slice, b, len)];
    if training {
        // A head's statistics are two columns of one tile.
        Tiles::new(stats, 1, 2, heads, 1).for_each(be, |mut tile| {
            let h = tile.start();
            let (mut total, mut squares) = (0.0, 0.0);
            for b in 0..batch {
                total += simd!(level, _FMA => sum(row(b, h))).to_f64();
            }
            let mean = T::from_f64(total / count as f64);
            for b in 0..batch {
                squares += simd!(level, FMA => deviation::<T, FMA>(row(b, h), mean)).to_f64();
            }
            tile.row(0)[0] = mean;
            tile.row(1)[0] = T::from_f64(1.0 / (squares / count as f64 + eps).sqrt());
        });
        let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
        for h in 0..heads {
            let rstd = stats[heads + h].to_f64();
            let variance = (1.0 / (rstd * rstd) - eps).max(0.0) * unbiased;
            let mut blend = |i: usize, new: f64| {
                running[i] = T::from_f64((1.0 - momentum) * running[i].to_f64() + momentum * new);
            };
            blend(h, stats[h].to_f64());
            blend(heads + h, variance);
        }
    } else {
        for h in 0..heads {
            stats[h] = running[h];
            stats[heads + h] = T::from_f64(1.0 / (running[heads + h].to_f64() + eps).sqrt());
        }
    }
    normalize(be, BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape });
    Ok(())
}

/// Computes y from the statistics that `forward` wrote: (2, heads), mean and rstd.
pub(crate) fn recompute<T: Scalar>(be: &Cpu<T>, args: BatchNormRecompute<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    normalize(be, args);
    Ok(())
}

/// y = γ(x − μ)·rstd + β from given statistics; 0 beyond lengths. Checks nothing.
fn normalize<T: Scalar>(be: &Cpu<T>, args: BatchNormRecompute<'_, Cpu<T>>) {
    let BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape } = args;
    let SeqShape { batch, heads, len } = shape;
    let lengths_slice = lengths.map(Ints::as_slice);
    let level = be.level();
    Tiles::new(y, 1, batch, heads * len, len.max(1)).for_each(be, |mut tile| {
        let h = tile.start() / len;
        let (mean, g, b) = (stats[h], gamma[h] * stats[heads + h], beta[h]);
        for r in 0..batch {
            let x = &x[(r * heads + h) * len..][..valid_steps(lengths_slice, r, len)];
            let (y, rest) = tile.row(r).split_at_mut(x.len());
            simd!(level, FMA => {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = fma::<T, FMA>(g, x - mean, b);
                }
            });
            rest.fill(T::zero());
        }
    });
}

/// Training: dx = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)); otherwise dx = γ·rstd·dy. 0 beyond lengths.
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    args: BatchNormBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    args.check(be)?;
    let BatchNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, lengths, training, shape } =
        args;
    let SeqShape { batch, heads, len } = shape;
    let lengths_slice = lengths.map(Ints::as_slice);
    let level = be.level();
    let count: usize = (0..batch).map(|b| valid_steps(lengths_slice, b, len)).sum();
    // Σ dy and Σ dy·x̂ of each head.
    let mut sums = ws.real.take(2 * heads);
    Tiles::new(&mut sums, 1, 2, heads, 1).for_each(be, |mut tile| {
        let h = tile.start();
        let (mean, rstd) = (stats[h], stats[heads + h]);
        let (mut s, mut p) = (0.0, 0.0);
        for b in 0..batch {
            let (at, n) = ((b * heads + h) * len, valid_steps(lengths_slice, b, len));
            let (dy, x) = (&dy[at..][..n], &x[at..][..n]);
            s += simd!(level, _FMA => sum(dy)).to_f64();
            p += simd!(level, FMA => centred_dot::<T, FMA>(dy, x, mean)).to_f64();
        }
        tile.row(0)[0] = T::from_f64(s);
        tile.row(1)[0] = T::from_f64(p) * rstd;
    });
    let totals = &*sums;
    let scale = T::from_f64(if training { 1.0 / count as f64 } else { 0.0 });
    Tiles::new(dx, 1, batch, heads * len, len.max(1)).for_each(be, |mut tile| {
        let h = tile.start() / len;
        let (mean, rstd) = (stats[h], stats[heads + h]);
        let g = gamma[h] * rstd;
        let (s, p) = (totals[h] * scale, totals[heads + h] * scale * rstd);
        for b in 0..batch {
            let (at, n) = ((b * heads + h) * len, valid_steps(lengths_slice, b, len));
            let (dy, x) = (&dy[at..][..n], &x[at..][..n]);
            let (dx, rest) = tile.row(b).split_at_mut(n);
            simd!(level, FMA => {
                for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = g * fma::<T, FMA>(mean - x, p, dy - s);
                }
            });
            rest.fill(T::zero());
            if let Some(residual) = residual {
                for (dx, &r) in tile.row(b).iter_mut().zip(&residual[at..][..len]) {
                    *dx += r;
                }
            }
        }
    });
    for h in 0..heads {
        dbeta[h] += totals[h];
        dgamma[h] += totals[heads + h];
    }
    ws.real.give(sums);
    Ok(())
}

/// Σ dy·(x − μ).
#[inline(always)]
fn centred_dot<T: Scalar, const FMA: bool>(dy: &[T], x: &[T], mean: T) -> T {
    let mut acc = [T::zero(); LANES];
    let (dyb, dyt) = dy.as_chunks::<LANES>();
    let (xb, xt) = x.as_chunks::<LANES>();
    for (a, b) in dyb.iter().zip(xb) {
        for i in 0..LANES {
            acc[i] = fma::<T, FMA>(a[i], b[i] - mean, acc[i]);
        }
    }
    fold(acc, dyt.iter().zip(xt).map(|(&a, &b)| a * (b - mean)))
}
