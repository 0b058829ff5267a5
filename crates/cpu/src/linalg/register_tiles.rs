//! Products of the sizes of a chunk: many rows times one 64-wide matrix that stays in L1.
//!
//! C is made a register tile at a time: MR rows by NV·16 columns, sums held in registers over all of k. There
//! is nothing to pack (the constants are already laid out row after row), and the triangle of the Toeplitz
//! block is skipped in steps of 16. [`plain`] is the form that each must equal; it serves f64, other sizes, and
//! machines without FMA.

use crate::{
    Level,
    linalg::gemm::{Mat, MatMut, gemm},
    linalg::math::fma,
    linalg::simd::{apart, simd},
};
use s4_backend::{Dtype, Scalar};

/// Columns of one vector of sums: one AVX-512 register of f32, two AVX2 ones.
pub(crate) const W: usize = 16;

/// Which part of a square B is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonzeroPart {
    /// All of it.
    Full,
    /// B[k, n] with n ≥ k (Toepᵀ).
    Upper,
    /// B[k, n] with n ≤ k (Toep).
    Lower,
}

/// C (m, n) ← A (m, k)·B (k, n), or C + that where `accumulate`. Rows of each lie `ld` apart.
#[derive(Debug)]
pub(crate) struct Product<'a, T> {
    pub(crate) size: [usize; 3],
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    pub(crate) b: &'a [T],
    pub(crate) ldb: usize,
    pub(crate) c: &'a mut [T],
    pub(crate) ldc: usize,
    pub(crate) accumulate: bool,
    pub(crate) nonzero_part: NonzeroPart,
}

/// The product by the matrix library.
pub(crate) fn plain<T: Scalar>(p: Product<'_, T>) {
    let beta = if p.accumulate { T::one() } else { T::zero() };
    gemm(p.size, T::one(), Mat::rows(p.a, p.lda), Mat::rows(p.b, p.ldb), beta, MatMut::rows(p.c, p.ldc));
}

pub(crate) fn tiled<T: Scalar>(level: Level, n: usize) -> bool {
    level > Level::Portable && T::DTYPE == Dtype::F32 && n % W == 0
}

/// C ← (C +) A·B.
pub(crate) fn product<T: Scalar>(level: Level, p: Product<'_, T>) {
    if !tiled::<T>(level, p.size[1]) {
        return plain(p);
    }
    match level {
        Level::Avx512 => panels::<T, 4>(level, p),
        _ => panels::<T, 1>(level, p),
    }
}

/// Rows of a tile.
const MR: usize = 6;

fn panels<T: Scalar, const NV: usize>(level: Level, p: Product<'_, T>) {
    let Product { size: [m, n, k], a, lda, b, ldb, c, ldc, accumulate, nonzero_part } = p;
    if m == 0 {
        return;
    }
    let mut n0 = 0;
    while n0 < n {
        let full_width = n - n0 >= NV * W;
        let width = if full_width { NV * W } else { W };
        // Rows of B that this panel has anything in.
        let (k0, k1) = match nonzero_part {
            NonzeroPart::Full => (0, k),
            NonzeroPart::Upper => (0, k.min(n0 + width)),
            NonzeroPart::Lower => (n0.min(k), k),
        };
        let (a, b) = (&a[k0.min(a.len())..], &b[k0 * ldb + n0..]);
        let mut i = 0;
        while i < m {
            let rows = (m - i).min(MR);
            let (a, c) = (&a[i * lda..], &mut c[i * ldc + n0..]);
            let operands = TileOperands { a, lda, b, ldb, c, ldc, k: k1 - k0, accumulate };
            if full_width {
                match rows {
                    1 => tile::<T, 1, NV>(level, operands, nonzero_part),
                    2 => tile::<T, 2, NV>(level, operands, nonzero_part),
                    3 => tile::<T, 3, NV>(level, operands, nonzero_part),
                    4 => tile::<T, 4, NV>(level, operands, nonzero_part),
                    5 => tile::<T, 5, NV>(level, operands, nonzero_part),
                    _ => tile::<T, MR, NV>(level, operands, nonzero_part),
                }
            } else {
                match rows {
                    1 => tile::<T, 1, 1>(level, operands, nonzero_part),
                    2 => tile::<T, 2, 1>(level, operands, nonzero_part),
                    3 => tile::<T, 3, 1>(level, operands, nonzero_part),
                    4 => tile::<T, 4, 1>(level, operands, nonzero_part),
                    5 => tile::<T, 5, 1>(level, operands, nonzero_part),
                    _ => tile::<T, MR, 1>(level, operands, nonzero_part),
                }
            }
            i += rows;
        }
        n0 += width;
    }
}

