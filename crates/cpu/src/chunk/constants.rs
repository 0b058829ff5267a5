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
    /// (N, N)
    pub(crate) q: &'a mut [f64],
}

impl<'a> Chains<'a> {
    /// Elements of scratch that [`Chains::new`] cuts up.
    pub(crate) fn len(d: &Dims) -> usize {
        let line = d.chunk * d.state;
        line * (1 + 2 * d.rank) + (line + d.state) * (1 + d.kernel_channels()) + d.state * d.state
    }

    pub(crate) fn new(scratch: &'a mut [f64], d: &Dims) -> Self {
        let line = d.chunk * d.state;
        let (x, rest) = scratch.split_at_mut(line);
        let (u, rest) = rest.split_at_mut(d.rank * line);
        let (power, rest) = rest.split_at_mut(line + d.state);
        let (m, rest) = rest.split_at_mut(d.rank * line);
        let (w, rest) = rest.split_at_mut(d.kernel_channels() * (line + d.state));
        Chains { x, u, power, m, w, q: &mut rest[..d.state * d.state] }
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

    /// Q = D₀^T + Σ (Ā^j u_r)(v_r* D₀^{T−1−j}).
    pub(crate) fn product(&mut self, d: &Dims) {
        let (state, h, depth) = (d.state, d.state / 2, d.rank * d.chunk);
        self.q.fill(0.0);
        let power = &self.power[d.chunk * state..];
        for n in 0..h {
            self.q[n * state + n] = power[n];
            self.q[n * state + n + h] = -power[n + h];
            self.q[(n + h) * state + n] = power[n + h];
            self.q[(n + h) * state + n + h] = power[n];
        }
        if depth > 0 {
            gemm(
                [state, state, depth],
                1.0,
                Mat::cols(self.u, state),
                Mat::rows(self.m, state),
                1.0,
                MatMut::rows(self.q, state),
            );
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

/// K̄_k = C Ā^k B̄ = 2Re Σ c x_k.
#[inline(always)]
fn kernel_at(c: &[f64], x: &[f64]) -> f64 {
    let h = x.len() / 2;
    let mut sum = 0.0;
    for n in 0..h {
        sum += c[n] * x[n] - c[n + h] * x[n + h];
    }
    2.0 * sum
}

/// Φᵀ of every pass of one head: `phi_t` (passes, inputs, outputs), rows [j | n], columns [t of each channel | n′].
pub(crate) fn head_constants<T: Scalar>(
    level: crate::Level,
    phi_t: &mut [T],
    at: &mut HeadState,
    head: &Head<'_>,
    spec: &SsmSpec,
    d: &Dims,
    scratch: &mut [f64],
) {
    let (chunk, state, h) = (d.chunk, d.state, d.state / 2);
    discretize(&mut at.discrete, head, spec);
    let mut chains = Chains::new(scratch, d);
    level.run(
        #[inline(always)]
        || chains.run(&at.discrete, d),
    );
    chains.product(d);
    let width = d.outputs();
    let own = d.channels * chunk;
    for (pass, phi_t) in phi_t.chunks_exact_mut(d.phi()).enumerate() {
        for channel in 0..d.channels {
            let kc = pass * d.channels + channel;
            let c = &at.discrete.c[kc * state..][..state];
            let w = &chains.w[kc * (chunk + 1) * state..];
            let columns = channel * chunk;
            // Toep, column by column of K̄; the diagonal of a causal pass carries D.
            for k in 0..chunk - pass {
                let mut value = kernel_at(c, &chains.x[k * state..][..state]);
                if pass == 0 && k == 0 {
                    value += at.d[channel];
                }
                let value = T::from_f64(value);
                for j in 0..chunk - k - pass {
                    phi_t[j * width + columns + j + k + pass] = value;
                }
            }
            for j in 0..chunk {
                phi_t[j * width + columns..][..(j + pass).min(chunk)].fill(T::zero());
            }
            for t in 0..chunk {
                let w = &w[(t + 1 - pass) * state..][..state];
                for n in 0..h {
                    phi_t[(chunk + n) * width + columns + t] = T::from_f64(2.0 * w[n]);
                    phi_t[(chunk + n + h) * width + columns + t] = T::from_f64(-2.0 * w[n + h]);
                }
            }
        }
        for j in 0..chunk {
            let x = &chains.x[(chunk - 1 - j) * state..][..state];
            for (to, &x) in phi_t[j * width + own..][..state].iter_mut().zip(x) {
                *to = T::from_f64(x);
            }
        }
        for n in 0..state {
            let row = &mut phi_t[(chunk + n) * width + own..][..state];
            for (n2, to) in row.iter_mut().enumerate() {
                *to = T::from_f64(chains.q[n2 * state + n]);
            }
        }
    }
}
