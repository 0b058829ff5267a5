//! Matrix products on checked slices. The one file that calls the `gemm` crate.
//!
//! Every product here runs on the calling thread: callers split work by sizes alone and run the parts as
//! rayon tasks, so that results are the same bits on any pool.

use s4_backend::{Dtype, Scalar};

/// A matrix inside a slice: element (i, j) is `data[i·rs + j·cs]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows one after the other, `stride` elements apart.
    pub(crate) fn rows(data: &'a [T], stride: usize) -> Self {
        Mat { data, rs: stride, cs: 1 }
    }
    /// The transpose of [`Mat::rows`].
    pub(crate) fn cols(data: &'a [T], stride: usize) -> Self {
        Mat { data, rs: 1, cs: stride }
    }
    /// Any strides.
    pub(crate) fn strided(data: &'a [T], rs: usize, cs: usize) -> Self {
        Mat { data, rs, cs }
    }
}

/// A matrix to write to; as [`Mat`].
#[derive(Debug)]
pub(crate) struct MatMut<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows one after the other, `stride` elements apart.
    pub(crate) fn rows(data: &'a mut [T], stride: usize) -> Self {
        MatMut { data, rs: stride, cs: 1 }
    }
    /// The transpose of [`MatMut::rows`].
    pub(crate) fn cols(data: &'a mut [T], stride: usize) -> Self {
        MatMut { data, rs: 1, cs: stride }
    }
}

/// Whether element (rows−1, cols−1) lies inside `len` elements, with strides that fit an isize.
fn inside(len: usize, rows: usize, cols: usize, rs: usize, cs: usize) -> bool {
    let last = (rows - 1).checked_mul(rs).zip((cols - 1).checked_mul(cs)).and_then(|(a, b)| a.checked_add(b));
    last.is_some_and(|last| last < len) && rs <= isize::MAX as usize && cs <= isize::MAX as usize
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
    assert!(inside(c.data.len(), m, n, c.rs, c.cs), "gemm: C {m}×{n} beyond its {} elements", c.data.len());
    if k == 0 {
        for i in 0..m {
            for j in 0..n {
                let x = &mut c.data[i * c.rs + j * c.cs];
                *x = if beta.is_zero() { T::zero() } else { beta * *x };
            }
        }
        return;
    }
    assert!(inside(a.data.len(), m, k, a.rs, a.cs), "gemm: A {m}×{k} beyond its {} elements", a.data.len());
    assert!(inside(b.data.len(), k, n, b.rs, b.cs), "gemm: B {k}×{n} beyond its {} elements", b.data.len());
    // The crate knows exactly these two of our scalars.
    assert!(matches!(T::DTYPE, Dtype::F32 | Dtype::F64));
    // SAFETY: the three asserts above keep every element that strides and sizes reach inside its slice;
    // C is an exclusive borrow, so it overlaps neither A nor B; T is f32 or f64.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data.as_mut_ptr(),
            c.cs as isize,
            c.rs as isize,
            !beta.is_zero(),
            a.data.as_ptr(),
            a.cs as isize,
            a.rs as isize,
            b.data.as_ptr(),
            b.cs as isize,
            b.rs as isize,
            beta,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
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
                    let cm = if tc { MatMut::cols(&mut c, m) } else { MatMut::rows(&mut c, n) };
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
}
