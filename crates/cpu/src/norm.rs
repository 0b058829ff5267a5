//! Layer norm over heads at each (row, time), batch norm over (rows, time) at each head.

use crate::{
    Cpu, Ints, Workspace,
    gemm::{Tile, Tiles},
    math::{LANES, fma, fold, simd, sum},
    memory::same_len,
    par::{Slots, parts, slots_len},
    reduce::{add_parts, lengths as check_lengths},
};
use s4_backend::{Result, Scalar, SeqShape};

/// Columns of a tile: all heads of it fit half an L2 beside the output.
fn width(heads: usize) -> usize {
    (32_768 / heads.max(1)).next_multiple_of(32).clamp(32, 1024)
}

/// μ and Σ(x − μ)² over heads in two passes, then y = γ(x − μ)·rstd + β.
pub(crate) fn layer_forward<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    stats: &mut [T],
    x: &[T],
    gamma: &[T],
    beta: &[T],
    eps: f64,
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "layer_norm_forward";
    let &SeqShape { batch, heads, len } = shape;
    same_len(OP, shape.elements(), y.len())?;
    same_len(OP, shape.elements(), x.len())?;
    same_len(OP, batch * 2 * len, stats.len())?;
    same_len(OP, heads, gamma.len())?;
    same_len(OP, heads, beta.len())?;
    let (level, w) = (be.level(), width(heads));
    let (scale, eps) = (T::from_f64(1.0 / heads as f64), T::from_f64(eps));
    if len == 1 {
        // One sample a row: heads are contiguous.
        for ((y, stats), x) in
            y.chunks_exact_mut(heads).zip(stats.chunks_exact_mut(2)).zip(x.chunks_exact(heads))
        {
            simd!(level, FMA => {
                let mean = sum(x) * scale;
                let rstd = T::one() / (deviation::<T, FMA>(x, mean) * scale + eps).sqrt();
                for (((y, &x), &g), &b) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *y = fma::<T, FMA>(g * rstd, x - mean, b);
                }
                stats.copy_from_slice(&[mean, rstd]);
            });
        }
        return Ok(());
    }
    Tiles::new(y, batch, heads, len, w).for_each_with(
        be,
        Tiles::new(stats, batch, 2, len, w),
        |mut y, mut stats| {
            let n = y.cols();
            let x = &x[y.batch() * heads * len + y.start()..];
            let (mean, rstd) = stats.rows2(0, 1);
            simd!(level, FMA => {
                mean.fill(T::zero());
                rstd.fill(T::zero());
                let mut h = 0;
                while h + 4 <= heads {
                    let [a, b, c, d] = std::array::from_fn(|i| &x[(h + i) * len..][..n]);
                    for t in 0..n {
                        mean[t] += (a[t] + b[t]) + (c[t] + d[t]);
                    }
                    h += 4;
                }
                for h in h..heads {
                    for (m, &x) in mean.iter_mut().zip(&x[h * len..][..n]) {
                        *m += x;
                    }
                }
                for m in mean.iter_mut() {
                    *m *= scale;
                }
                let mut h = 0;
                while h + 4 <= heads {
                    let [a, b, c, d] = std::array::from_fn(|i| &x[(h + i) * len..][..n]);
                    for t in 0..n {
                        let m = mean[t];
                        let [a, b, c, d] = [a[t] - m, b[t] - m, c[t] - m, d[t] - m];
                        let (p, q) = (fma::<T, FMA>(a, a, b * b), fma::<T, FMA>(c, c, d * d));
                        rstd[t] += p + q;
                    }
                    h += 4;
                }
                for h in h..heads {
                    for ((v, &m), &x) in rstd.iter_mut().zip(&*mean).zip(&x[h * len..][..n]) {
                        *v += (x - m) * (x - m);
                    }
                }
                for v in rstd.iter_mut() {
                    *v = T::one() / (*v * scale + eps).sqrt();
                }
            });
            layer_apply(be, &mut y, x, len, mean, rstd, gamma, beta);
        },
    );
    Ok(())
}

