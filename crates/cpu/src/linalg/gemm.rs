//! Matrix products on checked slices. The one file that calls the `gemm` crate.
//!
//! Every product here runs on the calling thread: callers split work by sizes alone and run the parts as
//! rayon tasks, so that results are the same bits on any pool.

use crate::Cpu;
use s4_backend::{Dtype, Scalar};
use std::marker::PhantomData;

/// A matrix inside a slice: element (i, j) is `data[i·row_stride + j·col_stride]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows one after the other, `stride` elements apart.
    pub(crate) fn rows(data: &'a [T], stride: usize) -> Self {
        Mat { data, row_stride: stride, col_stride: 1 }
    }
    /// The transpose of [`Mat::rows`].
    pub(crate) fn cols(data: &'a [T], stride: usize) -> Self {
        Mat { data, row_stride: 1, col_stride: stride }
    }
    /// Any strides.
    pub(crate) fn strided(data: &'a [T], row_stride: usize, col_stride: usize) -> Self {
        Mat { data, row_stride, col_stride }
    }
}

/// A matrix to write to; as [`Mat`].
#[derive(Debug)]
pub(crate) struct MatMut<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows one after the other, `stride` elements apart.
    pub(crate) fn rows(data: &'a mut [T], stride: usize) -> Self {
        MatMut { data, row_stride: stride, col_stride: 1 }
    }
    /// A shorter borrow.
    pub(crate) fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: self.data, row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

/// Whether element (rows−1, cols−1) lies inside `len` elements, with strides that fit an isize.
fn inside(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    let last = (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(a, b)| a.checked_add(b));
    last.is_some_and(|last| last < len)
        && row_stride <= isize::MAX as usize
        && col_stride <= isize::MAX as usize
}

/// C ← α·A·B + β·C with A (m, k), B (k, n), C (m, n), on this thread. With β = 0, C is not read.
///
/// # Panics
/// Where a matrix reaches beyond its slice (a bug of the caller).
pub(crate) fn gemm<T: Scalar>(
    [m, n, k]: [usize; 3],
    alpha: T,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    beta: T,
    c: MatMut<'_, T>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        inside(c.data.len(), m, n, c.row_stride, c.col_stride),
        "gemm: C {m}×{n} beyond its {} elements",
        c.data.len()
    );
    // SAFETY: the assert keeps all of C inside its slice, which is borrowed exclusively.
    unsafe {
        product(
            [m, n, k],
            alpha,
            a,
            b,
            beta,
            OutputMatrix { data: c.data.as_mut_ptr(), row_stride: c.row_stride, col_stride: c.col_stride },
        )
    }
}

/// C by its address: element (i, j) is `data[i·row_stride + j·col_stride]`.
struct OutputMatrix<T> {
    data: *mut T,
    row_stride: usize,
    col_stride: usize,
}

/// # Safety
/// `c` points to a matrix of m×n elements with these strides that may be read and written, and that nothing
/// else uses during the call; m, n ≥ 1.
unsafe fn product<T: Scalar>(
    [m, n, k]: [usize; 3],
    alpha: T,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    beta: T,
    c: OutputMatrix<T>,
) {
    // Nothing to add up: one product with a zero scales C.
    let (zero, zeros) = (T::zero(), [T::zero()]);
    let (k, alpha, a, b) = match k {
        0 => (1, zero, Mat::strided(&zeros, 0, 0), Mat::strided(&zeros, 0, 0)),
        k => (k, alpha, a, b),
    };
    assert!(
        inside(a.data.len(), m, k, a.row_stride, a.col_stride),
        "gemm: A {m}×{k} beyond its {} elements",
        a.data.len()
    );
    assert!(
        inside(b.data.len(), k, n, b.row_stride, b.col_stride),
        "gemm: B {k}×{n} beyond its {} elements",
        b.data.len()
    );
    // The crate knows exactly these two of our scalars.
    assert!(matches!(T::DTYPE, Dtype::F32 | Dtype::F64));
    // SAFETY: the asserts above keep every element of A and B inside its slice; C is the caller's promise,
    // and as it is exclusive it overlaps neither; T is f32 or f64.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data,
            c.col_stride as isize,
            c.row_stride as isize,
            !beta.is_zero(),
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            beta,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
    }
}

