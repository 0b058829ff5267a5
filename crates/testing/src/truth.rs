//! The true outputs and gradients of layers in f64: outputs by the oracles of `s4-ssm`, gradients by the transpose of
//! the dense recurrence.

use crate::layer::{Call, Layer};
use nalgebra::{DMatrix, DVector};
use s4_backend::Transform;
use s4_ssm::{
    C64, Discretization, DiscretizedMatrices, Ssm, conv_bidirectional, conv_bidirectional_adjoint,
    conv_causal, conv_causal_adjoint, exp_m1, kernel_by_powers, recurrence, with_conjugates,
};

/// The stored state of one head of one sequence, from a state (batch, H, 2, N/2); `head_index` counts through (batch,
/// H).
pub(crate) fn state_of_head(state: Option<&Vec<f64>>, head_index: usize, pairs: usize) -> Option<Vec<C64>> {
    let parts = &state?[head_index * 2 * pairs..][..2 * pairs];
    Some((0..pairs).map(|n| C64::new(parts[n], parts[pairs + n])).collect())
}

/// Appends a state in the layout (2, N/2): real parts, then imaginary parts.
pub(crate) fn append_state(to: &mut Vec<f64>, state: &[C64]) {
    to.extend(state.iter().map(|x| x.re));
    to.extend(state.iter().map(|x| x.im));
}

/// The convolution kernel, (kernel channels, H, len).
pub fn kernel(layer: &Layer, len: usize) -> Vec<f64> {
    let heads: Vec<_> = layer.heads(1.0).iter().map(|ssm| kernel_by_powers(ssm, len)).collect();
    (0..layer.spec.kernel_channels()).flat_map(|c| heads.iter().flat_map(move |h| h[c].clone())).collect()
}

/// The output y (batch, channels·H, len) and, for a layer with a state, the state (batch, H, 2, N/2) after each
/// sequence's last time step.
pub fn forward(layer: &Layer, call: &Call) -> (Vec<f64>, Option<Vec<f64>>) {
    let spec = &layer.spec;
    let (len, d) = (call.len, &layer.values[6]);
    let mut y = vec![0.0; call.batch * spec.outputs() * len];
    let mut ends = Vec::new();
    let ssms = layer.heads(1.0);
    for b in 0..call.batch {
        for (h, ssm) in ssms.iter().enumerate() {
            let head_index = b * spec.heads + h;
            let u = &call.u[head_index * len..][..call.length(b)];
            let rows = if spec.has_state() {
                let x0 = state_of_head(call.state0.as_ref(), head_index, spec.pairs());
                let (mut rows, end) = recurrence(ssm, u, x0.as_deref());
                append_state(&mut ends, &end);
                for (c, y) in rows.iter_mut().enumerate() {
                    y.iter_mut().zip(u).for_each(|(y, u)| *y += d[c * spec.heads + h] * u);
                }
                rows
            } else {
                let k = kernel_by_powers(ssm, spec.truncate.unwrap_or(len).min(len));
                (0..spec.channels)
                    .map(|c| match spec.bidirectional {
                        true => conv_bidirectional(u, &k[c], &k[spec.channels + c], d[c * spec.heads + h]),
                        false => conv_causal(u, &k[c], d[c * spec.heads + h]),
                    })
                    .collect()
            };
            for (c, out) in rows.iter().enumerate() {
                y[(b * spec.outputs() + c * spec.heads + h) * len..][..out.len()].copy_from_slice(out);
            }
        }
    }
    (y, spec.has_state().then_some(ends))
}

/// The gradients of [`objective`].
#[derive(Clone, Debug)]
pub struct Gradients {
    /// (batch, H, len)
    pub du: Vec<f64>,
    /// (batch, H, 2, N/2), where the layer has a state.
    pub dstate0: Option<Vec<f64>>,
    /// The gradients of inv_dt, a_real, a_imag, b, c, p, d, in the shapes of the parameters.
    pub params: [Vec<f64>; 7],
}

