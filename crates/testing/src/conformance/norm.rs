//! Layer norm and batch norm.

use super::suite::{At, Out, Suite, added, take};
use s4_backend::{
    Backend, BatchNormBackward, BatchNormForward, BatchNormRecompute, LayerNormBackward, LayerNormForward,
    LayerNormRecompute, SeqShape,
};

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.125;

/// (y, stats (batch, 2, len)).
fn layer(x: &[f64], gamma: &[f64], beta: &[f64], s: &SeqShape) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; s.batch * 2 * s.len]);
    for b in 0..s.batch {
        for t in 0..s.len {
            let at = |h: usize| (b * s.heads + h) * s.len + t;
            let mean = (0..s.heads).map(|h| x[at(h)]).sum::<f64>() / s.heads as f64;
            let var = (0..s.heads).map(|h| (x[at(h)] - mean).powi(2)).sum::<f64>() / s.heads as f64;
            let rstd = 1.0 / (var + EPS).sqrt();
            stats[b * 2 * s.len + t] = mean;
            stats[(b * 2 + 1) * s.len + t] = rstd;
            for h in 0..s.heads {
                y[at(h)] = gamma[h] * (x[at(h)] - mean) * rstd + beta[h];
            }
        }
    }
    (y, stats)
}

/// dx of a normalisation whose statistics are of the elements at `places`: with x̂ = (x − μ)·rstd and g = γ·dy,
/// dx = rstd·(g − mean(g) − x̂·mean(g·x̂)), or rstd·g where the statistics are given.
fn normalised_transposed(dx: &mut [f64], places: &[usize], g: &[f64], hat: &[f64], rstd: f64, own: bool) {
    let mean = |f: &dyn Fn(usize) -> f64| places.iter().map(|&i| f(i)).sum::<f64>() / places.len() as f64;
    let (m, m_hat) = if own { (mean(&|i| g[i]), mean(&|i| g[i] * hat[i])) } else { (0.0, 0.0) };
    places.iter().for_each(|&i| dx[i] = rstd * (g[i] - m - hat[i] * m_hat));
}

/// dgamma and dbeta: sums of dy·x̂ and of dy at each head; x̂ is 0 and dy left out where nothing is counted.
fn affine_transposed(dy: &[f64], hat: &[f64], counted: &[bool], s: &SeqShape) -> (Vec<f64>, Vec<f64>) {
    let (mut dgamma, mut dbeta) = (vec![0.0; s.heads], vec![0.0; s.heads]);
    for i in (0..dy.len()).filter(|&i| counted[i]) {
        let h = i / s.len % s.heads;
        dgamma[h] += dy[i] * hat[i];
        dbeta[h] += dy[i];
    }
    (dgamma, dbeta)
}

/// dx, dgamma, dbeta of layer norm.
fn layer_transposed(dy: &[f64], x: &[f64], gamma: &[f64], s: &SeqShape) -> [Vec<f64>; 3] {
    let (ones, zeros) = (vec![1.0; s.heads], vec![0.0; s.heads]);
    let (hat, stats) = layer(x, &ones, &zeros, s);
    let g: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| dy * gamma[i / s.len % s.heads]).collect();
    let mut dx = vec![0.0; x.len()];
    for b in 0..s.batch {
        for t in 0..s.len {
            let places: Vec<usize> = (0..s.heads).map(|h| (b * s.heads + h) * s.len + t).collect();
            let rstd = stats[(b * 2 + 1) * s.len + t];
            normalised_transposed(&mut dx, &places, &g, &hat, rstd, true);
        }
    }
    let (dgamma, dbeta) = affine_transposed(dy, &hat, &vec![true; x.len()], s);
    [dx, dgamma, dbeta]
}

