//! Conformance tests of losses and their gradients.

use super::suite::{CaseLabel, OutputBuffer, Suite, added_part, into_array};
use s4_backend::{Backend, Loss, LossForwardBackward, LossKind, QuantileLevels, Target};

const HUBER_DELTA: f64 = 0.75;

/// A loss, its targets and its weights.
struct LossCase {
    loss: Loss,
    outputs: usize,
    width: usize,
    values: Vec<f64>,
    labels: Vec<i32>,
    weights: Option<Vec<f64>>,
    denominator: f64,
}

impl LossCase {
    /// The loss of one prediction x, without its weight.
    fn loss_of_row(&self, row: usize, x: &[f64]) -> f64 {
        let Loss { kind, huber_delta: delta, .. } = self.loss;
        let residual = |i: usize| x[i] - self.values[row * self.width + i];
        let sum = |f: &dyn Fn(usize, f64) -> f64| (0..self.width).map(|i| f(i, residual(i))).sum::<f64>();
        match kind {
            LossKind::CrossEntropy if self.labels[row] < 0 => 0.0,
            LossKind::CrossEntropy => {
                let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let exp_sum: f64 = x.iter().map(|v| (v - top).exp()).sum();
                exp_sum.ln() + top - x[self.labels[row] as usize]
            }
            LossKind::Mse => sum(&|_, r| r * r),
            LossKind::Mae => sum(&|_, r| r.abs()),
            LossKind::Huber => sum(&|_, r| match r.abs() {
                a if a > delta => delta * (a - delta / 2.0),
                a => a * a / 2.0,
            }),
            LossKind::LogCosh => sum(&|_, r| r.cosh().ln()),
            LossKind::Quantile => {
                let levels = self.loss.levels.as_slice();
                let pinball = |(k, q): (usize, &f64)| {
                    let one = |i: usize| {
                        let r = self.values[row * self.width + i] - x[k * self.width + i];
                        (q * r).max((q - 1.0) * r)
                    };
                    (0..self.width).map(one).sum::<f64>()
                };
                levels.iter().enumerate().map(pinball).sum::<f64>() / levels.len() as f64
            }
            LossKind::Gaussian => sum(&|i, r| {
                let log_sigma = x[self.width + i].clamp(-10.0, 10.0);
                let scaled = r / log_sigma.exp();
                0.5 * scaled * scaled + log_sigma + 0.5 * (2.0 * std::f64::consts::PI).ln()
            }),
        }
    }

    fn weight(&self, row: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[row])
    }

    /// Σ weight·loss/denominator.
    fn weighted_loss(&self, x: &[f64]) -> f64 {
        let rows = x.chunks(self.outputs).enumerate();
        rows.map(|(row, x)| self.weight(row) / self.denominator * self.loss_of_row(row, x)).sum()
    }

    /// Sum of the weights of the predictions whose largest output is the label.
    fn weight_of_correct_predictions(&self, x: &[f64]) -> f64 {
        let weight_if_correct = |(row, x): (usize, &[f64])| {
            let best = (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
            if best as i32 == self.labels[row] { self.weight(row) } else { 0.0 }
        };
        x.chunks(self.outputs).enumerate().map(weight_if_correct).sum()
    }
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn loss(&mut self) {
        for (rows, outputs) in self.cases(&[(1, 2), (7, 10), (1047, 4), (300, 130)], &[(1, 2), (19, 4)]) {
            for weighted in [false, true] {
                for &kind in LossKind::ALL {
                    let levels = QuantileLevels::new(&[0.2, 0.7]).expect("two levels");
                    let loss = Loss { kind, huber_delta: HUBER_DELTA, levels };
                    self.loss_case(loss, rows, outputs, weighted);
                }
            }
        }
    }

    /// Random outputs and targets whose differences are not close to a kink of the loss.
    fn loss_data(&mut self, loss: Loss, rows: usize, outputs: usize, weighted: bool) -> (LossCase, Vec<f64>) {
        let width = loss.width(outputs).expect("outputs that fit every loss");
        let mut x = self.normal(rows * outputs);
        // Residuals not close to 0, where |r| has a kink, nor to the point where the Huber loss becomes linear.
        let residual = self.away_from_zero(rows * width);
        let targets: Vec<f64> = (0..rows * width)
            .map(|i| {
                let r = residual[i];
                let r = if (r.abs() - HUBER_DELTA).abs() < 0.02 { 1.5 * r } else { r };
                x[i / width * outputs + i % width] - r
            })
            .collect();
        let mut values = self.rounded(&targets);
        if loss.kind == LossKind::Gaussian && rows > 1 {
            // One log σ above and one below the limits to which it is clamped; the other rows are within them. Where σ
            // is e⁻¹⁰ the residual is 0, or the loss would be huge.
            x[width] = 12.0;
            x[outputs + width] = -12.0;
            values[width] = x[outputs];
        }
        if loss.kind == LossKind::Quantile {
            // Each level has a kink where its output equals the target.
            let residual = self.away_from_zero(rows * width);
            for i in 0..rows * width {
                x[i / width * outputs + width + i % width] = values[i] - residual[i];
            }
            x = self.rounded(&x);
        }
        let labels: Vec<i32> =
            (0..rows).map(|r| if r % 5 == 3 { -1 } else { self.rng.below(outputs) as i32 }).collect();
        let weights = weighted.then(|| (0..rows).map(|r| [1.0, 0.5, 0.0, 2.0][r % 4]).collect());
        let denominator = 0.75 * rows as f64;
        (LossCase { loss, outputs, width, values, labels, weights, denominator }, x)
    }

    fn loss_case(&mut self, loss: Loss, rows: usize, outputs: usize, weighted: bool) {
        let (data, x) = self.loss_data(loss, rows, outputs, weighted);
        let (backend, denominator) = (self.backend, data.denominator);
        let takes_labels = loss.kind.takes_labels();
        let want =
            [data.weighted_loss(&x), if takes_labels { data.weight_of_correct_predictions(&x) } else { 0.0 }];
        let stats0 = [0.5, 3.0];
        let ins = [&x[..], &data.values, data.weights.as_deref().unwrap_or(&[])];
        for with_gradient in [true, false] {
            let case = format!(
                "{} rows={rows} outputs={outputs} weighted={weighted} gradient={with_gradient}",
                loss.kind
            );
            let label = CaseLabel { operation: "loss_forward_backward", case: &case };
            let outs = [
                OutputBuffer::AddedTo(&stats0),
                OutputBuffer::Overwritten(if with_gradient { x.len() } else { 0 }),
            ];
            let got = self.outputs_of(label, &ins, &[&data.labels], &outs, &mut |a, workspace| {
                let ([stats, doutput], [output, values, weights]) = (into_array(a.outs), into_array(a.ins));
                let target = if takes_labels { Target::Labels(&a.ints[0]) } else { Target::Values(values) };
                let (doutput, row_weights) = (with_gradient.then_some(doutput), weighted.then_some(weights));
                backend.loss_forward_backward(
                    LossForwardBackward {
                        stats,
                        doutput,
                        output,
                        target,
                        row_weights,
                        loss,
                        rows,
                        outputs,
                        denominator,
                    },
                    workspace,
                )
            });
            let Some(got) = got else { continue };
            let stats = added_part(&got[0], &stats0);
            self.check_output(label, "stats.loss", &stats[..1], &want[..1]);
            self.check_exact(label, "stats.hits", &stats[1..], &want[1..]);
            if with_gradient {
                self.check_by_differences(label, "doutput", &got[1], &x, &mut |x| data.weighted_loss(x));
            }
        }
    }
}