/// The gradients of sum(y·dy) + sum(state_end·dstate_end), where dy beyond a sequence's length does not count.
pub fn gradients(layer: &Layer, call: &Call) -> Gradients {
    let (spec, len, d) = (&layer.spec, call.len, &layer.values[6]);
    let mut du = vec![0.0; call.batch * spec.heads * len];
    let mut dstate0 = vec![0.0; if spec.has_state() { spec.state_len(call.batch) } else { 0 }];
    let mut params = layer.values.each_ref().map(|v| vec![0.0; v.len()]);
    for (h, ssm) in layer.heads(1.0).iter().enumerate() {
        let mut pass = RecurrenceTranspose::new(ssm);
        let kernel_len = spec.truncate.unwrap_or(len).min(len);
        let kernel = if spec.has_state() { Vec::new() } else { kernel_by_powers(ssm, kernel_len) };
        let mut dkernel = vec![vec![0.0; kernel_len]; kernel.len()];
        for b in 0..call.batch {
            let (head_index, n) = (b * spec.heads + h, call.length(b));
            let u = &call.u[head_index * len..][..n];
            let du = &mut du[head_index * len..][..n];
            let dy: Vec<&[f64]> = (0..spec.channels)
                .map(|c| &call.dy[(b * spec.outputs() + c * spec.heads + h) * len..][..n])
                .collect();
            let mut add = |part: Vec<f64>| du.iter_mut().zip(part).for_each(|(a, b)| *a += b);
            for (c, dy) in dy.iter().enumerate() {
                params[6][c * spec.heads + h] += dy.iter().zip(u).map(|(dy, u)| dy * u).sum::<f64>();
                let d = d[c * spec.heads + h];
                if spec.has_state() {
                    add(dy.iter().map(|dy| d * dy).collect());
                } else if spec.bidirectional {
                    let back = spec.channels + c;
                    add(conv_bidirectional_adjoint(dy, &kernel[c], &kernel[back], d));
                    correlate(&mut dkernel[c], dy, u, |t, j| t.checked_sub(j));
                    correlate(&mut dkernel[back], dy, u, |t, j| Some(t + 1 + j));
                } else {
                    add(conv_causal_adjoint(dy, &kernel[c], d));
                    correlate(&mut dkernel[c], dy, u, |t, j| t.checked_sub(j));
                }
            }
            if spec.has_state() {
                let state0 = state_of_head(call.state0.as_ref(), head_index, spec.pairs());
                let dstate_end = state_of_head(call.dstate_end.as_ref(), head_index, spec.pairs());
                let (part, before) = pass.backward(u, &dy, state0.as_deref(), dstate_end.as_deref());
                add(part);
                let to = &mut dstate0[head_index * spec.state..][..spec.state];
                for (n, g) in before.iter().enumerate() {
                    (to[n], to[spec.pairs() + n]) = (g.re, -g.im);
                }
            }
        }
        if !spec.has_state() {
            pass.kernel_backward(&dkernel);
        }
        pass.add_to(&mut params, layer, h, 1.0);
    }
    Gradients { du, dstate0: spec.has_state().then_some(dstate0), params }
}

/// The gradients of sum(kernel·dkernel) with respect to the parameters; `dkernel` is (kernel channels, H, len).
pub fn kernel_gradients(layer: &Layer, len: usize, dkernel: &[f64]) -> [Vec<f64>; 7] {
    let mut params = layer.values.each_ref().map(|v| vec![0.0; v.len()]);
    for (h, ssm) in layer.heads(1.0).iter().enumerate() {
        let rows = (0..layer.spec.kernel_channels())
            .map(|c| dkernel[(c * layer.spec.heads + h) * len..][..len].to_vec());
        let mut pass = RecurrenceTranspose::new(ssm);
        pass.kernel_backward(&rows.collect::<Vec<_>>());
        pass.add_to(&mut params, layer, h, 1.0);
    }
    params
}

/// The gradient of a convolution's kernel: dkernel_j += Σ_t dy_t u_{at(t, j)}, without the terms where `at` gives
/// `None` or an index beyond the end.
fn correlate(dkernel: &mut [f64], dy: &[f64], u: &[f64], at: impl Fn(usize, usize) -> Option<usize>) {
    for (j, dk) in dkernel.iter_mut().enumerate() {
        let terms = (0..u.len()).filter_map(|t| Some(dy[t] * u.get(at(t, j)?)?));
        *dk += terms.sum::<f64>();
    }
}

/// The transpose of one head's recurrence x_t = Ā x_{t−1} + B̄ u_t, y = Re(C x), over the full state.
///
/// Gradients g of a complex z are defined by dF = Re(g dz), without a conjugate. A stored entry z and its conjugate in
/// the full state first have gradients g and g′ of their own; the gradient of the stored entry is g + conj(g′).
pub(crate) struct RecurrenceTranspose<'a> {
    ssm: &'a Ssm,
    discrete: DiscretizedMatrices,
    da_bar: DMatrix<C64>,
    db_bar: DVector<C64>,
    /// The gradient of C for each channel, of the stored half.
    dc: Vec<Vec<C64>>,
}