/// y = γ(x − μ)·rstd + β on one tile.
fn layer_apply<T: Scalar>(
    be: &Cpu<T>,
    y: &mut Tile<'_, T>,
    x: &[T],
    len: usize,
    mean: &[T],
    rstd: &[T],
    gamma: &[T],
    beta: &[T],
) {
    let (n, level) = (y.cols(), be.level());
    for (h, (&g, &b)) in gamma.iter().zip(beta).enumerate() {
        let (y, x) = (y.row(h), &x[h * len..][..n]);
        simd!(level, FMA => {
            for (((y, &x), &m), &r) in y.iter_mut().zip(x).zip(mean).zip(rstd) {
                *y = fma::<T, FMA>(g * r, x - m, b);
            }
        });
    }
}

/// y of a forward before, from its statistics.
pub(crate) fn layer_again<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    stats: &[T],
    x: &[T],
    gamma: &[T],
    beta: &[T],
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "layer_norm_again";
    let &SeqShape { batch, heads, len } = shape;
    same_len(OP, shape.elements(), y.len())?;
    same_len(OP, shape.elements(), x.len())?;
    same_len(OP, batch * 2 * len, stats.len())?;
    same_len(OP, heads, gamma.len())?;
    same_len(OP, heads, beta.len())?;
    Tiles::new(y, batch, heads, len, width(heads)).for_each(be, |mut y| {
        let n = y.cols();
        let x = &x[y.batch() * heads * len + y.start()..];
        let stats = &stats[y.batch() * 2 * len + y.start()..];
        layer_apply(be, &mut y, x, len, &stats[..n], &stats[len..][..n], gamma, beta);
    });
    Ok(())
}

/// With g = γ·dy and x̂ = (x − μ)·rstd: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)); dγ += Σ dy·x̂; dβ += Σ dy.
pub(crate) fn layer_backward<T: Scalar>(
    be: &Cpu<T>,
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
    dy: &[T],
    x: &[T],
    stats: &[T],
    gamma: &[T],
    residual: Option<&[T]>,
    shape: &SeqShape,
    ws: &mut Workspace<T>,
) -> Result<()> {
    const OP: &str = "layer_norm_backward";
    let &SeqShape { batch, heads, len } = shape;
    for n in [dx.len(), dy.len(), x.len()] {
        same_len(OP, shape.elements(), n)?;
    }
    same_len(OP, batch * 2 * len, stats.len())?;
    for n in [gamma.len(), dgamma.len(), dbeta.len()] {
        same_len(OP, heads, n)?;
    }
    let (level, w) = (be.level(), (width(heads) / 2).min(len.max(1)));
    let scale = T::from_f64(1.0 / heads as f64);
    let tiles = Tiles::new(dx, batch, heads, len, w);
    let parts = parts(tiles.count());
    // x̂ and dy of a tile are kept side by side: where rows lie a power of two apart, a second pass over
    // the arrays themselves would find them evicted from the few cache sets that they share.
    let size = 2 * heads * w + 2 * w;
    let mut partials = ws.real.take(parts * 2 * heads);
    let mut scratch = ws.real.take(slots_len(be, size));
    let slots = Slots::new(&mut scratch, size);
    tiles.for_each_part(be, &mut partials, parts, |partial, mut dx| {
        let n = dx.cols();
        let at = dx.batch() * heads * len + dx.start();
        let (dy, x) = (&dy[at..], &x[at..]);
        let stats = &stats[dx.batch() * 2 * len + dx.start()..];
        let (mean, rstd) = (&stats[..n], &stats[len..][..n]);
        let (dg, db) = partial.split_at_mut(heads);
        let mut slot = slots.lock();
        let (kept, sums) = slot.split_at_mut(2 * heads * w);
        let (s1, s2) = sums.split_at_mut(w);
        let (s1, s2) = (&mut s1[..n], &mut s2[..n]);
        s1.fill(T::zero());
        s2.fill(T::zero());
        for (h, kept) in kept.chunks_exact_mut(2 * w).enumerate() {
            let (xh, g) = kept.split_at_mut(w);
            let (xh, g) = (&mut xh[..n], &mut g[..n]);
            g.copy_from_slice(&dy[h * len..][..n]);
            let x = &x[h * len..][..n];
            let (a, b) = simd!(level, FMA => {
                for (((xh, &x), &m), &r) in xh.iter_mut().zip(x).zip(mean).zip(rstd) {
                    *xh = (x - m) * r;
                }
                head_sums::<T, FMA>(s1, s2, g, xh, gamma[h])
            });
            db[h] += a;
            dg[h] += b;
        }
        simd!(level, _FMA => {
            for (a, b) in s1.iter_mut().zip(s2.iter_mut()) {
                *a *= scale;
                *b *= scale;
            }
        });
        for (h, kept) in kept.chunks_exact(2 * w).enumerate() {
            let (xh, dy) = (&kept[..n], &kept[w..][..n]);
            let dx = dx.row(h);
            let residual = residual.map(|r| &r[at + h * len..][..n]);
            simd!(level, FMA => head_dx::<T, FMA>(dx, dy, xh, s1, s2, rstd, gamma[h], residual));
        }
    });
    drop(slots);
    add_parts(dgamma, &partials, parts, 0);
    add_parts(dbeta, &partials, parts, heads);
    ws.real.give(scratch);
    ws.real.give(partials);
    Ok(())
}

