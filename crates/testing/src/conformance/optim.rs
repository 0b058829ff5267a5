//! Sum of squares, AdamW with clipping and guard, moving average.

use super::{Out, Suite, take};
use crate::{AdamW, Clip, OptimOps};

impl<B: OptimOps> Suite<'_, B> {
    pub(super) fn optim(&mut self) {
        for len in [1, 255, 70_001] {
            self.sum_squares_case(len);
            for max_norm in [f64::INFINITY, 0.5] {
                for guard in [[1.0, 4.0], [f64::NAN, 4.0], [1.0, f64::INFINITY], [1.0, 0.0]] {
                    self.adamw_case(len, max_norm, guard);
                }
            }
        }
    }

    fn sum_squares_case(&mut self, len: usize) {
        let case = format!("sum_squares {len}");
        let x = self.normal(len);
        let be = self.be;
        match self.twice(&[&x], &[Out::Add(&[2.0])], &mut |i, o, ws| {
            let [acc] = take(o);
            be.sum_squares(acc, i[0], ws)
        }) {
            Ok(got) => {
                let want = 2.0 + x.iter().map(|x| x * x).sum::<f64>();
                let tolerance = self.value_tolerance();
                self.compare(&case, "acc", &got[0], &[want], tolerance);
            }
            Err(why) => self.failed(&case, &why),
        }
    }

    fn adamw_case(&mut self, len: usize, max_norm: f64, guard: [f64; 2]) {
        let case = format!("adamw {len} max_norm={max_norm} guard={guard:?}");
        let hyper = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 3 };
        let (value, m, grad) = (self.normal(len), self.normal(len), self.normal(len));
        let v: Vec<f64> = self.normal(len).into_iter().map(f64::abs).collect();
        let be = self.be;
        let go = guard.iter().all(|g| g.is_finite());
        let scale = (max_norm / guard[1].sqrt()).min(1.0);
        let (mut p1, mut m1, mut v1) = (value.clone(), m.clone(), v.clone());
        if go {
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
        let outs = [Out::Add(&value), Out::Add(&m), Out::Add(&v)];
        // The guard goes as an output that must not change: inputs are compared with ==, and this may be NaN.
        let outs = outs.into_iter().chain([Out::Add(&guard)]).collect::<Vec<_>>();
        match self.twice(&[&grad], &outs, &mut |i, o, _| {
            let [value, m, v, guard] = take(o);
            be.adamw(value, m, v, i[0], be.freeze(&guard), &hyper, &Clip { max_norm })
        }) {
            Ok(got) => {
                let tolerance = if go { self.value_tolerance() } else { 0.0 };
                self.compare(&case, "value", &got[0], &p1, tolerance);
                self.compare(&case, "m", &got[1], &m1, tolerance);
                self.compare(&case, "v", &got[2], &v1, tolerance);
            }
            Err(why) => self.failed(&case, &why),
        }
        let case = format!("ema {len} guard={guard:?}");
        match self.twice(&[&value], &[Out::Add(&m), Out::Add(&guard)], &mut |i, o, _| {
            let [average, guard] = take(o);
            be.ema(average, i[0], be.freeze(&guard), 0.75)
        }) {
            Ok(got) => {
                let want: Vec<f64> =
                    m.iter().zip(&value).map(|(m, v)| if go { 0.75 * m + 0.25 * v } else { *m }).collect();
                let tolerance = if go { self.value_tolerance() } else { 0.0 };
                self.compare(&case, "average", &got[0], &want, tolerance);
            }
            Err(why) => self.failed(&case, &why),
        }
    }
}
