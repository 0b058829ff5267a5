//! Layer norm and batch norm.

use super::suite::{CaseLabel, OutputBuffer, Suite, added_part, into_array};
use s4_backend::{
    Backend, BatchNormBackward, BatchNormForward, BatchNormGradientSums, BatchNormInputGradient,
    BatchNormJoint, BatchNormMoments, BatchNormRecompute, LayerNormBackward, LayerNormForward,
    LayerNormRecompute, SeqShape, joint_norm_len,
};

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.125;

/// The truth of layer norm: y, and the statistics (batch, 2, len) of mean and rstd.
fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], s: &SeqShape) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; s.batch * 2 * s.len]);
    for b in 0..s.batch {
        for t in 0..s.len {
            let index = |h: usize| (b * s.heads + h) * s.len + t;
            let mean = (0..s.heads).map(|h| x[index(h)]).sum::<f64>() / s.heads as f64;
            let var = (0..s.heads).map(|h| (x[index(h)] - mean).powi(2)).sum::<f64>() / s.heads as f64;
            let rstd = 1.0 / (var + EPS).sqrt();
            stats[b * 2 * s.len + t] = mean;
            stats[(b * 2 + 1) * s.len + t] = rstd;
            for h in 0..s.heads {
                y[index(h)] = gamma[h] * (x[index(h)] - mean) * rstd + beta[h];
            }
        }
    }
    (y, stats)
}

/// The gradient dx of a normalisation with mean and variance over the elements at `element_indices`: with
/// x̂ = (x − μ)·rstd and g = γ·dy, dx = rstd·(g − mean(g) − x̂·mean(g·x̂)). Where the statistics are constants (`own`
/// false), dx = rstd·g.
fn normalised_transposed(
    dx: &mut [f64],
    element_indices: &[usize],
    g: &[f64],
    x_hat: &[f64],
    rstd: f64,
    own: bool,
) {
    let mean = |f: &dyn Fn(usize) -> f64| {
        element_indices.iter().map(|&i| f(i)).sum::<f64>() / element_indices.len() as f64
    };
    let (m, mean_g_x_hat) = if own { (mean(&|i| g[i]), mean(&|i| g[i] * x_hat[i])) } else { (0.0, 0.0) };
    element_indices.iter().for_each(|&i| dx[i] = rstd * (g[i] - m - x_hat[i] * mean_g_x_hat));
}

/// The gradients dgamma and dbeta: for each head the sums of dy·x̂ and of dy over the elements that are valid, that is,
/// within their sequence's length.
fn affine_transposed(dy: &[f64], x_hat: &[f64], is_valid: &[bool], s: &SeqShape) -> (Vec<f64>, Vec<f64>) {
    let (mut dgamma, mut dbeta) = (vec![0.0; s.heads], vec![0.0; s.heads]);
    for i in (0..dy.len()).filter(|&i| is_valid[i]) {
        let h = i / s.len % s.heads;
        dgamma[h] += dy[i] * x_hat[i];
        dbeta[h] += dy[i];
    }
    (dgamma, dbeta)
}

/// The gradients dx, dgamma, dbeta of layer norm.
fn layer_norm_transposed(dy: &[f64], x: &[f64], gamma: &[f64], s: &SeqShape) -> [Vec<f64>; 3] {
    let (ones, zeros) = (vec![1.0; s.heads], vec![0.0; s.heads]);
    let (x_hat, stats) = layer_norm(x, &ones, &zeros, s);
    let g: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| dy * gamma[i / s.len % s.heads]).collect();
    let mut dx = vec![0.0; x.len()];
    for b in 0..s.batch {
        for t in 0..s.len {
            let element_indices: Vec<usize> = (0..s.heads).map(|h| (b * s.heads + h) * s.len + t).collect();
            let rstd = stats[(b * 2 + 1) * s.len + t];
            normalised_transposed(&mut dx, &element_indices, &g, &x_hat, rstd, true);
        }
    }
    let (dgamma, dbeta) = affine_transposed(dy, &x_hat, &vec![true; x.len()], s);
    [dx, dgamma, dbeta]
}