/// One head's dx = rstd·(γ·dy − s1 − x̂·s2) (+ residual).
#[inline(always)]
fn head_dx<T: Scalar, const FMA: bool>(
    dx: &mut [T],
    dy: &[T],
    xh: &[T],
    s1: &[T],
    s2: &[T],
    rstd: &[T],
    g: T,
    residual: Option<&[T]>,
) {
    // Lengths that the compiler can see, or it checks every access.
    let n = dx.len();
    let (dy, xh, s1, s2, rstd) = (&dy[..n], &xh[..n], &s1[..n], &s2[..n], &rstd[..n]);
    let d = |t: usize| rstd[t] * fma::<T, FMA>(-xh[t], s2[t], fma::<T, FMA>(g, dy[t], -s1[t]));
    match residual {
        Some(residual) => {
            let residual = &residual[..n];
            for t in 0..n {
                dx[t] = residual[t] + d(t);
            }
        }
        None => {
            for t in 0..n {
                dx[t] = d(t);
            }
        }
    }
}

/// One head's share: s1 += γ·dy, s2 += γ·dy·x̂, and (Σ dy, Σ dy·x̂) over time.
#[inline(always)]
fn head_sums<T: Scalar, const FMA: bool>(s1: &mut [T], s2: &mut [T], dy: &[T], xh: &[T], g: T) -> (T, T) {
    let n = dy.len();
    let (s1, s2, xh) = (&mut s1[..n], &mut s2[..n], &xh[..n]);
    let (mut a, mut b) = ([T::zero(); LANES], [T::zero(); LANES]);
    let body = n / LANES * LANES;
    for t in (0..body).step_by(LANES) {
        let (s1, s2) = (&mut s1[t..t + LANES], &mut s2[t..t + LANES]);
        let (dy, xh) = (&dy[t..t + LANES], &xh[t..t + LANES]);
        for i in 0..LANES {
            let p = dy[i] * xh[i];
            s1[i] = fma::<T, FMA>(g, dy[i], s1[i]);
            s2[i] = fma::<T, FMA>(g, p, s2[i]);
            a[i] += dy[i];
            b[i] += p;
        }
    }
    let (mut a, mut b) = (fold(a, std::iter::empty()), fold(b, std::iter::empty()));
    for t in body..dy.len() {
        let p = dy[t] * xh[t];
        s1[t] = fma::<T, FMA>(g, dy[t], s1[t]);
        s2[t] = fma::<T, FMA>(g, p, s2[t]);
        a += dy[t];
        b += p;
    }
    (a, b)
}

/// How many samples of a row count.
fn counted(lengths: Option<&[i32]>, row: usize, len: usize) -> usize {
    lengths.map_or(len, |l| l[row] as usize)
}

