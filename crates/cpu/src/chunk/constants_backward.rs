//! The gradient of Φ back to the parameters of a head: through T steps, never through the sequence.

use super::{
    chain,
    constants::{Chains, Dims, HeadState},
    discrete::discretize_backward,
};
use crate::{
    gemm::{Mat, MatMut, gemm},
    params::{Head, HeadGrads},
};
use s4_backend::SsmSpec;

/// Elements of f64 scratch for [`head_constants_backward`].
pub(crate) fn scratch_len(d: &Dims) -> usize {
    2 * Chains::len(d) + 2 * d.state
}

/// `dphi`: for each pass the gradient of Φ, as [`super::backward`] lays it out, in f64. `at.ddiscrete` already holds what reached
/// the recurrence directly; `at.dd` is overwritten, `grad` accumulates.
pub(crate) fn head_constants_backward(
    level: crate::Level,
    grad: &mut HeadGrads<'_>,
    at: &mut HeadState,
    head: &Head<'_>,
    dphi: &[f64],
    spec: &SsmSpec,
    d: &Dims,
    scratch: &mut [f64],
) {
    let (chunk, state, h) = (d.chunk, d.state, d.state / 2);
    let (forward, rest) = scratch.split_at_mut(Chains::len(d));
    let (back, turn) = rest.split_at_mut(Chains::len(d));
    let mut chains = Chains::new(forward, d);
    level.run(
        #[inline(always)]
        || chains.run(&at.discrete, d),
    );
    back.fill(0.0);
    let dchains = Chains::new(back, d);
    at.dd.fill(0.0);
    let width = d.inputs();
    for (pass, dphi) in dphi.chunks_exact(d.phi()).enumerate() {
        for channel in 0..d.channels {
            let kc = pass * d.channels + channel;
            let c = &at.discrete.c[kc * state..][..state];
            let dc = &mut at.ddiscrete.c[kc * state..][..state];
            let dtoep = &dphi[channel * chunk * width..];
            for k in 0..chunk - pass {
                // dK̄_k: the k-th diagonal of dToep. K̄_k = 2Re Σ c x_k.
                let dk: f64 = (0..chunk - k - pass).map(|j| dtoep[(j + k + pass) * width + j]).sum();
                if pass == 0 && k == 0 {
                    at.dd[channel] += dk;
                }
                let (x, dx) = (&chains.x[k * state..][..state], &mut dchains.x[k * state..][..state]);
                for n in 0..h {
                    dc[n] += 2.0 * dk * x[n];
                    dc[n + h] -= 2.0 * dk * x[n + h];
                    dx[n] += 2.0 * dk * c[n];
                    dx[n + h] -= 2.0 * dk * c[n + h];
                }
            }
            for t in 0..chunk {
                let dw = &mut dchains.w[(kc * (chunk + 1) + t + 1 - pass) * state..][..state];
                let from = &dphi[(channel * chunk + t) * width + chunk..][..state];
                for n in 0..h {
                    dw[n] += 2.0 * from[n];
                    dw[n + h] -= 2.0 * from[n + h];
                }
            }
        }
        let (dv, dq) = dphi[d.to_state()..].split_at(chunk * state);
        for (j, dv) in dv.chunks_exact(state).enumerate() {
            for (dx, dv) in dchains.x[(chunk - 1 - j) * state..].iter_mut().zip(dv) {
                *dx += dv;
            }
        }
        for (to, dq) in dchains.q.iter_mut().zip(dq) {
            *to += dq;
        }
    }
    chains_backward(level, &chains, dchains, at, d, turn);
    discretize_backward(grad, &at.ddiscrete, &at.discrete, head, spec);
}

/// Gradients of all chains and of Q (in `dchains.q`, not transposed) to `at.ddiscrete`; `turn`: N.
pub(crate) fn chains_backward(
    level: crate::Level,
    chains: &Chains<'_>,
    dchains: Chains<'_>,
    at: &mut HeadState,
    d: &Dims,
    turn: &mut [f64],
) {
    product_backward(chains, dchains, d, |dchains| {
        level.run(
            #[inline(always)]
            || run_backward(chains, dchains, at, d, turn),
        )
    });
}

