//! A sample of a stream in vectors: the product of a matrix with one vector, and the recurrence of whole heads.
//!
//! `step.rs` and `math.rs` hold the plain forms that these must equal; here sums are kept in explicit vectors
//! (`pulp`, no `unsafe`), because left to itself the compiler shuffles four rows into one register.

use crate::simd::Level;
use pulp::{Simd, WithSimd};
use s4_backend::{Dtype, Scalar};

/// f32 slices as such; `None` for another type.
fn f32s<T: Scalar>(x: &[T]) -> Option<&[f32]> {
    (T::DTYPE == Dtype::F32).then(|| bytemuck::cast_slice(x))
}
fn f32s_mut<T: Scalar>(x: &mut [T]) -> Option<&mut [f32]> {
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

/// One row of the recurrence: the arguments of `step.rs`, one channel, rank 0 or 1.
pub(crate) struct Heads<'a, T> {
    /// heads × (a, B̄, g and v when `rank` is 1, C), each real parts, then imaginary parts.
    pub(crate) constants: &'a [T],
    pub(crate) d: &'a [T],
    pub(crate) y: &'a mut [T],
    pub(crate) state: &'a mut [T],
    pub(crate) u: &'a [T],
    pub(crate) pairs: usize,
    pub(crate) rank: usize,
}

impl<T: Scalar> Heads<'_, T> {
    /// x ← x + (a∘x + g(v·x) + B̄u), y = 2Re(C x) + D u for every head. False, with nothing done, where it does
    /// not serve: another type, pairs that fill no whole vectors, no vectors here.
    pub(crate) fn step(self, level: Level) -> bool {
        let Heads { constants, d, y, state, u, pairs, rank } = self;
        let lanes = match level {
            Level::Avx512 => 16,
            Level::Avx2 => 8,
            Level::Portable => return false,
        };
        if pairs % lanes != 0 {
            return false;
        }
        let (Some(constants), Some(d), Some(u)) = (f32s(constants), f32s(d), f32s(u)) else { return false };
        let (Some(y), Some(state)) = (f32s_mut(y), f32s_mut(state)) else { return false };
        level.dispatch(Heads { constants, d, y, state, u, pairs, rank });
        true
    }
}

impl WithSimd for Heads<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // The usual size as a constant of the compiler's: no loop is left in a head.
        match (self.pairs, self.rank) {
            (32, 1) => self.run::<S, true>(s, 32),
            (32, _) => self.run::<S, false>(s, 32),
            (pairs, 1) => self.run::<S, true>(s, pairs),
            (pairs, _) => self.run::<S, false>(s, pairs),
        }
    }
}

impl Heads<'_, f32> {
    #[inline(always)]
    fn run<S: Simd, const LOW_RANK: bool>(self, s: S, pairs: usize) {
        let blocks = if LOW_RANK { 5 } else { 3 };
        let heads =
            self.constants.chunks_exact(blocks * 2 * pairs).zip(self.state.chunks_exact_mut(2 * pairs));
        for (((k, x), &u), (y, &d)) in heads.zip(self.u).zip(self.y.iter_mut().zip(self.d)) {
            *y = d * u + head::<S, LOW_RANK>(s, k, x, u, pairs);
        }
    }
}

/// One head: gives 2Re(C x′).
#[inline(always)]
fn head<S: Simd, const LOW_RANK: bool>(s: S, k: &[f32], x: &mut [f32], u: f32, pairs: usize) -> f32 {
    let block = |i: usize| {
        let (re, im) = k[i * 2 * pairs..][..2 * pairs].split_at(pairs);
        (S::as_simd_f32s(re).0, S::as_simd_f32s(im).0)
    };
    let (x_re, x_im) = x.split_at_mut(pairs);
    let (x_re, x_im) = (S::as_mut_simd_f32s(x_re).0, S::as_mut_simd_f32s(x_im).0);
    let zero = s.splat_f32s(0.0);
    let (a, b, c) = (block(0), block(1), block(if LOW_RANK { 4 } else { 2 }));
    // w = 2Re(v·x)
    let (g, w) = if LOW_RANK {
        let v = block(3);
        let (mut re, mut im) = (zero, zero);
        for ((&v_re, &v_im), (&x_re, &x_im)) in v.0.iter().zip(v.1).zip(x_re.iter().zip(&*x_im)) {
            re = s.mul_add_e_f32s(v_re, x_re, re);
            im = s.mul_add_e_f32s(v_im, x_im, im);
        }
        (block(2), s.splat_f32s(2.0 * s.reduce_sum_f32s(s.sub_f32s(re, im))))
    } else {
        (a, zero)
    };
    let u = s.splat_f32s(u);
    let (mut re, mut im) = (zero, zero);
    let constants =
        a.0.iter().zip(a.1).zip(b.0.iter().zip(b.1)).zip(g.0.iter().zip(g.1)).zip(c.0.iter().zip(c.1));
    for (((((&a_re, &a_im), (&b_re, &b_im)), (&g_re, &g_im)), (&c_re, &c_im)), (x_re, x_im)) in
        constants.zip(x_re.iter_mut().zip(x_im))
    {
        let (mut step_re, mut step_im) = (s.mul_f32s(b_re, u), s.mul_f32s(b_im, u));
        if LOW_RANK {
            step_re = s.mul_add_e_f32s(g_re, w, step_re);
            step_im = s.mul_add_e_f32s(g_im, w, step_im);
        }
        step_re = s.negate_mul_add_e_f32s(a_im, *x_im, s.mul_add_e_f32s(a_re, *x_re, step_re));
        step_im = s.mul_add_e_f32s(a_im, *x_re, s.mul_add_e_f32s(a_re, *x_im, step_im));
        *x_re = s.add_f32s(*x_re, step_re);
        *x_im = s.add_f32s(*x_im, step_im);
        re = s.mul_add_e_f32s(c_re, *x_re, re);
        im = s.mul_add_e_f32s(c_im, *x_im, im);
    }
    2.0 * s.reduce_sum_f32s(s.sub_f32s(re, im))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::dot;
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
    fn other_types_and_sizes_are_left_to_the_plain_form() {
        let level = Level::detect();
        assert!(!product(level, &mut [0.0f64], &[1.0], &[1.0]));
        let (mut y, mut state) = ([0.0f32], [0.0f32; 6]);
        let heads = Heads {
            constants: &[0.0; 18],
            d: &[0.0],
            y: &mut y,
            state: &mut state,
            u: &[0.0],
            pairs: 3,
            rank: 0,
        };
        assert!(!heads.step(level));
    }
}
