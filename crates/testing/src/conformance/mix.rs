//! Conformance tests of the mixing stage of a block, with and without gate, dropout and residual.

use super::{
    activation::{activation, activation_derivative, sigmoid},
    linear::{linear_transposed, linear_truth},
    suite::{CaseLabel, OutputBuffer, Suite, added_part, into_array},
};
use s4_backend::{
    Activation, Backend, LinearShape, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec,
    random::DropKey,
};

/// The factor of dropout on element i, 0 or 1/(1 − p), by the random numbers of [`DropKey`]; `site` 0 is the dropout
/// after the activation, 1 that after the gate.
fn dropout_factor(call: &MixCall, site: u32, i: usize) -> f64 {
    let (spec, key) = (&call.spec, call.key);
    if spec.dropout == 0.0 {
        return 1.0;
    }
    let i = if spec.tied { i / call.len } else { i };
    let draw = DropKey { site: key.site + site, ..key }.draws(i as u64 / 4)[i % 4];
    if draw >= DropKey::threshold(spec.dropout) { 1.0 / (1.0 - spec.dropout) } else { 0.0 }
}

/// Sizes of the linear layer of a mixing stage.
fn linear_shape(call: &MixCall) -> LinearShape {
    let spec = &call.spec;
    LinearShape { batch: call.batch, inputs: spec.inputs, outputs: spec.rows(), len: call.len }
}

/// The input of the linear layer: activation and first dropout of s.
fn activated(call: &MixCall, s: &[f64]) -> Vec<f64> {
    s.iter()
        .enumerate()
        .map(|(i, &s)| activation(call.spec.activation, s) * dropout_factor(call, 0, i))
        .collect()
}

/// For element i of y, the indices of its value and of its gate in the output of the linear layer.
fn value_and_gate_indices(call: &MixCall, i: usize) -> (usize, usize) {
    let (row, t) = (i / call.len, i % call.len);
    let (b, o) = (row / call.spec.outputs, row % call.spec.outputs);
    let place = |o: usize| (b * call.spec.rows() + o) * call.len + t;
    (place(o), place(o + call.spec.outputs))
}

/// The truth of a mixing stage: y.
fn mix_truth(call: &MixCall, s: &[f64], residual: Option<&[f64]>, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let spec = &call.spec;
    let z = linear_truth(&activated(call, s), weight, Some(bias), &linear_shape(call));
    let y = (0..call.batch * spec.outputs * call.len).map(|i| {
        let (value, gate) = value_and_gate_indices(call, i);
        let gated =
            if spec.glu { z[value] * sigmoid(z[gate]) } else { activation(spec.final_activation, z[value]) };
        gated * dropout_factor(call, 1, i) + residual.map_or(0.0, |r| r[i])
    });
    y.collect()
}

