//! K̄ of one head in blocks of T time steps (paper eq. 5): K̄_{Ta+b} = (C Ā^{Ta})·(Ā^b B̄), forward and backward.
//!
//! Both factors are chains in f64: T columns x_b = Ā^b B̄ by the recurrence, ⌈L/T⌉ rows w_a = w_{a−1} Q with
//! Q = Ā^T; the product is one GEMM in the type of the buffers. For S4D, Q is diagonal and this is the
//! Vandermonde product λ̄^{Ta}·λ̄^b without a power or an exponential per time step. For S4 it gives what
//! Algorithm 1 gives (`cauchy.rs`) and stays exact for modes that hardly decay.
//!
//! Rows are kept as [2Re, −2Im] of their coefficients, columns as [Re; Im], so a product over conjugate pairs is
//! a plain real one.

use crate::{
    Level,
    linalg::{
        gemm::{Mat, MatMut, gemm},
        math::fma,
        simd::simd,
        transpose::transpose_map,
    },
    ssm::{
        chains::{Chains, Dims},
        chains_backward::chains_backward,
        discretize::{HeadState, discretize, discretize_backward},
        params::{Head, HeadGrads},
    },
};
use s4_backend::{Scalar, SsmSpec};

/// How a kernel is cut: L time steps in ⌈L/T⌉ blocks of T, T near √L.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelCut {
    len: usize,
    rows: usize,
    dims: Dims,
}

/// Scratch of one thread: contents are garbage between calls.
pub(crate) struct Scratch<'a, T> {
    pub(crate) f64_scratch: &'a mut [f64],
    pub(crate) real: &'a mut [T],
}

impl KernelCut {
    pub(crate) fn new(spec: &SsmSpec, len: usize) -> Self {
        let chunk = ((len as f64).sqrt() as usize).next_power_of_two().clamp(1, len);
        // The chains of W and K̄ are not wanted: no channels.
        let dims = Dims { channels: 0, ..Dims::new(spec, chunk) };
        KernelCut { len, rows: len.div_ceil(chunk), dims }
    }

    /// (f64_scratch, real) elements of scratch that the forward pass takes.
    pub(crate) fn forward_scratch(&self) -> (usize, usize) {
        let Dims { chunk, state, .. } = self.dims;
        (Chains::len(&self.dims) + self.rows * state + self.transition_len(), (chunk + self.rows) * state)
    }

    /// (f64_scratch, real) elements of scratch that the backward pass takes.
    pub(crate) fn backward_scratch(&self) -> (usize, usize) {
        let Dims { chunk, state, .. } = self.dims;
        (
            2 * Chains::len(&self.dims) + 2 * self.rows * state + self.transition_len(),
            2 * (chunk + self.rows) * state + self.rows * chunk,
        )
    }

    /// Elements of Q as [`KernelCut::rows`] reads it.
    fn transition_len(&self) -> usize {
        if self.dims.rank == 0 { 0 } else { self.dims.state.pow(2) }
    }

    /// Q from its transpose.
    fn transition(&self, level: Level, q: &mut [f64], chains: &Chains<'_>) {
        let state = self.dims.state;
        if self.dims.rank > 0 {
            level.run(
                #[inline(always)]
                || transpose_map(q, state, chains.q, state, [state, state], |q| q),
            );
        }
    }

    /// w_0 = C, w_a = w_{a−1} Q.
    #[inline(always)]
    fn rows<const FMA: bool>(&self, w: &mut [f64], c: &[f64], chains: &Chains<'_>, q: &[f64]) {
        let Dims { chunk, state, rank, .. } = self.dims;
        let h = state / 2;
        for n in 0..h {
            (w[n], w[n + h]) = (2.0 * c[n], -2.0 * c[n + h]);
        }
        let power = &chains.power[chunk * state..];
        for a in 1..self.rows {
            let (done, next) = w.split_at_mut(a * state);
            let (w, next) = (&done[(a - 1) * state..], &mut next[..state]);
            if rank == 0 {
                for n in 0..h {
                    next[n] = w[n] * power[n] + w[n + h] * power[n + h];
                    next[n + h] = w[n + h] * power[n] - w[n] * power[n + h];
                }
            } else {
                next.fill(0.0);
                add_product::<FMA>(next, w, q);
            }
        }
    }

