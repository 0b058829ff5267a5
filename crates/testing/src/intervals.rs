//! The true outputs and gradients of layers whose time steps have intervals of their own, in f64: the dense recurrence with
//! matrices Ā and B̄ of each step, and its transpose.

use crate::{
    layer::{Call, Layer},
    noise,
    truth::{Gradients, RecurrenceTranspose, append_state, state_of_head},
};
use s4_ssm::{C64, Ssm, recurrence};

/// Random intervals (batch, len) from 0.2 to 3, exactly representable in f32; every third is 1.
pub fn random_intervals(batch: usize, len: usize) -> Vec<f64> {
    let draw = noise((len + 8192 * batch) as u64, 5, batch * len);
    let interval = |(i, x): (usize, f64)| {
        if i % 3 == 2 { 1.0 } else { f64::from((0.2 + 0.7 * x.abs()).min(3.0) as f32) }
    };
    draw.into_iter().enumerate().map(interval).collect()
}

/// The steps of one direction of a sequence of `length`: the time whose input and interval a step takes, and the time of
/// the output after it. In the backward direction u_t lasts for the interval before t too: it drives the state between t and
/// t − 1, and the output of t − 1 is the first that it has a part in.
fn steps(length: usize, backward: bool) -> Vec<(usize, usize)> {
    match backward {
        false => (0..length).map(|t| (t, t)).collect(),
        true => (1..length).rev().map(|t| (t, t - 1)).collect(),
    }
}

/// The directions of a layer.
fn directions(layer: &Layer) -> impl Iterator<Item = bool> + use<> {
    [false, true].into_iter().take(1 + usize::from(layer.spec.bidirectional))
}

/// Gives what [`crate::truth::forward`] gives. `intervals`: (batch, len).
pub fn forward(layer: &Layer, call: &Call, intervals: &[f64]) -> (Vec<f64>, Option<Vec<f64>>) {
    let (spec, len, d) = (&layer.spec, call.len, &layer.values[6]);
    let mut y = vec![0.0; call.batch * spec.outputs() * len];
    let mut ends = Vec::new();
    for b in 0..call.batch {
        for h in 0..spec.heads {
            let head_index = b * spec.heads + h;
            let u = &call.u[head_index * len..][..call.length(b)];
            let row = |c: usize| (b * spec.outputs() + c * spec.heads + h) * len;
            for c in 0..spec.channels {
                let y = &mut y[row(c)..][..u.len()];
                y.iter_mut().zip(u).for_each(|(y, u)| *y = d[c * spec.heads + h] * u);
            }
            for backward in directions(layer) {
                let first = if backward { spec.channels } else { 0 };
                let mut x = state_of_head(call.state0.as_ref(), head_index, spec.pairs());
                for (input, output) in steps(u.len(), backward) {
                    let ssm = layer.head(h, intervals[b * len + input]);
                    let (out, end) = recurrence(&ssm, &[u[input]], x.as_deref());
                    (0..spec.channels).for_each(|c| y[row(c) + output] += out[first + c][0]);
                    x = Some(end);
                }
                if spec.has_state() {
                    append_state(&mut ends, &x.expect("at least one step"));
                }
            }
        }
    }
    (y, spec.has_state().then_some(ends))
}

