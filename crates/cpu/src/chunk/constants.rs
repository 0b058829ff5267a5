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
    vector,
};
use crate::{
    gemm::{Mat, MatMut, gemm},
    params::Head,
};
use pulp::{Simd, WithSimd};
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
    /// (3 + 4R, N): room for what every step reads, or adds to.
    pub(crate) spare: &'a mut [f64],
}

/// Doubles of a cache line.
const LINE: usize = 8;

impl<'a> Chains<'a> {
    fn lens(d: &Dims) -> [usize; 8] {
        let line = d.chunk * d.state;
        let longer = line + d.state;
        let channels = d.kernel_channels();
        let low_rank = d.rank * line;
        let spare = (3 + 4 * d.rank) * d.state;
        let (q, k) = (d.state * d.state, channels * d.chunk);
        [line, low_rank, longer, low_rank, channels * longer, q, k, spare]
    }

    /// Elements of scratch that [`Chains::new`] cuts up.
    pub(crate) fn len(d: &Dims) -> usize {
        Self::lens(d).iter().map(|len| len.next_multiple_of(LINE)).sum::<usize>() + LINE
    }

    /// Vectors begin at cache lines where N is a multiple of 16.
    pub(crate) fn new(scratch: &'a mut [f64], d: &Dims) -> Self {
        let skip = scratch.as_ptr().align_offset(64).min(LINE);
        let mut rest = &mut scratch[skip..];
        let [x, u, power, m, w, q, k, spare] = Self::lens(d).map(|len| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = after;
            &mut part[..len]
        });
        Chains { x, u, power, m, w, q, k, spare }
    }

    /// T steps of the recurrence and of its transpose.
    pub(crate) fn run(&mut self, level: crate::Level, a: &Discrete, d: &Dims) {
        level.dispatch(Run { chains: self, a, d });
    }

    #[inline(always)]
    fn run_with<S: Simd>(&mut self, simd: S, a: &Discrete, d: &Dims) {
        let (state, chunk) = (d.state, d.chunk);
        let h = state / 2;
        self.x[..state].copy_from_slice(&a.b_bar);
        for (chain, u) in self.u.chunks_exact_mut(chunk * state).zip(a.u.chunks_exact(state)) {
            chain[..state].copy_from_slice(u);
        }
        for (chain, c) in self.w.chunks_exact_mut((chunk + 1) * state).zip(a.c.chunks_exact(state)) {
            chain[..state].copy_from_slice(c);
        }
        self.power[..h].fill(1.0);
        self.power[h..state].fill(0.0);
        // Ā's parts from cache lines.
        let (d0, rest) = self.spare.split_at_mut(state);
        let (u, rest) = rest.split_at_mut(d.rank * state);
        let v = &mut rest[..d.rank * state];
        d0.copy_from_slice(&a.d0);
        u.copy_from_slice(&a.u);
        v.copy_from_slice(&a.v);
        // All chains side by side: a step of one waits for its sum, not for the others.
        for k in 1..=chunk {
            if k < chunk {
                advance(simd, self.x, k, d0, u, v);
                for chain in self.u.chunks_exact_mut(chunk * state) {
                    advance(simd, chain, k, d0, u, v);
                }
            }
            for chain in self.w.chunks_exact_mut((chunk + 1) * state) {
                advance(simd, chain, k, d0, v, u);
            }
            advance(simd, self.power, k, d0, &[], &[]);
        }
        for (k, c) in self.k.chunks_exact_mut(chunk).zip(a.c.chunks_exact(state)) {
            for (k, x) in k.iter_mut().zip(self.x.chunks_exact(state)) {
                *k = vector::pair_dot(simd, c, x);
            }
        }
        // [2Re, −2Im] of v D₀^k: 2 conj(v), times conj(D₀^k).
        for (m, v) in self.m.chunks_exact_mut(chunk * state).zip(a.v.chunks_exact(state)) {
            let (m, row) = m.split_at_mut((chunk - 1) * state);
            row.fill(0.0);
            chain::add_row(row, 2.0, v);
            for (k, m) in m.chunks_exact_mut(state).enumerate() {
                vector::multiply_conj::<S, false>(
                    simd,
                    m,
                    row,
                    &self.power[(chunk - 1 - k) * state..][..state],
                );
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

struct Run<'a, 'c> {
    chains: &'a mut Chains<'c>,
    a: &'a Discrete,
    d: &'a Dims,
}

impl WithSimd for Run<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.chains.run_with(simd, self.a, self.d)
    }
}

/// The k-th vector of a chain from the one before.
#[inline(always)]
fn advance<S: Simd>(simd: S, chain: &mut [f64], k: usize, d0: &[f64], out: &[f64], inn: &[f64]) {
    let state = d0.len();
    let (done, next) = chain.split_at_mut(k * state);
    vector::step(simd, &mut next[..state], &done[(k - 1) * state..], d0, out, inn);
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
        turn(re, chunk, w, state, [chunk, h], |w| T::from_f64(2.0 * w));
        turn(im, chunk, &w[h..], state, [chunk, h], |w| T::from_f64(-2.0 * w));
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
        turn(&mut from_state[first * state..], state, w_t, chunk, [state, chunk], |x| x);
    }
    let (v_t, q_t) = to_state.split_at(chunk * state);
    let first = d.channels * chunk;
    turn(&mut from_x[first * chunk..], chunk, v_t, state, [chunk, state], |x| x);
    turn(&mut from_state[first * state..], state, q_t, state, [state, state], |x| x);
}

/// Side of the blocks that [`turn`] goes by: they fit the registers of any machine.
const SIDE: usize = 4;

/// `to` (columns, rows) ← the transpose of `from` (rows, columns), each element through `f`.
#[inline(always)]
pub(crate) fn turn<S: Scalar, T: Scalar>(
    to: &mut [T],
    ld_to: usize,
    from: &[S],
    ld: usize,
    [rows, columns]: [usize; 2],
    f: impl Fn(S) -> T,
) {
    for i in (0..rows).step_by(SIDE) {
        for j in (0..columns).step_by(SIDE) {
            if rows - i < SIDE || columns - j < SIDE {
                for i in i..rows.min(i + SIDE) {
                    for j in j..columns.min(j + SIDE) {
                        to[j * ld_to + i] = f(from[i * ld + j]);
                    }
                }
                continue;
            }
            let mut block = [[T::zero(); SIDE]; SIDE];
            for k in 0..SIDE {
                let from = &from[(i + k) * ld + j..][..SIDE];
                for l in 0..SIDE {
                    block[l][k] = f(from[l]);
                }
            }
            for l in 0..SIDE {
                to[(j + l) * ld_to + i..][..SIDE].copy_from_slice(&block[l]);
            }
        }
    }
}
