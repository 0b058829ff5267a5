//! Batch norm: mean and variance of each head over the time steps of all sequences.

use crate::{
    Cpu, Ints, Workspace,
    linalg::{
        gemm::Tiles,
        math::{LANES, deviation, fma, fold, sum},
        simd::simd,
    },
};
use s4_backend::{
    BatchNormBackward, BatchNormForward, BatchNormGradientSums, BatchNormInputGradient, BatchNormJoint,
    BatchNormMoments, BatchNormRecompute, Error, Result, Scalar, SeqShape, joint_norm_len,
};

/// Valid time steps of a sequence: its own length, or len where no lengths are given.
fn valid_steps(lengths: Option<&[i32]>, sequence: usize, len: usize) -> usize {
    lengths.map_or(len, |l| l[sequence] as usize)
}

/// Valid time steps of all sequences.
fn count_of(lengths: Option<&[i32]>, shape: &SeqShape) -> usize {
    (0..shape.batch).map(|b| valid_steps(lengths, b, shape.len)).sum()
}

/// The mean of each head and Σ(x − mean)² over `count` valid time steps: `write(mean, squares)` gives what is stored in their places
/// of `stats` (2, heads).
fn head_moments<T: Scalar>(
    be: &Cpu<T>,
    stats: &mut [T],
    x: &[T],
    lengths: Option<&[i32]>,
    (shape, count): (&SeqShape, usize),
    write: impl Fn(T, f64) -> [T; 2] + Sync,
) {
    let &SeqShape { batch, heads, len } = shape;
    let level = be.level();
    let row = |b: usize, h: usize| &x[(b * heads + h) * len..][..valid_steps(lengths, b, len)];
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
        let [first, second] = write(mean, squares);
        (tile.row(0)[0], tile.row(1)[0]) = (first, second);
    });
}

/// Moves the running statistics (2, heads) towards the mean and the unbiased variance of a batch of `count` time steps, whose
/// statistics are `stats`.
fn move_running<T: Scalar>(running: &mut [T], stats: &[T], count: f64, (eps, momentum): (f64, f64)) {
    let heads = stats.len() / 2;
    let unbiased = count / (count - 1.0).max(1.0);
    for h in 0..heads {
        let rstd = stats[heads + h].to_f64();
        let variance = (1.0 / (rstd * rstd) - eps).max(0.0) * unbiased;
        let mut blend = |i: usize, new: f64| {
            running[i] = T::from_f64((1.0 - momentum) * running[i].to_f64() + momentum * new);
        };
        blend(h, stats[h].to_f64());
        blend(heads + h, variance);
    }
}

/// y = γ(x − μ)·rstd + β with the batch's statistics, or the running ones when not training; 0 beyond lengths.
pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: BatchNormForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    if args.moments.is_some() {
        return Err(Error::unsupported("batch_norm_forward", "an input without moments", "moments"));
    }
    let BatchNormForward {
        y, stats, running, x, gamma, beta, lengths, eps, momentum, training, shape, ..
    } = args;
    let heads = shape.heads;
    let lengths_slice = lengths.map(Ints::as_slice);
    if training {
        let count = count_of(lengths_slice, &shape);
        head_moments(be, stats, x, lengths_slice, (&shape, count), |mean, squares| {
            [mean, T::from_f64(1.0 / (squares / count as f64 + eps).sqrt())]
        });
        move_running(running, stats, count as f64, (eps, momentum));
    } else {
        for h in 0..heads {
            stats[h] = running[h];
            stats[heads + h] = T::from_f64(1.0 / (running[heads + h].to_f64() + eps).sqrt());
        }
    }
    if let Some(y) = y {
        normalize(be, BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape });
    }
    Ok(())
}

/// The moments of one rank's batch.
pub(crate) fn moments<T: Scalar>(be: &Cpu<T>, args: BatchNormMoments<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let BatchNormMoments { moments, x, lengths, shape } = args;
    let lengths = lengths.map(Ints::as_slice);
    let count = count_of(lengths, &shape);
    let (of_heads, last) = moments.split_at_mut(2 * shape.heads);
    head_moments(be, of_heads, x, lengths, (&shape, count), |mean, squares| [mean, T::from_f64(squares)]);
    last[0] = T::from_f64(count as f64);
    Ok(())
}

