//! Layer norm over every number of heads for which there is a kernel, and over more; over fewer tiles of 32 positions
//! than blocks and over many more; over lengths that vector accesses fit and others.

use crate::{
    Report, gpu,
    layer::{down, up},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::Cuda;
use s4_testing::noise;

/// The arrays y, dx, dγ, dβ of a layer norm on noise. With `residual` dx has one added to it, and dγ and dβ begin with
/// other values than 0.
fn outputs_of<B: Backend>(be: &B, s: &SeqShape, residual: bool) -> [Vec<f64>; 4] {
    let (n, h) = (s.elements(), s.heads);
    let [x, dy, gamma, beta] =
        [(1, n), (2, n), (3, h), (4, h)].map(|(stream, n)| up(be, &noise(5, stream, n)));
    let carried = residual.then(|| up(be, &noise(5, 6, n)));
    let fill = |value: f64, n: usize| up(be, &vec![value; n]);
    let [mut y, mut dx] = [fill(f64::NAN, n), fill(f64::NAN, n)];
    let before = if residual { 1.5 } else { 0.0 };
    let [mut dgamma, mut dbeta] = [fill(before, h), fill(-before, h)];
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
        residual: carried.as_ref().map(|r| be.view(r, 0..n)),
        shape: *s,
    };
    be.layer_norm_backward(backward, &mut ws).unwrap();
    [y, dx, dgamma, dbeta].map(|b| down(be, &b))
}

#[test]
fn layer_norm_over_few_and_many_heads() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    compare(&be, &mut report, &[1, 3, 100, 128, 129, 256, 300, 512, 513, 600, 700]);
    report.finish("layer norm");
}

/// The sums that a block keeps over all its tiles: 1,000 tiles for some hundred blocks. Twice, for the same bits.
#[test]
fn layer_norm_of_more_tiles_than_blocks() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for heads in [1, 64, 200, 512, 600] {
        for (batch, len) in [(16, 2000), (16, 2001)] {
            let s = SeqShape { batch, heads, len };
            let (got, want) = (outputs_of(&be, &s, true), outputs_of(&cpu, &s, true));
            report_outputs(&mut report, &s, &got, &want);
            assert!(got == outputs_of(&be, &s, true), "{s:?}: other bits the second time");
        }
    }
    report.finish("layer norm of many tiles");
}

fn report_outputs(report: &mut Report, s: &SeqShape, got: &[Vec<f64>; 4], want: &[Vec<f64>; 4]) {
    for (i, name) in ["y", "dx", "dγ", "dβ"].into_iter().enumerate() {
        // One head is its own mean: its y is β, and it has no gradient but what is added to.
        report.check(format!("{s:?} {name}"), &got[i], &want[i], if i == 0 { 1e-5 } else { 1e-4 });
    }
}

pub fn compare(be: &Cuda, report: &mut Report, heads: &[usize]) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for &heads in heads {
        for (batch, len) in [(3, 45), (5, 44), (2, 1)] {
            // The truth of one head without a residual is a gradient of zero, which nothing can be compared with.
            for residual in [false, true].into_iter().filter(|&residual| residual || heads > 1) {
                let s = SeqShape { batch, heads, len };
                let (got, want) = (outputs_of(be, &s, residual), outputs_of(&cpu, &s, residual));
                report_outputs(report, &s, &got, &want);
            }
        }
    }
}