/// dx, dgamma, dbeta of batch norm.
fn batch_transposed(p: &BatchNorm<'_>, dy: &[f64], x: &[f64], gamma: &[f64]) -> [Vec<f64>; 3] {
    let s = &p.shape;
    let (ones, zeros) = (vec![1.0; s.heads], vec![0.0; s.heads]);
    let (hat, stats, _) = batch(p, x, &ones, &zeros);
    let g: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| dy * gamma[i / s.len % s.heads]).collect();
    let (mut dx, mut counted) = (vec![0.0; x.len()], vec![false; x.len()]);
    for h in 0..s.heads {
        let n = |b: usize| p.lengths.map_or(s.len, |l| l[b] as usize);
        let row = |b: usize| (b * s.heads + h) * s.len;
        let places: Vec<usize> = (0..s.batch).flat_map(|b| row(b)..row(b) + n(b)).collect();
        places.iter().for_each(|&i| counted[i] = true);
        normalised_transposed(&mut dx, &places, &g, &hat, stats[s.heads + h], p.training);
    }
    let (dgamma, dbeta) = affine_transposed(dy, &hat, &counted, s);
    [dx, dgamma, dbeta]
}

/// A case of batch norm.
struct BatchNorm<'a> {
    shape: SeqShape,
    lengths: Option<&'a [i32]>,
    training: bool,
    running: &'a [f64],
}

impl BatchNorm<'_> {
    fn case(&self) -> String {
        format!("{:?} lengths={:?} training={}", self.shape, self.lengths, self.training)
    }
}