/// What one tile is computed from: C (M, NV·W) ← A (M, k)·B (k, NV·W), or C + that where `accumulate`; for a
/// [`TransposedProduct`] A is (k, M). Rows of each lie `ld` apart.
struct TileOperands<'a, T> {
    a: &'a [T],
    lda: usize,
    b: &'a [T],
    ldb: usize,
    c: &'a mut [T],
    ldc: usize,
    k: usize,
    accumulate: bool,
}

/// Each size of a tile is compiled by itself: within a larger function the sums would not stay in registers.
fn tile<T: Scalar, const M: usize, const NV: usize>(
    level: Level,
    operands: TileOperands<'_, T>,
    nonzero_part: NonzeroPart,
) {
    simd!(level, FMA => tile_body::<T, FMA, M, NV>(operands, nonzero_part))
}

#[inline(always)]
fn tile_body<T: Scalar, const FMA: bool, const M: usize, const NV: usize>(
    operands: TileOperands<'_, T>,
    nonzero_part: NonzeroPart,
) {
    let TileOperands { a, lda, b, ldb, c, ldc, k, accumulate } = operands;
    let mut acc = [[[T::zero(); W]; NV]; M];
    if accumulate {
        read(&mut acc, c, ldc);
    }
    let left = TileRowsOfA::<T, M>::new(a, lda, k);
    // Within a panel of four vectors on the diagonal, each step of 16 rows of B touches one vector less, or more.
    let diagonal = NV == 4 && k >= 4 * W;
    match nonzero_part {
        NonzeroPart::Upper if diagonal => {
            let before = k - 4 * W;
            sums::<T, FMA, M, NV, 0, 4>(&mut acc, left, b, ldb, 0, before + W);
            sums::<T, FMA, M, NV, 1, 4>(&mut acc, left, b, ldb, before + W, before + 2 * W);
            sums::<T, FMA, M, NV, 2, 4>(&mut acc, left, b, ldb, before + 2 * W, before + 3 * W);
            sums::<T, FMA, M, NV, 3, 4>(&mut acc, left, b, ldb, before + 3 * W, k);
        }
        NonzeroPart::Lower if diagonal => {
            sums::<T, FMA, M, NV, 0, 1>(&mut acc, left, b, ldb, 0, W);
            sums::<T, FMA, M, NV, 0, 2>(&mut acc, left, b, ldb, W, 2 * W);
            sums::<T, FMA, M, NV, 0, 3>(&mut acc, left, b, ldb, 2 * W, 3 * W);
            sums::<T, FMA, M, NV, 0, 4>(&mut acc, left, b, ldb, 3 * W, k);
        }
        _ => sums::<T, FMA, M, NV, 0, NV>(&mut acc, left, b, ldb, 0, k),
    }
    write(&acc, c, ldc);
}

#[inline(always)]
fn read<T: Scalar, const M: usize, const NV: usize>(acc: &mut [[[T; W]; NV]; M], c: &[T], ldc: usize) {
    for i in 0..M {
        for v in 0..NV {
            acc[i][v].copy_from_slice(&c[i * ldc + v * W..][..W]);
        }
    }
}

#[inline(always)]
fn write<T: Scalar, const M: usize, const NV: usize>(acc: &[[[T; W]; NV]; M], c: &mut [T], ldc: usize) {
    for i in 0..M {
        for v in 0..NV {
            c[i * ldc + v * W..][..W].copy_from_slice(&acc[i][v]);
        }
    }
}

/// M rows of a tile's left side.
trait TileOfA<T, const M: usize>: Copy {
    /// Their elements that meet row p of B.
    fn at(self, p: usize) -> [T; M];
}

/// M rows of A.
#[derive(Clone, Copy)]
struct TileRowsOfA<'a, T, const M: usize>([&'a [T]; M]);

impl<'a, T, const M: usize> TileRowsOfA<'a, T, M> {
    #[inline(always)]
    fn new(a: &'a [T], lda: usize, k: usize) -> Self {
        let mut rows: [&[T]; M] = [&[]; M];
        for i in 0..M {
            rows[i] = &apart(&a[i * lda..])[..k];
        }
        TileRowsOfA(rows)
    }
}

