//! The end of a sequence that lies inside a chunk: S_end = Ā^r S + Σ Ā^{r−1−j} B̄ x_j, by r steps in f64.
//!
//! Zero padding to a whole chunk would give Ā^{T−r} of it, a wrong state.

use crate::ssm::{
    discretize::Discrete,
    recurrence::{self, TransitionGrads},
};
use s4_backend::Scalar;

/// The part of a sequence in its end chunk, the first that it does not fill.
#[derive(Clone, Copy)]
pub(crate) struct EndChunkInput<'a, T> {
    /// N: the state entering the chunk.
    pub(crate) start: &'a [T],
    /// r < T time steps.
    pub(crate) x: &'a [T],
}

/// `state` (N) ← the state after x, from `start`. Scratch: 2N.
#[inline(always)]
pub(crate) fn finish<T: Scalar>(
    state: &mut [T],
    input: EndChunkInput<'_, T>,
    a: &Discrete,
    scratch: &mut [f64],
) {
    let EndChunkInput { start, x } = input;
    let n = start.len();
    let (mut s, mut next) = scratch[..2 * n].split_at_mut(n);
    for (s, start) in s.iter_mut().zip(start) {
        *s = (*start).to_f64();
    }
    for x in x {
        step_with_input(next, s, (*x).to_f64(), a);
        std::mem::swap(&mut s, &mut next);
    }
    for (state, s) in state.iter_mut().zip(s.iter()) {
        *state = T::from_f64(*s);
    }
}

#[inline(always)]
fn step_with_input(next: &mut [f64], s: &[f64], x: f64, a: &Discrete) {
    recurrence::step(next, s, a.columns());
    for (next, b) in next.iter_mut().zip(&a.b_bar) {
        *next += b * x;
    }
}

/// Gradients of D₀, u, v, B̄ that reach the recurrence without passing through Φ: one flat array.
pub(crate) struct RecurrenceGradients<'a> {
    pub(crate) d0: &'a mut [f64],
    pub(crate) u: &'a mut [f64],
    pub(crate) v: &'a mut [f64],
    pub(crate) b_bar: &'a mut [f64],
}

impl<'a> RecurrenceGradients<'a> {
    pub(crate) fn len(state: usize, rank: usize) -> usize {
        state * (2 + 2 * rank)
    }
    pub(crate) fn new(flat: &'a mut [f64], state: usize, rank: usize) -> Self {
        let (d0, rest) = flat.split_at_mut(state);
        let (u, rest) = rest.split_at_mut(rank * state);
        let (v, rest) = rest.split_at_mut(rank * state);
        RecurrenceGradients { d0, u, v, b_bar: &mut rest[..state] }
    }
}

/// Doubles of scratch for [`finish_backward`] with r < T time steps.
pub(crate) fn finish_backward_scratch(state: usize, chunk: usize) -> usize {
    (chunk + 3) * state
}

/// `dstart` and `dx` accumulate the transpose of [`finish`] applied to `dstate`.
#[inline(always)]
pub(crate) fn finish_backward<T: Scalar>(
    dstart: &mut [T],
    mut dx: impl FnMut(usize, T),
    recurrence_grads: &mut RecurrenceGradients<'_>,
    dstate: &[T],
    input: EndChunkInput<'_, T>,
    a: &Discrete,
    scratch: &mut [f64],
) {
    let EndChunkInput { start, x } = input;
    let n = start.len();
    let (s, after) = scratch.split_at_mut((x.len() + 1) * n);
    let (mut g, mut before) = after[..2 * n].split_at_mut(n);
    for (s, start) in s.iter_mut().zip(start) {
        *s = (*start).to_f64();
    }
    for (k, x) in x.iter().enumerate() {
        let (done, next) = s.split_at_mut((k + 1) * n);
        step_with_input(&mut next[..n], &done[k * n..], (*x).to_f64(), a);
    }
    for (g, d) in g.iter_mut().zip(dstate) {
        *g = (*d).to_f64();
    }
    for k in (0..x.len()).rev() {
        dx(k, T::from_f64(g.iter().zip(&a.b_bar).map(|(g, b)| g * b).sum()));
        let x = x[k].to_f64();
        for (db, g) in recurrence_grads.b_bar.iter_mut().zip(g.iter()) {
            *db += g * x;
        }
        let s = &s[k * n..][..n];
        before.fill(0.0);
        let da =
            TransitionGrads { d0: recurrence_grads.d0, out: recurrence_grads.u, inn: recurrence_grads.v };
        recurrence::step_backward(before, da, g, s, a.columns());
        std::mem::swap(&mut g, &mut before);
    }
    for (to, g) in dstart.iter_mut().zip(g.iter()) {
        *to += T::from_f64(*g);
    }
}
