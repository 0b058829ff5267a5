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
//! one sample ahead: Toep[t, j] = K̄₁[t−1−j], W[t] = C₁ Ā^t, no D.
//!
//! V, W, K̄ are T steps of the recurrence. Q takes no squarings: with Ā = D₀ + Σ_r u_r v_r*,
//! Q = D₀^T + Σ_r Σ_j (Ā^j u_r)(v_r* D₀^{T−1−j}), V's recurrence run on u_r and one T-deep product.
//! Everything is made in f64 and rounded once.

use super::{
    chain,
    discrete::{Discrete, discretize},
};
use crate::{
    gemm::{Mat, MatMut, gemm},
    params::Head,
};
use s4_backend::{Scalar, SsmSpec};

/// Sizes of Φ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims {
    /// T
    pub(crate) chunk: usize,
    /// N
    pub(crate) state: usize,
    pub(crate) rank: usize,
    pub(crate) channels: usize,
    /// 1, or 2 for a two-sided layer: the second on reversed time.
    pub(crate) passes: usize,
    pub(crate) heads: usize,
}

impl Dims {
    pub(crate) fn new(spec: &SsmSpec, chunk: usize) -> Self {
        Dims {
            chunk,
            state: spec.state,
            rank: spec.rank,
            channels: spec.channels,
            passes: if spec.bidirectional { 2 } else { 1 },
            heads: spec.heads,
        }
    }
    /// T + N: columns of Φ.
    pub(crate) fn inputs(&self) -> usize {
        self.chunk + self.state
    }
    /// channels·T + N: rows of Φ.
    pub(crate) fn outputs(&self) -> usize {
        self.channels * self.chunk + self.state
    }
    /// Where [Vᵀ; Qᵀ] begins in Φᵀ as it is stored: one (inputs, T) block [Toepᵀ; Wᵀ] for each channel, then
    /// the (inputs, N) block.
    pub(crate) fn to_state(&self) -> usize {
        self.channels * self.inputs() * self.chunk
    }
    /// Where [W; Q] begins in Φ as it is stored: the (outputs, T) block [Toep; V], then the (outputs, N) block.
    pub(crate) fn from_state(&self) -> usize {
        self.outputs() * self.chunk
    }
    /// Elements of Φ.
    pub(crate) fn phi(&self) -> usize {
        self.inputs() * self.outputs()
    }
    /// channels·passes.
    pub(crate) fn kernel_channels(&self) -> usize {
        self.channels * self.passes
    }
}

/// The f64 chains that Φ is made of; also what its gradient is led back through.
pub(crate) struct Chains<'a> {
    /// (T, N): Ā^k B̄.
    pub(crate) x: &'a mut [f64],
    /// (R, T, N): Ā^k u_r.
    pub(crate) u: &'a mut [f64],
    /// (T + 1, N): D₀^k.
    pub(crate) power: &'a mut [f64],
    /// (R, T, N): v_r D₀^{T−1−k} as a row, i.e. [2Re, −2Im].
    pub(crate) m: &'a mut [f64],
    /// (kernel channels, T + 1, N): C Ā^k.
    pub(crate) w: &'a mut [f64],
    /// (N, N): Qᵀ.
    pub(crate) q: &'a mut [f64],
    /// (kernel channels, T): K̄.
    pub(crate) k: &'a mut [f64],
}

impl<'a> Chains<'a> {
    /// Elements of scratch that [`Chains::new`] cuts up.
    pub(crate) fn len(d: &Dims) -> usize {
        let line = d.chunk * d.state;
        line * (1 + 2 * d.rank)
            + (line + d.state) * (1 + d.kernel_channels())
            + d.state * d.state
            + d.kernel_channels() * d.chunk
    }

    pub(crate) fn new(scratch: &'a mut [f64], d: &Dims) -> Self {
        let line = d.chunk * d.state;
        let (x, rest) = scratch.split_at_mut(line);
        let (u, rest) = rest.split_at_mut(d.rank * line);
        let (power, rest) = rest.split_at_mut(line + d.state);
        let (m, rest) = rest.split_at_mut(d.rank * line);
        let (w, rest) = rest.split_at_mut(d.kernel_channels() * (line + d.state));
        let (q, rest) = rest.split_at_mut(d.state * d.state);
        Chains { x, u, power, m, w, q, k: &mut rest[..d.kernel_channels() * d.chunk] }
    }

    /// T steps of the recurrence and of its transpose.
    #[inline(always)]
    pub(crate) fn run(&mut self, a: &Discrete, d: &Dims) {
        let (state, chunk) = (d.state, d.chunk);
        let h = state / 2;
        chain_of(self.x, &a.b_bar, &a.d0, &a.u, &a.v);
        for (chain, u) in self.u.chunks_exact_mut(chunk * state).zip(a.u.chunks_exact(state)) {
            chain_of(chain, u, &a.d0, &a.u, &a.v);
        }
        for (chain, c) in self.w.chunks_exact_mut((chunk + 1) * state).zip(a.c.chunks_exact(state)) {
            chain_of(chain, c, &a.d0, &a.v, &a.u);
        }
        for (k, c) in self.k.chunks_exact_mut(chunk).zip(a.c.chunks_exact(state)) {
            for (k, x) in k.iter_mut().zip(self.x.chunks_exact(state)) {
                *k = chain::pair_dot(c, x);
            }
        }
        self.power[..h].fill(1.0);
        self.power[h..state].fill(0.0);
        for k in 0..chunk {
            let (done, next) = self.power.split_at_mut((k + 1) * state);
            chain::step(&mut next[..state], &done[k * state..], &a.d0, &[], &[]);
        }
        for (m, v) in self.m.chunks_exact_mut(chunk * state).zip(a.v.chunks_exact(state)) {
            for (k, m) in m.chunks_exact_mut(state).enumerate() {
                let power = &self.power[(chunk - 1 - k) * state..][..state];
                for n in 0..h {
                    m[n] = 2.0 * (v[n] * power[n] - v[n + h] * power[n + h]);
                    m[n + h] = -2.0 * (v[n] * power[n + h] + v[n + h] * power[n]);
                }
            }
        }
    }