impl<T: Scalar, const M: usize> TileOfA<T, M> for TileRowsOfA<'_, T, M> {
    #[inline(always)]
    fn at(self, p: usize) -> [T; M] {
        let mut x = [T::zero(); M];
        for i in 0..M {
            x[i] = self.0[i][p];
        }
        x
    }
}

/// M columns of A, whose rows lie this far apart.
#[derive(Clone, Copy)]
struct TileColumnsOfA<'a, T>(&'a [T], usize);

impl<T: Scalar, const M: usize> TileOfA<T, M> for TileColumnsOfA<'_, T> {
    #[inline(always)]
    fn at(self, p: usize) -> [T; M] {
        let mut x = [T::zero(); M];
        x.copy_from_slice(&self.0[p * self.1..][..M]);
        x
    }
}

/// Sums over rows k0..k1 of B, vectors LO..HI.
#[inline(always)]
fn sums<T: Scalar, const FMA: bool, const M: usize, const NV: usize, const LO: usize, const HI: usize>(
    acc: &mut [[[T; W]; NV]; M],
    left: impl TileOfA<T, M>,
    b: &[T],
    ldb: usize,
    k0: usize,
    k1: usize,
) {
    for p in k0..k1 {
        let b = &b[p * ldb..][..NV * W];
        // All loads of A before all products: checks between them would keep each from being loaded once.
        let x = left.at(p);
        for v in LO..HI {
            let b = &b[v * W..][..W];
            for i in 0..M {
                for l in 0..W {
                    acc[i][v][l] = fma::<T, FMA>(x[i], b[l], acc[i][v][l]);
                }
            }
        }
    }
}

/// Gradient of a constant: C (m, n) += Aᵀ·B with A (k, m) and B (k, n), both read as they lie.
#[derive(Debug)]
pub(crate) struct TransposedProduct<'a, T> {
    pub(crate) size: [usize; 3],
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    pub(crate) b: &'a [T],
    pub(crate) ldb: usize,
    pub(crate) c: &'a mut [T],
    pub(crate) ldc: usize,
    /// [`NonzeroPart::Lower`]: C above the diagonal is not wanted and may take anything.
    pub(crate) nonzero_part: NonzeroPart,
}

/// C += Aᵀ·B.
pub(crate) fn transposed_product<T: Scalar>(level: Level, p: TransposedProduct<'_, T>) {
    let TransposedProduct { size: [m, n, k], a, lda, b, ldb, c, ldc, nonzero_part } = p;
    if !tiled::<T>(level, n) || m % 2 != 0 {
        let (a, b) = (Mat::strided(a, 1, lda), Mat::rows(b, ldb));
        gemm([m, n, k], T::one(), a, b, T::one(), MatMut::rows(c, ldc));
        return;
    }
    // Rows of k that fit L1 together, A's and B's.
    for k0 in (0..k).step_by(DEPTH) {
        let (a, b, depth) = (&a[k0 * lda..], &b[k0 * ldb..], DEPTH.min(k - k0));
        let mut i = 0;
        while i < m {
            let rows = (m - i).min(MR);
            let wanted =
                if nonzero_part == NonzeroPart::Lower { (i + rows).next_multiple_of(W).min(n) } else { n };
            let mut n0 = 0;
            while n0 < wanted {
                let most = if level == Level::Avx512 { 4 } else { 1 };
                let vectors = ((wanted - n0) / W).min(most);
                let (a, b, c) = (&a[i..], &b[n0..], &mut c[i * ldc + n0..]);
                let operands = TileOperands { a, lda, b, ldb, c, ldc, k: depth, accumulate: true };
                match (rows, vectors) {
                    (6, 4) => outer_tile::<T, 6, 4>(level, operands),
                    (6, 3) => outer_tile::<T, 6, 3>(level, operands),
                    (6, 2) => outer_tile::<T, 6, 2>(level, operands),
                    (6, _) => outer_tile::<T, 6, 1>(level, operands),
                    (4, 4) => outer_tile::<T, 4, 4>(level, operands),
                    (4, 3) => outer_tile::<T, 4, 3>(level, operands),
                    (4, 2) => outer_tile::<T, 4, 2>(level, operands),
                    (4, _) => outer_tile::<T, 4, 1>(level, operands),
                    (_, 4) => outer_tile::<T, 2, 4>(level, operands),
                    (_, 3) => outer_tile::<T, 2, 3>(level, operands),
                    (_, 2) => outer_tile::<T, 2, 2>(level, operands),
                    _ => outer_tile::<T, 2, 1>(level, operands),
                }
                n0 += vectors * W;
            }
            i += rows;
        }
    }
}

