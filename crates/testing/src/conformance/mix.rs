//! The block's mixing stage, with and without gate, dropout, residual.

use super::{
    activation::{activation, sigmoid, slope},
    linear::{linear, linear_transposed},
    suite::{At, Out, Suite, added, take},
};
use s4_backend::{
    Activation, Backend, LinearShape, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec,
    random::DropKey,
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

/// The linear inside.
fn linear_shape(call: &MixCall) -> LinearShape {
    let spec = &call.spec;
    LinearShape { batch: call.batch, inputs: spec.inputs, outputs: spec.rows(), len: call.len }
}

/// What the linear takes.
fn activated(call: &MixCall, s: &[f64]) -> Vec<f64> {
    s.iter().enumerate().map(|(i, &s)| activation(call.spec.activation, s) * factor(call, 0, i)).collect()
}

/// Places of the value and of its gate in what the linear gives, for element i of y.
fn places(call: &MixCall, i: usize) -> (usize, usize) {
    let (row, t) = (i / call.len, i % call.len);
    let (b, o) = (row / call.spec.outputs, row % call.spec.outputs);
    let place = |o: usize| (b * call.spec.rows() + o) * call.len + t;
    (place(o), place(o + call.spec.outputs))
}

fn mix(call: &MixCall, s: &[f64], residual: Option<&[f64]>, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let spec = &call.spec;
    let z = linear(&activated(call, s), weight, Some(bias), &linear_shape(call));
    let y = (0..call.batch * spec.outputs * call.len).map(|i| {
        let (value, gate) = places(call, i);
        let gated =
            if spec.glu { z[value] * sigmoid(z[gate]) } else { activation(spec.final_activation, z[value]) };
        gated * factor(call, 1, i) + residual.map_or(0.0, |r| r[i])
    });
    y.collect()
}

/// Its transpose: ds, dweight, dbias.
fn mix_transposed(call: &MixCall, dy: &[f64], s: &[f64], weight: &[f64], bias: &[f64]) -> [Vec<f64>; 3] {
    let (spec, shape) = (&call.spec, linear_shape(call));
    let a = activated(call, s);
    let z = linear(&a, weight, Some(bias), &shape);
    let mut dz = vec![0.0; z.len()];
    for (i, dy) in dy.iter().enumerate() {
        let ((value, gate), dy) = (places(call, i), dy * factor(call, 1, i));
        if spec.glu {
            let open = sigmoid(z[gate]);
            dz[value] = dy * open;
            dz[gate] = dy * z[value] * open * (1.0 - open);
        } else {
            dz[value] = dy * slope(spec.final_activation, z[value]);
        }
    }
    let [mut ds, dw, db] = linear_transposed(&dz, &a, weight, &shape);
    for (i, ds) in ds.iter_mut().enumerate() {
        *ds *= factor(call, 0, i) * slope(spec.activation, s[i]);
    }
    [ds, dw, db]
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
        for (batch, len) in self.cases(&[(1, 1), (2, 7), (5, 1)], &[(1, 1), (2, 7)]) {
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
        let shapes = [(16, 8, 3, 129), (33, 17, 1, 300), (96, 48, 1, 130), (24, 12, 70, 1), (5, 5, 2, 1047)];
        for (inputs, outputs, batch, len) in self.cases(&shapes, &[]) {
            for (glu, dropout, tied) in [(true, 0.0, false), (true, 0.1, false), (false, 0.1, true)] {
                let final_activation = if glu { Activation::Identity } else { Activation::Silu };
                let spec = MixSpec { inputs, outputs, glu, dropout, tied, final_activation, ..plain };
                self.mix_case(MixCall { spec, key, batch, len });
            }
        }
    }

    /// A weight and a bias; where a ReLU follows, none of the linear's outputs is so near its kink that rounding decides.
    fn mix_params(&mut self, call: &MixCall, s: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let spec = &call.spec;
        let scale = 1.0 / (spec.inputs as f64).sqrt();
        loop {
            let bias = self.normal(spec.rows());
            let weight = self.normal(spec.rows() * spec.inputs).into_iter().map(|w| w * scale);
            let weight = self.held(&weight.collect::<Vec<_>>());
            let z = linear(&activated(call, s), &weight, Some(&bias), &linear_shape(call));
            if spec.glu || spec.final_activation != Activation::Relu || z.iter().all(|z| z.abs() > 1e-3) {
                return (weight, bias);
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
        let dy = self.normal(residual.len());
        let (weight, bias) = self.mix_params(&call, &s);
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
        let first = self.report.comparisons.len();
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
        if let Some(got) = got {
            let [ds, dw, db] = mix_transposed(&call, dy, s, weight, bias);
            self.gradient(at, "ds", &got[0], &ds);
            self.gradient(at, "grads.weight", &added(&got[1], &dw0), &dw);
            self.gradient(at, "grads.bias", &added(&got[2], &db0), &db);
        }
    }
}
