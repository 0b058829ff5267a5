//! Conformance tests of the convolution with given kernels.

use super::suite::{CaseLabel, Suite, into_array};
use s4_backend::{Backend, ConvForward, ConvShape};
use s4_ssm::{conv_bidirectional, conv_causal};

/// The truth of a convolution, by its definition, for each sequence and channel.
fn conv_truth(s: &ConvShape, u: &[f64], kernel: &[f64], d: Option<&[f64]>) -> Vec<f64> {
    let mut y = Vec::new();
    for b in 0..s.batch {
        for c in 0..s.channels {
            for h in 0..s.heads {
                let u = &u[(b * s.heads + h) * s.len..][..s.len];
                let kernel_of_channel =
                    |c: usize| &kernel[(c * s.heads + h) * s.kernel_len..][..s.kernel_len];
                let d = d.map_or(0.0, |d| d[c * s.heads + h]);
                y.extend(match s.bidirectional {
                    true => conv_bidirectional(u, kernel_of_channel(c), kernel_of_channel(s.channels + c), d),
                    false => conv_causal(u, kernel_of_channel(c), d),
                });
            }
        }
    }
    y
}

impl<B: Backend> Suite<'_, B> {
    pub(super) fn conv(&mut self) {
        let shapes = [
            (1, 1, 1, 1, 1, false),
            (3, 2, 2, 7, 5, true),
            (2, 3, 1, 63, 63, false),
            (5, 2, 1, 64, 31, true),
            (1, 2, 2, 65, 65, true),
            (3, 1, 1, 130, 1, false),
            (9, 3, 2, 257, 40, true),
            (2, 2, 1, 1047, 1000, false),
        ];
        for (batch, heads, channels, len, kernel_len, bidirectional) in self.cases(&shapes, &shapes[..3]) {
            let shape = ConvShape { batch, heads, channels, len, kernel_len, bidirectional };
            let (backend, s) = (self.backend, &shape);
            let u = self.normal(batch * heads * len);
            let (kernel, d) =
                (self.normal(s.kernel_channels() * heads * kernel_len), self.normal(channels * heads));
            for with_d in [true, false] {
                let case = format!("{s:?} D={with_d}");
                let label = CaseLabel { operation: "conv_forward", case: &case };
                let y = conv_truth(s, &u, &kernel, with_d.then_some(&d[..]));
                self.check_forward(label, &[&u, &kernel, &d], &[], &[("y", &y)], &mut |a, workspace| {
                    let ([y], [u, kernel, d]) = (into_array(a.outs), into_array(a.ins));
                    backend
                        .conv_forward(ConvForward { y, u, kernel, d: with_d.then_some(d), shape }, workspace)
                });
            }
        }
    }
}
