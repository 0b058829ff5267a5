//! What a call must give, by the oracles of `s4-ssm` alone.

use crate::layer::{Call, Layer};
use s4_backend::Transform;
use s4_ssm::{
    C64, conv_causal, conv_causal_adjoint, conv_two_sided, conv_two_sided_adjoint, kernel_by_powers,
    recurrence, recurrence_adjoint,
};

/// ‖a − b‖/‖b‖; a length that differs or anything not finite is an infinite error. Two zeros are equal.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    let size = norm(&mut b.iter().copied());
    let error = if size == 0.0 { difference } else { difference / size };
    if a.len() == b.len() && error.is_finite() { error } else { f64::INFINITY }
}

fn state_row(state: Option<&Vec<f64>>, row: usize, pairs: usize) -> Option<Vec<C64>> {
    let row = &state?[row * 2 * pairs..][..2 * pairs];
    Some((0..pairs).map(|n| C64::new(row[n], row[pairs + n])).collect())
}

fn push_state(to: &mut Vec<f64>, state: &[C64]) {
    to.extend(state.iter().map(|x| x.re));
    to.extend(state.iter().map(|x| x.im));
}

/// (kernel channels, H, len).
pub fn kernel(layer: &Layer, len: usize) -> Vec<f64> {
    let heads: Vec<_> = layer.heads(1.0).iter().map(|ssm| kernel_by_powers(ssm, len)).collect();
    (0..layer.spec.kernel_channels()).flat_map(|c| heads.iter().flat_map(move |h| h[c].clone())).collect()
}

/// y (batch, channels·H, len) and, where the layer carries a state, the state after each row's last sample.
pub fn forward(layer: &Layer, call: &Call) -> (Vec<f64>, Option<Vec<f64>>) {
    let spec = &layer.spec;
    let (len, d) = (call.len, &layer.values[6]);
    let mut y = vec![0.0; call.batch * spec.outputs() * len];
    let mut ends = Vec::new();
    let ssms = layer.heads(1.0);
    for b in 0..call.batch {
        for (h, ssm) in ssms.iter().enumerate() {
            let row = b * spec.heads + h;
            let u = &call.u[row * len..][..call.length(b)];
            let rows = if layer.carries() {
                let x0 = state_row(call.state0.as_ref(), row, spec.pairs());
                let (mut rows, end) = recurrence(ssm, u, x0.as_deref());
                push_state(&mut ends, &end);
                for (c, y) in rows.iter_mut().enumerate() {
                    y.iter_mut().zip(u).for_each(|(y, u)| *y += d[c * spec.heads + h] * u);
                }
                rows
            } else {
                let k = kernel_by_powers(ssm, spec.truncate.unwrap_or(len).min(len));
                (0..spec.channels)
                    .map(|c| match spec.bidirectional {
                        true => conv_two_sided(u, &k[c], &k[spec.channels + c], d[c * spec.heads + h]),
                        false => conv_causal(u, &k[c], d[c * spec.heads + h]),
                    })
                    .collect()
            };
            for (c, out) in rows.iter().enumerate() {
                y[(b * spec.outputs() + c * spec.heads + h) * len..][..out.len()].copy_from_slice(out);
            }
        }
    }
    (y, layer.carries().then_some(ends))
}

/// Gradients of sum(y·dy) + sum(state_end·dstate_end) with respect to u and the state before.
pub fn adjoint(layer: &Layer, call: &Call) -> (Vec<f64>, Option<Vec<f64>>) {
    let spec = &layer.spec;
    let (len, d) = (call.len, &layer.values[6]);
    let mut du = vec![0.0; call.batch * spec.heads * len];
    let mut starts = Vec::new();
    let ssms = layer.heads(1.0);
    for b in 0..call.batch {
        for (h, ssm) in ssms.iter().enumerate() {
            let row = b * spec.heads + h;
            let dy: Vec<Vec<f64>> = (0..spec.channels)
                .map(|c| {
                    call.dy[(b * spec.outputs() + c * spec.heads + h) * len..][..call.length(b)].to_vec()
                })
                .collect();
            let du = &mut du[row * len..][..call.length(b)];
            let mut add = |part: Vec<f64>| du.iter_mut().zip(part).for_each(|(a, b)| *a += b);
            if layer.carries() {
                let dx = state_row(call.dstate_end.as_ref(), row, spec.pairs());
                let (part, dx0) = recurrence_adjoint(ssm, &dy, dx.as_deref());
                add(part);
                push_state(&mut starts, &dx0);
                for (c, dy) in dy.iter().enumerate() {
                    add(dy.iter().map(|dy| d[c * spec.heads + h] * dy).collect());
                }
            } else {
                let k = kernel_by_powers(ssm, spec.truncate.unwrap_or(len).min(len));
                for (c, dy) in dy.iter().enumerate() {
                    let d = d[c * spec.heads + h];
                    add(match spec.bidirectional {
                        true => conv_two_sided_adjoint(dy, &k[c], &k[spec.channels + c], d),
                        false => conv_causal_adjoint(dy, &k[c], d),
                    });
                }
            }
        }
    }
    (du, layer.carries().then_some(starts))
}

/// sum(y·dy) + sum(state_end·dstate_end), positions beyond a row's length left out.
pub fn objective(layer: &Layer, call: &Call) -> f64 {
    let (y, end) = forward(layer, call);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let state = match (&end, &call.dstate_end) {
        (Some(end), Some(d)) => dot(end, d),
        _ => 0.0,
    };
    dot(&y, &call.dy) + state
}

/// d objective / d each value of parameter `which`, by the central difference of sixth order. On these layers
/// steps of half and of double the size agree with it to 4e-9 or better.
pub fn differences(layer: &Layer, which: usize, objective: impl Fn(&Layer) -> f64) -> Vec<f64> {
    // Every stored value is of order 1, but for a Δ that is stored as it is.
    let floor = if which == 0 && layer.spec.dt_transform == Transform::None { 0.0 } else { 0.5 };
    (0..layer.values[which].len())
        .map(|i| {
            let step = 2e-4 * layer.values[which][i].abs().max(floor);
            let at = |k: f64| {
                let mut moved = layer.clone();
                moved.values[which][i] += k * step;
                objective(&moved)
            };
            let pair = |k: f64| at(k) - at(-k);
            (45.0 * pair(1.0) - 9.0 * pair(2.0) + pair(3.0)) / (60.0 * step)
        })
        .collect()
}