    /// The kernel rows (kernel channels) of one head.
    pub(crate) fn forward<T: Scalar>(
        &self,
        level: Level,
        kernel: &mut [&mut [T]],
        at: &mut HeadState,
        head: &Head<'_>,
        scratch: Scratch<'_, T>,
    ) {
        let Dims { chunk, state, .. } = self.dims;
        let (chains_scratch, w) = scratch.f64_scratch.split_at_mut(Chains::len(&self.dims));
        let (w, q) = w.split_at_mut(self.rows * state);
        let q = &mut q[..self.transition_len()];
        let mut chains = Chains::new(chains_scratch, &self.dims);
        self.chains(level, &mut chains, at, head);
        self.transition(level, q, &chains);
        let (x_t, w_t) = scratch.real.split_at_mut(chunk * state);
        round(x_t, chains.x);
        for (kernel, c) in kernel.iter_mut().zip(at.discrete.c.chunks_exact(state)) {
            simd!(level, FMA => self.rows::<FMA>(w, c, &chains, q));
            round(w_t, w);
            let (whole, rest) = kernel.split_at_mut(self.len / chunk * chunk);
            for (first, out) in [(0, whole), (self.len / chunk, rest)] {
                let (rows, cols) = (out.len().div_ceil(chunk), out.len().min(chunk));
                let (w, x) =
                    (Mat::rows(&w_t[(first * state).min(w_t.len())..], state), Mat::cols(x_t, state));
                gemm([rows, cols, state], T::one(), w, x, T::zero(), MatMut::rows(out, chunk));
            }
        }
    }

    fn chains(&self, level: Level, chains: &mut Chains<'_>, at: &mut HeadState, head: &Head<'_>) {
        discretize(&mut at.discrete, head);
        chains.run(level, &at.discrete, &self.dims);
        if self.dims.rank > 0 {
            chains.product(&self.dims);
        }
    }

    /// Gradients of one head; `dkernel`: its kernel channels' rows. `grad` accumulates.
    pub(crate) fn backward<'k, T: Scalar>(
        &self,
        level: Level,
        grad: &mut HeadGrads<'_>,
        dkernel: impl Iterator<Item = &'k [T]>,
        at: &mut HeadState,
        head: &Head<'_>,
        scratch: Scratch<'_, T>,
    ) {
        let Dims { chunk, state, rank, .. } = self.dims;
        let (h, rows) = (state / 2, self.rows);
        let (forward, f64_scratch) = scratch.f64_scratch.split_at_mut(Chains::len(&self.dims));
        let (back, f64_scratch) = f64_scratch.split_at_mut(Chains::len(&self.dims));
        let (w, f64_scratch) = f64_scratch.split_at_mut(rows * state);
        let (g, q) = f64_scratch.split_at_mut(rows * state);
        let q = &mut q[..self.transition_len()];
        let mut chains = Chains::new(forward, &self.dims);
        self.chains(level, &mut chains, at, head);
        self.transition(level, q, &chains);
        back.fill(0.0);
        let dchains = Chains::new(back, &self.dims);
        let (x_t, real) = scratch.real.split_at_mut(chunk * state);
        let (dx_t, real) = real.split_at_mut(chunk * state);
        let (w_t, real) = real.split_at_mut(rows * state);
        let (dw_t, real) = real.split_at_mut(rows * state);
        let dk = &mut real[..rows * chunk];
        round(x_t, chains.x);
        at.ddiscrete.clear();
        for (channel, dkernel) in dkernel.enumerate() {
            let c = &at.discrete.c[channel * state..][..state];
            simd!(level, FMA => self.rows::<FMA>(w, c, &chains, q));
            round(w_t, w);
            dk[..self.len].copy_from_slice(dkernel);
            dk[self.len..].fill(T::zero());
            // K = W Xᵀ: dW = dK X, dX = dKᵀ W.
            let (one, zero) = (T::one(), T::zero());
            let dk_rows = Mat::rows(dk, chunk);
            gemm([rows, state, chunk], one, dk_rows, Mat::rows(x_t, state), zero, MatMut::rows(dw_t, state));
            let dk_cols = Mat::cols(dk, chunk);
            gemm([chunk, state, rows], one, dk_cols, Mat::rows(w_t, state), zero, MatMut::rows(dx_t, state));
            for (to, &from) in dchains.x.iter_mut().zip(dx_t.iter()) {
                *to += Scalar::to_f64(from);
            }
            // The rows in reverse: g_a = dw_a + g_{a+1} Qᵀ.
            for (g, &dw) in g.iter_mut().zip(dw_t.iter()) {
                *g = Scalar::to_f64(dw);
            }
            simd!(level, FMA => for a in (0..rows - 1).rev() {
                let (before, after) = g.split_at_mut((a + 1) * state);
                let (g, next) = (&mut before[a * state..], &after[..state]);
                if rank == 0 {
                    let power = &chains.power[chunk * state..];
                    let dpower = &mut dchains.power[chunk * state..];
                    let w = &w[a * state..][..state];
                    for n in 0..h {
                        g[n] += next[n] * power[n] - next[n + h] * power[n + h];
                        g[n + h] += next[n] * power[n + h] + next[n + h] * power[n];
                        dpower[n] += next[n] * w[n] + next[n + h] * w[n + h];
                        dpower[n + h] += next[n] * w[n + h] - next[n + h] * w[n];
                    }
                } else {
                    add_product::<FMA>(g, next, chains.q);
                }
            });
            if rank > 0 && rows > 1 {
                let (w, g) = (Mat::cols(w, state), Mat::rows(&g[state..], state));
                gemm([state, state, rows - 1], 1.0, w, g, 1.0, MatMut::rows(dchains.q, state));
            }
            let dc = &mut at.ddiscrete.c[channel * state..][..state];
            for n in 0..h {
                dc[n] += 2.0 * g[n];
                dc[n + h] -= 2.0 * g[n + h];
            }
        }
        chains_backward(level, &chains, dchains, at, &self.dims);
        discretize_backward(grad, &mut at.ddiscrete, &at.discrete, head);
    }
}

