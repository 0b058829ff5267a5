//! Gradients of K̄ by Cauchy sums (the transpose of `cauchy.rs`, same letters): for Λ, P, B, C and Δ.
//!
//! A gradient of a complex z is ∂/∂Re z + i ∂/∂Im z. K̄ = irfft(K̂) gives g_K̂ = (w_j/L)·FFT(dK̄)_j on half of the
//! circle, w_j = 2 but for the nodes that are their own conjugates; Woodbury and the sums follow node by node, the
//! numerators and denominators are summed over the nodes, and what reaches C̃ goes through C̃ = C(I − Ā^L) by the
//! recurrence in reverse. All of it is f64, for the reason that the forward pass gives.

use crate::{
    Cpu, Workspace,
    linalg::{fft::Fft, small::solve},
    ssm::{
        cauchy::{NODES, Sums, c_tilde, check_cauchy, discrete, powers},
        discretize::{Discrete, discretize_backward},
        params::{C64, Head, HeadGrads, Params64, accumulate, check_grads, head_grads, head_grads_len},
        recurrence,
    },
};
use rayon::prelude::*;
use s4_backend::{Result, Scalar, SsmGrads, SsmParams, SsmSpec};
use std::f64::consts::PI;

impl<T: Scalar> Cpu<T> {
    /// Gradients of Σ K̄·dK̄ by the transpose of the paper's Algorithm 1 , in f64, accumulated
    /// into `grads` (`grads.d` is untouched). `dkernel`: (kernel channels, H, len). The same numbers as
    /// [`s4_backend::KernelOps::kernel_backward`] by another road; it is for proofs: it asks for memory at every
    /// call, L·N f64 a head among it.
    ///
    /// # Errors
    /// `ERR_S4_SHAPE` on lengths that do not fit, `ERR_S4_UNSUPPORTED` for zero-order hold.
    pub fn kernel_by_cauchy_backward(
        &self,
        mut grads: SsmGrads<'_, Self>,
        dkernel: &[T],
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "kernel_by_cauchy_backward";
        check_cauchy(OP, spec, len, rate, dkernel.len())?;
        check_grads(OP, &grads, spec)?;
        let wide = Params64::load(OP, params, spec, rate, ws)?;
        let fft = self.fft64(len);
        let stride = head_grads_len(spec);
        let mut flat = ws.c64.take_zeroed(spec.heads * stride);
        self.install(|| {
            flat.par_chunks_mut(stride).enumerate().for_each(|(h, flat)| {
                let dkernel =
                    (0..spec.kernel_channels()).map(|c| &dkernel[(c * spec.heads + h) * len..][..len]);
                let spectra: Vec<_> = dkernel.map(|dk| spectrum_backward(dk, &fft)).collect();
                head_backward(&mut head_grads(flat, spec), &spectra, &wide.head(h), spec, len);
            })
        });
        accumulate(&mut grads, &mut flat, params, spec, rate);
        ws.c64.give(flat);
        wide.give(ws);
        Ok(())
    }
}

/// g_K̂ at nodes 0 … L/2.
fn spectrum_backward<T: Scalar>(dkernel: &[T], fft: &Fft) -> Vec<C64> {
    let len = dkernel.len();
    let mut g: Vec<C64> = dkernel.iter().map(|&dk| C64::new(Scalar::to_f64(dk), 0.0)).collect();
    fft.forward(&mut g, &mut vec![C64::ZERO; fft.scratch()]);
    g.truncate(len / 2 + 1);
    for (j, g) in g.iter_mut().enumerate() {
        *g *= if j == 0 || 2 * j == len { 1.0 } else { 2.0 } / len as f64;
    }
    g
}