/// (y, stats (2, heads), running after) of batch norm.
fn batch(p: &BatchNorm<'_>, x: &[f64], gamma: &[f64], beta: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let &BatchNorm { shape: s, lengths, training, running } = p;
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
                    let p = BatchNorm { shape, lengths, training, running: &running };
                    self.batch_norm_forward_case(&p);
                    for add in [false, true] {
                        self.batch_norm_backward_case(&p, add);
                    }
                }
            }
        }
    }

    /// Off-centre data: a variance by Σx² − (Σx)² would lose digits.
    fn off_centre(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| 8.0 + 0.5 * (x * 1024.0).round() / 1024.0).collect()
    }

    fn layer_norm_case(&mut self, shape: SeqShape, add: bool) {
        let (be, s, case) = (self.be, &shape, format!("{shape:?} residual={add}"));
        let (x, dy) = (self.off_centre(s.elements()), self.normal(s.elements()));
        let (gamma, beta) = (self.normal(s.heads), self.normal(s.heads));
        let (y, stats) = layer(&x, &gamma, &beta, s);
        let at = At { operation: "layer_norm_forward", case: &case };
        let want: [(&str, &[f64]); 2] = [("y", &y), ("stats", &stats)];
        self.forward(at, &[&x, &gamma, &beta], &[], &want, &mut |a, ws| {
            let ([y, stats], [x, gamma, beta]) = (take(a.outs), take(a.ins));
            be.layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps: EPS, shape }, ws)
        });
        // In the backend's own precision, as backward would get them.
        let stored = self.held(&stats);
        let at = At { operation: "layer_norm_recompute", case: &case };
        self.forward(at, &[&stored, &x, &gamma, &beta], &[], &[("y", &y)], &mut |a, _| {
            let ([y], [stats, x, gamma, beta]) = (take(a.outs), take(a.ins));
            be.layer_norm_recompute(LayerNormRecompute { y, stats, x, gamma, beta, shape })
        });
        let at = At { operation: "layer_norm_backward", case: &case };
        let (past, dg0, db0) = (self.normal(x.len()), self.start(s.heads), self.start(s.heads));
        let outs = [Out::Over(x.len()), Out::Add(&dg0), Out::Add(&db0)];
        let got = self.outputs(at, &[&dy, &x, &stored, &gamma, &past], &[], &outs, &mut |a, ws| {
            let ([dx, dgamma, dbeta], [dy, x, stats, gamma, past]) = (take(a.outs), take(a.ins));
            let residual = add.then_some(past);
            be.layer_norm_backward(
                LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape },
                ws,
            )
        });
        if let Some(got) = got {
            let [want, dgamma, dbeta] = layer_transposed(&dy, &x, &gamma, s);
            let dx = if add { added(&got[0], &past) } else { got[0].clone() };
            self.gradient(at, "dx", &dx, &want);
            self.gradient(at, "dgamma", &added(&got[1], &dg0), &dgamma);
            self.gradient(at, "dbeta", &added(&got[2], &db0), &dbeta);
        }
    }

    fn batch_norm_forward_case(&mut self, p: &BatchNorm<'_>) {
        let (be, case, shape, training) = (self.be, p.case(), p.shape, p.training);
        let x = self.off_centre(shape.elements());
        let (gamma, beta) = (self.normal(shape.heads), self.normal(shape.heads));
        let (y, stats, after) = batch(p, &x, &gamma, &beta);
        let at = At { operation: "batch_norm_forward", case: &case };
        let outs = [Out::Over(x.len()), Out::Over(stats.len()), Out::Add(p.running)];
        let got = self.outputs(at, &[&x, &gamma, &beta], p.lengths.as_slice(), &outs, &mut |a, ws| {
            let ([y, stats, running], [x, gamma, beta]) = (take(a.outs), take(a.ins));
            let (lengths, eps, momentum) = (a.ints.first(), EPS, MOMENTUM);
            be.batch_norm_forward(
                BatchNormForward {
                    y,
                    stats,
                    running,
                    x,
                    gamma,
                    beta,
                    lengths,
                    eps,
                    momentum,
                    training,
                    shape,
                },
                ws,
            )
        });
        if let Some(got) = got {
            self.value(at, "y", &got[0], &y);
            self.value(at, "stats", &got[1], &stats);
            self.value(at, "running", &got[2], &after);
        }
        let stored = self.held(&stats);
        let at = At { operation: "batch_norm_recompute", case: &case };
        let ins = [&stored[..], &x, &gamma, &beta];
        self.forward(at, &ins, p.lengths.as_slice(), &[("y", &y)], &mut |a, _| {
            let ([y], [stats, x, gamma, beta]) = (take(a.outs), take(a.ins));
            let lengths = a.ints.first();
            be.batch_norm_recompute(BatchNormRecompute { y, stats, x, gamma, beta, lengths, shape })
        });
    }

    fn batch_norm_backward_case(&mut self, p: &BatchNorm<'_>, add: bool) {
        let (be, shape, training) = (self.be, p.shape, p.training);
        let case = format!("{} residual={add}", p.case());
        let at = At { operation: "batch_norm_backward", case: &case };
        let (x, dy) = (self.off_centre(shape.elements()), self.normal(shape.elements()));
        let (gamma, beta) = (self.normal(shape.heads), self.normal(shape.heads));
        let stored = self.held(&batch(p, &x, &gamma, &beta).1);
        let (past, dg0, db0) = (self.normal(x.len()), self.start(shape.heads), self.start(shape.heads));
        let outs = [Out::Over(x.len()), Out::Add(&dg0), Out::Add(&db0)];
        let ins = [&dy[..], &x, &stored, &gamma, &past];
        let got = self.outputs(at, &ins, p.lengths.as_slice(), &outs, &mut |a, ws| {
            let ([dx, dgamma, dbeta], [dy, x, stats, gamma, past]) = (take(a.outs), take(a.ins));
            let (residual, lengths) = (add.then_some(past), a.ints.first());
            be.batch_norm_backward(
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
                ws,
            )
        });
        if let Some(got) = got {
            let [want, dgamma, dbeta] = batch_transposed(p, &dy, &x, &gamma);
            let dx = if add { added(&got[0], &past) } else { got[0].clone() };
            self.gradient(at, "dx", &dx, &want);
            self.gradient(at, "dgamma", &added(&got[1], &dg0), &dgamma);
            self.gradient(at, "dbeta", &added(&got[2], &db0), &dbeta);
        }
    }
}
