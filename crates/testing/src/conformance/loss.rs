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
    class_weights: Option<Vec<f64>>,
    top_k: usize,
    denominator: f64,
}

impl LossCase {
    /// −log softmax(x) of each class.
    fn nll(x: &[f64]) -> Vec<f64> {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = x.iter().map(|v| (v - top).exp()).sum::<f64>().ln() + top;
        x.iter().map(|v| log_sum - v).collect()
    }

    /// Whether a prediction counts.
    fn counts(&self, row: usize) -> bool {
        self.labels[row] >= 0 && self.weight(row) > 0.0
    }

    /// The loss of one prediction x, without its weight.
    fn loss_of_row(&self, row: usize, x: &[f64]) -> f64 {
        let Loss { kind, huber_delta: delta, .. } = self.loss;
        let residual = |i: usize| x[i] - self.values[row * self.width + i];
        let sum = |f: &dyn Fn(usize, f64) -> f64| (0..self.width).map(|i| f(i, residual(i))).sum::<f64>();
        match kind {
            LossKind::CrossEntropy if self.labels[row] < 0 => 0.0,
            // torch.nn.functional.cross_entropy with weight and label_smoothing: the cross-entropy with the target
            // (1 − ε)·onehot + ε/classes, each class's term by its weight.
            LossKind::CrossEntropy => {
                let smoothing = self.loss.label_smoothing;
                let term = |(class, nll): (usize, f64)| {
                    let onehot = if class == self.labels[row] as usize { 1.0 } else { 0.0 };
                    let target = (1.0 - smoothing) * onehot + smoothing / x.len() as f64;
                    self.class_weights.as_ref().map_or(1.0, |v| v[class]) * target * nll
                };
                Self::nll(x).into_iter().enumerate().map(term).sum()
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

    /// The three sums of which metrics are made.
    fn metric_sums(&self, x: &[f64]) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for (row, x) in x.chunks(self.outputs).enumerate() {
            let of_row =
                if self.loss.kind.takes_labels() { self.label_metrics(row, x) } else { self.errors(row, x) };
            sums.iter_mut().zip(of_row).for_each(|(sum, x)| *sum += self.weight(row) * x);
        }
        sums
    }

    /// Whether the label has the largest output, whether it is among the largest, and −log softmax(x)\[label\].
    fn label_metrics(&self, row: usize, x: &[f64]) -> [f64; 3] {
        if !self.counts(row) {
            return [0.0; 3];
        }
        let label = self.labels[row] as usize;
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|&a, &b| x[b].total_cmp(&x[a]).then(a.cmp(&b)));
        let place = order.iter().position(|&class| class == label).unwrap_or(usize::MAX);
        let holds = |yes: bool| if yes { 1.0 } else { 0.0 };
        [holds(place == 0), holds(place < self.top_k), Self::nll(x)[label]]
    }

    /// r², |r| and CRPS, each summed over the values of a target.
    fn errors(&self, row: usize, x: &[f64]) -> [f64; 3] {
        let (kind, width) = (self.loss.kind, self.width);
        let levels = self.loss.levels.as_slice();
        // Of the levels 0.2 and 0.7 the second is nearer to ½.
        let centre = if kind == LossKind::Quantile { width } else { 0 };
        let mut sums = [0.0; 3];
        for i in 0..width {
            let target = self.values[row * width + i];
            let r = x[centre + i] - target;
            let crps = match kind {
                LossKind::Gaussian => crps_by_integral(r, x[width + i].clamp(-10.0, 10.0).exp()),
                LossKind::Quantile => {
                    let pinball = |(k, q): (usize, &f64)| {
                        let r = target - x[k * width + i];
                        (q * r).max((q - 1.0) * r)
                    };
                    2.0 * levels.iter().enumerate().map(pinball).sum::<f64>() / levels.len() as f64
                }
                _ => 0.0,
            };
            sums.iter_mut().zip([r * r, r.abs(), crps]).for_each(|(sum, x)| *sum += x);
        }
        sums
    }

    /// Class of the largest output of each prediction that counts, −1 of the others.
    fn predictions(&self, x: &[f64]) -> Vec<f64> {
        let best = |x: &[f64]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
        let rows = x.chunks(self.outputs).enumerate();
        rows.map(|(row, x)| if self.counts(row) { best(x) as f64 } else { -1.0 }).collect()
    }
}

/// CRPS of N(0, σ²) at r by its definition, ∫(Φ(t/σ) − [t ≥ r])² dt: σ times the integral for a standard normal, on both sides of the
/// step by Simpson's rule, of which two step sizes are extrapolated.
fn crps_by_integral(r: f64, sigma: f64) -> f64 {
    let z = (r / sigma).abs();
    let cdf = |t: f64| 0.5 * libm::erfc(-t * std::f64::consts::FRAC_1_SQRT_2);
    let simpson = |parts: usize, from: f64, to: f64, f: &dyn Fn(f64) -> f64| {
        let h = (to - from) / parts as f64;
        let factor = |i: usize| if i == 0 || i == parts { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
        (0..=parts).map(|i| factor(i) * f(from + i as f64 * h)).sum::<f64>() * h / 3.0
    };
    let integral = |from: f64, to: f64, f: &dyn Fn(f64) -> f64| {
        (16.0 * simpson(600, from, to, f) - simpson(300, from, to, f)) / 15.0
    };
    // Beyond 9 deviations Φ is 0 or 1 to the last bit that counts; up to a z further out the integrand is 1.
    let end = z.min(9.0);
    let below = integral(-9.0, end, &|t| cdf(t).powi(2));
    let above = integral(end, 9.0, &|t| (1.0 - cdf(t)).powi(2));
    sigma * (below + above + (z - end))
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn loss(&mut self) {
        for (rows, outputs) in self.cases(&[(1, 2), (7, 10), (1047, 4), (300, 130)], &[(1, 2), (19, 4)]) {
            for weighted in [false, true] {
                for &kind in LossKind::ALL {
                    let levels = QuantileLevels::new(&[0.2, 0.7]).expect("two levels");
                    let loss = Loss { huber_delta: HUBER_DELTA, levels, ..Loss::from(kind) };
                    self.loss_case(loss, rows, outputs, weighted, false);
                }
                let smoothed = Loss { label_smoothing: 0.15, ..Loss::from(LossKind::CrossEntropy) };
                self.loss_case(smoothed, rows, outputs, weighted, false);
                self.loss_case(smoothed, rows, outputs, weighted, true);
                self.loss_case(LossKind::CrossEntropy.into(), rows, outputs, weighted, true);
            }
        }
        self.rows_without_a_softmax();
    }

    /// Outputs of which none is a prediction: no class is predicted, no label found; the rows beside them are.
    fn rows_without_a_softmax(&mut self) {
        const INF: f64 = f64::INFINITY;
        let (backend, label) =
            (self.backend, CaseLabel { operation: "loss_forward_backward", case: "no softmax" });
        let x = [INF, 0.5, 1.0, 0.25, 2.0, 1.0, -INF, -INF, -INF, INF, INF, 0.5, 0.75, 0.5, -1.0];
        let labels = [0, 1, 0, 1, 0];
        let outs = [OutputBuffer::AddedTo(&[0.0; 4]), OutputBuffer::Overwritten(labels.len())];
        let got = self.outputs_of(label, &[&x], &[&labels], &outs, &mut |a, workspace| {
            let [stats, predictions] = into_array(a.outs);
            let [output] = into_array(a.ins);
            backend.loss_forward_backward(
                LossForwardBackward {
                    stats,
                    doutput: None,
                    predictions: Some(predictions),
                    output,
                    target: Target::Labels(&a.ints[0]),
                    row_weights: None,
                    class_weights: None,
                    loss: LossKind::CrossEntropy.into(),
                    top_k: 2,
                    rows: labels.len(),
                    outputs: 3,
                    denominator: 5.0,
                },
                workspace,
            )
        });
        let Some(got) = got else { return };
        self.check_exact(label, "predictions", &got[1], &[-1.0, 1.0, -1.0, -1.0, 0.0]);
        self.check_exact(label, "stats.metrics", &got[0][1..3], &[2.0, 2.0]);
        self.check_holds(label, "stats.loss", got[0][0].is_nan() && got[0][3].is_nan());
    }

    /// Random outputs and targets whose differences are not close to a kink of the loss.
    fn loss_data(
        &mut self,
        loss: Loss,
        rows: usize,
        outputs: usize,
        (weighted, by_class): (bool, bool),
    ) -> (LossCase, Vec<f64>) {
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
        let class_weights = by_class.then(|| (0..outputs).map(|c| [0.5, 2.0, 1.25, 0.0][c % 4]).collect());
        let (denominator, top_k) = (0.75 * rows as f64, if by_class { 3 } else { 1 });
        (LossCase { loss, outputs, width, values, labels, weights, class_weights, top_k, denominator }, x)
    }

    fn loss_case(&mut self, loss: Loss, rows: usize, outputs: usize, weighted: bool, by_class: bool) {
        let (data, x) = self.loss_data(loss, rows, outputs, (weighted, by_class));
        let (backend, denominator, top_k) = (self.backend, data.denominator, data.top_k);
        let takes_labels = loss.kind.takes_labels();
        let (want, metrics) = (data.weighted_loss(&x), data.metric_sums(&x));
        // Small beside what is added, of which rounding in f32 would else leave too few bits.
        let stats0 = [0.5, 0.0625, 0.03125, 0.015625];
        let ins = [
            &x[..],
            &data.values,
            data.weights.as_deref().unwrap_or(&[]),
            data.class_weights.as_deref().unwrap_or(&[]),
        ];
        for with_gradient in [true, false] {
            let case = format!(
                "{} smoothing={} rows={rows} outputs={outputs} weighted={weighted} by class={by_class} gradient={with_gradient}",
                loss.kind, loss.label_smoothing
            );
            let label = CaseLabel { operation: "loss_forward_backward", case: &case };
            // With and without the gradient there are predictions and there are none.
            let with_predictions = takes_labels && with_gradient == weighted;
            let outs = [
                OutputBuffer::AddedTo(&stats0),
                OutputBuffer::Overwritten(if with_gradient { x.len() } else { 0 }),
                OutputBuffer::Overwritten(if with_predictions { rows } else { 0 }),
            ];
            let got = self.outputs_of(label, &ins, &[&data.labels], &outs, &mut |a, workspace| {
                let [stats, doutput, predictions] = into_array(a.outs);
                let [output, values, weights, class_weights] = into_array(a.ins);
                let target = if takes_labels { Target::Labels(&a.ints[0]) } else { Target::Values(values) };
                backend.loss_forward_backward(
                    LossForwardBackward {
                        stats,
                        doutput: with_gradient.then_some(doutput),
                        predictions: with_predictions.then_some(predictions),
                        output,
                        target,
                        row_weights: weighted.then_some(weights),
                        class_weights: by_class.then_some(class_weights),
                        loss,
                        top_k,
                        rows,
                        outputs,
                        denominator,
                    },
                    workspace,
                )
            });
            let Some(got) = got else { continue };
            let stats = added_part(&got[0], &stats0);
            self.check_output(label, "stats.loss", &stats[..1], &[want]);
            for (i, &metric) in metrics.iter().enumerate() {
                // Counts of halves and wholes are exact, and may be zero.
                match (takes_labels && i < 2) || metric == 0.0 {
                    true => self.check_exact(label, "stats.metrics", &stats[i + 1..=i + 1], &[metric]),
                    false => self.check_output(label, "stats.metrics", &stats[i + 1..=i + 1], &[metric]),
                }
            }
            if with_predictions {
                self.check_exact(label, "predictions", &got[2], &data.predictions(&x));
            }
            if with_gradient {
                self.check_by_differences(label, "doutput", &got[1], &x, &mut |x| data.weighted_loss(x));
            }
        }
    }
}