fn head_backward(
    grad: &mut HeadGrads<'_>,
    spectra: &[Vec<C64>],
    head: &Head<'_>,
    spec: &SsmSpec,
    len: usize,
) {
    let a = discrete(head, spec);
    let rows = powers(&a, len);
    let c_tilde = c_tilde(&rows, spec, len);
    let sums = Sums::new(head, &c_tilde, spec);
    let mut dsums = DSums::zeroed(&sums);
    for first in (0..=len / 2).step_by(NODES) {
        let rho = sums.at(first, len);
        for lane in 0..NODES.min(len / 2 + 1 - first) {
            let rho = |k: usize| C64::new(rho[k].0[lane], rho[k].1[lane]);
            let theta = PI * (first + lane) as f64 / len as f64;
            let g = spectra.iter().map(|g| g[first + lane]);
            let drho = sums.woodbury_backward(g, rho, theta);
            dsums.node(&sums, &drho, theta);
        }
    }
    let dc_tilde = dsums.parameters(grad, &c_tilde, head, &sums);
    c_tilde_backward(grad, &dc_tilde, &rows, &a, head, spec);
}

impl Sums {
    /// g_ρ of every sum at one node from g_K̂ of every channel: the transpose of Woodbury.
    fn woodbury_backward(
        &self,
        g: impl Iterator<Item = C64>,
        rho: impl Fn(usize) -> C64 + Copy,
        theta: f64,
    ) -> Vec<C64> {
        let (channels, rank, p_b) = (self.channels, self.rank, self.p_b());
        let (turn, c) = (C64::cis(theta), theta.cos());
        let mut drho = vec![C64::ZERO; self.count];
        let mut x: Vec<C64> = (0..rank).map(|r| rho(p_b + r)).collect();
        solve(&mut self.low_rank(rho, c), &mut x, rank);
        // K̂ = e^{iθ/2}(ρ_{C̃B} − c Σ_r ρ_{C̃P_r} x_r)
        let mut dx = vec![C64::ZERO; rank];
        for (channel, g) in g.enumerate() {
            let g = g * turn.conj();
            drho[channel] = g;
            for r in 0..rank {
                let k = channels + channel * rank + r;
                drho[k] = -(g * x[r].conj() * c);
                dx[r] -= g * rho(k).conj() * c;
            }
        }
        // M x = ρ_{P*B}: g_ρ = M^{−H} g_x, g_M = −g_ρ x^H, M = I + c ρ_{P*P}
        let m = self.low_rank(rho, c);
        let mut adjoint: Vec<C64> = (0..rank * rank).map(|k| m[k % rank * rank + k / rank].conj()).collect();
        solve(&mut adjoint, &mut dx, rank);
        for r in 0..rank {
            drho[p_b + r] = dx[r];
            for q in 0..rank {
                drho[p_b + rank + r * rank + q] = -(dx[r] * x[q].conj() * c);
            }
        }
        drho
    }
}

/// Gradients of [`Sums`], summed over the nodes.
struct DSums {
    /// Of 2/Δ and of λ, by pair.
    poles: Vec<(f64, C64)>,
    /// (sums, N/2)
    products: Vec<C64>,
}

impl DSums {
    fn zeroed(sums: &Sums) -> Self {
        DSums {
            poles: vec![(0.0, C64::ZERO); sums.poles.len()],
            products: vec![C64::ZERO; sums.products.len()],
        }
    }

    /// One node: ρ_k = Σ_n z/d + conj(z)/d′ with d = i(2/Δ)s − λc, d′ = i(2/Δ)s − conj(λ)c.
    fn node(&mut self, sums: &Sums, drho: &[C64], theta: f64) {
        let (s, c) = theta.sin_cos();
        let h = sums.poles.len();
        for (n, (&(two_by_dt, lambda), dpole)) in sums.poles.iter().zip(&mut self.poles).enumerate() {
            let turn = C64::new(0.0, two_by_dt * s);
            let (one, two) = ((turn - lambda * c).inv(), (turn - lambda.conj() * c).inv());
            let (plus, minus) = (one + two, one - two);
            let (mut by_one, mut by_two) = (C64::ZERO, C64::ZERO);
            for (k, &g) in drho.iter().enumerate() {
                let z = sums.products[k * h + n];
                // ρ = Re z·(1/d + 1/d′) + i Im z·(1/d − 1/d′)
                self.products[k * h + n] += C64::new((plus.conj() * g).re, (minus.conj() * g).im);
                by_one += z.conj() * g;
                by_two += z * g;
            }
            let (dd, dd_conj) = (-((one * one).conj() * by_one), -((two * two).conj() * by_two));
            dpole.0 += s * (dd.im + dd_conj.im);
            dpole.1 -= (dd + dd_conj.conj()) * c;
        }
    }

