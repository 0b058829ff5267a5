//! Conformance tests of pooling over time, and of the operation that sets the time steps beyond a sequence's length to 0.

use super::suite::{CaseLabel, OutputBuffer, Suite, inner_product, into_array};
use s4_backend::{Backend, PoolBackward, PoolForward, Pooling, SeqShape, ZeroBeyondLengths};

/// The truth of pooling: (batch, heads).
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
        let (backend, case) = (self.backend, format!("{shape:?} lengths={lengths:?}"));
        let label = CaseLabel { operation: "zero_beyond_lengths", case: &case };
        let x = self.normal(shape.elements());
        let mut want = x.clone();
        for (row, x) in want.chunks_mut(shape.len).enumerate() {
            x[lengths[row / shape.heads] as usize..].fill(0.0);
        }
        let got = self.outputs_of(label, &[], &[lengths], &[OutputBuffer::AddedTo(&x)], &mut |a, _| {
            let [x] = into_array(a.outs);
            backend.zero_beyond_lengths(ZeroBeyondLengths { x, lengths: &a.ints[0], shape })
        });
        if let Some(got) = got {
            self.check_exact(label, "x", &got[0], &want);
        }
    }

    fn pool_case(&mut self, shape: SeqShape, lengths: Option<&[i32]>, pooling: Pooling) {
        let (backend, s) = (self.backend, &shape);
        let case = format!("{pooling} {s:?} lengths={lengths:?}");
        // Distinct values, further apart than the steps of finite differences, so that the largest stays the largest.
        let mut x: Vec<f64> =
            (0..s.elements()).map(|i| (i as f64 - s.elements() as f64 / 2.0) * 0.03125).collect();
        for i in (1..x.len()).rev() {
            x.swap(i, self.rng.below(i + 1));
        }
        let dy = self.normal(s.batch * s.heads);
        let (y, ints) = (pooled(&x, lengths, pooling, s), lengths.as_slice());
        let label = CaseLabel { operation: "pool_forward", case: &case };
        self.check_forward(label, &[&x], ints, &[("y", &y)], &mut |a, _| {
            let ([y], [x]) = (into_array(a.outs), into_array(a.ins));
            backend.pool_forward(PoolForward { y, x, lengths: a.ints.first(), pooling, shape })
        });
        let label = CaseLabel { operation: "pool_backward", case: &case };
        let unread = vec![f64::from(2f32.powi(100)); x.len()];
        let seen = if pooling.backward_reads_input() { &x } else { &unread };
        let got =
            self.outputs_of(label, &[&dy, seen], ints, &[OutputBuffer::Overwritten(x.len())], &mut |a, _| {
                let ([dx], [dy, x]) = (into_array(a.outs), into_array(a.ins));
                backend.pool_backward(PoolBackward { dx, dy, x, lengths: a.ints.first(), pooling, shape })
            });
        if let Some(got) = got {
            self.check_by_differences(label, "dx", &got[0], &x, &mut |x| {
                inner_product(&pooled(x, lengths, pooling, s), &dy)
            });
        }
    }
}