impl<'a> RecurrenceTranspose<'a> {
    pub(crate) fn new(ssm: &'a Ssm) -> Self {
        let n = 2 * ssm.pairs();
        RecurrenceTranspose {
            ssm,
            discrete: ssm.discretize(),
            da_bar: DMatrix::zeros(n, n),
            db_bar: DVector::zeros(n),
            dc: vec![vec![C64::ZERO; ssm.pairs()]; ssm.c.len()],
        }
    }

    /// Goes backwards through one sequence: adds to the gradients of Ā, B̄ and C, and gives those of u and of the state
    /// before the first time step (its stored half).
    pub(crate) fn backward(
        &mut self,
        u: &[f64],
        dy: &[&[f64]],
        state0: Option<&[C64]>,
        dstate_end: Option<&[C64]>,
    ) -> (Vec<f64>, Vec<C64>) {
        let pairs = self.ssm.pairs();
        let DiscretizedMatrices { a_bar, b_bar } = &self.discrete;
        let c: Vec<DVector<C64>> = self.ssm.c.iter().map(|c| with_conjugates(c)).collect();
        let mut states = vec![state0.map_or_else(|| DVector::zeros(2 * pairs), with_conjugates)];
        for (t, &u) in u.iter().enumerate() {
            states.push(a_bar * &states[t] + b_bar * C64::from(u));
        }
        // dstate_end holds ∂F/∂Re and ∂F/∂Im of the end state as real and imaginary part: the gradient g is its
        // conjugate.
        let mut g = DVector::from_fn(2 * pairs, |n, _| match dstate_end {
            Some(d) if n < pairs => d[n].conj(),
            _ => C64::ZERO,
        });
        let mut du = vec![0.0; u.len()];
        let transposed = a_bar.transpose();
        for t in (0..u.len()).rev() {
            for ((c, dc), dy) in c.iter().zip(&mut self.dc).zip(dy) {
                g += c * C64::from(dy[t]);
                // y is 2·Re of a sum over the stored half.
                dc.iter_mut().zip(states[t + 1].iter()).for_each(|(dc, x)| *dc += x * (2.0 * dy[t]));
            }
            du[t] = g.dot(b_bar).re;
            self.da_bar += &g * states[t].transpose();
            self.db_bar += &g * C64::from(u[t]);
            g = &transposed * g;
        }
        (du, (0..pairs).map(|n| half_gradient(g[n], g[pairs + n])).collect())
    }

    /// Adds the gradients of sum(kernel·dkernel), since the kernel is the output for an impulse.
    fn kernel_backward(&mut self, dkernel: &[Vec<f64>]) {
        let mut impulse = vec![0.0; dkernel[0].len()];
        impulse[0] = 1.0;
        self.backward(&impulse, &dkernel.iter().map(|kernel| &kernel[..]).collect::<Vec<_>>(), None, None);
    }

