//! Convolution with a given kernel.

use super::suite::{At, Suite, take};
use s4_backend::{Backend, ConvForward, ConvShape};
use s4_ssm::{conv_causal, conv_two_sided};

/// By the definition, row by row.
fn conv(s: &ConvShape, u: &[f64], kernel: &[f64], d: Option<&[f64]>) -> Vec<f64> {
    let mut y = Vec::new();
    for b in 0..s.batch {
        for c in 0..s.channels {
            for h in 0..s.heads {
                let u = &u[(b * s.heads + h) * s.len..][..s.len];
                let row = |c: usize| &kernel[(c * s.heads + h) * s.kernel_len..][..s.kernel_len];
                let d = d.map_or(0.0, |d| d[c * s.heads + h]);
                y.extend(match s.two_sided {
                    true => conv_two_sided(u, row(c), row(s.channels + c), d),
                    false => conv_causal(u, row(c), d),
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
        for (batch, heads, channels, len, kernel_len, two_sided) in self.cases(&shapes, &shapes[..3]) {
            let shape = ConvShape { batch, heads, channels, len, kernel_len, two_sided };
            let (be, s) = (self.be, &shape);
            let u = self.normal(batch * heads * len);
            let (kernel, d) =
                (self.normal(s.kernel_channels() * heads * kernel_len), self.normal(channels * heads));
            for with_d in [true, false] {
                let case = format!("{s:?} D={with_d}");
                let at = At { operation: "conv_forward", case: &case };
                let y = conv(s, &u, &kernel, with_d.then_some(&d[..]));
                self.forward(at, &[&u, &kernel, &d], &[], &[("y", &y)], &mut |a, ws| {
                    let ([y], [u, kernel, d]) = (take(a.outs), take(a.ins));
                    be.conv_forward(ConvForward { y, u, kernel, d: with_d.then_some(d), shape }, ws)
                });
            }
        }
    }
}
