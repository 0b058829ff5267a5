//! States from chunk to chunk: s_{c+1} += s_c·M, one after the other.

use crate::{
    Level,
    linalg::{
        math::fma,
        register_tiles::{NonzeroPart, Product, W, product, tiled},
        simd::simd,
    },
};
use s4_backend::Scalar;

/// Elements of scratch for [`scan`].
pub(crate) fn scan_scratch(n: usize) -> usize {
    n * n + W
}

/// s_{c+1} += s_c·M for c = 0, 1, …: `s` holds (steps + 1) states of `rows` rows by N. With `reverse` from the
/// last to the first: s_c += s_{c+1}·M.
pub(crate) fn scan<T: Scalar>(
    level: Level,
    s: &mut [T],
    m: &[T],
    [steps, rows, n]: [usize; 3],
    reverse: bool,
    scratch: &mut [T],
) {
    let size = rows * n;
    if level == Level::Avx512 && tiled::<T>(level, n) && rows == 1 && n == ROW {
        // One row at a time is bound by the loads of M: none may straddle two cache lines.
        let skip = scratch.as_ptr().align_offset(64).min(W);
        let aligned_m = &mut scratch[skip..][..n * n];
        aligned_m.copy_from_slice(&m[..n * n]);
        simd!(level, FMA => scan_row::<T, FMA>(s, aligned_m, steps, reverse));
        return;
    }
    for i in 0..steps {
        let c = if reverse { steps - 1 - i } else { i };
        let (before, after) = s.split_at_mut((c + 1) * size);
        let (before, after) = (&mut before[c * size..], &mut after[..size]);
        let (a, c): (&[T], _) = if reverse { (after, before) } else { (before, after) };
        let size = [rows, n, n];
        product(
            level,
            Product {
                size,
                a,
                lda: n,
                b: m,
                ldb: n,
                c,
                ldc: n,
                accumulate: true,
                nonzero_part: NonzeroPart::Full,
            },
        );
    }
}

/// N of [`scan_row`].
const ROW: usize = 64;

/// [`scan`] of one row.
#[inline(always)]
fn scan_row<T: Scalar, const FMA: bool>(s: &mut [T], m: &[T], steps: usize, reverse: bool) {
    let (s, m) = (s.as_chunks_mut::<ROW>().0, m.as_chunks::<ROW>().0);
    let (s, Some(m)) = (&mut s[..steps + 1], m.first_chunk::<ROW>()) else { return };
    for i in 0..steps {
        if reverse {
            let (next, x) = s[steps - 1 - i..].split_at_mut(1);
            row::<T, FMA>(&mut next[0], &x[0], m);
        } else {
            let (x, next) = s[i..].split_at_mut(1);
            row::<T, FMA>(&mut next[0], &x[0], m);
        }
    }
}

/// next += x·M, with two sets of sums, so that a product does not wait for the last one.
#[inline(always)]
fn row<T: Scalar, const FMA: bool>(next: &mut [T; ROW], x: &[T; ROW], m: &[[T; ROW]; ROW]) {
    const NV: usize = ROW / W;
    let mut acc = [[[T::zero(); W]; NV]; 2];
    for v in 0..NV {
        acc[0][v].copy_from_slice(&next[v * W..][..W]);
    }
    for p in 0..ROW / 2 {
        let (x0, x1) = (x[p], x[ROW / 2 + p]);
        let (m0, m1) = (&m[p], &m[ROW / 2 + p]);
        for v in 0..NV {
            for l in 0..W {
                acc[0][v][l] = fma::<T, FMA>(x0, m0[v * W + l], acc[0][v][l]);
            }
            for l in 0..W {
                acc[1][v][l] = fma::<T, FMA>(x1, m1[v * W + l], acc[1][v][l]);
            }
        }
    }
    for v in 0..NV {
        let mut sum = [T::zero(); W];
        for l in 0..W {
            sum[l] = acc[0][v][l] + acc[1][v][l];
        }
        next[v * W..][..W].copy_from_slice(&sum);
    }
}

/// next += prev·M for rows of N where M (N, N), Qᵀ forward and Q backward, is that of S4D: elementwise complex.
pub(crate) fn scan_diagonal<T: Scalar>(level: Level, next: &mut [T], prev: &[T], m: &[T], state: usize) {
    let h = state / 2;
    level.run(
        #[inline(always)]
        || {
            for (next, prev) in next.chunks_exact_mut(state).zip(prev.chunks_exact(state)) {
                let ((next_re, next_im), (re, im)) = (next.split_at_mut(h), prev.split_at(h));
                for n in 0..h {
                    let (q_re, q_im) = (m[n * state + n], m[n * state + n + h]);
                    next_re[n] += re[n] * q_re - im[n] * q_im;
                    next_im[n] += re[n] * q_im + im[n] * q_re;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use s4_backend::random::Rng;

    fn close(fast: &[f32], plain: &[f32], what: &str) {
        let diff: f64 = fast.iter().zip(plain).map(|(a, b)| (*a as f64 - *b as f64).powi(2)).sum();
        let norm: f64 = plain.iter().map(|b| (*b as f64).powi(2)).sum();
        let err = (diff / norm).sqrt();
        assert!(err.is_finite() && err <= 1e-6, "{what}: {err:e}");
    }

    #[test]
    fn scans_equal_the_plain_one() {
        let mut rng = Rng::new(7, 0);
        let best = Level::detect();
        for (rows, n) in [(1, 64), (1, 80), (3, 64), (8, 16), (2, 24), (1, 16)] {
            for reverse in [false, true] {
                let s: Vec<f32> = (0..8 * rows * n).map(|_| rng.normal() as f32).collect();
                let m: Vec<f32> = (0..n * n).map(|_| rng.normal() as f32 / n as f32).collect();
                let run = |level: Level| {
                    let mut s = s.clone();
                    let mut scratch = vec![0.0; scan_scratch(n)];
                    scan(level, &mut s, &m, [7, rows, n], reverse, &mut scratch);
                    s
                };
                let want = run(Level::Portable);
                for level in [Level::Avx2, Level::Avx512] {
                    if level <= best {
                        close(&run(level), &want, &format!("{rows} {n} {reverse} {level:?}"));
                    }
                }
            }
        }
    }
}