/// y (columns) += x (rows) · m (rows, columns): a stretch of y stays in registers while x and m go by.
#[inline(always)]
fn add_product<const FMA: bool>(y: &mut [f64], x: &[f64], m: &[f64]) {
    const WIDE: usize = 32;
    let columns = y.len();
    let (wide_columns, rest) = y.as_chunks_mut::<WIDE>();
    let first = wide_columns.len() * WIDE;
    for (i, y) in wide_columns.iter_mut().enumerate() {
        // Two sums, so that one product need not wait for the one before.
        let mut sums = [*y, [0.0; WIDE]];
        let (pairs, last) = x.as_chunks::<2>();
        let line = |k: usize| m[k * columns + i * WIDE..].first_chunk::<WIDE>();
        for (k, pair) in pairs.iter().enumerate() {
            for (lane, (sum, &x)) in sums.iter_mut().zip(pair).enumerate() {
                let Some(line) = line(2 * k + lane) else { continue };
                for l in 0..WIDE {
                    sum[l] = fma::<f64, FMA>(x, line[l], sum[l]);
                }
            }
        }
        if let (Some(&x), Some(line)) = (last.first(), line(x.len().saturating_sub(1))) {
            for l in 0..WIDE {
                sums[0][l] = fma::<f64, FMA>(x, line[l], sums[0][l]);
            }
        }
        for l in 0..WIDE {
            y[l] = sums[0][l] + sums[1][l];
        }
    }
    for (&x, m) in x.iter().zip(m.chunks_exact(columns)) {
        for (y, &m) in rest.iter_mut().zip(&m[first..]) {
            *y = fma::<f64, FMA>(x, m, *y);
        }
    }
}

fn round<T: Scalar>(to: &mut [T], from: &[f64]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = T::from_f64(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_times_a_matrix_is_its_sums() {
        for (rows, columns) in [(1, 1), (2, 2), (7, 31), (8, 32), (33, 65), (64, 64), (3, 96)] {
            let x: Vec<f64> = (0..rows).map(|i| (i as f64 * 0.7).sin()).collect();
            let m: Vec<f64> = (0..rows * columns).map(|i| (i as f64 * 0.3).cos()).collect();
            let mut y = vec![0.5; columns];
            simd!(Level::detect(), FMA => add_product::<FMA>(&mut y, &x, &m));
            for (c, y) in y.iter().enumerate() {
                let sum: f64 = 0.5 + x.iter().enumerate().map(|(r, x)| x * m[r * columns + c]).sum::<f64>();
                assert!((y - sum).abs() <= 1e-13, "{rows} × {columns}: {y} {sum}");
            }
        }
    }
}
