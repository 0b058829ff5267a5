//! Conformance tests of linear layers.

use super::suite::{CaseLabel, OutputBuffer, Suite, added_part, inner_product, into_array};
use s4_backend::{Backend, LinearBackward, LinearForward, LinearShape};

/// The truth of a linear layer.
pub(super) fn linear_truth(x: &[f64], w: &[f64], bias: Option<&[f64]>, s: &LinearShape) -> Vec<f64> {
    let mut y = vec![0.0; s.batch * s.outputs * s.len];
    for b in 0..s.batch {
        for o in 0..s.outputs {
            let y = &mut y[(b * s.outputs + o) * s.len..][..s.len];
            y.fill(bias.map_or(0.0, |b| b[o]));
            for i in 0..s.inputs {
                for (y, x) in y.iter_mut().zip(&x[(b * s.inputs + i) * s.len..][..s.len]) {
                    *y += w[o * s.inputs + i] * x;
                }
            }
        }
    }
    y
}

/// The gradients dx, dweight, dbias of a linear layer.
pub(super) fn linear_transposed(dy: &[f64], x: &[f64], w: &[f64], s: &LinearShape) -> [Vec<f64>; 3] {
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; s.outputs]);
    for b in 0..s.batch {
        for o in 0..s.outputs {
            let dy = &dy[(b * s.outputs + o) * s.len..][..s.len];
            db[o] += dy.iter().sum::<f64>();
            for i in 0..s.inputs {
                let row = (b * s.inputs + i) * s.len;
                dw[o * s.inputs + i] += inner_product(dy, &x[row..][..s.len]);
                for (dx, dy) in dx[row..][..s.len].iter_mut().zip(dy) {
                    *dx += w[o * s.inputs + i] * dy;
                }
            }
        }
    }
    [dx, dw, db]
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn linear(&mut self) {
        let shapes = self.cases(
            &[
                (1, 1, 1, 1),
                (2, 3, 5, 7),
                (1, 17, 33, 1),
                (3, 17, 33, 1),
                (65, 20, 7, 1),
                (9, 2048, 5, 1),
                (1, 1, 8, 300),
                (2, 8, 1, 65),
                (2, 64, 128, 130),
                (2, 40, 70, 1047),
            ],
            &[(2, 3, 5, 7), (3, 7, 4, 1), (1, 17, 33, 1)],
        );
        for (batch, inputs, outputs, len) in shapes {
            for with_bias in [true, false] {
                self.linear_case(LinearShape { batch, inputs, outputs, len }, with_bias);
            }
        }
    }

    fn linear_case(&mut self, shape: LinearShape, with_bias: bool) {
        let (backend, s) = (self.backend, &shape);
        let case = format!("{s:?} bias={with_bias}");
        let label = CaseLabel { operation: "linear_forward", case: &case };
        let (x, w) = (self.normal(s.batch * s.inputs * s.len), self.normal(s.outputs * s.inputs));
        let (bias, dy) = (self.normal(s.outputs), self.normal(s.batch * s.outputs * s.len));
        let y = linear_truth(&x, &w, with_bias.then_some(&bias[..]), s);
        self.check_forward(label, &[&x, &w, &bias], &[], &[("y", &y)], &mut |a, workspace| {
            let ([y], [x, weight, bias]) = (into_array(a.outs), into_array(a.ins));
            backend.linear_forward(
                LinearForward { y, x, weight, bias: with_bias.then_some(bias), shape },
                workspace,
            )
        });
        let label = CaseLabel { operation: "linear_backward", case: &case };
        let [dx, dw, db] = linear_transposed(&dy, &x, &w, s);
        let (dw0, db0) = (self.small_initial_gradient(w.len()), self.small_initial_gradient(bias.len()));
        let outs =
            [OutputBuffer::Overwritten(x.len()), OutputBuffer::AddedTo(&dw0), OutputBuffer::AddedTo(&db0)];
        let got = self.outputs_of(label, &[&dy, &x, &w], &[], &outs, &mut |a, workspace| {
            let ([dx, dweight, dbias], [dy, x, weight]) = (into_array(a.outs), into_array(a.ins));
            let (dx, dbias) = (Some(dx), with_bias.then_some(dbias));
            backend.linear_backward(LinearBackward { dx, dweight, dbias, dy, x, weight, shape }, workspace)
        });
        if let Some(got) = got {
            self.check_gradient(label, "dx", &got[0], &dx);
            self.check_gradient(label, "dweight", &added_part(&got[1], &dw0), &dw);
            if with_bias {
                self.check_gradient(label, "dbias", &added_part(&got[2], &db0), &db);
            } else {
                self.check_exact(label, "dbias", &got[2], &db0);
            }
        }
        let case = format!("{case}, without dx");
        let label = CaseLabel { operation: "linear_backward", case: &case };
        let got = self.outputs_of(label, &[&dy, &x, &w], &[], &outs[1..], &mut |a, workspace| {
            let ([dweight, dbias], [dy, x, weight]) = (into_array(a.outs), into_array(a.ins));
            let dbias = Some(dbias);
            backend
                .linear_backward(LinearBackward { dx: None, dweight, dbias, dy, x, weight, shape }, workspace)
        });
        if let Some(got) = got {
            self.check_gradient(label, "dweight", &added_part(&got[0], &dw0), &dw);
        }
    }
}
