//! K̄ by Cauchy sums (paper Algorithm 1), any rank, any length: the proof of the blocks in `vandermonde.rs`.
//!
//! With θ = 2πj/L, s = sin θ/2, c = cos θ/2, ρ_xy = Σ_n x_n y_n/(i(2/Δ)s − λ_n c) over all N, C̃ = C(I − Ā^L):
//!
//! ```text
//! K̂(ω_j) = e^{iθ/2} [ ρ_{C̃B} − c ρ_{C̃P} (I + c ρ_{P*P})⁻¹ ρ_{P*B} ],      K̄ = irfft(K̂, n = L)
//! ```
//!
//! The textbook form divides by 1 + ω and is NaN at ω = −1; this one has e^{−iθ/2} taken out and is finite
//! everywhere. All sums of a node share one denominator a pair, and that of its conjugate. All of it is f64:
//! modes that hardly decay (|Re λ|ΔL ≪ 1) defeat anything less.

use crate::{
    Cpu, Workspace,
    linalg::{fft::Fft, small::solve},
    ssm::{
        discretize::{Discrete, discretize},
        kernel::check,
        params::{C64, Head, Params64},
        recurrence,
        rows::rows_by_head,
    },
};
use rayon::prelude::*;
use s4_backend::{Disc, Error, Result, Scalar, SsmParams, SsmSpec};
use std::f64::consts::PI;

/// Nodes that are summed side by side.
pub(crate) const NODES: usize = 8;

/// What Algorithm 1 asks of its arguments.
pub(crate) fn check_cauchy(
    op: &'static str,
    spec: &SsmSpec,
    len: usize,
    rate: f64,
    kernel: usize,
) -> Result<()> {
    check(op, spec, len, rate, kernel)?;
    match spec.disc {
        Disc::Bilinear => Ok(()),
        Disc::Zoh => Err(Error::unsupported(op, "bilinear discretisation", "zero-order hold")),
    }
}

impl<T: Scalar> Cpu<T> {
    /// K̄ by the paper's Algorithm 1, in f64, rounded once. `kernel`: (kernel channels, H, len). The same
    /// numbers as [`s4_backend::KernelOps::kernel_forward`] by another road; it is for proofs, and asks for
    /// memory at every call.
    ///
    /// # Errors
    /// `ERR_S4_SHAPE` on lengths that do not fit, `ERR_S4_UNSUPPORTED` for zero-order hold: the formula is of
    /// the bilinear transform.
    pub fn kernel_by_cauchy(
        &self,
        kernel: &mut [T],
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "kernel_by_cauchy";
        check_cauchy(OP, spec, len, rate, kernel.len())?;
        let wide = Params64::load(OP, params, spec, rate, ws)?;
        let fft = self.fft64(len);
        let level = self.level();
        let mut rows = rows_by_head(kernel, len, spec.heads);
        self.install(|| {
            rows.par_chunks_mut(spec.kernel_channels()).enumerate().for_each(|(h, kernel)| {
                let head = wide.head(h);
                let rows = powers(&discrete(&head, spec), len);
                let sums = Sums::new(&head, &c_tilde(&rows, spec, len), spec);
                let mut spectra = vec![vec![C64::ZERO; len]; kernel.len()];
                for first in (0..=len / 2).step_by(NODES) {
                    let rho = level.run(
                        #[inline(always)]
                        || sums.at(first, len),
                    );
                    for lane in 0..NODES.min(len / 2 + 1 - first) {
                        sums.spectrum(&mut spectra, &rho, first + lane, lane, len);
                    }
                }
                inverse(kernel, &mut spectra, &fft);
            })
        });
        wide.give(ws);
        Ok(())
    }
}

/// Ā, B̄ and C of a head.
pub(crate) fn discrete(head: &Head<'_>, spec: &SsmSpec) -> Discrete {
    let mut out = Discrete::zeroed(spec);
    discretize(&mut out, head, spec);
    out
}

/// C, CĀ, …, CĀ^L for every kernel channel, by the transposed recurrence. (kernel channels, L + 1, N)
pub(crate) fn powers(a: &Discrete, len: usize) -> Vec<f64> {
    let state = a.d0.len();
    let mut rows = vec![0.0; a.c.len() * (len + 1)];
    for (rows, c) in rows.chunks_exact_mut(state * (len + 1)).zip(a.c.chunks_exact(state)) {
        rows[..state].copy_from_slice(c);
        for t in 0..len {
            let (done, next) = rows.split_at_mut((t + 1) * state);
            recurrence::step(&mut next[..state], &done[t * state..], &a.d0, &a.v, &a.u);
        }
    }
    rows
}

/// C̃ = C(I − Ā^L). (kernel channels, N/2)
pub(crate) fn c_tilde(rows: &[f64], spec: &SsmSpec, len: usize) -> Vec<C64> {
    let (state, h) = (spec.state, spec.pairs());
    let mut out = Vec::with_capacity(spec.kernel_channels() * h);
    for rows in rows.chunks_exact(state * (len + 1)) {
        let (c, end) = (&rows[..state], &rows[state * len..]);
        out.extend((0..h).map(|n| C64::new(c[n] - end[n], c[n + h] - end[n + h])));
    }
    out
}

/// The numerators x_n y_n of every sum, and what the denominators are made of.
pub(crate) struct Sums {
    /// 2/Δ and λ by pair.
    pub(crate) poles: Vec<(f64, C64)>,
    /// (sums, N/2): C̃B of every channel, then C̃P (channel, rank), then P*B (rank), then P*P (rank, rank).
    pub(crate) products: Vec<C64>,
    pub(crate) count: usize,
    pub(crate) channels: usize,
    pub(crate) rank: usize,
}