    /// Adds what reaches Λ, B, P and Δ without C̃; gives g_C̃ (kernel channels, N/2).
    fn parameters(
        &self,
        grad: &mut HeadGrads<'_>,
        c_tilde: &[C64],
        head: &Head<'_>,
        sums: &Sums,
    ) -> Vec<C64> {
        let (h, rank, channels, p_b) = (sums.poles.len(), sums.rank, sums.channels, sums.p_b());
        let mut dc = vec![C64::ZERO; channels * h];
        for n in 0..h {
            let dt = head.dt[n];
            grad.dt[n].re -= 2.0 / (dt * dt) * self.poles[n].0;
            grad.lambda[n] += self.poles[n].1;
            let g = |k: usize| self.products[k * h + n];
            let (b, p) = (head.b[n], |r: usize| head.p(r)[n]);
            for channel in 0..channels {
                let c = c_tilde[channel * h + n];
                let dc = &mut dc[channel * h + n];
                *dc += g(channel) * b.conj();
                grad.b[n] += g(channel) * c.conj();
                for r in 0..rank {
                    let g = g(channels + channel * rank + r);
                    *dc += g * p(r).conj();
                    grad.p[r * h + n] += g * c.conj();
                }
            }
            for r in 0..rank {
                // conj(P_r) B
                grad.b[n] += g(p_b + r) * p(r);
                grad.p[r * h + n] += g(p_b + r).conj() * b;
                for q in 0..rank {
                    // conj(P_r) P_q
                    let g = g(p_b + rank + r * rank + q);
                    grad.p[q * h + n] += g * p(r);
                    grad.p[r * h + n] += g.conj() * p(q);
                }
            }
        }
        dc
    }
}

/// C̃ = C − C Ā^L: the recurrence w_{t+1} = w_t Ā in reverse from g_{w_L} = −g_C̃, then the discretisation.
fn c_tilde_backward(
    grad: &mut HeadGrads<'_>,
    dc_tilde: &[C64],
    rows: &[f64],
    a: &Discrete,
    head: &Head<'_>,
    spec: &SsmSpec,
) {
    let (state, h) = (spec.state, spec.pairs());
    let mut da = Discrete::zeroed(spec);
    let mut turn = vec![0.0; state];
    let channel_len = rows.len() / spec.kernel_channels();
    for (channel, rows) in rows.chunks_exact(channel_len).enumerate() {
        let dc_tilde = &dc_tilde[channel * h..][..h];
        let mut g: Vec<f64> = dc_tilde.iter().map(|z| -z.re).chain(dc_tilde.iter().map(|z| -z.im)).collect();
        for w in rows.rchunks_exact(state).skip(1) {
            // Rows take u and v in each other's place.
            turn.fill(0.0);
            recurrence::step_backward(&mut turn, &mut da.d0, &mut da.v, &mut da.u, &g, w, &a.d0, &a.v, &a.u);
            std::mem::swap(&mut turn, &mut g);
        }
        let dc = &mut da.c[channel * state..][..state];
        for n in 0..h {
            (dc[n], dc[n + h]) = (g[n] + dc_tilde[n].re, g[n + h] + dc_tilde[n].im);
        }
    }
    discretize_backward(grad, &mut da, a, head, spec);
}
