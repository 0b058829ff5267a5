//! The block's mixing stage, with and without gate, dropout, residual.

use super::{Out, Suite, added, dense::activation, inner, take};
use crate::{Activation, DenseOps, MixGrads, MixParams, MixSpec, random::DropKey};

/// 0 or 1/(1 − p), as [`DropKey`] says.
fn factor(spec: &MixSpec, key: DropKey, site: u32, features: usize, len: usize, i: usize) -> f64 {
    if spec.dropout == 0.0 {
        return 1.0;
    }
    let i = if spec.tied { i / len } else { i };
    debug_assert!(features > 0);
    let draw = DropKey { site: key.site + site, ..key }.draws(i as u64 / 4)[i % 4];
    if draw >= DropKey::threshold(spec.dropout) { 1.0 / (1.0 - spec.dropout) } else { 0.0 }
}

fn mix(
    s: &[f64],
    residual: Option<&[f64]>,
    weight: &[f64],
    bias: &[f64],
    spec: &MixSpec,
    key: DropKey,
    batch: usize,
    len: usize,
) -> Vec<f64> {
    let a: Vec<f64> = (0..s.len())
        .map(|i| activation(spec.activation, s[i]) * factor(spec, key, 0, spec.inputs, len, i))
        .collect();
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
            z(o) / (1.0 + (-z(o + spec.outputs)).exp())
        } else {
            activation(spec.final_activation, z(o))
        };
        *y = gated * factor(spec, key, 1, spec.outputs, len, i) + residual.map_or(0.0, |r| r[i]);
    }
    y
}

impl<B: DenseOps> Suite<'_, B> {
    pub(super) fn mix(&mut self) {
        let plain = MixSpec {
            inputs: 3,
            outputs: 3,
            activation: Activation::Gelu,
            glu: true,
            final_activation: Activation::Identity,
            dropout: 0.0,
            tied: false,
        };
        for (batch, len) in [(1, 1), (2, 7), (5, 1)] {
            for (glu, final_activation, activation) in [
                (true, Activation::Identity, Activation::Gelu),
                (false, Activation::Identity, Activation::Silu),
                (false, Activation::Tanh, Activation::Identity),
                (false, Activation::Gelu, Activation::Sigmoid),
                (false, Activation::Sigmoid, Activation::Tanh),
            ] {
                for (dropout, tied) in [(0.0, false), (0.25, false), (0.25, true)] {
                    let spec =
                        MixSpec { inputs: 4, activation, glu, final_activation, dropout, tied, ..plain };
                    self.mix_case(spec, batch, len);
                }
            }
        }
        for (inputs, outputs, batch, len) in
            [(16, 8, 3, 129), (33, 17, 1, 300), (96, 48, 1, 130), (24, 12, 70, 1), (5, 5, 2, 1047)]
        {
            for (glu, dropout, tied) in [(true, 0.0, false), (true, 0.1, false), (false, 0.1, true)] {
                let final_activation = if glu { Activation::Identity } else { Activation::Silu };
                self.mix_case(
                    MixSpec { inputs, outputs, glu, dropout, tied, final_activation, ..plain },
                    batch,
                    len,
                );
            }
        }
    }

    fn mix_case(&mut self, spec: MixSpec, batch: usize, len: usize) {
        let case = format!("mix {spec:?} batch={batch} len={len}");
        let be = self.be;
        let key = DropKey { seed: 11, step: 1 << 33, site: 6 };
        let (s, residual) = (self.normal(batch * spec.inputs * len), self.normal(batch * spec.outputs * len));
        let dy = self.normal(residual.len());
        let bias = self.normal(spec.rows());
        let scale = 1.0 / (spec.inputs as f64).sqrt();
        let weight: Vec<f64> = self
            .normal(spec.rows() * spec.inputs)
            .into_iter()
            .map(|w| crate::Scalar::to_f64(<B::Scalar as crate::Scalar>::from_f64(w * scale)))
            .collect();
        let with = mix(&s, Some(&residual), &weight, &bias, &spec, key, batch, len);
        let without = mix(&s, None, &weight, &bias, &spec, key, batch, len);
        self.forward(&case, &[&s, &weight, &bias], &[("y without residual", without)], &mut |i, o, ws| {
            let [y] = take(o);
            let params = MixParams { weight: i[1], bias: i[2] };
            be.mix_forward(y, None, i[0], None, &params, &spec, key, batch, len, ws)
        });
        // Forward that saves, then backward from what it saved.
        let saved_len = be.mix_saved_len(&spec, batch, len);
        let outs = [Out::Over(with.len()), Out::Over(saved_len)];
        let forward = self.twice(&[&s, &residual, &weight, &bias], &outs, &mut |i, o, ws| {
            let [y, saved] = take(o);
            let params = MixParams { weight: i[2], bias: i[3] };
            be.mix_forward(y, Some(saved), i[0], Some(i[1]), &params, &spec, key, batch, len, ws)
        });
        let saved = match forward {
            Ok(mut got) => {
                let tolerance = self.value_tolerance();
                self.compare(&case, "y", &got[0], &with, tolerance);
                got.remove(1)
            }
            Err(why) => return self.failed(&case, &why),
        };
        let (dw0, db0) = (self.normal(weight.len()), self.normal(bias.len()));
        let outs = [Out::Over(s.len()), Out::Add(&dw0), Out::Add(&db0)];
        match self.twice(&[&dy, &s, &saved, &weight, &bias], &outs, &mut |i, o, ws| {
            let [ds, weight, bias] = take(o);
            let params = MixParams { weight: i[3], bias: i[4] };
            let grads = MixGrads { weight, bias };
            be.mix_backward(ds, grads, i[0], i[1], i[2], &params, &spec, key, batch, len, ws)
        }) {
            Ok(got) => {
                let value =
                    |s: &[f64], w: &[f64], b: &[f64]| inner(&mix(s, None, w, b, &spec, key, batch, len), &dy);
                self.gradient(&case, "ds", &got[0], &s, &mut |s| value(s, &weight, &bias));
                self.gradient(&case, "dweight", &added(&got[1], &dw0), &weight, &mut |w| value(&s, w, &bias));
                self.gradient(&case, "dbias", &added(&got[2], &db0), &bias, &mut |b| value(&s, &weight, b));
            }
            Err(why) => self.failed(&case, &why),
        }
    }
}
