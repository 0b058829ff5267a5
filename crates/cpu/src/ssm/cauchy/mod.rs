//! K̄ by the paper's Algorithm 1, and its gradients: four Cauchy sums per node, Woodbury, an inverse transform.
//!
//! With θ = 2πj/L, s = sin θ/2, c = cos θ/2, ρ_xy = Σ_n x_n y_n/(i(2/Δ)s − λ_n c) over all N, C̃ = C(I − Ā^L):
//!
//! ```text
//! K̂(ω_j) = e^{iθ/2} [ ρ_{C̃B} − c ρ_{C̃P} (I + c ρ_{P*P})⁻¹ ρ_{P*B} ],      K̄ = irfft(K̂, n = L)
//! ```
//!
//! The textbook form divides by 1 + ω and is NaN at ω = −1; this one has e^{−iθ/2} taken out and is finite
//! everywhere. All sums of a node share one denominator per pair, and that of its conjugate (`sums.rs`). All of it
//! is f64: modes that hardly decay (|Re λ|ΔL ≪ 1) defeat anything less.
//!
//! Memory per thread: L complex numbers for the transform and L/2 for each kernel channel's spectrum; for S4 and
//! its Ā^L (`power.rs`) two matrices of N² reals forward, ⌊log₂ L⌋ + 3 of them backward.
//!
//! I − Ā^L is a difference: where |Λ|ΔL ≪ 1 Ā is nearly I, and where |Λ|Δ ≫ 1 nearly −I, and of f64's digits few are left (none
//! for Λ = 0 of a diagonal A, whose pole is on the node ω = 1 of every length). Layers beyond [`LEAST`] and [`MOST`] are
//! refused, `fft` and `chunk` take them.

mod power;
mod sums;
mod sums_backward;

use crate::{
    Cpu, Level, Workspace,
    linalg::fft::Fft,
    ssm::{
        discretize::{HeadState, discretize, discretize_backward},
        params::{C64, Head, HeadGrads, Params64, accumulate, head_grads, head_grads_len},
        rows::rows_by_head,
        workers::{ScratchSizes, Workers},
    },
};
use power::{PowerOfABar, c_tilde, c_tilde_backward};
use rayon::prelude::*;
use s4_backend::{Discretization, Error, KernelBackward, KernelForward, Result, Scalar, SsmParams, SsmSpec};
use sums::SumNumerators;
use sums_backward::SumsBackward;

/// Least |Λ|ΔL of Algorithm 1, and most |Λ|Δ: at both some eight digits are right.
const LEAST: f64 = 1e-6;
const MOST: f64 = 1e8;
/// Least |Λ|ΔL of any pair where the rank is 1: PP* moves it and its conjugate together, so along (p, −p̄) it is as still as Λ alone has it.
/// Beside others six to seven digits are right there.
const LEAST_OF_A_PAIR: f64 = 1e-8;

/// The parameters of a layer that Algorithm 1 can do.
fn load<T: Scalar>(
    op: &'static str,
    params: &SsmParams<'_, Cpu<T>>,
    spec: &SsmSpec,
    (len, rate): (usize, f64),
    ws: &mut Workspace<T>,
) -> Result<Params64> {
    if spec.discretization != Discretization::Bilinear {
        let got = spec.discretization;
        return Err(Error::unsupported(op, "bilinear discretization, whose generating function it is", got));
    }
    let loaded = Params64::load(params, spec, rate, ws);
    let refused = (0..spec.heads).find_map(|h| {
        let head = loaded.head(h);
        let sizes = head.lambda.iter().zip(head.dt).map(|(lambda, dt)| lambda.norm() * dt);
        let (least, most) = sizes.fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(x), b.max(x)));
        // A mode of a diagonal A is alone; those of a low-rank form are of the size of all, but for one pair beside a rank of 1.
        let (least, most_over_time) = (least * len as f64, most * len as f64);
        let (of, bound) = match spec.rank {
            0 => (least, LEAST),
            1 if least < LEAST_OF_A_PAIR => (least, LEAST_OF_A_PAIR),
            _ => (most_over_time, LEAST),
        };
        let is_possible = of >= bound && most <= MOST;
        (!is_possible).then(|| (bound, format!("{of:.1e} and {most:.1e} (head {h})")))
    });
    if let Some((bound, got)) = refused {
        loaded.give(ws);
        let expected = format!(
            "|Λ|Δ·length of at least {bound:.0e} and |Λ|Δ of at most {MOST:.0e} with algorithm 'cauchy' ('fft' and 'chunk' take any)"
        );
        return Err(Error::unsupported(op, expected, got));
    }
    Ok(loaded)
}

