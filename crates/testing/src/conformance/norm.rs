//! Layer norm and batch norm.

use super::{Out, Suite, added, inner, take};
use crate::{DenseOps, SeqShape};

const EPS: f64 = 1e-5;

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

/// (y, stats (2, heads), running after) of batch norm.
fn batch(
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
    running: &[f64],
    lengths: Option<&[i32]>,
    momentum: f64,
    training: bool,
    s: &SeqShape,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
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
            after[h] = (1.0 - momentum) * running[h] + momentum * mean;
            let unbiased = var * count / (count - 1.0).max(1.0);
            after[s.heads + h] = (1.0 - momentum) * running[s.heads + h] + momentum * unbiased;
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

impl<B: DenseOps> Suite<'_, B> {
    pub(super) fn norm(&mut self) {
        for (batch, heads, len) in
            [(1, 3, 1), (2, 5, 7), (64, 6, 1), (1, 128, 33), (2, 17, 300), (3, 64, 1047)]
        {
            for add in [false, true] {
                self.layer_norm_case(SeqShape { batch, heads, len }, add);
            }
        }
        for (batch, heads, len) in [(5, 1, 1), (2, 3, 17), (1, 33, 130), (4, 7, 1047)] {
            let lengths: Vec<i32> = (0..batch).map(|b| 1 + ((b * 41 + len / 2) % len) as i32).collect();
            for lengths in [None, Some(&lengths[..])] {
                for (training, add) in [(true, false), (true, true), (false, false), (false, true)] {
                    self.batch_norm_case(SeqShape { batch, heads, len }, lengths, training, add);
                }
            }
        }
    }

    /// Off-centre data: a variance by Σx² − (Σx)² would lose digits.
    fn off_centre(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| 8.0 + 0.5 * (x * 1024.0).round() / 1024.0).collect()
    }

    fn layer_norm_case(&mut self, s: SeqShape, add: bool) {
        let case = format!("layer_norm {s:?} add={add}");
        let (x, dy) = (self.off_centre(s.elements()), self.normal(s.elements()));
        let (gamma, beta) = (self.normal(s.heads), self.normal(s.heads));
        let be = self.be;
        let (y, stats) = layer(&x, &gamma, &beta, &s);
        // In the backend's own precision, as backward would get them.
        let stored: Vec<f64> = stats.iter().map(|&v| crate::Scalar::to_f64(of::<B>(v))).collect();
        self.forward(&case, &[&x, &gamma, &beta], &[("y", y), ("stats", stats)], &mut |i, o, ws| {
            let [y, stats] = take(o);
            be.layer_norm_forward(y, stats, i[0], i[1], i[2], EPS, &s, ws)
        });
        let y = layer(&x, &gamma, &beta, &s).0;
        self.forward(&case, &[&stored, &x, &gamma, &beta], &[("y again", y)], &mut |i, o, _| {
            let [y] = take(o);
            be.layer_norm_again(y, i[0], i[1], i[2], i[3], &s)
        });
        let (dx0, dg0, db0) = (self.normal(x.len()), self.normal(s.heads), self.normal(s.heads));
        match self.twice(
            &[&dy, &x, &stored, &gamma, &dx0],
            &[Out::Over(x.len()), Out::Add(&dg0), Out::Add(&db0)],
            &mut |i, o, ws| {
                let [dx, dg, db] = take(o);
                be.layer_norm_backward(dx, dg, db, i[0], i[1], i[2], i[3], add.then_some(i[4]), &s, ws)
            },
        ) {
            Ok(got) => {
                let dx = if add { added(&got[0], &dx0) } else { got[0].clone() };
                self.gradient(&case, "dx", &dx, &x, &mut |x| inner(&layer(x, &gamma, &beta, &s).0, &dy));
                let dg = added(&got[1], &dg0);
                self.gradient(&case, "dgamma", &dg, &gamma, &mut |g| inner(&layer(&x, g, &beta, &s).0, &dy));
                let db = added(&got[2], &db0);
                self.gradient(&case, "dbeta", &db, &beta, &mut |b| inner(&layer(&x, &gamma, b, &s).0, &dy));
            }
            Err(why) => self.failed(&case, &why),
        }
    }

    fn batch_norm_case(&mut self, s: SeqShape, lengths: Option<&[i32]>, training: bool, add: bool) {
        let case = format!("batch_norm {s:?} lengths={lengths:?} training={training} add={add}");
        let momentum = 0.125;
        let (x, dy) = (self.off_centre(s.elements()), self.normal(s.elements()));
        let (gamma, beta) = (self.normal(s.heads), self.normal(s.heads));
        let running: Vec<f64> = (0..2 * s.heads).map(|i| if i < s.heads { 7.5 } else { 0.75 }).collect();
        let be = self.be;
        let ints = lengths.map(|l| self.ints(l));
        let (y, stats, after) = batch(&x, &gamma, &beta, &running, lengths, momentum, training, &s);
        let stored: Vec<f64> = stats.iter().map(|&v| crate::Scalar::to_f64(of::<B>(v))).collect();
        let outs = [Out::Over(x.len()), Out::Over(stats.len()), Out::Add(&running)];
        match self.twice(&[&x, &gamma, &beta], &outs, &mut |i, o, ws| {
            let [y, stats, running] = take(o);
            be.batch_norm_forward(
                y,
                stats,
                running,
                i[0],
                i[1],
                i[2],
                ints.as_ref(),
                EPS,
                momentum,
                training,
                &s,
                ws,
            )
        }) {
            Ok(got) => {
                let tolerance = self.value_tolerance();
                self.compare(&case, "y", &got[0], &y, tolerance);
                self.compare(&case, "stats", &got[1], &stats, tolerance);
                self.compare(&case, "running", &got[2], &after, tolerance);
            }
            Err(why) => self.failed(&case, &why),
        }
        let y = batch(&x, &gamma, &beta, &running, lengths, momentum, training, &s).0;
        self.forward(&case, &[&stored, &x, &gamma, &beta], &[("y again", y)], &mut |i, o, _| {
            let [y] = take(o);
            be.batch_norm_again(y, i[0], i[1], i[2], i[3], ints.as_ref(), &s)
        });
        let (dx0, dg0, db0) = (self.normal(x.len()), self.normal(s.heads), self.normal(s.heads));
        match self.twice(
            &[&dy, &x, &stored, &gamma, &dx0],
            &[Out::Over(x.len()), Out::Add(&dg0), Out::Add(&db0)],
            &mut |i, o, ws| {
                let [dx, dg, db] = take(o);
                be.batch_norm_backward(
                    dx,
                    dg,
                    db,
                    i[0],
                    i[1],
                    i[2],
                    i[3],
                    ints.as_ref(),
                    training,
                    add.then_some(i[4]),
                    &s,
                    ws,
                )
            },
        ) {
            Ok(got) => {
                let value = |x: &[f64], g: &[f64], b: &[f64]| {
                    inner(&batch(x, g, b, &running, lengths, momentum, training, &s).0, &dy)
                };
                let dx = if add { added(&got[0], &dx0) } else { got[0].clone() };
                self.gradient(&case, "dx", &dx, &x, &mut |x| value(x, &gamma, &beta));
                self.gradient(&case, "dgamma", &added(&got[1], &dg0), &gamma, &mut |g| value(&x, g, &beta));
                self.gradient(&case, "dbeta", &added(&got[2], &db0), &beta, &mut |b| value(&x, &gamma, b));
            }
            Err(why) => self.failed(&case, &why),
        }
    }
}

fn of<B: crate::Memory>(x: f64) -> B::Scalar {
    crate::Scalar::from_f64(x)
}
