//! One time step of whole heads in vectors of f32 (`pulp`, no `unsafe`). `step.rs` holds the plain form.

use crate::linalg::{
    matvec_simd::{f32s, f32s_mut},
    simd::Level,
};
use pulp::{Simd, WithSimd};
use s4_backend::Scalar;

/// One sequence of the recurrence: the arguments of `step.rs`, one channel, rank 0 or 1.
pub(crate) struct SequenceStepSimd<'a, T> {
    /// heads × (D₀ − 1, B̄, u and v* when `rank` is 1, C), each real parts, then imaginary parts.
    pub(crate) constants: &'a [T],
    pub(crate) d: &'a [T],
    pub(crate) y: &'a mut [T],
    pub(crate) state: &'a mut [T],
    pub(crate) u: &'a [T],
    pub(crate) pairs: usize,
    pub(crate) rank: usize,
}

impl<T: Scalar> SequenceStepSimd<'_, T> {
    /// x ← x + ((D₀ − 1)∘x + u(v* x) + B̄ input), y = 2Re(C x) + D input for every head. False, with nothing done, where it does
    /// not serve: another type, pairs that fill no whole vectors, no vectors here.
    pub(crate) fn step(self, level: Level) -> bool {
        let SequenceStepSimd { constants, d, y, state, u, pairs, rank } = self;
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
        level.dispatch(SequenceStepSimd { constants, d, y, state, u, pairs, rank });
        true
    }
}

impl WithSimd for SequenceStepSimd<'_, f32> {
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

impl SequenceStepSimd<'_, f32> {
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

    #[test]
    fn other_sizes_are_left_to_the_plain_form() {
        let level = Level::detect();
        let (mut y, mut state) = ([0.0f32], [0.0f32; 6]);
        let heads = SequenceStepSimd {
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