/// The gradients ds, dweight, dbias of a mixing stage.
fn mix_transposed(call: &MixCall, dy: &[f64], s: &[f64], weight: &[f64], bias: &[f64]) -> [Vec<f64>; 3] {
    let (spec, shape) = (&call.spec, linear_shape(call));
    let a = activated(call, s);
    let z = linear_truth(&a, weight, Some(bias), &shape);
    let mut dz = vec![0.0; z.len()];
    for (i, dy) in dy.iter().enumerate() {
        let ((value, gate), dy) = (value_and_gate_indices(call, i), dy * dropout_factor(call, 1, i));
        if spec.glu {
            let gate_value = sigmoid(z[gate]);
            dz[value] = dy * gate_value;
            dz[gate] = dy * z[value] * gate_value * (1.0 - gate_value);
        } else {
            dz[value] = dy * activation_derivative(spec.final_activation, z[value]);
        }
    }
    let [mut ds, dw, db] = linear_transposed(&dz, &a, weight, &shape);
    for (i, ds) in ds.iter_mut().enumerate() {
        *ds *= dropout_factor(call, 0, i) * activation_derivative(spec.activation, s[i]);
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
        // Every activation, before the linear layer and after it.
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

    /// A random weight and bias. Where a ReLU follows the linear layer, they are such that none of its inputs is so
    /// close to 0 that rounding would decide its sign.
    fn mix_params(&mut self, call: &MixCall, s: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let spec = &call.spec;
        let scale = 1.0 / (spec.inputs as f64).sqrt();
        loop {
            let bias = self.normal(spec.rows());
            let weight = self.normal(spec.rows() * spec.inputs).into_iter().map(|w| w * scale);
            let weight = self.rounded(&weight.collect::<Vec<_>>());
            let z = linear_truth(&activated(call, s), &weight, Some(&bias), &linear_shape(call));
            if spec.glu || spec.final_activation != Activation::Relu || z.iter().all(|z| z.abs() > 1e-3) {
                return (weight, bias);
            }
        }
    }

    fn mix_case(&mut self, call: MixCall) {
        let MixCall { spec, batch, len, .. } = call;
        let backend = self.backend;
        let case = format!("{spec:?} batch={batch} len={len}");
        // Not close to 0, where ReLU has a kink.
        let s = self.away_from_zero(batch * spec.inputs * len);
        let residual = self.normal(batch * spec.outputs * len);
        let dy = self.normal(residual.len());
        let (weight, bias) = self.mix_params(&call, &s);
        let label = CaseLabel { operation: "mix_forward", case: &case };
        let without = mix_truth(&call, &s, None, &weight, &bias);
        self.check_forward(label, &[&s, &weight, &bias], &[], &[("y", &without)], &mut |a, workspace| {
            let ([y], [s, weight, bias]) = (into_array(a.outs), into_array(a.ins));
            let params = MixParams { weight, bias };
            backend.mix_forward(MixForward { y, saved: None, s, residual: None, params, call }, workspace)
        });
        // Forward with saved values, then backward from these.
        let with = mix_truth(&call, &s, Some(&residual), &weight, &bias);
        let outs =
            [OutputBuffer::Overwritten(with.len()), OutputBuffer::Overwritten(backend.mix_saved_len(&call))];
        let got =
            self.outputs_of(label, &[&s, &residual, &weight, &bias], &[], &outs, &mut |a, workspace| {
                let ([y, saved], [s, residual, weight, bias]) = (into_array(a.outs), into_array(a.ins));
                let params = MixParams { weight, bias };
                backend.mix_forward(
                    MixForward { y, saved: Some(saved), s, residual: Some(residual), params, call },
                    workspace,
                )
            });
        let Some(got) = got else { return };
        let [y, saved] = into_array(got);
        self.check_output(label, "y", &y, &with);
        let first = self.report.comparisons.len();
        self.mix_backward_case(
            CaseLabel { operation: "mix_backward", ..label },
            &call,
            [&dy, &s, &saved, &weight, &bias],
        );
        self.check_saved(label, &saved, first);
    }

    fn mix_backward_case(&mut self, label: CaseLabel<'_>, call: &MixCall, ins: [&[f64]; 5]) {
        let (backend, [dy, s, _, weight, bias], call) = (self.backend, ins, *call);
        let (dw0, db0) = (self.small_initial_gradient(weight.len()), self.small_initial_gradient(bias.len()));
        let outs =
            [OutputBuffer::Overwritten(s.len()), OutputBuffer::AddedTo(&dw0), OutputBuffer::AddedTo(&db0)];
        let got = self.outputs_of(label, &ins, &[], &outs, &mut |a, workspace| {
            let ([ds, dweight, dbias], [dy, s, saved, weight, bias]) =
                (into_array(a.outs), into_array(a.ins));
            let params = MixParams { weight, bias };
            let grads = MixGrads { weight: dweight, bias: dbias };
            backend.mix_backward(MixBackward { ds, grads, dy, s, saved, params, call }, workspace)
        });
        if let Some(got) = got {
            let [ds, dw, db] = mix_transposed(&call, dy, s, weight, bias);
            self.check_gradient(label, "ds", &got[0], &ds);
            self.check_gradient(label, "grads.weight", &added_part(&got[1], &dw0), &dw);
            self.check_gradient(label, "grads.bias", &added_part(&got[2], &db0), &db);
        }
    }
}
