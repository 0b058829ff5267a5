//! C̃ = C(I − Ā^L) and back, without L steps: Ā^L by repeated squaring, log₂ L products of N × N matrices. Where A
//! is diagonal so is Ā, and its power is one complex power per pair.

use crate::{
    linalg::gemm::{Mat, MatMut, gemm},
    ssm::{
        discretize::{Discrete, get, put},
        params::C64,
        recurrence::{self, Transition, TransitionGrads},
    },
};
use s4_backend::SsmSpec;

/// Ā as a map of rows, w ↦ wĀ, and the matrices Ā^{2^k}.
pub(super) struct PowerOfABar<'a> {
    spec: &'a SsmSpec,
    len: usize,
}

impl<'a> PowerOfABar<'a> {
    /// Doubles of scratch for [`c_tilde`], and for [`c_tilde_backward`] besides.
    pub(super) fn scratch_len(spec: &SsmSpec, len: usize, backward: bool) -> usize {
        if spec.rank == 0 {
            return 0;
        }
        let (matrix_len, rows_len) = (spec.state * spec.state, spec.kernel_channels() * spec.state);
        let powers = PowerOfABar { spec, len }.squarings() + 1;
        match backward {
            false => 2 * matrix_len + 2 * rows_len + spec.state,
            true => (powers + 2) * matrix_len + (powers + 2) * rows_len + spec.state,
        }
    }

    /// ⌊log₂ L⌋.
    fn squarings(&self) -> usize {
        self.len.ilog2() as usize
    }

    /// Whether Ā^{2^k} is a factor of Ā^L.
    fn has_factor(&self, k: usize) -> bool {
        self.len >> k & 1 == 1
    }

    /// Writes Ā (N, N) as it multiplies rows of coefficients [Re; Im] from the right: row j of `a_bar` becomes e_j Ā, with
    /// e_j the j-th unit vector. `unit` (N) is scratch.
    fn dense_a_bar_rows(&self, a_bar: &mut [f64], unit: &mut [f64], a: Transition<'_>) {
        unit.fill(0.0);
        for (j, row) in a_bar.chunks_exact_mut(self.spec.state).enumerate() {
            unit[j] = 1.0;
            recurrence::step(row, unit, a);
            unit[j] = 0.0;
        }
    }

    /// C (m, n) ← A (m, k)·B (k, n) of N columns each, plus `beta`·C.
    fn product(&self, c: &mut [f64], a: Mat<'_, f64>, b: Mat<'_, f64>, size: [usize; 2], beta: f64) {
        let n = self.spec.state;
        gemm([size[0], n, size[1]], 1.0, a, b, beta, MatMut::rows(c, n));
    }
}

fn rows_of(a: &Discrete) -> Transition<'_> {
    Transition { d0: &a.d0, out: &a.v, inn: &a.u }
}

/// C̃ (kernel channels, N/2).
pub(super) fn c_tilde(out: &mut [C64], a: &Discrete, spec: &SsmSpec, len: usize, scratch: &mut [f64]) {
    let (n, pairs, channels) = (spec.state, spec.pairs(), spec.kernel_channels());
    if spec.rank == 0 {
        for (out, c) in out.chunks_exact_mut(pairs).zip(a.c.chunks_exact(n)) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = get(c, i) * (1.0 - get(&a.d0, i).powu(len as u32));
            }
        }
        return;
    }
    let power = PowerOfABar { spec, len };
    let (mut matrix, rest) = scratch.split_at_mut(n * n);
    let (mut square, rest) = rest.split_at_mut(n * n);
    let (mut w, rest) = rest.split_at_mut(channels * n);
    let (mut next, rest) = rest.split_at_mut(channels * n);
    power.dense_a_bar_rows(matrix, &mut rest[..n], rows_of(a));
    w.copy_from_slice(&a.c);
    for k in 0..=power.squarings() {
        if k > 0 {
            power.product(square, Mat::rows(matrix, n), Mat::rows(matrix, n), [n, n], 0.0);
            (matrix, square) = (square, matrix);
        }
        if power.has_factor(k) {
            power.product(next, Mat::rows(w, n), Mat::rows(matrix, n), [channels, n], 0.0);
            (w, next) = (next, w);
        }
    }
    for ((out, c), w) in out.chunks_exact_mut(pairs).zip(a.c.chunks_exact(n)).zip(w.chunks_exact(n)) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = get(c, i) - get(w, i);
        }
    }
}