/// Gives what [`crate::truth::gradients`] gives. `intervals`: (batch, len).
pub fn gradients(layer: &Layer, call: &Call, intervals: &[f64]) -> Gradients {
    let (spec, len, d) = (&layer.spec, call.len, &layer.values[6]);
    let mut du = vec![0.0; call.batch * spec.heads * len];
    let mut dstate0 = vec![0.0; if spec.has_state() { spec.state_len(call.batch) } else { 0 }];
    let mut params = layer.values.each_ref().map(|v| vec![0.0; v.len()]);
    for b in 0..call.batch {
        for h in 0..spec.heads {
            let head_index = b * spec.heads + h;
            let u = &call.u[head_index * len..][..call.length(b)];
            let du = &mut du[head_index * len..][..u.len()];
            let dy = |c: usize, t: usize| call.dy[(b * spec.outputs() + c * spec.heads + h) * len + t];
            for c in 0..spec.channels {
                for (t, &u) in u.iter().enumerate() {
                    params[6][c * spec.heads + h] += dy(c, t) * u;
                    du[t] += d[c * spec.heads + h] * dy(c, t);
                }
            }
            for backward in directions(layer) {
                let steps = steps(u.len(), backward);
                let ssms: Vec<Ssm> = steps.iter().map(|s| layer.head(h, intervals[b * len + s.0])).collect();
                let zero = vec![C64::ZERO; spec.pairs()];
                let state0 = state_of_head(call.state0.as_ref(), head_index, spec.pairs());
                let mut states = vec![state0.unwrap_or_else(|| zero.clone())];
                for (ssm, &(input, _)) in ssms.iter().zip(&steps) {
                    let state = recurrence(ssm, &[u[input]], states.last().map(|x| &x[..])).1;
                    states.push(state);
                }
                let mut dstate =
                    state_of_head(call.dstate_end.as_ref(), head_index, spec.pairs()).unwrap_or(zero);
                for (j, &(input, output)) in steps.iter().enumerate().rev() {
                    let mut pass = RecurrenceTranspose::new(&ssms[j]);
                    let of_direction = |k: usize| {
                        let c = k.checked_sub(if backward { spec.channels } else { 0 });
                        c.filter(|&c| c < spec.channels).map_or(0.0, |c| dy(c, output))
                    };
                    let dy: Vec<[f64; 1]> = (0..spec.kernel_channels()).map(|k| [of_direction(k)]).collect();
                    let dy: Vec<&[f64]> = dy.iter().map(|dy| &dy[..]).collect();
                    let (part, before) = pass.backward(&[u[input]], &dy, Some(&states[j]), Some(&dstate));
                    du[input] += part[0];
                    dstate = before.iter().map(|g| g.conj()).collect();
                    pass.add_to(&mut params, layer, h, intervals[b * len + input]);
                }
                if spec.has_state() {
                    let to = &mut dstate0[head_index * spec.state..][..spec.state];
                    for (n, g) in dstate.iter().enumerate() {
                        (to[n], to[spec.pairs() + n]) = (g.re, g.im);
                    }
                }
            }
        }
    }
    Gradients { du, dstate0: spec.has_state().then_some(dstate0), params }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layer::{PARAMETERS, layers},
        relative,
        truth::{self, finite_differences},
    };

    fn objective(layer: &Layer, call: &Call, intervals: &[f64]) -> f64 {
        let (y, end) = forward(layer, call, intervals);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let state = end.zip(call.dstate_end.as_ref()).map_or(0.0, |(end, d)| dot(&end, d));
        dot(&y, &call.dy) + state
    }

    #[test]
    fn intervals_of_one_are_the_regular_layer() {
        for layer in layers().into_iter().filter(|l| l.spec.truncate.is_none() && l.spec.state < 64) {
            let call = Call::new(&layer, 2, 9, true);
            let ones = vec![1.0; 18];
            let ((y, end), (want, want_end)) = (forward(&layer, &call, &ones), truth::forward(&layer, &call));
            assert!(relative(&y, &want) <= 1e-12, "{}", layer.name);
            assert!(
                end.zip(want_end).is_none_or(|(end, want)| relative(&end, &want) <= 1e-12),
                "{}",
                layer.name
            );
            let (got, want) = (gradients(&layer, &call, &ones), truth::gradients(&layer, &call));
            assert!(relative(&got.du, &want.du) <= 1e-12, "{}", layer.name);
            for which in (0..7).filter(|&i| !layer.values[i].is_empty()) {
                let error = relative(&got.params[which], &want.params[which]);
                assert!(error <= 1e-9, "{}, {}: {error:e}", layer.name, PARAMETERS[which]);
            }
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        for layer in layers().into_iter().filter(|l| l.spec.truncate.is_none() && l.spec.state < 64) {
            let call = Call::new(&layer, 2, 9, true);
            let intervals = random_intervals(2, 9);
            let got = gradients(&layer, &call, &intervals);
            for which in (0..7).filter(|&i| !layer.values[i].is_empty()) {
                let want = finite_differences(&layer, which, |l| objective(l, &call, &intervals));
                let error = relative(&got.params[which], &want);
                assert!(error <= 1e-8, "{}, {}: {error:e}", layer.name, PARAMETERS[which]);
            }
            let slope = |change: &dyn Fn(&mut Call, f64)| {
                let at = |x: f64| {
                    let mut call = call.clone();
                    change(&mut call, x);
                    objective(&layer, &call, &intervals)
                };
                (at(1.0) - at(-1.0)) / 2.0
            };
            let by_u: Vec<f64> = (0..got.du.len()).map(|i| slope(&|call, x| call.u[i] += x)).collect();
            assert!(relative(&got.du, &by_u) <= 1e-11, "{}, du", layer.name);
            let Some(dstate0) = &got.dstate0 else { continue };
            let by_state = |i| slope(&|call: &mut Call, x| call.state0.iter_mut().for_each(|s| s[i] += x));
            let by_state: Vec<f64> = (0..dstate0.len()).map(by_state).collect();
            assert!(relative(dstate0, &by_state) <= 1e-11, "{}, dstate0", layer.name);
        }
    }
}
