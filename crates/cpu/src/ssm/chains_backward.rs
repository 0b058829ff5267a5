//! The gradients of the chains and of Q = Ā^T back to Ā's parts, B̄ and C.

use crate::{
    Level,
    linalg::{
        gemm::{Mat, MatMut, gemm},
        register_tiles::{NonzeroPart, Product, product},
    },
    ssm::{
        chains::{Chains, Dims},
        discretize::HeadState,
        recurrence::{self, Transition, TransitionGrads},
        recurrence_simd,
    },
};
use pulp::{Simd, WithSimd};
use s4_backend::Scalar;

/// What dQ gives to D₀^T.
#[inline(always)]
pub(crate) fn top_backward<T: Scalar>(dpower: &mut [f64], dq: &[T], d: &Dims) {
    let (state, h) = (d.state, d.state / 2);
    let dq = |m: usize, n: usize| Scalar::to_f64(dq[m * state + n]);
    let dtop = &mut dpower[d.chunk * state..];
    for n in 0..h {
        dtop[n] += dq(n, n) + dq(n + h, n + h);
        dtop[n + h] += dq(n + h, n) - dq(n, n + h);
    }
}

/// Q = Uᵀ M with U, M (depth, N): dU = M dQᵀ, dM = U dQ.
pub(crate) fn product_backward<T: Scalar>(
    level: Level,
    [u, m]: [&[T]; 2],
    dq: &[T],
    [du, dm]: [&mut [T]; 2],
    d: &Dims,
) {
    let (state, depth) = (d.state, d.rank * d.chunk);
    if depth == 0 {
        return;
    }
    let size = [depth, state, state];
    let (one, zero) = (T::one(), T::zero());
    gemm(size, one, Mat::rows(m, state), Mat::cols(dq, state), zero, MatMut::rows(du, state));
    let (lda, ldb, ldc) = (state, state, state);
    product(
        level,
        Product {
            size,
            a: u,
            lda,
            b: dq,
            ldb,
            c: dm,
            ldc,
            accumulate: false,
            nonzero_part: NonzeroPart::Full,
        },
    );
}

/// Gradients of all chains and of Q (in `dchains.q`, not transposed) to `at.ddiscrete`.
pub(crate) fn chains_backward(
    level: Level,
    chains: &Chains<'_>,
    dchains: Chains<'_>,
    at: &mut HeadState,
    d: &Dims,
) {
    top_backward(dchains.power, dchains.q, d);
    product_backward(level, [chains.u, chains.m], dchains.q, [dchains.u, dchains.m], d);
    level.dispatch(RunBackward { chains, dchains, at, d });
}

/// The chains in reverse.
pub(crate) struct RunBackward<'a, 'c> {
    pub(crate) chains: &'a Chains<'c>,
    pub(crate) dchains: Chains<'c>,
    pub(crate) at: &'a mut HeadState,
    pub(crate) d: &'a Dims,
}

impl WithSimd for RunBackward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let RunBackward { chains, dchains, at, d } = self;
        run_backward(simd, chains, dchains, at, d)
    }
}

#[inline(always)]
fn run_backward<S: Simd>(simd: S, chains: &Chains<'_>, dchains: Chains<'_>, at: &mut HeadState, d: &Dims) {
    let (chunk, state) = (d.chunk, d.state);
    let low_rank = d.rank * state;
    // Ā's parts and their gradients from cache lines.
    let (row, rest) = dchains.step_scratch.split_at_mut(state);
    let (d0, rest) = rest.split_at_mut(state);
    let (u, rest) = rest.split_at_mut(low_rank);
    let (v, rest) = rest.split_at_mut(low_rank);
    let (dd0, rest) = rest.split_at_mut(state);
    let (du, dv) = rest.split_at_mut(low_rank);
    let (a, g) = (&at.discrete, &mut at.ddiscrete);
    for (to, from) in [(&mut *d0, &a.d0), (u, &a.u), (v, &a.v), (dd0, &g.d0), (du, &g.u), (dv, &g.v)] {
        to.copy_from_slice(from);
    }
    // m_k = row of v_r D₀^{T−1−k}
    for r in 0..d.rank {
        let v = &v[r * state..][..state];
        let dv = &mut dv[r * state..][..state];
        for k in 0..chunk {
            let dm = &dchains.m[(r * chunk + k) * state..][..state];
            let power = &chains.power[(chunk - 1 - k) * state..][..state];
            let dpower = &mut dchains.power[(chunk - 1 - k) * state..][..state];
            // dm as complex coefficients.
            row.fill(0.0);
            recurrence::add_row(row, 2.0, dm);
            recurrence_simd::multiply_conj::<S, true>(simd, dv, row, power);
            recurrence_simd::multiply_conj::<S, true>(simd, dpower, row, v);
        }
    }
    let (d0, u, v) = (&*d0, &*u, &*v);
    let diagonal = Transition { d0, out: &[], inn: &[] };
    let ddiagonal = TransitionGrads { d0: dd0, out: &mut [], inn: &mut [] };
    chain_backward(simd, dchains.power, ddiagonal, chains.power, diagonal);
    for (kc, dw) in dchains.w.chunks_exact_mut((chunk + 1) * state).enumerate() {
        let w = &chains.w[kc * (chunk + 1) * state..][..(chunk + 1) * state];
        let da = TransitionGrads { d0: dd0, out: dv, inn: du };
        chain_backward(simd, dw, da, w, Transition { d0, out: v, inn: u });
        for (dc, dw) in g.c[kc * state..][..state].iter_mut().zip(&dw[..state]) {
            *dc += dw;
        }
    }
    let columns = Transition { d0, out: u, inn: v };
    for (r, dchain) in dchains.u.chunks_exact_mut(chunk * state).enumerate() {
        let chain = &chains.u[r * chunk * state..][..chunk * state];
        chain_backward(simd, dchain, TransitionGrads { d0: dd0, out: du, inn: dv }, chain, columns);
        for (to, du) in du[r * state..][..state].iter_mut().zip(&dchain[..state]) {
            *to += du;
        }
    }
    chain_backward(simd, dchains.x, TransitionGrads { d0: dd0, out: du, inn: dv }, chains.x, columns);
    for (db, dx) in g.b_bar.iter_mut().zip(&dchains.x[..state]) {
        *db += dx;
    }
    for (to, from) in [(&mut g.d0, &*dd0), (&mut g.u, du), (&mut g.v, dv)] {
        to.copy_from_slice(from);
    }
}

/// Leads the gradients of all vectors of a chain to its first one and to Ā's parts.
#[inline(always)]
fn chain_backward<S: Simd>(
    simd: S,
    dchain: &mut [f64],
    mut da: TransitionGrads<'_>,
    chain: &[f64],
    a: Transition<'_>,
) {
    let state = a.d0.len();
    for k in (1..chain.len() / state).rev() {
        let (before, dnext) = dchain.split_at_mut(k * state);
        let x = &chain[(k - 1) * state..][..state];
        let dx = &mut before[(k - 1) * state..];
        recurrence_simd::step_backward(simd, dx, da.reborrow(), &dnext[..state], x, a);
    }
}