fn outer_tile<T: Scalar, const M: usize, const NV: usize>(level: Level, operands: TileOperands<'_, T>) {
    simd!(level, FMA => outer_tile_body::<T, FMA, M, NV>(operands))
}

#[inline(always)]
fn outer_tile_body<T: Scalar, const FMA: bool, const M: usize, const NV: usize>(
    operands: TileOperands<'_, T>,
) {
    let TileOperands { a, lda, b, ldb, c, ldc, k, accumulate: _ } = operands;
    let mut acc = [[[T::zero(); W]; NV]; M];
    read(&mut acc, c, ldc);
    sums::<T, FMA, M, NV, 0, NV>(&mut acc, TileColumnsOfA(a, lda), b, ldb, 0, k);
    write(&acc, c, ldc);
}

/// Rows of k that go through L1 together.
const DEPTH: usize = 64;

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
    fn tiles_equal_the_plain_product() {
        let mut rng = Rng::new(5, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let best = Level::detect();
        for [m, n, k] in [
            [1, 64, 64],
            [7, 64, 64],
            [33, 16, 16],
            [6, 96, 40],
            [5, 80, 64],
            [64, 32, 128],
            [9, 24, 24],
            [13, 128, 128],
        ] {
            for nonzero_part in [NonzeroPart::Full, NonzeroPart::Upper, NonzeroPart::Lower] {
                if nonzero_part != NonzeroPart::Full && n != k {
                    continue;
                }
                for accumulate in [false, true] {
                    let (lda, ldb, ldc) = (k + 3, n + 16, n + 5);
                    let (a, mut b, c) = (draw(m * lda), draw(k * ldb), draw(m * ldc));
                    for (i, row) in b.chunks_mut(ldb).enumerate() {
                        match nonzero_part {
                            NonzeroPart::Full => {}
                            NonzeroPart::Upper => row[..i].fill(0.0),
                            NonzeroPart::Lower => row[i + 1..].fill(0.0),
                        }
                    }
                    let run = |f: &dyn Fn(Product<'_, f32>)| {
                        let mut c = c.clone();
                        f(Product {
                            size: [m, n, k],
                            a: &a,
                            lda,
                            b: &b,
                            ldb,
                            c: &mut c,
                            ldc,
                            accumulate,
                            nonzero_part,
                        });
                        c
                    };
                    let want = run(&|p| plain(p));
                    for level in [Level::Avx2, Level::Avx512] {
                        if level <= best {
                            let what = format!("{m} {n} {k} {nonzero_part:?} {accumulate} {level:?}");
                            close(&run(&|p| product(level, p)), &want, &what);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn outer_products_equal_the_plain_one() {
        let mut rng = Rng::new(6, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let best = Level::detect();
        for [m, n, k] in [[64, 64, 500], [16, 16, 3], [128, 64, 130], [48, 80, 64], [24, 64, 7], [9, 24, 5]] {
            let (lda, ldb, ldc) = (m + 2, n + 3, n + 1);
            let (a, b, c) = (draw(k * lda), draw(k * ldb), draw(m * ldc));
            for nonzero_part in [NonzeroPart::Full, NonzeroPart::Lower] {
                let run = |level: Level| {
                    let mut c = c.clone();
                    let size = [m, n, k];
                    transposed_product(
                        level,
                        TransposedProduct { size, a: &a, lda, b: &b, ldb, c: &mut c, ldc, nonzero_part },
                    );
                    if nonzero_part == NonzeroPart::Lower {
                        for (i, row) in c.chunks_mut(ldc).enumerate() {
                            row[(i + 1).min(n)..].fill(0.0);
                        }
                    }
                    c
                };
                let want = run(Level::Portable);
                for level in [Level::Avx2, Level::Avx512] {
                    if level <= best {
                        close(&run(level), &want, &format!("{m} {n} {k} {nonzero_part:?} {level:?}"));
                    }
                }
            }
        }
    }
}