/// ρ of one sum at [`NODES`] nodes: real parts, imaginary parts.
pub(crate) type Lanes = ([f64; NODES], [f64; NODES]);

impl Sums {
    pub(crate) fn new(head: &Head<'_>, c_tilde: &[C64], spec: &SsmSpec) -> Self {
        let (h, rank, channels) = (spec.pairs(), spec.rank, spec.kernel_channels());
        let count = channels * (1 + rank) + rank * (1 + rank);
        let mut products = Vec::with_capacity(count * h);
        for c in c_tilde.chunks_exact(h) {
            products.extend(c.iter().zip(head.b).map(|(c, b)| c * b));
        }
        for c in c_tilde.chunks_exact(h) {
            for r in 0..rank {
                products.extend(c.iter().zip(head.p(r)).map(|(c, p)| c * p));
            }
        }
        for r in 0..rank {
            products.extend(head.p(r).iter().zip(head.b).map(|(p, b)| p.conj() * b));
        }
        for r in 0..rank {
            for q in 0..rank {
                products.extend(head.p(r).iter().zip(head.p(q)).map(|(p, q)| p.conj() * q));
            }
        }
        let poles = head.dt.iter().zip(head.lambda).map(|(dt, &l)| (2.0 / dt, l)).collect();
        Sums { poles, products, count, channels, rank }
    }

    /// Where the sums P*B begin.
    pub(crate) fn p_b(&self) -> usize {
        self.channels * (1 + self.rank)
    }

    /// I + c ρ_{P*P}. (rank, rank)
    pub(crate) fn low_rank(&self, rho: impl Fn(usize) -> C64, c: f64) -> Vec<C64> {
        let (rank, p_p) = (self.rank, self.p_b() + self.rank);
        (0..rank * rank)
            .map(|k| rho(p_p + k) * c + if k / rank == k % rank { C64::ONE } else { C64::ZERO })
            .collect()
    }

    /// ρ of every sum at nodes first … first+7: (sums) of (Re, Im) by lane.
    #[inline(always)]
    pub(crate) fn at(&self, first: usize, len: usize) -> Vec<Lanes> {
        let mut rho = vec![([0.0; NODES], [0.0; NODES]); self.count];
        let (mut s, mut c) = ([0.0; NODES], [0.0; NODES]);
        for lane in 0..NODES {
            // Lanes beyond the last node repeat it.
            let j = (first + lane).min(len / 2);
            (s[lane], c[lane]) = (PI * j as f64 / len as f64).sin_cos();
        }
        let h = self.poles.len();
        for (n, &(two_by_dt, lambda)) in self.poles.iter().enumerate() {
            // 1/(i(2/Δ)s − λc) and the same with conj(λ); their sum and difference serve every product:
            // z/d + conj(z)/d′ = Re z·(1/d + 1/d′) + i Im z·(1/d − 1/d′).
            let (mut plus_re, mut plus_im) = ([0.0; NODES], [0.0; NODES]);
            let (mut minus_re, mut minus_im) = ([0.0; NODES], [0.0; NODES]);
            for l in 0..NODES {
                let re = -lambda.re * c[l];
                let (im, im_conj) =
                    (two_by_dt * s[l] - lambda.im * c[l], two_by_dt * s[l] + lambda.im * c[l]);
                let (size, size_conj) = (1.0 / (re * re + im * im), 1.0 / (re * re + im_conj * im_conj));
                plus_re[l] = re * size + re * size_conj;
                plus_im[l] = -im * size - im_conj * size_conj;
                minus_re[l] = re * size - re * size_conj;
                minus_im[l] = -im * size + im_conj * size_conj;
            }
            for (k, rho) in rho.iter_mut().enumerate() {
                let z = self.products[k * h + n];
                for l in 0..NODES {
                    rho.0[l] += z.re * plus_re[l] - z.im * minus_im[l];
                    rho.1[l] += z.re * plus_im[l] + z.im * minus_re[l];
                }
            }
        }
        rho
    }

    /// Woodbury at one node, and the conjugate node beside it.
    fn spectrum(&self, spectra: &mut [Vec<C64>], rho: &[Lanes], j: usize, lane: usize, len: usize) {
        let (channels, rank) = (self.channels, self.rank);
        let rho = |k: usize| C64::new(rho[k].0[lane], rho[k].1[lane]);
        let (turn, c) = (C64::cis(PI * j as f64 / len as f64), (PI * j as f64 / len as f64).cos());
        let mut x: Vec<C64> = (0..rank).map(|r| rho(self.p_b() + r)).collect();
        solve(&mut self.low_rank(rho, c), &mut x, rank);
        for (channel, spectrum) in spectra.iter_mut().enumerate() {
            let low_rank: C64 = (0..rank).map(|r| rho(channels + channel * rank + r) * x[r]).sum();
            let k = turn * (rho(channel) - low_rank * c);
            spectrum[j] = k;
            if j > 0 {
                spectrum[len - j] = k.conj();
            }
        }
    }
}

/// K̄_l = (1/L) Σ_j K̂_j e^{2πijl/L}.
fn inverse<T: Scalar>(kernel: &mut [&mut [T]], spectra: &mut [Vec<C64>], fft: &Fft) {
    let mut scratch = vec![C64::ZERO; fft.scratch()];
    let scale = 1.0 / fft.len() as f64;
    for (kernel, spectrum) in kernel.iter_mut().zip(spectra) {
        fft.inverse(spectrum, &mut scratch);
        for (k, z) in kernel.iter_mut().zip(spectrum.iter()) {
            *k = T::from_f64(z.re * scale);
        }
    }
}
