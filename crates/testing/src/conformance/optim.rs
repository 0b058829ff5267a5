//! Conformance tests of the optimiser: sum of squares, AdamW with clipping and guard, moving average.

use super::suite::{CaseLabel, OutputBuffer, Suite, added_part, into_array};
use s4_backend::{AdamW, AdamWUpdate, Backend, Clip, EmaUpdate};

const GUARD_VALUES: [[f64; 2]; 4] = [[1.0, 4.0], [f64::NAN, 4.0], [1.0, f64::INFINITY], [1.0, 0.0]];

impl<B: Backend> Suite<'_, B> {
    pub(super) fn optim(&mut self) {
        for len in self.cases(&[1, 255, 70_001], &[1, 255]) {
            self.sum_squares_case(len);
            self.scale_case(len);
            for guard in GUARD_VALUES {
                for max_norm in [f64::INFINITY, 0.5] {
                    self.adamw_case(len, max_norm, guard);
                }
                self.ema_case(len, guard);
            }
        }
    }

    fn sum_squares_case(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = CaseLabel { operation: "sum_squares", case: &case };
        let x = self.normal(len);
        let want = [x.iter().map(|x| x * x).sum::<f64>()];
        let before = self.initial_gradient_like(&want);
        let got =
            self.outputs_of(label, &[&x], &[], &[OutputBuffer::AddedTo(&before)], &mut |a, workspace| {
                let ([acc], [x]) = (into_array(a.outs), into_array(a.ins));
                backend.sum_squares(acc, x, workspace)
            });
        if let Some(got) = got {
            self.check_output(label, "acc", &added_part(&got[0], &before), &want);
        }
    }

    fn scale_case(&mut self, len: usize) {
        let backend = self.backend;
        let before = self.normal(len);
        for divisor in [None, Some(8.0)] {
            let case = format!("{len} divisor={divisor:?}");
            let label = CaseLabel { operation: "scale", case: &case };
            let factor = 0.37 / divisor.unwrap_or(1.0);
            let want: Vec<f64> = before.iter().map(|x| x * factor).collect();
            let divisor_values = [divisor.unwrap_or(0.0)];
            let outs = [OutputBuffer::AddedTo(&before)];
            let got = self.outputs_of(label, &[&divisor_values], &[], &outs, &mut |a, _| {
                let ([x], [view]) = (into_array(a.outs), into_array(a.ins));
                backend.scale(x, 0.37, divisor.is_some().then_some(view))
            });
            if let Some(got) = got {
                self.check_output(label, "x", &got[0], &want);
            }
        }
    }

    /// Compares updated values with their truth: within the tolerance, or exactly where the guard has stopped the
    /// update.
    fn check_updated(
        &mut self,
        label: CaseLabel<'_>,
        output: &str,
        got: &[f64],
        want: &[f64],
        guard: [f64; 2],
    ) {
        if guard.iter().all(|g| g.is_finite()) {
            self.check_output(label, output, got, want);
        } else {
            self.check_exact(label, output, got, want);
        }
    }

    fn adamw_case(&mut self, len: usize, max_norm: f64, guard: [f64; 2]) {
        let (backend, case) = (self.backend, format!("{len} max_norm={max_norm} guard={guard:?}"));
        let label = CaseLabel { operation: "adamw", case: &case };
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
        // The guard is passed as an output that nothing is added to: it may be NaN, and the comparison that shows
        // inputs to be unchanged would fail for NaN.
        let outs = [
            OutputBuffer::AddedTo(&value),
            OutputBuffer::AddedTo(&m),
            OutputBuffer::AddedTo(&v),
            OutputBuffer::AddedTo(&guard),
        ];
        let got = self.outputs_of(label, &[&grad], &[], &outs, &mut |a, _| {
            let ([mut value, mut m, mut v, guard], [grad]) = (into_array(a.outs), into_array(a.ins));
            let (value, m, v) =
                (backend.reborrow(&mut value), backend.reborrow(&mut m), backend.reborrow(&mut v));
            let (grad, guard, clip) = (backend.shorten(grad), backend.freeze(&guard), Clip { max_norm });
            backend.adamw(AdamWUpdate { value, m, v, grad, guard, hyper, clip })
        });
        if let Some(got) = got {
            self.check_updated(label, "value", &got[0], &p1, guard);
            self.check_updated(label, "m", &got[1], &m1, guard);
            self.check_updated(label, "v", &got[2], &v1, guard);
        }
    }

    fn ema_case(&mut self, len: usize, guard: [f64; 2]) {
        let (backend, case) = (self.backend, format!("{len} guard={guard:?}"));
        let label = CaseLabel { operation: "ema", case: &case };
        let (average, value) = (self.normal(len), self.normal(len));
        let outs = [OutputBuffer::AddedTo(&average), OutputBuffer::AddedTo(&guard)];
        let got = self.outputs_of(label, &[&value], &[], &outs, &mut |a, _| {
            let ([mut average, guard], [value]) = (into_array(a.outs), into_array(a.ins));
            let average = backend.reborrow(&mut average);
            backend.ema(EmaUpdate {
                average,
                value: backend.shorten(value),
                guard: backend.freeze(&guard),
                decay: 0.75,
            })
        });
        if let Some(got) = got {
            let is_updated = guard.iter().all(|g| g.is_finite());
            let pairs = average.iter().zip(&value);
            let want: Vec<f64> =
                pairs.map(|(a, v)| if is_updated { 0.75 * a + 0.25 * v } else { *a }).collect();
            self.check_updated(label, "average", &got[0], &want, guard);
        }
    }
}
