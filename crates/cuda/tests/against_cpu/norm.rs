//! Layer norm over every number of heads for which there is a kernel, and over more.

use crate::{
    Report, gpu,
    layer::{down, up},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::Cuda;
use s4_testing::noise;

/// The arrays y, dx, dγ, dβ of a layer norm on noise.
fn outputs_of<B: Backend>(be: &B, s: &SeqShape) -> [Vec<f64>; 4] {
    let (n, h) = (s.elements(), s.heads);
    let [x, dy, gamma, beta] =
        [(1, n), (2, n), (3, h), (4, h)].map(|(stream, n)| up(be, &noise(5, stream, n)));
    let fill = |value: f64, n: usize| up(be, &vec![value; n]);
    let [mut y, mut dx] = [fill(f64::NAN, n), fill(f64::NAN, n)];
    let [mut dgamma, mut dbeta] = [fill(0.0, h), fill(0.0, h)];
    let pairs = 2 * s.batch * s.len;
    let mut stats = fill(f64::NAN, pairs);
    let mut ws = be.workspace();
    let forward = LayerNormForward {
        y: be.view_mut(&mut y, 0..n),
        stats: be.view_mut(&mut stats, 0..pairs),
        x: be.view(&x, 0..n),
        gamma: be.view(&gamma, 0..h),
        beta: be.view(&beta, 0..h),
        eps: 1e-5,
        shape: *s,
    };
    be.layer_norm_forward(forward, &mut ws).unwrap();
    let backward = LayerNormBackward {
        dx: be.view_mut(&mut dx, 0..n),
        dgamma: be.view_mut(&mut dgamma, 0..h),
        dbeta: be.view_mut(&mut dbeta, 0..h),
        dy: be.view(&dy, 0..n),
        x: be.view(&x, 0..n),
        stats: be.view(&stats, 0..pairs),
        gamma: be.view(&gamma, 0..h),
        residual: None,
        shape: *s,
    };
    be.layer_norm_backward(backward, &mut ws).unwrap();
    [y, dx, dgamma, dbeta].map(|b| down(be, &b))
}

#[test]
fn layer_norm_over_few_and_many_heads() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    compare(&be, &mut report, &[3, 128, 129, 256, 300, 512, 513, 700]);
    report.finish("layer norm");
}

pub fn compare(be: &Cuda, report: &mut Report, heads: &[usize]) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for &heads in heads {
        for (batch, len) in [(3, 45), (2, 1)] {
            let s = SeqShape { batch, heads, len };
            let (got, want) = (outputs_of(be, &s), outputs_of(&cpu, &s));
            for (i, name) in ["y", "dx", "dγ", "dβ"].into_iter().enumerate() {
                report.check(format!("{s:?} {name}"), &got[i], &want[i], if i == 0 { 1e-5 } else { 1e-4 });
            }
        }
    }
}
