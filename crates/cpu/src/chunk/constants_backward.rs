//! The gradient of Φ back to the parameters of a head: through T steps, never through the sequence.

use super::{
    chain,
    constants::{Chains, Dims, HeadState},
    discrete::discretize_backward,
    tile::{Part, Product, product},
    vector,
};
use crate::{
    gemm::{Mat, MatMut, gemm},
    params::{Head, HeadGrads},
};
use pulp::{Simd, WithSimd};
use s4_backend::{Scalar, SsmSpec};

/// Elements of (f64, T) scratch for [`head_constants_backward`].
pub(crate) fn scratch_len(d: &Dims) -> (usize, usize) {
    let factors = 4 * d.rank * d.chunk * d.state;
    (2 * Chains::len(d), factors + d.state * d.state)
}

/// `dphi(pass)`: gradients of Φ, one for each group of rows, as [`super::backward`] lays them out.
/// `at.ddiscrete` already holds what reached the recurrence directly; `at.dd` is overwritten, `grad` accumulates.
pub(crate) fn head_constants_backward<'g, T: Scalar>(
    level: crate::Level,
    grad: &mut HeadGrads<'_>,
    at: &mut HeadState,
    head: &Head<'_>,
    dphi: impl Fn(usize) -> &'g [T],
    spec: &SsmSpec,
    d: &Dims,
    (scratch, narrow): (&mut [f64], &mut [T]),
) {
    let (forward, rest) = scratch.split_at_mut(Chains::len(d));
    let back = &mut rest[..Chains::len(d)];
    let mut chains = Chains::new(forward, d);
    let mut dchains = Chains::new(back, d);
    let line = d.rank * d.chunk * d.state;
    let (dq, narrow) = narrow.split_at_mut(d.state * d.state);
    let (u, narrow) = narrow.split_at_mut(line);
    let (m, narrow) = narrow.split_at_mut(line);
    let (du, dm) = narrow.split_at_mut(line);
    chains.run(level, &at.discrete, d);
    level.run(
        #[inline(always)]
        || {
            for part in [&mut *dchains.x, dchains.power, dchains.w, dchains.k] {
                part.fill(0.0);
            }
            dq.fill(T::zero());
            for pass in 0..d.passes {
                for dphi in dphi(pass).chunks_exact(d.phi()) {
                    unfold(&mut dchains, dq, dphi, pass, d);
                }
            }
            kernel_backward(&mut dchains, &chains, at, d);
            top_backward(dchains.power, dq, d);
            for (to, from) in [(&mut *u, &*chains.u), (m, chains.m)] {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = T::from_f64(*from));
            }
        },
    );
    product_backward(level, [u, m], dq, [du, dm], d);
    level.run(
        #[inline(always)]
        || {
            for (to, from) in [(&mut *dchains.u, &*du), (dchains.m, dm)] {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = Scalar::to_f64(*from));
            }
        },
    );
    level.dispatch(RunBackward { chains: &chains, dchains, at, d });
    discretize_backward(grad, &at.ddiscrete, &at.discrete, head, spec);
}

/// Adds dΦ to the gradients of what it is made of; dK̄ in reversed order, so that rows of dToep add up to it.
#[inline(always)]
pub(crate) fn unfold<T: Scalar>(dchains: &mut Chains<'_>, dq: &mut [T], dphi: &[T], pass: usize, d: &Dims) {
    let (chunk, state, width) = (d.chunk, d.state, d.inputs());
    let (own, shared) = dphi.split_at(d.to_state());
    for (channel, own) in own.chunks_exact(chunk * width).enumerate() {
        let kc = pass * d.channels + channel;
        let dk = &mut dchains.k[kc * chunk..][..chunk];
        let dw = &mut dchains.w[(kc * (chunk + 1) + 1 - pass) * state..];
        for (t, row) in own.chunks_exact(width).enumerate() {
            let (dtoep, from) = row.split_at(chunk);
            // Element j belongs to K̄_{t−j−pass}.
            for (dk, from) in dk[(chunk - 1 - t + pass).min(chunk)..].iter_mut().zip(dtoep) {
                *dk += Scalar::to_f64(*from);
            }
            chain::add_row(&mut dw[t * state..][..state], 2.0, from);
        }
    }
    let (dv, from) = shared.split_at(chunk * state);
    for (j, dv) in dv.chunks_exact(state).enumerate() {
        for (dx, dv) in dchains.x[(chunk - 1 - j) * state..].iter_mut().zip(dv) {
            *dx += Scalar::to_f64(*dv);
        }
    }
    for (dq, from) in dq.iter_mut().zip(from) {
        *dq += *from;
    }
}