    /// The gradients of Δ (one per pair), Λ, B and P (of the stored half), from those of Ā and B̄.
    fn discretization(&self) -> (Vec<f64>, Vec<C64>, Vec<C64>, Vec<Vec<C64>>) {
        let (ssm, pairs) = (self.ssm, self.ssm.pairs());
        let DiscretizedMatrices { a_bar, b_bar } = &self.discrete;
        let to_half_gradients =
            |g: &DVector<C64>| (0..pairs).map(|n| half_gradient(g[n], g[pairs + n])).collect::<Vec<_>>();
        if ssm.discretization == Discretization::Zoh {
            // Ā = e^{Δλ}, B̄ = b·r with r = expm1(Δλ)/λ.
            let (da, db_bar) = (to_half_gradients(&self.da_bar.diagonal()), to_half_gradients(&self.db_bar));
            let (mut ddt, mut dlambda, mut db) = (vec![], vec![], vec![]);
            for n in 0..pairs {
                let (lambda, b, dt) = (ssm.lambda[n], ssm.b[n], ssm.dt_of(n));
                let (e, e1) = ((lambda * dt).exp(), exp_m1(lambda * dt));
                ddt.push(((da[n] * lambda + db_bar[n] * b) * e).re);
                dlambda.push(da[n] * e * dt + db_bar[n] * b * (e * lambda * dt - e1) / (lambda * lambda));
                db.push(db_bar[n] * e1 / lambda);
            }
            return (ddt, dlambda, db, Vec::new());
        }
        // With M = ΔA/2 and W = (I − M)⁻¹, Ā = W(I + M) and B̄ = WΔB. Differentials: dĀ = W dM (I + Ā) and
        // dB̄ = W(dM B̄ + d(ΔB)).
        let m = ssm.dt_a() * C64::from(0.5);
        let identity = DMatrix::<C64>::identity(2 * pairs, 2 * pairs);
        let w = (&identity - &m).try_inverse().expect("I − ΔA/2 is regular").transpose();
        let db_dt = &w * &self.db_bar;
        let dm = &w * &self.da_bar * (identity + a_bar).transpose() + &db_dt * b_bar.transpose();
        let dt = DVector::from_fn(2 * pairs, |n, _| C64::from(ssm.dt_of(n % pairs)));
        let b = with_conjugates(&ssm.b);
        let ddt: Vec<f64> = (0..2 * pairs)
            .map(|k| {
                ((0..2 * pairs).map(|l| dm[(k, l)] * m[(k, l)] / dt[k]).sum::<C64>() + db_dt[k] * b[k]).re
            })
            .collect();
        let da = DMatrix::from_fn(2 * pairs, 2 * pairs, |k, l| dm[(k, l)] * dt[k] * 0.5);
        // A = diag(Λ) − Σ p p*.
        let dp = ssm.p.iter().map(|p| {
            let p = with_conjugates(p);
            to_half_gradients(&-(&da * p.conjugate() + (da.transpose() * p).conjugate()))
        });
        let ddt = (0..pairs).map(|n| ddt[n] + ddt[pairs + n]).collect();
        (ddt, to_half_gradients(&da.diagonal()), to_half_gradients(&db_dt.component_mul(&dt)), dp.collect())
    }

    /// Adds the gradients of head h, whose Δ was multiplied by `interval`, to those of the layer's parameters.
    pub(crate) fn add_to(&self, to: &mut [Vec<f64>; 7], layer: &Layer, h: usize, interval: f64) {
        let (spec, [inv_dt, a_real, a_imag, ..]) = (&layer.spec, &layer.values);
        let (pairs, s) = (spec.pairs(), h % spec.n_ssm);
        let (ddt, dlambda, db, dp) = self.discretization();
        let mut complex = |which: usize, row: usize, g: &[C64]| {
            for (to, g) in to[which][row * spec.state..][..spec.state].chunks_mut(2).zip(g) {
                to[0] += g.re;
                to[1] -= g.im;
            }
        };
        complex(3, s, &db);
        (0..spec.kernel_channels()).for_each(|k| complex(4, k * spec.heads + h, &self.dc[k]));
        (0..spec.rank).for_each(|r| complex(5, r * spec.n_ssm + s, &dp[r]));
        for n in 0..pairs {
            let i = if spec.dt_per_state { h * pairs + n } else { h };
            to[0][i] += ddt[n] * layer.rate * interval * spec.dt_transform.derivative(inv_dt[i]);
            // Λ = −f(a_real) − i·g(a_imag).
            let i = s * pairs + n;
            to[1][i] -= dlambda[n].re * spec.real_transform.derivative(a_real[i]);
            to[2][i] += dlambda[n].im * spec.imag_transform.derivative(a_imag[i]);
        }
    }
}

/// The gradient of a stored entry, from that of the entry and that of its conjugate in the full state.
fn half_gradient(g: C64, conjugate: C64) -> C64 {
    g + conjugate.conj()
}

/// One time step of every sequence, from `state` (batch, H, 2, N/2) with inputs `u` (batch, H): gives y
/// (batch, channels·H) and the new state. `interval` (batch) multiplies Δ of each sequence.
pub fn step(layer: &Layer, u: &[f64], state: &[f64], interval: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let (spec, batch) = (&layer.spec, u.len() / layer.spec.heads);
    let (mut y, mut next) = (vec![0.0; batch * spec.outputs()], Vec::new());
    for b in 0..batch {
        for (h, ssm) in layer.heads(interval.map_or(1.0, |i| i[b])).iter().enumerate() {
            let head_index = b * spec.heads + h;
            let x = state_of_head(Some(&state.to_vec()), head_index, spec.pairs());
            let (out, end) = recurrence(ssm, &u[head_index..=head_index], x.as_deref());
            for (c, out) in out.iter().enumerate() {
                let feature = c * spec.heads + h;
                y[b * spec.outputs() + feature] = out[0] + layer.values[6][feature] * u[head_index];
            }
            append_state(&mut next, &end);
        }
    }
    (y, next)
}

