//! Sum of squares, AdamW with clipping and guard, moving average.

use super::suite::{At, Out, Suite, added, take};
use s4_backend::{AdamW, AdamWUpdate, Backend, Clip, EmaUpdate};

const GUARDS: [[f64; 2]; 4] = [[1.0, 4.0], [f64::NAN, 4.0], [1.0, f64::INFINITY], [1.0, 0.0]];

impl<B: Backend> Suite<'_, B> {
    pub(super) fn optim(&mut self) {
        for len in self.cases(&[1, 255, 70_001], &[1, 255]) {
            self.sum_squares_case(len);
            for guard in GUARDS {
                for max_norm in [f64::INFINITY, 0.5] {
                    self.adamw_case(len, max_norm, guard);
                }
                self.ema_case(len, guard);
            }
        }
    }

    fn sum_squares_case(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = At { operation: "sum_squares", case: &case };
        let x = self.normal(len);
        let want = [x.iter().map(|x| x * x).sum::<f64>()];
        let before = self.before(&want);
        let got = self.outputs(at, &[&x], &[], &[Out::Add(&before)], &mut |a, ws| {
            let ([acc], [x]) = (take(a.outs), take(a.ins));
            be.sum_squares(acc, x, ws)
        });
        if let Some(got) = got {
            self.value(at, "acc", &added(&got[0], &before), &want);
        }
    }

    /// Updated values, or the untouched ones where the guard holds the update back.
    fn updated(&mut self, at: At<'_>, output: &str, got: &[f64], want: &[f64], guard: [f64; 2]) {
        if guard.iter().all(|g| g.is_finite()) {
            self.value(at, output, got, want);
        } else {
            self.exact(at, output, got, want);
        }
    }

    fn adamw_case(&mut self, len: usize, max_norm: f64, guard: [f64; 2]) {
        let (be, case) = (self.be, format!("{len} max_norm={max_norm} guard={guard:?}"));
        let at = At { operation: "adamw", case: &case };
        let hyper = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 3 };
        let (value, m, grad) = (self.normal(len), self.normal(len), self.normal(len));
        let v: Vec<f64> = self.normal(len).into_iter().map(f64::abs).collect();
        let scale = (max_norm / guard[1].sqrt()).min(1.0);
        let (mut p1, mut m1, mut v1) = (value.clone(), m.clone(), v.clone());
        if guard.iter().all(|g| g.is_finite()) {
            for i in 0..len {
                let g = grad[i] * scale;
                m1[i] = hyper.beta1 * m[i] + (1.0 - hyper.beta1) * g;
                v1[i] = hyper.beta2 * v[i] + (1.0 - hyper.beta2) * g * g;
                let m_hat = m1[i] / (1.0 - hyper.beta1.powi(3));
                let v_hat = v1[i] / (1.0 - hyper.beta2.powi(3));
                p1[i] = value[i]
                    - hyper.lr * (hyper.weight_decay * value[i] + m_hat / (v_hat.sqrt() + hyper.eps));
            }
        }
        // The guard goes as an output that must not change: inputs are compared with ==, and this may be NaN.
        let outs = [Out::Add(&value), Out::Add(&m), Out::Add(&v), Out::Add(&guard)];
        let got = self.outputs(at, &[&grad], &[], &outs, &mut |a, _| {
            let ([mut value, mut m, mut v, guard], [grad]) = (take(a.outs), take(a.ins));
            let (value, m, v) = (be.reborrow(&mut value), be.reborrow(&mut m), be.reborrow(&mut v));
            let (grad, guard, clip) = (be.shorten(grad), be.freeze(&guard), Clip { max_norm });
            be.adamw(AdamWUpdate { value, m, v, grad, guard, hyper, clip })
        });
        if let Some(got) = got {
            self.updated(at, "value", &got[0], &p1, guard);
            self.updated(at, "m", &got[1], &m1, guard);
            self.updated(at, "v", &got[2], &v1, guard);
        }
    }

    fn ema_case(&mut self, len: usize, guard: [f64; 2]) {
        let (be, case) = (self.be, format!("{len} guard={guard:?}"));
        let at = At { operation: "ema", case: &case };
        let (average, value) = (self.normal(len), self.normal(len));
        let outs = [Out::Add(&average), Out::Add(&guard)];
        let got = self.outputs(at, &[&value], &[], &outs, &mut |a, _| {
            let ([mut average, guard], [value]) = (take(a.outs), take(a.ins));
            let average = be.reborrow(&mut average);
            be.ema(EmaUpdate { average, value: be.shorten(value), guard: be.freeze(&guard), decay: 0.75 })
        });
        if let Some(got) = got {
            let go = guard.iter().all(|g| g.is_finite());
            let pairs = average.iter().zip(&value);
            let want: Vec<f64> = pairs.map(|(a, v)| if go { 0.75 * a + 0.25 * v } else { *a }).collect();
            self.updated(at, "average", &got[0], &want, guard);
        }
    }
}
