//! Powers of Ā on vectors, in f64: what both a chunk and a block of the kernel are made of.
//!
//! T steps of the recurrence and of its transpose give Ā^k B̄ and C Ā^k. Q = Ā^T takes no squarings: with
//! Ā = D₀ + Σ_r u_r v_r*, Q = D₀^T + Σ_r Σ_j (Ā^j u_r)(v_r* D₀^{T−1−j}), the recurrence run on u_r and one
//! T-deep product.

use crate::{
    Level,
    linalg::gemm::{Mat, MatMut, gemm},
    ssm::{
        discretize::Discrete,
        recurrence::{self, Transition},
        recurrence_simd,
    },
};
use pulp::{Simd, WithSimd};
use s4_backend::SsmSpec;

/// Sizes of the chains, and of Φ, one chunk as a matrix (`chunk/constants.rs`).
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
    /// (3 + 4R, N): scratch for what every step reads, or adds to.
    pub(crate) step_scratch: &'a mut [f64],
}

/// Doubles of a cache line.
const LINE: usize = 8;

impl<'a> Chains<'a> {
    fn lens(d: &Dims) -> [usize; 8] {
        let line = d.chunk * d.state;
        let longer = line + d.state;
        let channels = d.kernel_channels();
        let low_rank = d.rank * line;
        let step_scratch = (3 + 4 * d.rank) * d.state;
        let (q, k) = (d.state * d.state, channels * d.chunk);
        [line, low_rank, longer, low_rank, channels * longer, q, k, step_scratch]
    }

    /// Elements of scratch that [`Chains::new`] cuts up.
    pub(crate) fn len(d: &Dims) -> usize {
        Self::lens(d).iter().map(|len| len.next_multiple_of(LINE)).sum::<usize>() + LINE
    }

    /// Vectors begin at cache lines where N is a multiple of 16.
    pub(crate) fn new(scratch: &'a mut [f64], d: &Dims) -> Self {
        let skip = scratch.as_ptr().align_offset(64).min(LINE);
        let mut rest = &mut scratch[skip..];
        let [x, u, power, m, w, q, k, step_scratch] = Self::lens(d).map(|len| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = after;
            &mut part[..len]
        });
        Chains { x, u, power, m, w, q, k, step_scratch }
    }

    /// T steps of the recurrence and of its transpose.
    pub(crate) fn run(&mut self, level: Level, a: &Discrete, d: &Dims) {
        level.dispatch(FillChains { chains: self, a, d });
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
        let (d0, rest) = self.step_scratch.split_at_mut(state);
        let (u, rest) = rest.split_at_mut(d.rank * state);
        let v = &mut rest[..d.rank * state];
        d0.copy_from_slice(&a.d0);
        u.copy_from_slice(&a.u);
        v.copy_from_slice(&a.v);
        let (d0, u, v) = (&*d0, &*u, &*v);
        let columns = Transition { d0, out: u, inn: v };
        let rows = Transition { d0, out: v, inn: u };
        let diagonal = Transition { d0, out: &[], inn: &[] };
        // All chains side by side: a step of one waits for its sum, not for the others.
        for k in 1..=chunk {
            if k < chunk {
                advance(simd, self.x, k, columns);
                for chain in self.u.chunks_exact_mut(chunk * state) {
                    advance(simd, chain, k, columns);
                }
            }
            for chain in self.w.chunks_exact_mut((chunk + 1) * state) {
                advance(simd, chain, k, rows);
            }
            advance(simd, self.power, k, diagonal);
        }
        for (k, c) in self.k.chunks_exact_mut(chunk).zip(a.c.chunks_exact(state)) {
            for (k, x) in k.iter_mut().zip(self.x.chunks_exact(state)) {
                *k = recurrence_simd::pair_dot(simd, c, x);
            }
        }
        // [2Re, −2Im] of v D₀^k: 2 conj(v), times conj(D₀^k).
        for (m, v) in self.m.chunks_exact_mut(chunk * state).zip(a.v.chunks_exact(state)) {
            let (m, row) = m.split_at_mut((chunk - 1) * state);
            row.fill(0.0);
            recurrence::add_row(row, 2.0, v);
            for (k, m) in m.chunks_exact_mut(state).enumerate() {
                recurrence_simd::multiply_conj::<S, false>(
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

/// Fills the chains with the instructions that are chosen at run time.
struct FillChains<'a, 'c> {
    chains: &'a mut Chains<'c>,
    a: &'a Discrete,
    d: &'a Dims,
}

impl WithSimd for FillChains<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.chains.run_with(simd, self.a, self.d)
    }
}

/// The k-th vector of a chain from the one before.
#[inline(always)]
fn advance<S: Simd>(simd: S, chain: &mut [f64], k: usize, a: Transition<'_>) {
    let state = a.d0.len();
    let (done, next) = chain.split_at_mut(k * state);
    recurrence_simd::step(simd, &mut next[..state], &done[(k - 1) * state..], a);
}