/// The statistics of the joint batch: with n the steps of all ranks, μ = Σ n_r·μ_r/n and n·variance = Σ (M_r + n_r·(μ_r − μ)²).
pub(crate) fn joint<T: Scalar>(be: &Cpu<T>, args: BatchNormJoint<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let BatchNormJoint { stats, running, moments, heads, eps, momentum, .. } = args;
    let parts = || moments.chunks_exact(joint_norm_len(heads)).map(|part| (part, part[2 * heads].to_f64()));
    let count: f64 = parts().map(|(_, n)| n).sum();
    for h in 0..heads {
        let mean = parts().map(|(part, n)| n * part[h].to_f64()).sum::<f64>() / count;
        let squares: f64 =
            parts().map(|(part, n)| part[heads + h].to_f64() + n * (part[h].to_f64() - mean).powi(2)).sum();
        stats[h] = T::from_f64(mean);
        stats[heads + h] = T::from_f64(1.0 / (squares / count + eps).sqrt());
    }
    move_running(running, stats, count, (eps, momentum));
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
    let mut sums = ws.real.take(joint_norm_len(shape.heads));
    let own = BatchNormGradientSums { sums: &mut sums[..], dgamma, dbeta, dy, x, stats, lengths, shape };
    head_sums(be, own);
    let args = BatchNormInputGradient { dx, dy, x, stats, sums: &sums[..], gamma, residual, lengths, shape };
    through_norm(be, args, training);
    ws.real.give(sums);
    Ok(())
}

/// Σ dy, Σ dy·x̂ and the number of time steps of one rank's batch.
pub(crate) fn gradient_sums<T: Scalar>(be: &Cpu<T>, args: BatchNormGradientSums<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    head_sums(be, args);
    Ok(())
}

/// dx from the sums of all ranks.
pub(crate) fn input_gradient<T: Scalar>(be: &Cpu<T>, args: BatchNormInputGradient<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    through_norm(be, args, true);
    Ok(())
}

/// Σ dy and Σ dy·x̂ of each head, then the number of valid time steps; the former are added to dβ and dγ. Checks nothing.
fn head_sums<T: Scalar>(be: &Cpu<T>, args: BatchNormGradientSums<'_, Cpu<T>>) {
    let BatchNormGradientSums { sums, dgamma, dbeta, dy, x, stats, lengths, shape } = args;
    let SeqShape { batch, heads, len } = shape;
    let lengths = lengths.map(Ints::as_slice);
    let level = be.level();
    let (of_heads, last) = sums.split_at_mut(2 * heads);
    Tiles::new(of_heads, 1, 2, heads, 1).for_each(be, |mut tile| {
        let h = tile.start();
        let (mean, rstd) = (stats[h], stats[heads + h]);
        let (mut s, mut p) = (0.0, 0.0);
        for b in 0..batch {
            let (at, n) = ((b * heads + h) * len, valid_steps(lengths, b, len));
            let (dy, x) = (&dy[at..][..n], &x[at..][..n]);
            s += simd!(level, _FMA => sum(dy)).to_f64();
            p += simd!(level, FMA => centred_dot::<T, FMA>(dy, x, mean)).to_f64();
        }
        tile.row(0)[0] = T::from_f64(s);
        tile.row(1)[0] = T::from_f64(p) * rstd;
    });
    last[0] = T::from_f64(count_of(lengths, &shape) as f64);
    for h in 0..heads {
        dbeta[h] += of_heads[h];
        dgamma[h] += of_heads[heads + h];
    }
}

/// dx = γ·rstd·(dy − Σdy/n − x̂·Σ(dy·x̂)/n), or without the sums where the statistics are no batch's. Checks nothing.
fn through_norm<T: Scalar>(be: &Cpu<T>, args: BatchNormInputGradient<'_, Cpu<T>>, of_batch: bool) {
    let BatchNormInputGradient { dx, dy, x, stats, sums, gamma, residual, lengths, shape } = args;
    let SeqShape { batch, heads, len } = shape;
    let lengths = lengths.map(Ints::as_slice);
    let level = be.level();
    let scale = T::from_f64(if of_batch { 1.0 / sums[2 * heads].to_f64() } else { 0.0 });
    Tiles::new(dx, 1, batch, heads * len, len.max(1)).for_each(be, |mut tile| {
        let h = tile.start() / len;
        let (mean, rstd) = (stats[h], stats[heads + h]);
        let g = gamma[h] * rstd;
        let (s, p) = (sums[h] * scale, sums[heads + h] * scale * rstd);
        for b in 0..batch {
            let (at, n) = ((b * heads + h) * len, valid_steps(lengths, b, len));
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