/// A (batch, rows, len) array cut along its last axis into parts that tasks write at the same time.
pub(crate) struct Tiles<'a, T> {
    data: *mut T,
    batch: usize,
    rows: usize,
    len: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Tiles` is an exclusive slice of T; what it hands to tasks are disjoint parts of it.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Tiles<'_, T> {}

impl<'a, T: Scalar> Tiles<'a, T> {
    /// Tiles of `width` columns (the last of a row may have fewer) of a (batch, rows, len) array.
    pub(crate) fn new(data: &'a mut [T], batch: usize, rows: usize, len: usize, width: usize) -> Self {
        assert_eq!(Some(data.len()), batch.checked_mul(rows).and_then(|n| n.checked_mul(len)), "Tiles");
        assert!(width > 0, "Tiles: no width");
        Tiles { data: data.as_mut_ptr(), batch, rows, len, width, borrow: PhantomData }
    }

    /// Chunks of a flat slice.
    pub(crate) fn flat(data: &'a mut [T], width: usize) -> Self {
        let len = data.len();
        Self::new(data, 1, 1, len, width)
    }

    /// Number of tiles.
    pub(crate) fn count(&self) -> usize {
        if self.rows == 0 { 0 } else { self.batch * self.len.div_ceil(self.width) }
    }

    fn elements(&self) -> usize {
        self.batch * self.rows * self.len
    }

    /// Tile i, batch by batch.
    ///
    /// # Safety
    /// No other `Tile` of this index may be in use.
    unsafe fn get(&self, i: usize) -> Tile<'_, T> {
        assert!(i < self.count());
        let across = self.len.div_ceil(self.width);
        let (batch, start) = (i / across, i % across * self.width);
        Tile {
            // SAFETY: batch < self.batch and start < self.len, so this is inside the slice of `new`.
            data: unsafe { self.data.add(batch * self.rows * self.len + start) },
            batch,
            start,
            rows: self.rows,
            cols: self.width.min(self.len - start),
            stride: self.len,
            borrow: PhantomData,
        }
    }

    /// f(tile) for every tile.
    pub(crate) fn for_each<S: Scalar>(self, be: &Cpu<S>, f: impl Fn(Tile<'_, T>) + Send + Sync) {
        let work = self.elements();
        self.for_each_of(be, work, f);
    }

    /// [`Tiles::for_each`] where the work is not the number of elements written.
    pub(crate) fn for_each_of<S: Scalar>(
        self,
        be: &Cpu<S>,
        work: usize,
        f: impl Fn(Tile<'_, T>) + Send + Sync,
    ) {
        // SAFETY: `tasks` gives each index once.
        be.tasks(self.count(), work, |i| f(unsafe { self.get(i) }));
    }

    /// f(tile, tile of the other) for every tile of two arrays cut in as many.
    pub(crate) fn for_each_with<S: Scalar, U: Scalar>(
        self,
        be: &Cpu<S>,
        other: Tiles<'_, U>,
        f: impl Fn(Tile<'_, T>, Tile<'_, U>) + Send + Sync,
    ) {
        assert_eq!(self.count(), other.count(), "Tiles");
        // SAFETY: `tasks` gives each index once; the two arrays are borrowed exclusively, each by its own.
        be.tasks(self.count(), self.elements(), |i| f(unsafe { self.get(i) }, unsafe { other.get(i) }));
    }

    /// [`Tiles::for_each_with`] for three.
    pub(crate) fn for_each_with2(
        self,
        be: &Cpu<T>,
        second: Tiles<'_, T>,
        third: Tiles<'_, T>,
        f: impl Fn(Tile<'_, T>, Tile<'_, T>, Tile<'_, T>) + Send + Sync,
    ) {
        assert!(self.count() == second.count() && self.count() == third.count(), "Tiles");
        be.tasks(self.count(), self.elements(), |i| {
            // SAFETY: as in `for_each_with`.
            f(unsafe { self.get(i) }, unsafe { second.get(i) }, unsafe { third.get(i) })
        });
    }

    /// A reduction on the way: the tiles in `parts` runs of neighbours, each with its own zeroed part of
    /// `partials`, f(partial, tile) in order within a part.
    pub(crate) fn for_each_part(
        self,
        be: &Cpu<T>,
        partials: &mut [T],
        parts: usize,
        f: impl Fn(&mut [T], Tile<'_, T>) + Send + Sync,
    ) {
        let (tiles, size) = (self.count(), partials.len() / parts);
        let partials = Tiles::new(partials, parts, 1, size, size.max(1));
        be.tasks(parts, self.elements(), |p| {
            // SAFETY: `tasks` gives each part once.
            let mut partial = unsafe { partials.get(p) };
            let partial = partial.row(0);
            partial.fill(T::zero());
            for i in tiles * p / parts..tiles * (p + 1) / parts {
                // SAFETY: the parts' ranges of i do not overlap.
                f(partial, unsafe { self.get(i) });
            }
        });
    }
}

/// rows × cols of a row-major matrix, written by one task.
pub(crate) struct Tile<'a, T> {
    data: *mut T,
    batch: usize,
    start: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T: Scalar> Tile<'_, T> {
    /// Which matrix of the batch.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }
    /// Column of the whole matrix at which the tile starts.
    pub(crate) fn start(&self) -> usize {
        self.start
    }
    /// Columns of the tile.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Row i of the tile.
    pub(crate) fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: i < rows, so the row's `cols` elements lie inside the slice that `Tiles::new` checked;
        // tiles do not overlap, and the borrow of self keeps a second row of this one from being given.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols) }
    }

    /// Two different rows, i < j.
    pub(crate) fn rows2(&mut self, i: usize, j: usize) -> (&mut [T], &mut [T]) {
        assert!(i < j && j < self.rows);
        // SAFETY: as in `row`; i ≠ j, and a row's `cols` never reach into the next one (cols ≤ stride).
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols),
                std::slice::from_raw_parts_mut(self.data.add(j * self.stride), self.cols),
            )
        }
    }

    /// tile ← A·B + β·tile, with A (rows, k) and B (k, cols).
    pub(crate) fn product(&mut self, k: usize, a: Mat<'_, T>, b: Mat<'_, T>, beta: T) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        // SAFETY: the tile is rows × cols with strides (stride, 1) inside its slice, used by nobody else.
        unsafe {
            let c = OutputMatrix { data: self.data, row_stride: self.stride, col_stride: 1 };
            product([self.rows, self.cols, k], T::one(), a, b, beta, c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s4_backend::random::Rng;

    fn check<T: Scalar>() {
        let mut rng = Rng::new(7, 0);
        let mut draw = |n: usize| -> Vec<T> { (0..n).map(|_| T::from_f64(rng.normal())).collect() };
        for [m, n, k] in [
            [1, 1, 1],
            [1, 7, 5],
            [9, 1, 33],
            [64, 64, 64],
            [128, 33, 65],
            [3, 300, 2],
            [257, 64, 129],
            [5, 4, 0],
        ] {
            for (ta, tb, tc) in
                [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
            {
                for (alpha, beta) in [(1.0, 0.0), (1.0, 1.0), (-0.5, 2.0)] {
                    let (a, b, c0) = (draw(m * k), draw(k * n), draw(m * n + 3));
                    let mut c = c0.clone();
                    if beta == 0.0 {
                        c[..m * n].fill(T::nan());
                    }
                    let am = if ta { Mat::cols(&a, m) } else { Mat::rows(&a, k) };
                    let bm = if tb { Mat::cols(&b, k) } else { Mat::rows(&b, n) };
                    let cm = if tc {
                        MatMut { data: &mut c, row_stride: 1, col_stride: m }
                    } else {
                        MatMut::rows(&mut c, n)
                    };
                    gemm([m, n, k], T::from_f64(alpha), am, bm, T::from_f64(beta), cm);
                    for i in 0..m {
                        for j in 0..n {
                            let (mut sum, mut size) = (0.0, 1e-30);
                            for l in 0..k {
                                let x = if ta { a[l * m + i] } else { a[i * k + l] }.to_f64();
                                let y = if tb { b[j * k + l] } else { b[l * n + j] }.to_f64();
                                sum += x * y;
                                size += (x * y).abs();
                            }
                            let at = if tc { j * m + i } else { i * n + j };
                            let before = beta * c0[at].to_f64();
                            let (want, got) = (alpha * sum + before, c[at].to_f64());
                            let err = (got - want).abs() / (size + before.abs());
                            // The bound of any order of summation (Higham, §3.1).
                            let tol = (k + 3) as f64 * T::epsilon().to_f64();
                            assert!(err.is_finite() && err <= tol, "{m} {n} {k}: {got} for {want}");
                        }
                    }
                    assert_eq!(c[m * n..], c0[m * n..], "written beyond C");
                }
            }
        }
    }

    #[test]
    fn products_equal_plain_sums() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    #[should_panic(expected = "beyond its")]
    fn short_slices_are_refused() {
        let (a, b) = ([0.0f32; 5], [0.0f32; 6]);
        let mut c = [0.0f32; 4];
        gemm([2, 2, 3], 1.0, Mat::rows(&a, 3), Mat::rows(&b, 2), 0.0, MatMut::rows(&mut c, 2));
    }

    #[test]
    fn tiles_cover_all_once() {
        let be = Cpu::<f64>::new(2).unwrap();
        for (batch, rows, len, width) in [(1, 1, 1, 4), (3, 2, 70, 16), (2, 5, 20_000, 128)] {
            let mut x = vec![0.0; batch * rows * len];
            let mut partial = vec![f64::NAN; 5];
            Tiles::new(&mut x, batch, rows, len, width).for_each_part(
                &be,
                &mut partial,
                5,
                |sum, mut tile| {
                    for r in 0..rows {
                        for (t, v) in (tile.start()..).zip(tile.row(r)) {
                            *v += (t + 1) as f64;
                            sum[0] += *v;
                        }
                    }
                    assert!(tile.batch() < batch);
                },
            );
            for row in x.chunks(len) {
                assert!(row.iter().enumerate().all(|(t, &v)| v == (t + 1) as f64));
            }
            assert_eq!(partial.iter().sum::<f64>(), x.iter().sum::<f64>());
        }
    }
}