/// dQ to both factors of the low-rank product and to D₀^T; then what is left.
fn product_backward(chains: &Chains<'_>, dchains: Chains<'_>, d: &Dims, then: impl FnOnce(Chains<'_>)) {
    let (chunk, state, h, depth) = (d.chunk, d.state, d.state / 2, d.rank * d.chunk);
    let dq = &dchains.q;
    let dtop = &mut dchains.power[chunk * state..];
    for n in 0..h {
        dtop[n] += dq[n * state + n] + dq[(n + h) * state + n + h];
        dtop[n + h] += dq[(n + h) * state + n] - dq[n * state + n + h];
    }
    if depth > 0 {
        // Q = Uᵀ M with U, M (depth, N): dU = M dQᵀ, dM = U dQ.
        let product = [depth, state, state];
        gemm(
            product,
            1.0,
            Mat::rows(chains.m, state),
            Mat::cols(dq, state),
            0.0,
            MatMut::rows(dchains.u, state),
        );
        gemm(
            product,
            1.0,
            Mat::rows(chains.u, state),
            Mat::rows(dq, state),
            0.0,
            MatMut::rows(dchains.m, state),
        );
    }
    then(dchains)
}

/// The chains in reverse.
#[inline(always)]
fn run_backward(chains: &Chains<'_>, dchains: Chains<'_>, at: &mut HeadState, d: &Dims, turn: &mut [f64]) {
    let (chunk, state, h) = (d.chunk, d.state, d.state / 2);
    let (a, g) = (&at.discrete, &mut at.ddiscrete);
    // m_k = row of v_r D₀^{T−1−k}
    for r in 0..d.rank {
        let v = &a.v[r * state..][..state];
        let dv = &mut g.v[r * state..][..state];
        for k in 0..chunk {
            let dm = &dchains.m[(r * chunk + k) * state..][..state];
            let power = &chains.power[(chunk - 1 - k) * state..][..state];
            let dpower = &mut dchains.power[(chunk - 1 - k) * state..][..state];
            for n in 0..h {
                let (re, im) = (2.0 * dm[n], -2.0 * dm[n + h]);
                dv[n] += re * power[n] + im * power[n + h];
                dv[n + h] += im * power[n] - re * power[n + h];
                dpower[n] += re * v[n] + im * v[n + h];
                dpower[n + h] += im * v[n] - re * v[n + h];
            }
        }
    }
    chain_backward(dchains.power, &mut g.d0, &mut [], &mut [], chains.power, (&a.d0, &[], &[]), turn);
    for (kc, dw) in dchains.w.chunks_exact_mut((chunk + 1) * state).enumerate() {
        let w = &chains.w[kc * (chunk + 1) * state..][..(chunk + 1) * state];
        chain_backward(dw, &mut g.d0, &mut g.v, &mut g.u, w, (&a.d0, &a.v, &a.u), turn);
        for (dc, dw) in g.c[kc * state..][..state].iter_mut().zip(&dw[..state]) {
            *dc += dw;
        }
    }
    for (r, du) in dchains.u.chunks_exact_mut(chunk * state).enumerate() {
        let u = &chains.u[r * chunk * state..][..chunk * state];
        chain_backward(du, &mut g.d0, &mut g.u, &mut g.v, u, (&a.d0, &a.u, &a.v), turn);
        for (to, du) in g.u[r * state..][..state].iter_mut().zip(&du[..state]) {
            *to += du;
        }
    }
    chain_backward(dchains.x, &mut g.d0, &mut g.u, &mut g.v, chains.x, (&a.d0, &a.u, &a.v), turn);
    for (db, dx) in g.b_bar.iter_mut().zip(&dchains.x[..state]) {
        *db += dx;
    }
}

/// Leads the gradients of all vectors of a chain to its first one and to Ā's parts.
#[inline(always)]
fn chain_backward(
    dchain: &mut [f64],
    dd0: &mut [f64],
    dout: &mut [f64],
    dinn: &mut [f64],
    chain: &[f64],
    (d0, out, inn): (&[f64], &[f64], &[f64]),
    turn: &mut [f64],
) {
    let state = d0.len();
    let dx = &mut turn[..state];
    for k in (1..chain.len() / state).rev() {
        let (before, dnext) = dchain.split_at_mut(k * state);
        let x = &chain[(k - 1) * state..][..state];
        chain::step_backward(dx, dd0, dout, dinn, &dnext[..state], x, d0, out, inn);
        for (to, dx) in before[(k - 1) * state..].iter_mut().zip(dx.iter()) {
            *to += *dx;
        }
    }
}
