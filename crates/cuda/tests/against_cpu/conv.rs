//! Convolution and its gradient against their definitions.

use crate::{
    Report, gpu,
    layer::{down, up},
};
use s4_backend::*;
use s4_cuda::Cuda;
use s4_testing::noise;

/// Calls f for every term of y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j} + D u_t; with the roles of the arrays changed it
/// gives the gradients.
fn each_term(s: &ConvShape, mut f: impl FnMut(usize, usize, usize, usize, Option<usize>)) {
    // f(y index, u index, channel, head, kernel index or None for D)
    for b in 0..s.batch {
        for c in 0..s.channels {
            for h in 0..s.heads {
                for t in 0..s.len {
                    let y = ((b * s.channels + c) * s.heads + h) * s.len + t;
                    let u = (b * s.heads + h) * s.len;
                    f(y, u + t, c, h, None);
                    for j in 0..s.kernel_len {
                        if j <= t {
                            f(y, u + t - j, c, h, Some((c * s.heads + h) * s.kernel_len + j));
                        }
                        if s.bidirectional && t + 1 + j < s.len {
                            let k = ((s.channels + c) * s.heads + h) * s.kernel_len + j;
                            f(y, u + t + 1 + j, c, h, Some(k));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn convolution_by_definition() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    let shapes = [
        (1, 1, 1, 1, 1, false),
        (3, 2, 2, 7, 5, true),
        (2, 3, 1, 100, 100, false),
        (5, 2, 1, 257, 31, true),
        (1, 2, 2, 1000, 1000, true),
        (2, 1, 1, 4100, 700, true),
        (1, 1, 1, 9000, 300, false),
        (19, 2, 1, 70, 70, true),
        (9, 3, 2, 4097, 40, true),
    ];
    compare(&be, &mut report, &shapes);
    report.finish("conv");
}

/// Shapes (batch, heads, channels, len, kernel_len, bidirectional).
pub fn compare(be: &Cuda, report: &mut Report, shapes: &[(usize, usize, usize, usize, usize, bool)]) {
    let mut ws = be.workspace();
    for &(batch, heads, channels, len, kernel_len, bidirectional) in shapes {
        let s = ConvShape { batch, heads, channels, len, kernel_len, bidirectional };
        let (nu, ny) = (batch * heads * len, batch * channels * heads * len);
        let nk = channels * (1 + bidirectional as usize) * heads * kernel_len;
        let (u, k, d, dy) =
            (noise(1, 1, nu), noise(1, 2, nk), noise(1, 3, channels * heads), noise(1, 4, ny));
        let (mut y, mut du, mut dk, mut dd) =
            (vec![0.0; ny], vec![0.0; nu], vec![0.0; nk], vec![0.0; d.len()]);
        each_term(&s, |yi, ui, c, h, ki| match ki {
            Some(ki) => {
                y[yi] += k[ki] * u[ui];
                du[ui] += k[ki] * dy[yi];
                dk[ki] += u[ui] * dy[yi];
            }
            None => {
                y[yi] += d[c * heads + h] * u[ui];
                du[ui] += d[c * heads + h] * dy[yi];
                dd[c * heads + h] += u[ui] * dy[yi];
            }
        });
        let (gu, gk, gd, gdy) = (up(be, &u), up(be, &k), up(be, &d), up(be, &dy));
        let mut out = [ny, nu, nk, d.len()].map(|n| be.alloc(n).unwrap());
        let [oy, odu, odk, odd] = &mut out;
        let name = format!("{s:?}");
        let forward = ConvForward {
            y: be.view_mut(oy, 0..ny),
            u: be.view(&gu, 0..nu),
            kernel: be.view(&gk, 0..nk),
            d: Some(be.view(&gd, 0..d.len())),
            shape: s,
        };
        be.conv_forward(forward, &mut ws).unwrap();
        let backward = ConvBackward {
            du: Some(be.view_mut(odu, 0..nu)),
            dkernel: be.view_mut(odk, 0..nk),
            dd: Some(be.view_mut(odd, 0..d.len())),
            dy: be.view(&gdy, 0..ny),
            u: be.view(&gu, 0..nu),
            kernel: be.view(&gk, 0..nk),
            d: Some(be.view(&gd, 0..d.len())),
            shape: s,
        };
        be.conv_backward(backward, &mut ws).unwrap();
        for ((got, want), (what, tol)) in out.iter().zip([&y, &du, &dk, &dd]).zip([
            ("y", 1e-5),
            ("du", 1e-4),
            ("dkernel", 1e-4),
            ("dd", 1e-4),
        ]) {
            report.check(format!("{name} {what}"), &down(be, got), want, tol);
        }
    }
}
