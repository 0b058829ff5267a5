//! The block's mixing stage, with and without gate, dropout, residual.

use super::{
    activation::{activation, sigmoid},
    suite::{At, Out, Suite, added, inner, take},
};
use s4_backend::{
    Activation, Backend, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec, random::DropKey,
};

/// 0 or 1/(1 − p), as [`DropKey`] says.
fn factor(call: &MixCall, site: u32, i: usize) -> f64 {
    let (spec, key) = (&call.spec, call.key);
    if spec.dropout == 0.0 {
        return 1.0;
    }
    let i = if spec.tied { i / call.len } else { i };
    let draw = DropKey { site: key.site + site, ..key }.draws(i as u64 / 4)[i % 4];
    if draw >= DropKey::threshold(spec.dropout) { 1.0 / (1.0 - spec.dropout) } else { 0.0 }
}

fn mix(call: &MixCall, s: &[f64], residual: Option<&[f64]>, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let &MixCall { spec, batch, len, .. } = call;
    let a: Vec<f64> = (0..s.len()).map(|i| activation(spec.activation, s[i]) * factor(call, 0, i)).collect();
    let mut y = vec![0.0; batch * spec.outputs * len];
    for (i, y) in y.iter_mut().enumerate() {
        let (b, o, t) = (i / len / spec.outputs, i / len % spec.outputs, i % len);
        let z = |r: usize| {
            let sum: f64 = (0..spec.inputs)
                .map(|h| weight[r * spec.inputs + h] * a[(b * spec.inputs + h) * len + t])
                .sum();
            sum + bias[r]
        };
        let gated = if spec.glu {
            z(o) * sigmoid(z(o + spec.outputs))
        } else {
            activation(spec.final_activation, z(o))
        };
        *y = gated * factor(call, 1, i) + residual.map_or(0.0, |r| r[i]);
    }
    y
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn mix(&mut self) {
        let key = DropKey { seed: 11, step: 1 << 33, site: 6 };
        let plain = MixSpec {
            inputs: 4,
            outputs: 3,
            activation: Activation::Gelu,
            glu: true,
            final_activation: Activation::Identity,
            dropout: 0.0,
            tied: false,
        };
        let dropouts = [(0.0, false), (0.25, false), (0.25, true)];
        for (batch, len) in self.cases(&[(1, 1), (2, 7), (5, 1)], &[(2, 7)]) {
            for (dropout, tied) in dropouts {
                let spec = MixSpec { dropout, tied, ..plain };
                self.mix_case(MixCall { spec, key, batch, len });
            }
        }
        // Each activation on both sides of the linear.
        for (i, &activation) in Activation::ALL.iter().enumerate() {
            let final_activation = Activation::ALL[(i + 1) % Activation::ALL.len()];
            for (dropout, tied) in self.cases(&dropouts, &dropouts[..0]) {
                let spec = MixSpec { activation, final_activation, glu: false, dropout, tied, ..plain };
                self.mix_case(MixCall { spec, key, batch: 3, len: 5 });
            }
        }
        let all = [(16, 8, 3, 129), (33, 17, 1, 300), (96, 48, 1, 130), (24, 12, 70, 1), (5, 5, 2, 1047)];
        for (inputs, outputs, batch, len) in self.cases(&all, &[]) {
            for (glu, dropout, tied) in [(true, 0.0, false), (true, 0.1, false), (false, 0.1, true)] {
                let final_activation = if glu { Activation::Identity } else { Activation::Silu };
                let spec = MixSpec { inputs, outputs, glu, dropout, tied, final_activation, ..plain };
                self.mix_case(MixCall { spec, key, batch, len });
            }
        }
    }

    fn mix_case(&mut self, call: MixCall) {
        let MixCall { spec, batch, len, .. } = call;
        let be = self.be;
        let case = format!("{spec:?} batch={batch} len={len}");
        // ReLU has a kink at 0.
        let s = self.away_from_zero(batch * spec.inputs * len);
        let residual = self.normal(batch * spec.outputs * len);
        let (dy, bias) = (self.normal(residual.len()), self.normal(spec.rows()));
        let scale = 1.0 / (spec.inputs as f64).sqrt();
        let weight: Vec<f64> =
            self.normal(spec.rows() * spec.inputs).into_iter().map(|w| w * scale).collect();
        let weight = self.held(&weight);
        let at = At { operation: "mix_forward", case: &case };
        let without = mix(&call, &s, None, &weight, &bias);
        self.forward(at, &[&s, &weight, &bias], &[], &[("y", &without)], &mut |a, ws| {
            let ([y], [s, weight, bias]) = (take(a.outs), take(a.ins));
            let params = MixParams { weight, bias };
            be.mix_forward(MixForward { y, saved: None, s, residual: None, params, call }, ws)
        });
        // Forward that saves, then backward from what it saved.
        let with = mix(&call, &s, Some(&residual), &weight, &bias);
        let outs = [Out::Over(with.len()), Out::Over(be.mix_saved_len(&call))];
        let got = self.outputs(at, &[&s, &residual, &weight, &bias], &[], &outs, &mut |a, ws| {
            let ([y, saved], [s, residual, weight, bias]) = (take(a.outs), take(a.ins));
            let params = MixParams { weight, bias };
            be.mix_forward(
                MixForward { y, saved: Some(saved), s, residual: Some(residual), params, call },
                ws,
            )
        });
        let Some(got) = got else { return };
        let [y, saved] = take(got);
        self.value(at, "y", &y, &with);
        let first = self.report.checks.len();
        self.mix_backward_case(
            At { operation: "mix_backward", ..at },
            &call,
            [&dy, &s, &saved, &weight, &bias],
        );
        self.saved(at, &saved, first);
    }

    fn mix_backward_case(&mut self, at: At<'_>, call: &MixCall, ins: [&[f64]; 5]) {
        let (be, [dy, s, _, weight, bias], call) = (self.be, ins, *call);
        let (dw0, db0) = (self.start(weight.len()), self.start(bias.len()));
        let outs = [Out::Over(s.len()), Out::Add(&dw0), Out::Add(&db0)];
        let got = self.outputs(at, &ins, &[], &outs, &mut |a, ws| {
            let ([ds, dweight, dbias], [dy, s, saved, weight, bias]) = (take(a.outs), take(a.ins));
            let params = MixParams { weight, bias };
            let grads = MixGrads { weight: dweight, bias: dbias };
            be.mix_backward(MixBackward { ds, grads, dy, s, saved, params, call }, ws)
        });
        let value = |s: &[f64], w: &[f64], b: &[f64]| inner(&mix(&call, s, None, w, b), dy);
        if let Some(got) = got {
            self.difference(at, "ds", &got[0], s, &mut |s| value(s, weight, bias));
            let dw = added(&got[1], &dw0);
            self.difference(at, "grads.weight", &dw, weight, &mut |w| value(s, w, bias));
            let db = added(&got[2], &db0);
            self.difference(at, "grads.bias", &db, bias, &mut |b| value(s, weight, b));
        }
    }
}