/// dx, dgamma, dbeta of batch norm.
fn batch_norm_transposed(p: &BatchNormCase<'_>, dy: &[f64], x: &[f64], gamma: &[f64]) -> [Vec<f64>; 3] {
    let s = &p.shape;
    let (ones, zeros) = (vec![1.0; s.heads], vec![0.0; s.heads]);
    let (x_hat, stats, _) = batch_norm_truth(p, x, &ones, &zeros);
    let g: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| dy * gamma[i / s.len % s.heads]).collect();
    let (mut dx, mut is_valid) = (vec![0.0; x.len()], vec![false; x.len()]);
    for h in 0..s.heads {
        let n = |b: usize| p.lengths.map_or(s.len, |l| l[b] as usize);
        let row = |b: usize| (b * s.heads + h) * s.len;
        let element_indices: Vec<usize> = (0..s.batch).flat_map(|b| row(b)..row(b) + n(b)).collect();
        element_indices.iter().for_each(|&i| is_valid[i] = true);
        normalised_transposed(&mut dx, &element_indices, &g, &x_hat, stats[s.heads + h], p.training);
    }
    let (dgamma, dbeta) = affine_transposed(dy, &x_hat, &is_valid, s);
    [dx, dgamma, dbeta]
}

/// A case of batch norm.
struct BatchNormCase<'a> {
    shape: SeqShape,
    lengths: Option<&'a [i32]>,
    training: bool,
    running: &'a [f64],
}

impl BatchNormCase<'_> {
    fn case(&self) -> String {
        format!("{:?} lengths={:?} training={}", self.shape, self.lengths, self.training)
    }
}

/// The truth of batch norm: y, the statistics (2, heads), and the running statistics after the call.
fn batch_norm_truth(
    p: &BatchNormCase<'_>,
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let &BatchNormCase { shape: s, lengths, training, running } = p;
    let (mut y, mut stats, mut after) = (vec![0.0; x.len()], vec![0.0; 2 * s.heads], running.to_vec());
    let n = |b: usize| lengths.map_or(s.len, |l| l[b] as usize);
    for h in 0..s.heads {
        let values: Vec<f64> =
            (0..s.batch).flat_map(|b| x[(b * s.heads + h) * s.len..][..n(b)].to_vec()).collect();
        let count = values.len() as f64;
        let (mut mean, mut var) = (running[h], running[s.heads + h]);
        if training {
            mean = values.iter().sum::<f64>() / count;
            var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            after[h] = (1.0 - MOMENTUM) * running[h] + MOMENTUM * mean;
            let unbiased = var * count / (count - 1.0).max(1.0);
            after[s.heads + h] = (1.0 - MOMENTUM) * running[s.heads + h] + MOMENTUM * unbiased;
        }
        let rstd = 1.0 / (var + EPS).sqrt();
        stats[h] = mean;
        stats[s.heads + h] = rstd;
        for b in 0..s.batch {
            for t in 0..n(b) {
                let i = (b * s.heads + h) * s.len + t;
                y[i] = gamma[h] * (x[i] - mean) * rstd + beta[h];
            }
        }
    }
    (y, stats, after)
}

