//! The constants of a head: one chunk as one linear map.
//!
//! With rows x (T inputs) and s (N reals, the state entering the chunk), a chunk is
//!
//! ```text
//! [ y | s′ ] = [ x | s ] Φᵀ,      Φ = [ Toep  W ]      Toep[t, j] = K̄[t−j] + D·[t = j]     W[t] = C Ā^{t+1}
//!                                     [  V    Q ]      V[:, j] = Ā^{T−1−j} B̄               Q = Ā^T
//! ```
//!
//! with one (Toep, W) for each channel. The second pass of a two-sided layer runs on reversed time and starts
//! one time step ahead: Toep[t, j] = K̄₁[t−1−j], W[t] = C₁ Ā^t, no D.
//!
//! All of it comes from the chains (`chains.rs`), made in f64 and rounded once.

use crate::{
    Level,
    linalg::transpose::transpose_map,
    ssm::{
        chains::{Chains, Dims},
        discretize::{HeadState, discretize},
        params::Head,
    },
};
use s4_backend::Scalar;

/// Φᵀ of every pass of one head, in the order of [`Dims::to_state`].
pub(crate) fn head_constants<T: Scalar>(
    level: Level,
    phi_t: &mut [T],
    at: &mut HeadState,
    head: &Head<'_>,
    d: &Dims,
    scratch: &mut [f64],
) {
    discretize(&mut at.discrete, head);
    let mut chains = Chains::new(scratch, d);
    chains.run(level, &at.discrete, d);
    chains.product(d);
    level.run(
        #[inline(always)]
        || {
            for (pass, phi_t) in phi_t.chunks_exact_mut(d.phi()).enumerate() {
                write(phi_t, &mut chains, &at.d, pass, d);
            }
        },
    );
}

/// Rounds the chains to Φᵀ of one pass.
#[inline(always)]
pub(crate) fn write<T: Scalar>(
    phi_t: &mut [T],
    chains: &mut Chains<'_>,
    skip: &[f64],
    pass: usize,
    d: &Dims,
) {
    let (chunk, state, h) = (d.chunk, d.state, d.state / 2);
    let (to_y, to_state) = phi_t.split_at_mut(d.to_state());
    for (channel, to_y) in to_y.chunks_exact_mut(d.inputs() * chunk).enumerate() {
        let kc = pass * d.channels + channel;
        let (toep_t, w_t) = to_y.split_at_mut(chunk * chunk);
        let kernel = &mut chains.k[kc * chunk..][..chunk];
        // The diagonal of a causal pass carries D.
        if pass == 0 {
            kernel[0] += skip[channel];
        }
        let (zero, first) = toep_t.split_at_mut(pass);
        zero.fill(T::zero());
        for (to, k) in first[..chunk - pass].iter_mut().zip(kernel.iter()) {
            *to = T::from_f64(*k);
        }
        for j in 1..chunk {
            toep_t.copy_within(..chunk - j, j * (chunk + 1));
            toep_t[j * chunk..][..j].fill(T::zero());
        }
        let w = &chains.w[(kc * (chunk + 1) + 1 - pass) * state..][..chunk * state];
        let (re, im) = w_t.split_at_mut(h * chunk);
        transpose_map(re, chunk, w, state, [chunk, h], |w| T::from_f64(2.0 * w));
        transpose_map(im, chunk, &w[h..], state, [chunk, h], |w| T::from_f64(-2.0 * w));
    }
    let (v_t, q_t) = to_state.split_at_mut(chunk * state);
    for (j, row) in v_t.chunks_exact_mut(state).enumerate() {
        for (to, x) in row.iter_mut().zip(&chains.x[(chunk - 1 - j) * state..]) {
            *to = T::from_f64(*x);
        }
    }
    for (to, q) in q_t.iter_mut().zip(chains.q.iter()) {
        *to = T::from_f64(*q);
    }
}

/// Φ in the order of [`Dims::from_state`], from Φᵀ.
#[inline(always)]
pub(crate) fn transpose<T: Scalar>(phi: &mut [T], phi_t: &[T], d: &Dims) {
    let (chunk, state) = (d.chunk, d.state);
    let (to_y, to_state) = phi_t.split_at(d.to_state());
    let (from_x, from_state) = phi.split_at_mut(d.from_state());
    for (channel, block) in to_y.chunks_exact(d.inputs() * chunk).enumerate() {
        let (toep_t, w_t) = block.split_at(chunk * chunk);
        let first = channel * chunk;
        // Row t is the last one from its T−1−t-th element on: row j of Toepᵀ begins with K̄ at element j.
        let toep = &mut from_x[first * chunk..][..chunk * chunk];
        let (rows, last) = toep.split_at_mut((chunk - 1) * chunk);
        for (to, from) in last.iter_mut().rev().zip(toep_t) {
            *to = *from;
        }
        for (t, row) in rows.chunks_exact_mut(chunk).enumerate() {
            row[..=t].copy_from_slice(&last[chunk - 1 - t..]);
            row[t + 1..].fill(T::zero());
        }
        transpose_map(&mut from_state[first * state..], state, w_t, chunk, [state, chunk], |x| x);
    }
    let (v_t, q_t) = to_state.split_at(chunk * state);
    let first = d.channels * chunk;
    transpose_map(&mut from_x[first * chunk..], chunk, v_t, state, [chunk, state], |x| x);
    transpose_map(&mut from_state[first * state..], state, q_t, state, [state, state], |x| x);
}