/// Adds to the gradients of Ā's parts and C, in `da`, what `dc_tilde` (kernel channels, N/2) gives.
pub(super) fn c_tilde_backward(
    da: &mut Discrete,
    dc_tilde: &[C64],
    a: &Discrete,
    spec: &SsmSpec,
    len: usize,
    scratch: &mut [f64],
) {
    let (n, pairs, channels) = (spec.state, spec.pairs(), spec.kernel_channels());
    if spec.rank == 0 {
        for (channel, dc_tilde) in dc_tilde.chunks_exact(pairs).enumerate() {
            let (c, dc) = (&a.c[channel * n..][..n], &mut da.c[channel * n..][..n]);
            for (i, &g) in dc_tilde.iter().enumerate() {
                let d0 = get(&a.d0, i);
                // d0^{L−1}, so that nothing is divided by a d0 of 0.
                let before = d0.powu(len as u32 - 1);
                let sum = get(dc, i) + g * (1.0 - before * d0).conj();
                put(dc, i, sum);
                let sum = get(&da.d0, i) - g * (get(c, i) * before * len as f64).conj();
                put(&mut da.d0, i, sum);
            }
        }
        return;
    }
    let power = PowerOfABar { spec, len };
    let (top, matrix) = (power.squarings(), n * n);
    let rows = channels * n;
    // Every Ā^{2^k}, and the rows that it multiplied.
    let (powers, rest) = scratch.split_at_mut((top + 1) * matrix);
    let (saved, rest) = rest.split_at_mut((top + 1) * rows);
    let (mut dmatrix, rest) = rest.split_at_mut(matrix);
    let (mut dnext, rest) = rest.split_at_mut(matrix);
    let (mut g, rest) = rest.split_at_mut(rows);
    let (mut w, rest) = rest.split_at_mut(rows);
    let unit = &mut rest[..n];
    power.dense_a_bar_rows(&mut powers[..matrix], unit, rows_of(a));
    saved[..rows].copy_from_slice(&a.c);
    for k in 0..top {
        let (done, next) = powers.split_at_mut((k + 1) * matrix);
        let a_k = Mat::rows(&done[k * matrix..], n);
        power.product(&mut next[..matrix], a_k, a_k, [n, n], 0.0);
        let (done, next) = saved.split_at_mut((k + 1) * rows);
        let (w_k, next) = (&done[k * rows..], &mut next[..rows]);
        if power.has_factor(k) {
            power.product(next, Mat::rows(w_k, n), a_k, [channels, n], 0.0);
        } else {
            next.copy_from_slice(w_k);
        }
    }
    for (g, dc) in g.chunks_exact_mut(n).zip(dc_tilde.chunks_exact(pairs)) {
        for (i, &dc) in dc.iter().enumerate() {
            put(g, i, -dc);
        }
    }
    dmatrix.fill(0.0);
    for k in (0..=top).rev() {
        let a_k = &powers[k * matrix..][..matrix];
        if k < top {
            // Ā^{2^{k+1}} = Ā^{2^k} Ā^{2^k}
            power.product(dnext, Mat::rows(dmatrix, n), Mat::cols(a_k, n), [n, n], 0.0);
            power.product(dnext, Mat::cols(a_k, n), Mat::rows(dmatrix, n), [n, n], 1.0);
            (dmatrix, dnext) = (dnext, dmatrix);
        }
        if power.has_factor(k) {
            let w_k = &saved[k * rows..][..rows];
            power.product(dmatrix, Mat::cols(w_k, n), Mat::rows(g, n), [n, channels], 1.0);
            power.product(w, Mat::rows(g, n), Mat::cols(a_k, n), [channels, n], 0.0);
            (g, w) = (w, g);
        }
    }
    // Row j of Ā is one step from the j-th unit vector.
    unit.fill(0.0);
    let unused = &mut dnext[..n];
    for (j, dnext) in dmatrix.chunks_exact(n).enumerate() {
        unit[j] = 1.0;
        let grads = TransitionGrads { d0: &mut da.d0, out: &mut da.v, inn: &mut da.u };
        recurrence::step_backward(unused, grads, dnext, unit, rows_of(a));
        unit[j] = 0.0;
    }
    for (channel, dc_tilde) in dc_tilde.chunks_exact(pairs).enumerate() {
        let (dc, g) = (&mut da.c[channel * n..][..n], &g[channel * n..][..n]);
        for (i, &direct) in dc_tilde.iter().enumerate() {
            let sum = get(dc, i) + get(g, i) + direct;
            put(dc, i, sum);
        }
    }
}
