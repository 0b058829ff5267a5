//! Linear, activations, mask, pooling, embedding.

use super::{Out, Suite, added, inner, take};
use crate::{Activation, DenseOps, LinearShape, Pooling, SeqShape};

pub(super) const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Gelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

/// Φ(x) by its series, or Laplace's continued fraction in the tails; 1e-15 of max(Φ, 1 − Φ).
fn normal_cdf(x: f64) -> f64 {
    let a = x.abs();
    let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if a < 5.0 {
        // ½ − φ(a)·Σ a^{2k+1}/(1·3·…·(2k+1)).
        let (mut term, mut sum, mut k) = (a, a, 1.0);
        while term > 1e-18 * sum && a > 0.0 {
            term *= a * a / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        0.5 - density * sum
    } else {
        let mut d = a;
        for k in (1..200).rev() {
            d = a + k as f64 / d;
        }
        density / d
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

pub(super) fn activation(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Identity => x,
        Activation::Gelu => x * normal_cdf(x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

fn linear(x: &[f64], w: &[f64], bias: Option<&[f64]>, s: &LinearShape) -> Vec<f64> {
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

fn pooled(x: &[f64], lengths: Option<&[i32]>, pooling: Pooling, s: &SeqShape) -> Vec<f64> {
    (0..s.batch * s.heads)
        .map(|row| {
            let n = lengths.map_or(s.len, |l| l[row / s.heads] as usize);
            let x = &x[row * s.len..][..n];
            match pooling {
                Pooling::Mean => x.iter().sum::<f64>() / n as f64,
                Pooling::Sum => x.iter().sum(),
                Pooling::First => x[0],
                Pooling::Last => x[n - 1],
                Pooling::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }
        })
        .collect()
}

impl<B: DenseOps> Suite<'_, B> {
    pub(super) fn dense(&mut self) {
        for (batch, inputs, outputs, len) in [
            (1, 1, 1, 1),
            (2, 3, 5, 7),
            (1, 17, 33, 1),
            (3, 17, 33, 1),
            (65, 20, 7, 1),
            (1, 1, 8, 300),
            (2, 8, 1, 65),
            (2, 64, 128, 130),
            (2, 40, 70, 1047),
        ] {
            for with_bias in [true, false] {
                self.linear_case(LinearShape { batch, inputs, outputs, len }, with_bias);
            }
        }
        for kind in ACTIVATIONS {
            for len in [1, 150, 70_001] {
                self.activation_case(kind, len);
            }
        }
        for (batch, heads, len) in [(1, 1, 1), (3, 2, 17), (2, 33, 130), (4, 7, 1047)] {
            let lengths: Vec<i32> = (0..batch).map(|b| 1 + ((b * 37 + len / 2) % len) as i32).collect();
            self.mask_case(SeqShape { batch, heads, len }, &lengths);
            for pooling in [Pooling::Mean, Pooling::Sum, Pooling::First, Pooling::Last, Pooling::Max] {
                for lengths in [None, Some(&lengths[..])] {
                    self.pool_case(SeqShape { batch, heads, len }, lengths, pooling);
                }
            }
        }
        for (batch, heads, len, vocabulary) in
            [(1, 1, 1, 1), (2, 3, 17, 5), (3, 64, 1, 7), (2, 33, 300, 1000)]
        {
            self.embedding_case(SeqShape { batch, heads, len }, vocabulary);
        }
    }

    fn linear_case(&mut self, s: LinearShape, with_bias: bool) {
        let case = format!("linear {s:?} bias={with_bias}");
        let (x, w) = (self.normal(s.batch * s.inputs * s.len), self.normal(s.outputs * s.inputs));
        let (bias, dy) = (self.normal(s.outputs), self.normal(s.batch * s.outputs * s.len));
        let some = with_bias.then_some(&bias[..]);
        let be = self.be;
        let want = [("y", linear(&x, &w, some, &s))];
        self.forward(&case, &[&x, &w, &bias], &want, &mut |i, o, ws| {
            let [y] = take(o);
            be.linear_forward(y, i[0], i[1], with_bias.then_some(i[2]), &s, ws)
        });
        let (dw0, db0) = (self.normal(w.len()), self.normal(bias.len()));
        let outs = [Out::Over(x.len()), Out::Add(&dw0), Out::Add(&db0)];
        let got = self.twice(&[&dy, &x, &w], &outs, &mut |i, o, ws| {
            let [dx, dw, db] = take(o);
            be.linear_backward(Some(dx), dw, with_bias.then_some(db), i[0], i[1], i[2], &s, ws)
        });
        match got {
            Ok(got) => {
                self.gradient(&case, "dx", &got[0], &x, &mut |x| inner(&linear(x, &w, None, &s), &dy));
                let dw = added(&got[1], &dw0);
                self.gradient(&case, "dweight", &dw, &w, &mut |w| inner(&linear(&x, w, None, &s), &dy));
                if with_bias {
                    let db = added(&got[2], &db0);
                    self.gradient(&case, "dbias", &db, &bias, &mut |b| {
                        inner(&linear(&x, &w, Some(b), &s), &dy)
                    });
                } else {
                    self.compare(&case, "dbias untouched", &got[2], &db0, 0.0);
                }
            }
            Err(why) => self.failed(&case, &why),
        }
        let got = self.twice(&[&dy, &x, &w], &outs[1..], &mut |i, o, ws| {
            let [dw, db] = take(o);
            be.linear_backward(None, dw, Some(db), i[0], i[1], i[2], &s, ws)
        });
        match got {
            Ok(got) => {
                let dw = added(&got[0], &dw0);
                self.gradient(&case, "dweight without dx", &dw, &w, &mut |w| {
                    inner(&linear(&x, w, None, &s), &dy)
                });
            }
            Err(why) => self.failed(&case, &why),
        }
    }

    fn activation_case(&mut self, kind: Activation, len: usize) {
        let case = format!("activation {kind:?} {len}");
        let x: Vec<f64> = self.away_from_zero(len).into_iter().map(|x| 2.0 * x).collect();
        let dy = self.normal(len);
        let be = self.be;
        let f = |x: &[f64]| x.iter().map(|&x| activation(kind, x)).collect::<Vec<_>>();
        self.forward(&case, &[&x], &[("y", f(&x))], &mut |i, o, _| {
            let [y] = take(o);
            be.activation_forward(y, i[0], kind)
        });
        match self.twice(&[&dy, &x], &[Out::Over(len)], &mut |i, o, _| {
            let [dx] = take(o);
            be.activation_backward(dx, i[0], i[1], kind)
        }) {
            Ok(got) => self.gradient(&case, "dx", &got[0], &x, &mut |x| inner(&f(x), &dy)),
            Err(why) => self.failed(&case, &why),
        }
    }

    fn mask_case(&mut self, s: SeqShape, lengths: &[i32]) {
        let case = format!("mask {s:?}");
        let x = self.normal(s.elements());
        let mut want = x.clone();
        for (row, x) in want.chunks_mut(s.len).enumerate() {
            x[lengths[row / s.heads] as usize..].fill(0.0);
        }
        let (be, ints) = (self.be, self.ints(lengths));
        match self.twice(&[], &[Out::Add(&x)], &mut |_, o, _| {
            let [x] = take(o);
            be.mask(x, &ints, &s)
        }) {
            Ok(got) => self.compare(&case, "x", &got[0], &want, 0.0),
            Err(why) => self.failed(&case, &why),
        }
    }

    fn pool_case(&mut self, s: SeqShape, lengths: Option<&[i32]>, pooling: Pooling) {
        let case = format!("pool {pooling:?} {s:?} lengths={lengths:?}");
        // Distinct values, further apart than the finite differences reach: the largest stays the largest.
        let mut x: Vec<f64> =
            (0..s.elements()).map(|i| (i as f64 - s.elements() as f64 / 2.0) * 0.03125).collect();
        for i in (1..x.len()).rev() {
            x.swap(i, self.rng.below(i + 1));
        }
        let dy = self.normal(s.batch * s.heads);
        let be = self.be;
        let ints = lengths.map(|l| self.ints(l));
        self.forward(&case, &[&x], &[("y", pooled(&x, lengths, pooling, &s))], &mut |i, o, _| {
            let [y] = take(o);
            be.pool_forward(y, i[0], ints.as_ref(), pooling, &s)
        });
        match self.twice(&[&dy, &x], &[Out::Over(x.len())], &mut |i, o, _| {
            let [dx] = take(o);
            be.pool_backward(dx, i[0], i[1], ints.as_ref(), pooling, &s)
        }) {
            Ok(got) => {
                self.gradient(&case, "dx", &got[0], &x, &mut |x| inner(&pooled(x, lengths, pooling, &s), &dy))
            }
            Err(why) => self.failed(&case, &why),
        }
    }

    fn embedding_case(&mut self, s: SeqShape, vocabulary: usize) {
        let case = format!("embedding {s:?} of {vocabulary}");
        let table = self.normal(vocabulary * s.heads);
        let tokens: Vec<i32> = (0..s.batch * s.len).map(|_| self.rng.below(vocabulary) as i32).collect();
        let dy = self.normal(s.elements());
        let (be, ints) = (self.be, self.ints(&tokens));
        let f = |table: &[f64]| {
            let mut y = vec![0.0; s.elements()];
            for (i, y) in y.iter_mut().enumerate() {
                let (b, h, t) = (i / s.len / s.heads, i / s.len % s.heads, i % s.len);
                *y = table[tokens[b * s.len + t] as usize * s.heads + h];
            }
            y
        };
        self.forward(&case, &[&table], &[("y", f(&table))], &mut |i, o, _| {
            let [y] = take(o);
            be.embedding_forward(y, i[0], &ints, &s)
        });
        let d0 = self.normal(table.len());
        match self.twice(&[&dy], &[Out::Add(&d0)], &mut |i, o, ws| {
            let [d] = take(o);
            be.embedding_backward(d, i[0], &ints, vocabulary, &s, ws)
        }) {
            Ok(got) => {
                let d = added(&got[0], &d0);
                self.gradient(&case, "dtable", &d, &table, &mut |table| inner(&f(table), &dy));
            }
            Err(why) => self.failed(&case, &why),
        }
    }
}