impl<T: Scalar> Cpu<T> {
    /// K̄ by Algorithm 1, rounded once: the numbers of `kernel_forward` by another way.
    ///
    /// # Errors
    /// The errors of [`KernelForward::check`], and `ERR_S4_UNSUPPORTED` for zero-order hold and for |Λ|Δ too small or too large.
    pub fn kernel_by_cauchy(&self, args: KernelForward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let KernelForward { kernel, params, spec, len, rate } = args;
        let loaded = load("kernel_by_cauchy", &params, &spec, (len, rate), ws)?;
        let plan = CauchyPlan { fft: self.fft64(len), level: self.level(), len };
        let workers = Workers::take(self.threads(), &spec, plan.scratch_sizes(&spec, false), ws);
        let mut rows = rows_by_head(kernel, len, spec.heads);
        self.install(|| {
            rows.par_chunks_mut(spec.kernel_channels()).enumerate().for_each(|(h, kernel)| {
                let worker = &mut *workers.lock();
                plan.forward(
                    kernel,
                    &loaded.head(h),
                    &mut worker.head_state,
                    &mut worker.f64_scratch,
                    &mut worker.complex,
                );
            })
        });
        workers.give(ws);
        loaded.give(ws);
        Ok(())
    }

    /// The transpose of [`Cpu::kernel_by_cauchy`]: see [`KernelBackward`].
    ///
    /// # Errors
    /// The errors of [`KernelBackward::check`], and `ERR_S4_UNSUPPORTED` for zero-order hold and for |Λ|Δ too small or too large.
    pub fn kernel_by_cauchy_backward(
        &self,
        args: KernelBackward<'_, Self>,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        args.check(self)?;
        let KernelBackward { mut grads, dkernel, params, spec, len, rate } = args;
        let loaded = load("kernel_by_cauchy_backward", &params, &spec, (len, rate), ws)?;
        let plan = CauchyPlan { fft: self.fft64(len), level: self.level(), len };
        let workers = Workers::take(self.threads(), &spec, plan.scratch_sizes(&spec, true), ws);
        let stride = head_grads_len(&spec);
        let mut flat = ws.c64.take_zeroed(spec.heads * stride);
        self.install(|| {
            flat.par_chunks_mut(stride).enumerate().for_each(|(h, flat)| {
                let worker = &mut *workers.lock();
                let dkernel = |channel: usize| &dkernel[(channel * spec.heads + h) * len..][..len];
                let grad = &mut head_grads(flat, &spec);
                let scratch = (&mut worker.f64_scratch[..], &mut worker.complex[..]);
                plan.backward(grad, dkernel, &loaded.head(h), &mut worker.head_state, scratch);
            })
        });
        accumulate(&mut grads, &mut flat, &params, &spec, rate);
        ws.c64.give(flat);
        workers.give(ws);
        loaded.give(ws);
        Ok(())
    }
}

/// The transform from L nodes to L time steps, and the instruction set, of a kernel of length L.
struct CauchyPlan {
    fft: Fft,
    level: Level,
    /// L
    len: usize,
}

impl CauchyPlan {
    /// Nodes 0 … L/2; the others are their conjugates.
    fn nodes(&self) -> usize {
        self.len / 2 + 1
    }

    /// What a thread works in: see `forward` and `backward`.
    fn scratch_sizes(&self, spec: &SsmSpec, backward: bool) -> ScratchSizes {
        let channels = spec.kernel_channels();
        let spectra = channels * self.nodes() + self.len + self.fft.scratch();
        let (products, c_tilde) = (SumNumerators::products_len(spec), channels * spec.pairs());
        let (f64_scratch, complex) = match backward {
            false => (SumNumerators::lanes_len(spec), products + c_tilde),
            true => (2 * SumNumerators::lanes_len(spec), 2 * (products + c_tilde)),
        };
        let f64_scratch = f64_scratch + PowerOfABar::scratch_len(spec, self.len, backward);
        ScratchSizes { f64_scratch, real: 0, complex: spectra + complex, backward }
    }

    /// The kernel rows (kernel channels) of one head.
    fn forward<T: Scalar>(
        &self,
        kernel: &mut [&mut [T]],
        head: &Head<'_>,
        at: &mut HeadState,
        f64_scratch: &mut [f64],
        complex: &mut [C64],
    ) {
        let spec = head.spec();
        discretize(&mut at.discrete, head);
        let (lanes, power) = f64_scratch.split_at_mut(SumNumerators::lanes_len(spec));
        let (products, complex) = complex.split_at_mut(SumNumerators::products_len(spec));
        let (tilde, complex) = complex.split_at_mut(kernel.len() * spec.pairs());
        let (spectra, complex) = complex.split_at_mut(kernel.len() * self.nodes());
        let (circle, fft_scratch) = complex.split_at_mut(self.len);
        c_tilde(tilde, &at.discrete, spec, self.len, power);
        let sums = SumNumerators::new(products, head, tilde);
        for first in (0..self.nodes()).step_by(sums::NODES) {
            let block = self.level.run(
                #[inline(always)]
                || sums.at(lanes, first, self.len),
            );
            for node in block.nodes(lanes, self.nodes()) {
                sums.spectrum(spectra, &node, self.nodes());
            }
        }
        for (kernel, spectrum) in kernel.iter_mut().zip(spectra.chunks_exact(self.nodes())) {
            self.inverse(kernel, spectrum, circle, fft_scratch);
        }
    }

