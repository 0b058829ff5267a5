//! A matrix times one vector, sums in explicit vectors (`pulp`, no `unsafe`): left to itself the compiler
//! shuffles four rows into one register. `math::dot` is the plain form that it must equal.

use crate::linalg::simd::Level;
use pulp::{Simd, WithSimd};
use s4_backend::{Dtype, Scalar};

/// f32 slices as such; `None` for another type.
pub(crate) fn f32s<T: Scalar>(x: &[T]) -> Option<&[f32]> {
    (T::DTYPE == Dtype::F32).then(|| bytemuck::cast_slice(x))
}
pub(crate) fn f32s_mut<T: Scalar>(x: &mut [T]) -> Option<&mut [f32]> {
    (T::DTYPE == Dtype::F32).then(|| bytemuck::cast_slice_mut(x))
}

/// y = W x, W (outputs, inputs). False where it does not serve: another type, or no vectors here.
pub(crate) fn product<T: Scalar>(level: Level, y: &mut [T], w: &[T], x: &[T]) -> bool {
    let (Some(y), Some(w), Some(x)) = (f32s_mut(y), f32s(w), f32s(x)) else { return false };
    if level == Level::Portable {
        return false;
    }
    level.dispatch(Product { y, w, x });
    true
}

struct Product<'a> {
    y: &'a mut [f32],
    w: &'a [f32],
    x: &'a [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Product { y, w, x } = self;
        let n = x.len();
        let (xv, xt) = S::as_simd_f32s(x);
        let tail = |w: &[f32]| w.iter().zip(xt).map(|(w, x)| w * x).sum::<f32>();
        let (fours, rest) = y.as_chunks_mut::<4>();
        let (w4, w) = w.split_at(4 * n * fours.len());
        for (y, w) in fours.iter_mut().zip(w4.chunks_exact(4 * n)) {
            let (a, w) = w.split_at(n);
            let (b, w) = w.split_at(n);
            let (c, d) = w.split_at(n);
            let ((a, at), (b, bt)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
            let ((c, ct), (d, dt)) = (S::as_simd_f32s(c), S::as_simd_f32s(d));
            let zero = s.splat_f32s(0.0);
            let (mut sa, mut sb, mut sc, mut sd) = (zero, zero, zero, zero);
            for ((((&x, &a), &b), &c), &d) in xv.iter().zip(a).zip(b).zip(c).zip(d) {
                sa = s.mul_add_e_f32s(a, x, sa);
                sb = s.mul_add_e_f32s(b, x, sb);
                sc = s.mul_add_e_f32s(c, x, sc);
                sd = s.mul_add_e_f32s(d, x, sd);
            }
            *y = [
                s.reduce_sum_f32s(sa) + tail(at),
                s.reduce_sum_f32s(sb) + tail(bt),
                s.reduce_sum_f32s(sc) + tail(ct),
                s.reduce_sum_f32s(sd) + tail(dt),
            ];
        }
        for (y, w) in rest.iter_mut().zip(w.chunks_exact(n)) {
            let (w, wt) = S::as_simd_f32s(w);
            let mut sum = s.splat_f32s(0.0);
            for (&x, &w) in xv.iter().zip(w) {
                sum = s.mul_add_e_f32s(w, x, sum);
            }
            *y = s.reduce_sum_f32s(sum) + tail(wt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::math::dot;
    use s4_backend::random::Rng;

    #[test]
    fn product_equals_plain_sums() {
        let level = Level::detect();
        let mut rng = Rng::new(3, 0);
        for (outputs, inputs) in [(1, 1), (4, 16), (5, 33), (256, 128), (7, 130), (3, 1)] {
            let w: Vec<f32> = (0..outputs * inputs).map(|_| rng.normal() as f32).collect();
            let x: Vec<f32> = (0..inputs).map(|_| rng.normal() as f32).collect();
            let mut y = vec![f32::NAN; outputs];
            if !product(level, &mut y, &w, &x) {
                assert_eq!(level, Level::Portable);
                continue;
            }
            for (o, &y) in y.iter().enumerate() {
                let row = &w[o * inputs..][..inputs];
                let want = dot::<f32, false>(row, &x);
                let size: f32 = row.iter().zip(&x).map(|(w, x)| (w * x).abs()).sum();
                let err = (y - want).abs();
                assert!(err <= 1e-6 * size, "{outputs} × {inputs}: {y} for {want}");
            }
        }
    }

    #[test]
    fn another_type_is_left_to_the_plain_form() {
        assert!(!product(Level::detect(), &mut [0.0f64], &[1.0], &[1.0]));
    }
}