/// The moments of some sequences of a batch: means, sums of squared deviations, count.
fn moments_truth(p: &BatchNormCase<'_>, x: &[f64], rows: std::ops::Range<usize>) -> Vec<f64> {
    let SeqShape { heads, len, .. } = p.shape;
    let steps = |b: usize| p.lengths.map_or(len, |l| l[b] as usize);
    let of_head = |h: usize| -> Vec<f64> {
        rows.clone().flat_map(|b| x[(b * heads + h) * len..][..steps(b)].to_vec()).collect()
    };
    let count: usize = rows.clone().map(steps).sum();
    let means: Vec<f64> = (0..heads).map(|h| of_head(h).iter().sum::<f64>() / count as f64).collect();
    let squares = (0..heads).map(|h| of_head(h).iter().map(|x| (x - means[h]).powi(2)).sum());
    let squares: Vec<f64> = squares.collect();
    [means, squares, vec![count as f64]].concat()
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn norm(&mut self) {
        let shapes = [(1, 3, 1), (2, 5, 7), (64, 6, 1), (1, 128, 33), (2, 17, 300), (3, 64, 1047)];
        for (batch, heads, len) in self.cases(&shapes, &shapes[..2]) {
            for add in [false, true] {
                self.layer_norm_case(SeqShape { batch, heads, len }, add);
            }
        }
        let shapes = [(5, 2, 1), (2, 3, 17), (1, 33, 130), (4, 7, 1047)];
        for (batch, heads, len) in self.cases(&shapes, &shapes[..2]) {
            let lengths: Vec<i32> = (0..batch).map(|b| 1 + ((b * 41 + len / 2) % len) as i32).collect();
            let shape = SeqShape { batch, heads, len };
            let running: Vec<f64> = (0..2 * heads).map(|i| if i < heads { 7.5 } else { 0.75 }).collect();
            for lengths in [None, Some(&lengths[..])] {
                for training in [true, false] {
                    let p = BatchNormCase { shape, lengths, training, running: &running };
                    self.batch_norm_forward_case(&p);
                    for add in [false, true] {
                        self.batch_norm_backward_case(&p, add);
                    }
                }
                if batch > 1 {
                    self.joint_norm_case(&BatchNormCase {
                        shape,
                        lengths,
                        training: true,
                        running: &running,
                    });
                }
            }
        }
    }

    /// Random numbers around 8, of which a variance computed as mean(x²) − mean(x)² would lose digits.
    fn far_from_zero(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| 8.0 + 0.5 * (x * 1024.0).round() / 1024.0).collect()
    }

    fn layer_norm_case(&mut self, shape: SeqShape, add: bool) {
        let (backend, s, case) = (self.backend, &shape, format!("{shape:?} residual={add}"));
        let (x, dy) = (self.far_from_zero(s.elements()), self.normal(s.elements()));
        let (gamma, beta) = (self.normal(s.heads), self.normal(s.heads));
        let (y, stats) = layer_norm(&x, &gamma, &beta, s);
        let label = CaseLabel { operation: "layer_norm_forward", case: &case };
        let want: [(&str, &[f64]); 2] = [("y", &y), ("stats", &stats)];
        self.check_forward(label, &[&x, &gamma, &beta], &[], &want, &mut |a, workspace| {
            let ([y, stats], [x, gamma, beta]) = (into_array(a.outs), into_array(a.ins));
            backend
                .layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps: EPS, shape }, workspace)
        });
        // Rounded to the backend's type, as forward would have stored them.
        let stored_stats = self.rounded(&stats);
        let label = CaseLabel { operation: "layer_norm_recompute", case: &case };
        self.check_forward(label, &[&stored_stats, &x, &gamma, &beta], &[], &[("y", &y)], &mut |a, _| {
            let ([y], [stats, x, gamma, beta]) = (into_array(a.outs), into_array(a.ins));
            backend.layer_norm_recompute(LayerNormRecompute { y, stats, x, gamma, beta, shape })
        });
        let label = CaseLabel { operation: "layer_norm_backward", case: &case };
        let (residual_gradient, dg0, db0) = (
            self.normal(x.len()),
            self.small_initial_gradient(s.heads),
            self.small_initial_gradient(s.heads),
        );
        let outs =
            [OutputBuffer::Overwritten(x.len()), OutputBuffer::AddedTo(&dg0), OutputBuffer::AddedTo(&db0)];
        let got = self.outputs_of(
            label,
            &[&dy, &x, &stored_stats, &gamma, &residual_gradient],
            &[],
            &outs,
            &mut |a, workspace| {
                let ([dx, dgamma, dbeta], [dy, x, stats, gamma, residual_gradient]) =
                    (into_array(a.outs), into_array(a.ins));
                let residual = add.then_some(residual_gradient);
                backend.layer_norm_backward(
                    LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape },
                    workspace,
                )
            },
        );
        if let Some(got) = got {
            let [want, dgamma, dbeta] = layer_norm_transposed(&dy, &x, &gamma, s);
            let dx = if add { added_part(&got[0], &residual_gradient) } else { got[0].clone() };
            self.check_gradient(label, "dx", &dx, &want);
            self.check_gradient(label, "dgamma", &added_part(&got[1], &dg0), &dgamma);
            self.check_gradient(label, "dbeta", &added_part(&got[2], &db0), &dbeta);
        }
    }

    fn batch_norm_forward_case(&mut self, p: &BatchNormCase<'_>) {
        let (backend, case, shape, training) = (self.backend, p.case(), p.shape, p.training);
        let x = self.far_from_zero(shape.elements());
        let (gamma, beta) = (self.normal(shape.heads), self.normal(shape.heads));
        let (y, stats, after) = batch_norm_truth(p, &x, &gamma, &beta);
        let label = CaseLabel { operation: "batch_norm_forward", case: &case };
        let outs = [
            OutputBuffer::Overwritten(x.len()),
            OutputBuffer::Overwritten(stats.len()),
            OutputBuffer::AddedTo(p.running),
        ];
        let got =
            self.outputs_of(label, &[&x, &gamma, &beta], p.lengths.as_slice(), &outs, &mut |a, workspace| {
                let ([y, stats, running], [x, gamma, beta]) = (into_array(a.outs), into_array(a.ins));
                let (lengths, eps, momentum) = (a.ints.first(), EPS, MOMENTUM);
                backend.batch_norm_forward(
                    BatchNormForward {
                        y: Some(y),
                        stats,
                        running,
                        x,
                        moments: None,
                        gamma,
                        beta,
                        lengths,
                        eps,
                        momentum,
                        training,
                        shape,
                    },
                    workspace,
                )
            });
        if let Some(got) = got {
            self.check_output(label, "y", &got[0], &y);
            self.check_output(label, "stats", &got[1], &stats);
            self.check_output(label, "running", &got[2], &after);
        }
        // The statistics alone.
        let outs = [OutputBuffer::Overwritten(stats.len()), OutputBuffer::AddedTo(p.running)];
        let got =
            self.outputs_of(label, &[&x, &gamma, &beta], p.lengths.as_slice(), &outs, &mut |a, workspace| {
                let ([stats, running], [x, gamma, beta]) = (into_array(a.outs), into_array(a.ins));
                let (lengths, eps, momentum) = (a.ints.first(), EPS, MOMENTUM);
                #[rustfmt::skip]
                let args = BatchNormForward {
                    y: None, stats, running, x, moments: None, gamma, beta, lengths, eps, momentum, training, shape,
                };
                backend.batch_norm_forward(args, workspace)
            });
        if let Some(got) = got {
            self.check_output(label, "stats", &got[0], &stats);
            self.check_output(label, "running", &got[1], &after);
        }
        let stored_stats = self.rounded(&stats);
        let label = CaseLabel { operation: "batch_norm_recompute", case: &case };
        let ins = [&stored_stats[..], &x, &gamma, &beta];
        self.check_forward(label, &ins, p.lengths.as_slice(), &[("y", &y)], &mut |a, _| {
            let ([y], [stats, x, gamma, beta]) = (into_array(a.outs), into_array(a.ins));
            let lengths = a.ints.first();
            backend.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape })
        });
    }

    fn batch_norm_backward_case(&mut self, p: &BatchNormCase<'_>, add: bool) {
        let (backend, shape, training) = (self.backend, p.shape, p.training);
        let case = format!("{} residual={add}", p.case());
        let label = CaseLabel { operation: "batch_norm_backward", case: &case };
        let (x, dy) = (self.far_from_zero(shape.elements()), self.normal(shape.elements()));
        let (gamma, beta) = (self.normal(shape.heads), self.normal(shape.heads));
        let stored_stats = self.rounded(&batch_norm_truth(p, &x, &gamma, &beta).1);
        let (residual_gradient, dg0, db0) = (
            self.normal(x.len()),
            self.small_initial_gradient(shape.heads),
            self.small_initial_gradient(shape.heads),
        );
        let outs =
            [OutputBuffer::Overwritten(x.len()), OutputBuffer::AddedTo(&dg0), OutputBuffer::AddedTo(&db0)];
        let ins = [&dy[..], &x, &stored_stats, &gamma, &residual_gradient];
        let got = self.outputs_of(label, &ins, p.lengths.as_slice(), &outs, &mut |a, workspace| {
            let ([dx, dgamma, dbeta], [dy, x, stats, gamma, residual_gradient]) =
                (into_array(a.outs), into_array(a.ins));
            let (residual, lengths) = (add.then_some(residual_gradient), a.ints.first());
            backend.batch_norm_backward(
                BatchNormBackward {
                    dx,
                    dgamma,
                    dbeta,
                    dy,
                    x,
                    stats,
                    gamma,
                    residual,
                    lengths,
                    training,
                    shape,
                },
                workspace,
            )
        });
        if let Some(got) = got {
            let [want, dgamma, dbeta] = batch_norm_transposed(p, &dy, &x, &gamma);
            let dx = if add { added_part(&got[0], &residual_gradient) } else { got[0].clone() };
            self.check_gradient(label, "dx", &dx, &want);
            self.check_gradient(label, "dgamma", &added_part(&got[1], &dg0), &dgamma);
            self.check_gradient(label, "dbeta", &added_part(&got[2], &db0), &dbeta);
        }
    }

    /// Batch norm over the parts of a batch, as ranks have them: the first sequence, the others, and a rank without any.
    fn joint_norm_case(&mut self, p: &BatchNormCase<'_>) {
        let (backend, s, case) = (self.backend, p.shape, format!("{} in parts", p.case()));
        let (heads, n) = (s.heads, joint_norm_len(s.heads));
        let (x, dy) = (self.far_from_zero(s.elements()), self.normal(s.elements()));
        let (gamma, beta) = (self.normal(heads), self.normal(heads));
        let (_, stats, after) = batch_norm_truth(p, &x, &gamma, &beta);
        let [dx, dgamma, dbeta] = batch_norm_transposed(p, &dy, &x, &gamma);
        let stored_stats = self.rounded(&stats);
        let one = s.heads * s.len;
        let parts = [(0..1, 0..one), (1..s.batch, one..s.elements())];
        let (mut moments, mut sums) = (Vec::new(), vec![0.0; n]);
        let (mut dgammas, mut dbetas) = (vec![0.0; heads], vec![0.0; heads]);
        let moments_label = CaseLabel { operation: "batch_norm_moments", case: &case };
        let sums_label = CaseLabel { operation: "batch_norm_gradient_sums", case: &case };
        for (rows, range) in &parts {
            let shape = SeqShape { batch: rows.len(), ..s };
            let lengths = p.lengths.map(|l| &l[rows.clone()]);
            let outs = [OutputBuffer::Overwritten(n)];
            let got = self.outputs_of(
                moments_label,
                &[&x[range.clone()]],
                lengths.as_slice(),
                &outs,
                &mut |a, _| {
                    let ([moments], [x]) = (into_array(a.outs), into_array(a.ins));
                    backend.batch_norm_moments(BatchNormMoments {
                        moments,
                        x,
                        lengths: a.ints.first(),
                        shape,
                    })
                },
            );
            let Some(mut got) = got else { return };
            moments.append(&mut got[0]);
            let (dg0, db0) = (self.small_initial_gradient(heads), self.small_initial_gradient(heads));
            let outs =
                [OutputBuffer::Overwritten(n), OutputBuffer::AddedTo(&dg0), OutputBuffer::AddedTo(&db0)];
            let ins = [&dy[range.clone()], &x[range.clone()], &stored_stats];
            let got = self.outputs_of(sums_label, &ins, lengths.as_slice(), &outs, &mut |a, _| {
                let ([sums, dgamma, dbeta], [dy, x, stats]) = (into_array(a.outs), into_array(a.ins));
                let lengths = a.ints.first();
                backend.batch_norm_gradient_sums(BatchNormGradientSums {
                    sums,
                    dgamma,
                    dbeta,
                    dy,
                    x,
                    stats,
                    lengths,
                    shape,
                })
            });
            let Some(got) = got else { return };
            let add = |to: &mut [f64], part: &[f64]| to.iter_mut().zip(part).for_each(|(a, b)| *a += b);
            add(&mut sums, &got[0]);
            add(&mut dgammas, &added_part(&got[1], &dg0));
            add(&mut dbetas, &added_part(&got[2], &db0));
        }
        let counts: Vec<f64> =
            (0..s.batch).map(|b| p.lengths.map_or(s.len, |l| l[b] as usize) as f64).collect();
        let count = counts.iter().sum::<f64>();
        let right: Vec<Vec<f64>> = parts.iter().map(|(rows, _)| moments_truth(p, &x, rows.clone())).collect();
        for (got, right) in moments.chunks(n).zip(&right) {
            // Means, then squares, which one value does not have, and the count.
            self.check_output(moments_label, "moments", &got[..heads], &right[..heads]);
            self.check_output(moments_label, "moments", &got[heads..], &right[heads..]);
        }
        self.check_gradient(sums_label, "dgamma", &dgammas, &dgamma);
        self.check_gradient(sums_label, "dbeta", &dbetas, &dbeta);
        self.check_gradient(sums_label, "sums", &sums[..2 * heads], &[&dbeta[..], &dgamma].concat());
        self.check_output(sums_label, "count", &sums[2 * heads..], &[count]);
        // A rank without a batch has moments of 0.
        let moments = self.rounded(&[right.concat(), vec![0.0; n]].concat());
        let label = CaseLabel { operation: "batch_norm_joint", case: &case };
        let outs = [OutputBuffer::Overwritten(2 * heads), OutputBuffer::AddedTo(p.running)];
        let got = self.outputs_of(label, &[&moments], &[], &outs, &mut |a, _| {
            let ([stats, running], [moments]) = (into_array(a.outs), into_array(a.ins));
            let (eps, momentum) = (EPS, MOMENTUM);
            backend.batch_norm_joint(BatchNormJoint {
                stats,
                running,
                moments,
                ranks: 3,
                heads,
                eps,
                momentum,
            })
        });
        if let Some(got) = got {
            self.check_output(label, "stats", &got[0], &stats);
            self.check_output(label, "running", &got[1], &after);
        }
        let truth = self.rounded(&[&dbeta[..], &dgamma, &[count]].concat());
        let residual_gradient = self.normal(x.len());
        let label = CaseLabel { operation: "batch_norm_input_gradient", case: &case };
        for (add, (rows, range)) in [false, true].into_iter().zip(&parts) {
            let (shape, r) = (SeqShape { batch: rows.len(), ..s }, range.clone());
            let lengths = p.lengths.map(|l| &l[rows.clone()]);
            let part = &residual_gradient[r.clone()];
            let ins = [&dy[r.clone()], &x[r.clone()], &stored_stats, &truth, &gamma, part];
            let outs = [OutputBuffer::Overwritten(r.len())];
            let got = self.outputs_of(label, &ins, lengths.as_slice(), &outs, &mut |a, _| {
                let ([dx], [dy, x, stats, sums, gamma, residual]) = (into_array(a.outs), into_array(a.ins));
                let (residual, lengths) = (add.then_some(residual), a.ints.first());
                backend.batch_norm_input_gradient(BatchNormInputGradient {
                    dx,
                    dy,
                    x,
                    stats,
                    sums,
                    gamma,
                    residual,
                    lengths,
                    shape,
                })
            });
            if let Some(got) = got {
                let got = if add { added_part(&got[0], part) } else { got[0].clone() };
                self.check_gradient(label, "dx", &got, &dx[r]);
            }
        }
    }
}