    /// K̄_l = (1/L) Σ_j K̂_j e^{2πijl/L}.
    fn inverse<T: Scalar>(
        &self,
        kernel: &mut [T],
        spectrum: &[C64],
        circle: &mut [C64],
        fft_scratch: &mut [C64],
    ) {
        circle[..spectrum.len()].copy_from_slice(spectrum);
        for (to, from) in circle.iter_mut().rev().zip(&spectrum[1..]) {
            *to = from.conj();
        }
        self.fft.inverse(circle, fft_scratch);
        let scale = 1.0 / self.len as f64;
        for (k, z) in kernel.iter_mut().zip(circle.iter()) {
            *k = T::from_f64(z.re * scale);
        }
    }

    /// The transpose of [`CauchyPlan::inverse`]: g_K̂ = (w_j/L)·FFT(dK̄)_j at nodes 0 … L/2, w_j = 2 but for the nodes
    /// that are their own conjugates.
    fn inverse_backward<T: Scalar>(
        &self,
        spectrum: &mut [C64],
        dkernel: &[T],
        circle: &mut [C64],
        fft_scratch: &mut [C64],
    ) {
        for (z, &dk) in circle.iter_mut().zip(dkernel) {
            *z = C64::new(Scalar::to_f64(dk), 0.0);
        }
        self.fft.forward(circle, fft_scratch);
        for (j, (g, z)) in spectrum.iter_mut().zip(circle.iter()).enumerate() {
            let weight = if j == 0 || 2 * j == self.len { 1.0 } else { 2.0 };
            *g = z * (weight / self.len as f64);
        }
    }

    /// Gradients of one head, accumulated. `dkernel(channel)`: L.
    fn backward<'k, T: Scalar>(
        &self,
        grad: &mut HeadGrads<'_>,
        dkernel: impl Fn(usize) -> &'k [T],
        head: &Head<'_>,
        at: &mut HeadState,
        (f64_scratch, complex): (&mut [f64], &mut [C64]),
    ) {
        let spec = head.spec();
        let channels = spec.kernel_channels();
        let HeadState { discrete, ddiscrete, .. } = at;
        discretize(discrete, head);
        ddiscrete.clear();
        let (lanes, f64_scratch) = f64_scratch.split_at_mut(SumNumerators::lanes_len(spec));
        let (dlanes, power) = f64_scratch.split_at_mut(SumNumerators::lanes_len(spec));
        let (products, complex) = complex.split_at_mut(SumNumerators::products_len(spec));
        let (dproducts, complex) = complex.split_at_mut(SumNumerators::products_len(spec));
        let (tilde, complex) = complex.split_at_mut(channels * spec.pairs());
        let (dtilde, complex) = complex.split_at_mut(channels * spec.pairs());
        let (spectra, complex) = complex.split_at_mut(channels * self.nodes());
        let (circle, fft_scratch) = complex.split_at_mut(self.len);
        for (channel, spectrum) in spectra.chunks_exact_mut(self.nodes()).enumerate() {
            self.inverse_backward(spectrum, dkernel(channel), circle, fft_scratch);
        }
        c_tilde(tilde, discrete, spec, self.len, power);
        let sums = SumNumerators::new(products, head, tilde);
        let mut dsums = SumsBackward::new(&sums, dproducts, dtilde);
        for first in (0..self.nodes()).step_by(sums::NODES) {
            let block = self.level.run(
                #[inline(always)]
                || sums.at(lanes, first, self.len),
            );
            dlanes.fill(0.0);
            for node in block.nodes(lanes, self.nodes()) {
                dsums.woodbury(grad, dlanes, &node, |channel| spectra[channel * self.nodes() + node.j]);
            }
            self.level.run(
                #[inline(always)]
                || dsums.sums(grad, dlanes, &block),
            );
        }
        dsums.products(grad);
        c_tilde_backward(ddiscrete, dtilde, discrete, spec, self.len, power);
        discretize_backward(grad, ddiscrete, discrete, head);
    }
}
