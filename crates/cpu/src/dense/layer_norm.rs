//! Layer norm: mean and variance over the heads at each time step of each sequence.

use crate::{
    Cpu, Workspace,
    linalg::gemm::{Tile, Tiles},
    linalg::math::{LANES, deviation, fma, fold, sum},
    linalg::reduce::add_parts,
    linalg::simd::simd,
    memory::tasks::{ThreadScratch, all_threads_scratch_len, parts},
};
use s4_backend::{LayerNormBackward, LayerNormForward, LayerNormRecompute, Result, Scalar, SeqShape};

/// Time steps of a tile, so that the input and output of all heads at them fit half of a second-level cache.
fn width(heads: usize) -> usize {
    (32_768 / heads.max(1)).next_multiple_of(32).clamp(32, 1024)
}

/// Sequences of a tile where each has one time step.
const ROWS: usize = 64;

/// μ and Σ(x − μ)² over heads in two passes, then y = γ(x − μ)·rstd + β.
pub(crate) fn forward<T: Scalar>(be: &Cpu<T>, args: LayerNormForward<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let LayerNormForward { y, stats, x, gamma, beta, eps, shape } = args;
    let SeqShape { batch, heads, len } = shape;
    let (level, w) = (be.level(), width(heads));
    let (scale, eps) = (T::from_f64(1.0 / heads as f64), T::from_f64(eps));
    if len == 1 {
        // Sequences of one time step: the heads of each are contiguous.
        let y = Tiles::flat(y, ROWS * heads);
        y.for_each_with(be, Tiles::flat(stats, ROWS * 2), |mut y, mut stats| {
            let x = &x[y.start()..][..y.cols()];
            let rows = y.row(0).chunks_exact_mut(heads).zip(stats.row(0).chunks_exact_mut(2));
            for ((y, stats), x) in rows.zip(x.chunks_exact(heads)) {
                simd!(level, FMA => {
                    let mean = sum(x) * scale;
                    let rstd = T::one() / (deviation::<T, FMA>(x, mean) * scale + eps).sqrt();
                    for (((y, &x), &g), &b) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                        *y = fma::<T, FMA>(g * rstd, x - mean, b);
                    }
                    stats.copy_from_slice(&[mean, rstd]);
                });
            }
        });
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
            normalize_tile(be, &mut y, x, len, [mean, rstd], [gamma, beta]);
        },
    );
    Ok(())
}

/// y = γ(x − μ)·rstd + β on one tile.
fn normalize_tile<T: Scalar>(
    be: &Cpu<T>,
    y: &mut Tile<'_, T>,
    x: &[T],
    len: usize,
    [mean, rstd]: [&[T]; 2],
    [gamma, beta]: [&[T]; 2],
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

/// Computes y from the statistics that `forward` wrote: (batch, 2, len), mean and rstd.
pub(crate) fn recompute<T: Scalar>(be: &Cpu<T>, args: LayerNormRecompute<'_, Cpu<T>>) -> Result<()> {
    args.check(be)?;
    let LayerNormRecompute { y, stats, x, gamma, beta, shape: SeqShape { batch, heads, len } } = args;
    Tiles::new(y, batch, heads, len, width(heads)).for_each(be, |mut y| {
        let n = y.cols();
        let x = &x[y.batch() * heads * len + y.start()..];
        let stats = &stats[y.batch() * 2 * len + y.start()..];
        normalize_tile(be, &mut y, x, len, [&stats[..n], &stats[len..][..n]], [gamma, beta]);
    });
    Ok(())
}

/// With g = γ·dy and x̂ = (x − μ)·rstd: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)); dγ += Σ dy·x̂; dβ += Σ dy.
pub(crate) fn backward<T: Scalar>(
    be: &Cpu<T>,
    args: LayerNormBackward<'_, Cpu<T>>,
    ws: &mut Workspace<T>,
) -> Result<()> {
    args.check(be)?;
    let LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape } = args;
    let SeqShape { batch, heads, len } = shape;
    let (level, w) = (be.level(), (width(heads) / 2).min(len.max(1)));
    let scale = T::from_f64(1.0 / heads as f64);
    let tiles = Tiles::new(dx, batch, heads, len, w);
    let parts = parts(tiles.count());
    // x̂ and dy of a tile are kept side by side: where heads lie a power of two apart, a second pass over
    // the arrays themselves would find them evicted from the few cache sets that they share.
    let size = 2 * heads * w + 2 * w;
    let mut partials = ws.real.take(parts * 2 * heads);
    let mut scratch = ws.real.take(all_threads_scratch_len(be, size));
    let thread_scratch = ThreadScratch::new(&mut scratch, size);
    tiles.for_each_part(be, &mut partials, parts, |partial, mut dx| {
        let n = dx.cols();
        let at = dx.batch() * heads * len + dx.start();
        let (dy, x) = (&dy[at..], &x[at..]);
        let stats = &stats[dx.batch() * 2 * len + dx.start()..];
        let (mean, rstd) = (&stats[..n], &stats[len..][..n]);
        let (dg, db) = partial.split_at_mut(heads);
        let mut slot = thread_scratch.lock();
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
            simd!(level, FMA => head_dx::<T, FMA>(dx, dy, xh, [s1, s2], rstd, gamma[h], residual));
        }
    });
    drop(thread_scratch);
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
    [s1, s2]: [&[T]; 2],
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

/// Adds what one head gives: s1 += γ·dy, s2 += γ·dy·x̂, and (Σ dy, Σ dy·x̂) over time.
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
