//! The gradient of Φ back to the parameters of a head: through T steps, never through the sequence.

use crate::{
    Level,
    ssm::{
        chains::{Chains, Dims},
        chains_backward::{RunBackward, product_backward, top_backward},
        discretize::{HeadState, discretize_backward},
        params::{Head, HeadGrads},
        recurrence,
    },
};
use s4_backend::Scalar;

/// Elements of (f64, T) scratch for [`head_constants_backward`].
pub(crate) fn scratch_len(d: &Dims) -> (usize, usize) {
    let factors = 4 * d.rank * d.chunk * d.state;
    (2 * Chains::len(d), factors + d.state * d.state)
}

/// `dphi(pass)`: gradients of Φ, one for each group of rows, as [`super::backward`] lays them out.
/// `at.ddiscrete` already holds what reached the recurrence directly; `at.dd` is overwritten, `grad` accumulates.
pub(crate) fn head_constants_backward<'g, T: Scalar>(
    level: Level,
    grad: &mut HeadGrads<'_>,
    at: &mut HeadState,
    head: &Head<'_>,
    dphi: impl Fn(usize) -> &'g [T],
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
    discretize_backward(grad, &mut at.ddiscrete, &at.discrete, head);
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
            recurrence::add_row(&mut dw[t * state..][..state], 2.0, from);
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
            recurrence::add_row(dc, 2.0 * dk, &chains.x[k * state..][..state]);
            recurrence::add_row(&mut dchains.x[k * state..][..state], 2.0 * dk, c);
        }
    }
}