/// The function whose gradients [`gradients`] computes: sum(y·dy) + sum(state_end·dstate_end), without the time steps
/// beyond a sequence's length.
pub fn objective(layer: &Layer, call: &Call) -> f64 {
    let (y, end) = forward(layer, call);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let state = match (&end, &call.dstate_end) {
        (Some(end), Some(d)) => dot(end, d),
        _ => 0.0,
    };
    dot(&y, &call.dy) + state
}

/// The gradient of `objective` with respect to the parameter number `which`, by central differences of sixth order. For
/// the layers of this crate, half and double the step size agree with it to 4e-9 or better.
pub fn finite_differences(layer: &Layer, which: usize, objective: impl Fn(&Layer) -> f64) -> Vec<f64> {
    // Stored values have a magnitude of about 1, except a Δ that is stored without a transform.
    let floor = if which == 0 && layer.spec.dt_transform == Transform::None { 0.0 } else { 0.5 };
    (0..layer.values[which].len())
        .map(|i| {
            let step = 2e-4 * layer.values[which][i].abs().max(floor);
            let at = |k: f64| {
                let mut shifted = layer.clone();
                shifted.values[which][i] += k * step;
                objective(&shifted)
            };
            let pair = |k: f64| at(k) - at(-k);
            (45.0 * pair(1.0) - 9.0 * pair(2.0) + pair(3.0)) / (60.0 * step)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layer::{PARAMETERS, layers},
        noise, relative, relative_or_zero,
    };

    /// The gradients must equal finite differences of the outputs.
    #[test]
    fn gradients_are_finite_differences() {
        for layer in layers().into_iter().filter(|l| l.spec.state < 64) {
            for len in [1, 2, 9, 20] {
                let call = Call::new(&layer, 2, len, len == 9);
                let got = gradients(&layer, &call);
                for which in (0..7).filter(|&i| !layer.values[i].is_empty()) {
                    let want = finite_differences(&layer, which, |l| objective(l, &call));
                    let error = relative(&got.params[which], &want);
                    assert!(error <= 1e-8, "{}, length {len}, {}: {error:e}", layer.name, PARAMETERS[which]);
                }
                // The objective is linear in u and in the state, so that a difference is exact up to rounding.
                let slope = |at: &dyn Fn(f64) -> Call| {
                    (objective(&layer, &at(1.0)) - objective(&layer, &at(-1.0))) / 2.0
                };
                let by_u = (0..got.du.len()).map(|i| {
                    slope(&|x| {
                        let mut shifted = call.clone();
                        shifted.u[i] += x;
                        shifted
                    })
                });
                let error = relative(&got.du, &by_u.collect::<Vec<_>>());
                assert!(error <= 1e-11, "{}, length {len}, du: {error:e}", layer.name);
                let Some(dstate0) = &got.dstate0 else { continue };
                let by_state = (0..dstate0.len()).map(|i| {
                    slope(&|x| {
                        let mut shifted = call.clone();
                        shifted.state0.iter_mut().for_each(|s| s[i] += x);
                        shifted
                    })
                });
                let error = relative(dstate0, &by_state.collect::<Vec<_>>());
                assert!(error <= 1e-11, "{}, length {len}, dstate0: {error:e}", layer.name);
            }
        }
    }

    #[test]
    fn gradients_of_kernels_are_finite_differences() {
        for layer in layers().into_iter().filter(|l| l.spec.state < 64) {
            for len in [1, 20] {
                let dkernel = noise(5, len as u32, layer.spec.kernel_channels() * layer.spec.heads * len);
                let value = |l: &Layer| kernel(l, len).iter().zip(&dkernel).map(|(k, d)| k * d).sum();
                let got = kernel_gradients(&layer, len, &dkernel);
                for which in (0..6).filter(|&i| !layer.values[i].is_empty()) {
                    let error = relative(&got[which], &finite_differences(&layer, which, value));
                    assert!(error <= 1e-8, "{}, length {len}, {}: {error:e}", layer.name, PARAMETERS[which]);
                }
                assert_eq!(relative_or_zero(&got[6], &vec![0.0; layer.spec.d_len()]), 0.0);
            }
        }
    }
}