    /// Qᵀ, from Q = D₀^T + Σ (Ā^j u_r)(v_r* D₀^{T−1−j}).
    pub(crate) fn product(&mut self, d: &Dims) {
        let (state, h, depth) = (d.state, d.state / 2, d.rank * d.chunk);
        self.q.fill(0.0);
        let power = &self.power[d.chunk * state..];
        for n in 0..h {
            self.q[n * state + n] = power[n];
            self.q[(n + h) * state + n] = -power[n + h];
            self.q[n * state + n + h] = power[n + h];
            self.q[(n + h) * state + n + h] = power[n];
        }
        if depth > 0 {
            let (m, u) = (Mat::cols(self.m, state), Mat::rows(self.u, state));
            gemm([state, state, depth], 1.0, m, u, 1.0, MatMut::rows(self.q, state));
        }
    }
}

/// first, then as many steps as `chain` holds.
#[inline(always)]
fn chain_of(chain: &mut [f64], first: &[f64], d0: &[f64], out: &[f64], inn: &[f64]) {
    let state = first.len();
    chain[..state].copy_from_slice(first);
    for k in 1..chain.len() / state {
        let (done, next) = chain.split_at_mut(k * state);
        chain::step(&mut next[..state], &done[(k - 1) * state..], d0, out, inn);
    }
}

/// What the plan keeps of a head in f64: discrete form, D, and room for their gradients.
#[derive(Clone, Debug)]
pub(crate) struct HeadState {
    pub(crate) discrete: Discrete,
    pub(crate) d: Vec<f64>,
    pub(crate) ddiscrete: Discrete,
    pub(crate) dd: Vec<f64>,
}

impl HeadState {
    pub(crate) fn zeroed(spec: &SsmSpec) -> Self {
        let discrete = Discrete::zeroed(spec.state, spec.rank, spec.kernel_channels());
        HeadState {
            discrete: discrete.clone(),
            d: vec![0.0; spec.channels],
            ddiscrete: discrete,
            dd: vec![0.0; spec.channels],
        }
    }
}

/// Φᵀ of every pass of one head, in the order of [`Dims::to_state`].
pub(crate) fn head_constants<T: Scalar>(
    level: crate::Level,
    phi_t: &mut [T],
    at: &mut HeadState,
    head: &Head<'_>,
    spec: &SsmSpec,
    d: &Dims,
    scratch: &mut [f64],
) {
    discretize(&mut at.discrete, head, spec);
    let mut chains = Chains::new(scratch, d);
    level.run(
        #[inline(always)]
        || chains.run(&at.discrete, d),
    );
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
fn write<T: Scalar>(phi_t: &mut [T], chains: &mut Chains<'_>, skip: &[f64], pass: usize, d: &Dims) {
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
        for (j, row) in toep_t.chunks_exact_mut(chunk).enumerate() {
            let (zero, row) = row.split_at_mut((j + pass).min(chunk));
            zero.fill(T::zero());
            for (to, k) in row.iter_mut().zip(kernel.iter()) {
                *to = T::from_f64(*k);
            }
        }
        let w = &chains.w[(kc * (chunk + 1) + 1 - pass) * state..][..chunk * state];
        for n in 0..h {
            for t in 0..chunk {
                w_t[n * chunk + t] = T::from_f64(2.0 * w[t * state + n]);
                w_t[(n + h) * chunk + t] = T::from_f64(-2.0 * w[t * state + n + h]);
            }
        }
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
pub(crate) fn transpose<T: Scalar>(phi: &mut [T], phi_t: &[T], d: &Dims) {
    let (chunk, state) = (d.chunk, d.state);
    let (to_y, to_state) = phi_t.split_at(d.to_state());
    let (from_x, from_state) = phi.split_at_mut(d.from_state());
    let mut turn = |from: &[T], first: usize, rows: usize| {
        let (x, s) = from.split_at(chunk * rows);
        for o in 0..rows {
            for (j, to) in from_x[(first + o) * chunk..][..chunk].iter_mut().enumerate() {
                *to = x[j * rows + o];
            }
            for (n, to) in from_state[(first + o) * state..][..state].iter_mut().enumerate() {
                *to = s[n * rows + o];
            }
        }
    };
    for (channel, block) in to_y.chunks_exact(d.inputs() * chunk).enumerate() {
        turn(block, channel * chunk, chunk);
    }
    turn(to_state, d.channels * chunk, state);
}