/// K̄_k = 2Re Σ c x_k, and D on the diagonal of the causal pass.
#[inline(always)]
pub(crate) fn kernel_backward(dchains: &mut Chains<'_>, chains: &Chains<'_>, at: &mut HeadState, d: &Dims) {
    let (chunk, state) = (d.chunk, d.state);
    at.dd.fill(0.0);
    for kc in 0..d.kernel_channels() {
        let pass = kc / d.channels;
        let c = &at.discrete.c[kc * state..][..state];
        let dc = &mut at.ddiscrete.c[kc * state..][..state];
        for k in 0..chunk - pass {
            let dk = dchains.k[kc * chunk + chunk - 1 - k];
            if pass == 0 && k == 0 {
                at.dd[kc] += dk;
            }
            chain::add_row(dc, 2.0 * dk, &chains.x[k * state..][..state]);
            chain::add_row(&mut dchains.x[k * state..][..state], 2.0 * dk, c);
        }
    }
}

/// What dQ gives to D₀^T.
#[inline(always)]
fn top_backward<T: Scalar>(dpower: &mut [f64], dq: &[T], d: &Dims) {
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
    level: crate::Level,
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
    product(level, Product { size, a: u, lda, b: dq, ldb, c: dm, ldc, onto: false, part: Part::Full });
}

/// Gradients of all chains and of Q (in `dchains.q`, not transposed) to `at.ddiscrete`.
pub(crate) fn chains_backward(
    level: crate::Level,
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
    let (turned, rest) = dchains.spare.split_at_mut(state);
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
            turned.fill(0.0);
            chain::add_row(turned, 2.0, dm);
            vector::multiply_conj::<S, true>(simd, dv, turned, power);
            vector::multiply_conj::<S, true>(simd, dpower, turned, v);
        }
    }
    chain_backward(simd, dchains.power, dd0, &mut [], &mut [], chains.power, (d0, &[], &[]));
    for (kc, dw) in dchains.w.chunks_exact_mut((chunk + 1) * state).enumerate() {
        let w = &chains.w[kc * (chunk + 1) * state..][..(chunk + 1) * state];
        chain_backward(simd, dw, dd0, dv, du, w, (d0, v, u));
        for (dc, dw) in g.c[kc * state..][..state].iter_mut().zip(&dw[..state]) {
            *dc += dw;
        }
    }
    for (r, dchain) in dchains.u.chunks_exact_mut(chunk * state).enumerate() {
        let chain = &chains.u[r * chunk * state..][..chunk * state];
        chain_backward(simd, dchain, dd0, du, dv, chain, (d0, u, v));
        for (to, du) in du[r * state..][..state].iter_mut().zip(&dchain[..state]) {
            *to += du;
        }
    }
    chain_backward(simd, dchains.x, dd0, du, dv, chains.x, (d0, u, v));
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
    dd0: &mut [f64],
    dout: &mut [f64],
    dinn: &mut [f64],
    chain: &[f64],
    (d0, out, inn): (&[f64], &[f64], &[f64]),
) {
    let state = d0.len();
    for k in (1..chain.len() / state).rev() {
        let (before, dnext) = dchain.split_at_mut(k * state);
        let x = &chain[(k - 1) * state..][..state];
        let dx = &mut before[(k - 1) * state..];
        vector::step_backward(simd, dx, dd0, dout, dinn, &dnext[..state], x, d0, out, inn);
    }
}