/// y = γ(x − μ)·rstd + β with the batch's statistics, or the running ones when not training; 0 beyond lengths.
pub(crate) fn batch_forward<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    stats: &mut [T],
    running: &mut [T],
    x: &[T],
    gamma: &[T],
    beta: &[T],
    lengths: Option<&Ints>,
    eps: f64,
    momentum: f64,
    training: bool,
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "batch_norm_forward";
    let &SeqShape { batch, heads, len } = shape;
    same_len(OP, shape.elements(), y.len())?;
    same_len(OP, shape.elements(), x.len())?;
    for n in [stats.len(), running.len()] {
        same_len(OP, 2 * heads, n)?;
    }
    same_len(OP, heads, gamma.len())?;
    same_len(OP, heads, beta.len())?;
    let lengths = check_lengths(OP, lengths, batch, len)?;
    let level = be.level();
    let count: usize = (0..batch).map(|b| counted(lengths, b, len)).sum();
    let row = |b: usize, h: usize| &x[(b * heads + h) * len..][..counted(lengths, b, len)];
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
    batch_apply(be, y, stats, x, gamma, beta, lengths, shape);
    Ok(())
}

/// y of a forward before, from its statistics.
pub(crate) fn batch_again<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    stats: &[T],
    x: &[T],
    gamma: &[T],
    beta: &[T],
    lengths: Option<&Ints>,
    shape: &SeqShape,
) -> Result<()> {
    const OP: &str = "batch_norm_again";
    let &SeqShape { batch, heads, len } = shape;
    same_len(OP, shape.elements(), y.len())?;
    same_len(OP, shape.elements(), x.len())?;
    same_len(OP, 2 * heads, stats.len())?;
    same_len(OP, heads, gamma.len())?;
    same_len(OP, heads, beta.len())?;
    let lengths = check_lengths(OP, lengths, batch, len)?;
    batch_apply(be, y, stats, x, gamma, beta, lengths, shape);
    Ok(())
}

fn batch_apply<T: Scalar>(
    be: &Cpu<T>,
    y: &mut [T],
    stats: &[T],
    x: &[T],
    gamma: &[T],
    beta: &[T],
    lengths: Option<&[i32]>,
    shape: &SeqShape,
) {
    let &SeqShape { batch, heads, len } = shape;
    let level = be.level();
    Tiles::new(y, 1, batch, heads * len, len.max(1)).for_each(be, |mut tile| {
        let h = tile.start() / len;
        let (mean, g, b) = (stats[h], gamma[h] * stats[heads + h], beta[h]);
        for r in 0..batch {
            let x = &x[(r * heads + h) * len..][..counted(lengths, r, len)];
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

/// Σ (x − μ)².
#[inline(always)]
fn deviation<T: Scalar, const FMA: bool>(x: &[T], mean: T) -> T {
    let mut acc = [T::zero(); LANES];
    let (body, tail) = x.as_chunks::<LANES>();
    for c in body {
        for i in 0..LANES {
            let d = c[i] - mean;
            acc[i] = fma::<T, FMA>(d, d, acc[i]);
        }
    }
    fold(acc, tail.iter().map(|&x| (x - mean) * (x - mean)))
}

/// Training: dx = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)); otherwise dx = γ·rstd·dy. 0 beyond lengths.
pub(crate) fn batch_backward<T: Scalar>(
    be: &Cpu<T>,
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
    dy: &[T],
    x: &[T],
    stats: &[T],
    gamma: &[T],
    lengths: Option<&Ints>,
    training: bool,
    residual: Option<&[T]>,
    shape: &SeqShape,
    ws: &mut Workspace<T>,
) -> Result<()> {
    const OP: &str = "batch_norm_backward";
    let &SeqShape { batch, heads, len } = shape;
    for n in [dx.len(), dy.len(), x.len()] {
        same_len(OP, shape.elements(), n)?;
    }
    same_len(OP, 2 * heads, stats.len())?;
    for n in [gamma.len(), dgamma.len(), dbeta.len()] {
        same_len(OP, heads, n)?;
    }
    let lengths = check_lengths(OP, lengths, batch, len)?;
    let level = be.level();
    let count: usize = (0..batch).map(|b| counted(lengths, b, len)).sum();
    // Σ dy and Σ dy·x̂ of each head.
    let mut sums = ws.real.take(2 * heads);
    Tiles::new(&mut sums, 1, 2, heads, 1).for_each(be, |mut tile| {
        let h = tile.start();
        let (mean, rstd) = (stats[h], stats[heads + h]);
        let (mut s, mut p) = (0.0, 0.0);
        for b in 0..batch {
            let (at, n) = ((b * heads + h) * len, counted(lengths, b, len));
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
            let (at, n) = ((b * heads + h) * len, counted(lengths, b, len));
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
