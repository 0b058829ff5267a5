//! Reductions over time, and the mask of what lies beyond a row's length.

use super::suite::{At, Out, Suite, inner, take};
use s4_backend::{Backend, Mask, PoolBackward, PoolForward, Pooling, SeqShape};

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
                Pooling::LogMeanExp => {
                    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    top + (x.iter().map(|v| (v - top).exp()).sum::<f64>() / n as f64).ln()
                }
                Pooling::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }
        })
        .collect()
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn pooling(&mut self) {
        let shapes =
            self.cases(&[(1, 1, 1), (3, 2, 17), (2, 33, 130), (4, 7, 1047)], &[(1, 1, 1), (3, 2, 17)]);
        for (batch, heads, len) in shapes {
            let shape = SeqShape { batch, heads, len };
            let lengths: Vec<i32> = (0..batch).map(|b| 1 + ((b * 37 + len / 2) % len) as i32).collect();
            self.mask_case(shape, &lengths);
            for &pooling in Pooling::ALL {
                for lengths in [None, Some(&lengths[..])] {
                    self.pool_case(shape, lengths, pooling);
                }
            }
        }
    }

    fn mask_case(&mut self, shape: SeqShape, lengths: &[i32]) {
        let (be, case) = (self.be, format!("{shape:?} lengths={lengths:?}"));
        let at = At { operation: "mask", case: &case };
        let x = self.normal(shape.elements());
        let mut want = x.clone();
        for (row, x) in want.chunks_mut(shape.len).enumerate() {
            x[lengths[row / shape.heads] as usize..].fill(0.0);
        }
        let got = self.outputs(at, &[], &[lengths], &[Out::Add(&x)], &mut |a, _| {
            let [x] = take(a.outs);
            be.mask(Mask { x, lengths: &a.ints[0], shape })
        });
        if let Some(got) = got {
            self.exact(at, "x", &got[0], &want);
        }
    }

    fn pool_case(&mut self, shape: SeqShape, lengths: Option<&[i32]>, pooling: Pooling) {
        let (be, s) = (self.be, &shape);
        let case = format!("{pooling} {s:?} lengths={lengths:?}");
        // Distinct values, further apart than the finite differences reach: the largest stays the largest.
        let mut x: Vec<f64> =
            (0..s.elements()).map(|i| (i as f64 - s.elements() as f64 / 2.0) * 0.03125).collect();
        for i in (1..x.len()).rev() {
            x.swap(i, self.rng.below(i + 1));
        }
        let dy = self.normal(s.batch * s.heads);
        let (y, ints) = (pooled(&x, lengths, pooling, s), lengths.as_slice());
        let at = At { operation: "pool_forward", case: &case };
        self.forward(at, &[&x], ints, &[("y", &y)], &mut |a, _| {
            let ([y], [x]) = (take(a.outs), take(a.ins));
            be.pool_forward(PoolForward { y, x, lengths: a.ints.first(), pooling, shape })
        });
        let at = At { operation: "pool_backward", case: &case };
        let got = self.outputs(at, &[&dy, &x], ints, &[Out::Over(x.len())], &mut |a, _| {
            let ([dx], [dy, x]) = (take(a.outs), take(a.ins));
            be.pool_backward(PoolBackward { dx, dy, x, lengths: a.ints.first(), pooling, shape })
        });
        if let Some(got) = got {
            self.difference(at, "dx", &got[0], &x, &mut |x| inner(&pooled(x, lengths, pooling, s), &dy));
        }
    }
}
