//! Losses and their gradients.

use super::{Out, Suite, added, take};
use crate::{DenseOps, Loss, Target};

/// Σ weight·loss/denominator.
fn loss_value(
    loss: Loss,
    x: &[f64],
    values: &[f64],
    labels: &[i32],
    weights: Option<&[f64]>,
    outputs: usize,
    denominator: f64,
) -> f64 {
    let width = if loss == Loss::Gaussian { outputs / 2 } else { outputs };
    x.chunks(outputs)
        .enumerate()
        .map(|(row, x)| {
            let weight = weights.map_or(1.0, |w| w[row]) / denominator;
            if loss == Loss::CrossEntropy {
                if labels[row] < 0 {
                    return 0.0;
                }
                let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = x.iter().map(|v| (v - top).exp()).sum();
                return weight * (total.ln() + top - x[labels[row] as usize]);
            }
            let sum: f64 = (0..width)
                .map(|i| {
                    let r = x[i] - values[row * width + i];
                    match loss {
                        Loss::Mae => r.abs(),
                        Loss::Huber { delta } if r.abs() > delta => delta * (r.abs() - delta / 2.0),
                        Loss::Huber { .. } => r * r / 2.0,
                        Loss::Gaussian => {
                            let log_sigma = x[width + i].clamp(-10.0, 10.0);
                            let scaled = r / log_sigma.exp();
                            0.5 * scaled * scaled + log_sigma + 0.5 * (2.0 * std::f64::consts::PI).ln()
                        }
                        _ => r * r,
                    }
                })
                .sum();
            weight * sum
        })
        .sum()
}

impl<B: DenseOps> Suite<'_, B> {
    pub(super) fn loss(&mut self) {
        for (rows, outputs) in [(1, 2), (7, 10), (1047, 4), (300, 130)] {
            for weighted in [false, true] {
                for loss in
                    [Loss::CrossEntropy, Loss::Mse, Loss::Mae, Loss::Huber { delta: 0.75 }, Loss::Gaussian]
                {
                    self.loss_case(loss, rows, outputs, weighted);
                }
            }
        }
    }

    fn loss_case(&mut self, loss: Loss, rows: usize, outputs: usize, weighted: bool) {
        let case = format!("loss {loss:?} rows={rows} outputs={outputs} weighted={weighted}");
        let denominator = 0.75 * rows as f64;
        let width = if loss == Loss::Gaussian { outputs / 2 } else { outputs };
        let mut x = self.normal(rows * outputs);
        // Residuals away from the kinks of |r| and of Huber's corner.
        let residual = self.away_from_zero(rows * width);
        let mut values = vec![0.0; rows * width];
        for row in 0..rows {
            for i in 0..width {
                let r = residual[row * width + i];
                let r = if (r.abs() - 0.75).abs() < 0.02 { 1.5 * r } else { r };
                let of = <B::Scalar as crate::Scalar>::from_f64;
                let value = crate::Scalar::to_f64(of(x[row * outputs + i] - r));
                values[row * width + i] = value;
            }
        }
        if loss == Loss::Gaussian && rows > 1 {
            // Both clamps of log σ, among rows that are not clamped; the σ of e⁻¹⁰ meets a residual of 0.
            x[width] = 12.0;
            x[outputs + width] = -12.0;
            values[width] = x[outputs];
        }
        let labels: Vec<i32> =
            (0..rows).map(|r| if r % 5 == 3 { -1 } else { self.rng.below(outputs) as i32 }).collect();
        let weights: Vec<f64> = (0..rows).map(|r| [1.0, 0.5, 0.0, 2.0][r % 4]).collect();
        let weights = weighted.then_some(&weights[..]);
        let (be, ints) = (self.be, self.ints(&labels));
        let value = |x: &[f64]| loss_value(loss, x, &values, &labels, weights, outputs, denominator);
        // Rows that count (a label, a weight) and whose largest output is the label.
        let hits = (0..rows).filter(|&r| {
            let row = &x[r * outputs..][..outputs];
            let best = (0..outputs).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            loss == Loss::CrossEntropy && best as i32 == labels[r] && weights.is_none_or(|w| w[r] != 0.0)
        });
        let want = [0.5 + value(&x), 3.0 + hits.count() as f64];
        let stats0 = [0.5, 3.0];
        let empty: &[f64] = &[];
        let ins = [&x[..], &values, weights.unwrap_or(empty)];
        for with_gradient in [true, false] {
            let outs = [Out::Add(&stats0), Out::Over(if with_gradient { x.len() } else { 0 })];
            let run = self.twice(&ins, &outs, &mut |i, o, ws| {
                let [stats, d] = take(o);
                let (d, weights) = (with_gradient.then_some(d), weights.is_some().then_some(i[2]));
                let target = &Target::Values(i[1]);
                if loss == Loss::CrossEntropy {
                    let target = &Target::Labels(&ints);
                    return be.loss_forward_backward(
                        stats,
                        d,
                        i[0],
                        target,
                        weights,
                        loss,
                        rows,
                        outputs,
                        denominator,
                        ws,
                    );
                }
                be.loss_forward_backward(
                    stats,
                    d,
                    i[0],
                    target,
                    weights,
                    loss,
                    rows,
                    outputs,
                    denominator,
                    ws,
                )
            });
            match run {
                Ok(got) => {
                    let got_stats = added(&got[0], &stats0);
                    let want = added(&want, &stats0);
                    let tolerance = self.value_tolerance();
                    self.compare(&case, "loss", &got_stats[..1], &want[..1], tolerance);
                    self.compare(&case, "hits", &got_stats[1..], &want[1..], 0.0);
                    if with_gradient {
                        self.gradient(&case, "doutput", &got[1], &x, &mut |x| value(x));
                    }
                }
                Err(why) => self.failed(&case, &why),
            }
        }
    }
}
