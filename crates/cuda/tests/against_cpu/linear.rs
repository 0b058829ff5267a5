//! Linear layers large enough for every kernel of matrix products, with sizes that are no multiple of a tile.

use crate::{
    Report, gpu_with,
    layer::{down, up},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Precision};
use s4_testing::noise;

/// The arrays y, dx, dW, db of a linear layer on noise.
fn outputs_of<B: Backend>(be: &B, s: &LinearShape) -> [Vec<f64>; 4] {
    let (nx, ny, nw) = (s.batch * s.inputs * s.len, s.batch * s.outputs * s.len, s.outputs * s.inputs);
    let [x, dy, w, b] =
        [(1, nx), (2, ny), (3, nw), (4, s.outputs)].map(|(stream, n)| up(be, &noise(9, stream, n)));
    let fill = |value: f64, n: usize| up(be, &vec![value; n]);
    let (mut y, mut dx) = (fill(f64::NAN, ny), fill(f64::NAN, nx));
    let (mut dw, mut db) = (fill(0.0, nw), fill(0.0, s.outputs));
    let mut ws = be.workspace();
    let forward = LinearForward {
        y: be.view_mut(&mut y, 0..ny),
        x: be.view(&x, 0..nx),
        weight: be.view(&w, 0..nw),
        bias: Some(be.view(&b, 0..s.outputs)),
        shape: *s,
    };
    be.linear_forward(forward, &mut ws).unwrap();
    let backward = LinearBackward {
        dx: Some(be.view_mut(&mut dx, 0..nx)),
        dweight: be.view_mut(&mut dw, 0..nw),
        dbias: Some(be.view_mut(&mut db, 0..s.outputs)),
        dy: be.view(&dy, 0..ny),
        x: be.view(&x, 0..nx),
        weight: be.view(&w, 0..nw),
        shape: *s,
    };
    be.linear_backward(backward, &mut ws).unwrap();
    [y, dx, dw, db].map(|b| down(be, &b))
}

fn class(precision: Precision, outputs: f64, gradients: f64) {
    let Some(be) = gpu_with(precision) else { return };
    let mut report = Report::default();
    let shapes = [
        (2, 130, 257, 77),
        (1, 512, 256, 1000),
        (3, 129, 131, 132),
        (300, 256, 10, 1),
        (5, 161, 64, 1),
        (1, 128, 384, 640),
        // Large enough for the products of Hopper: rows and inputs in the midst of a tile, few inputs, few outputs, one sequence.
        (3, 264, 392, 1032),
        (3, 120, 1001, 904),
        (5, 1032, 64, 840),
        (1, 64, 128, 32776),
    ];
    compare(&be, &mut report, &shapes, (outputs, gradients));
    report.finish(&format!("linear {precision:?}"));
}

/// Shapes (batch, inputs, outputs, len) on the GPU, twice, and on the CPU.
pub fn compare(
    be: &Cuda,
    report: &mut Report,
    shapes: &[(usize, usize, usize, usize)],
    (outputs, gradients): (f64, f64),
) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for &(batch, inputs, outputs_, len) in shapes {
        let s = LinearShape { batch, inputs, outputs: outputs_, len };
        let (got, want) = (outputs_of(be, &s), outputs_of(&cpu, &s));
        for (i, name) in ["y", "dx", "dW", "db"].into_iter().enumerate() {
            report.check(
                format!("{s:?} {name}"),
                &got[i],
                &want[i],
                if i == 0 { outputs } else { gradients },
            );
        }
        assert_eq!(got, outputs_of(be, &s), "{s:?}: two runs differ");
    }
}

/// Copies of more than the kernels of Hopper take at a time.
#[test]
fn linear_in_parts() {
    let Some(be) = gpu_with(Precision::High) else { return };
    let mut report = Report::default();
    compare(&be, &mut report, &[(9, 64, 256, 32768)], (2e-3, 5e-3));
    report.finish("linear in parts");
}

#[test]
fn linear_in_every_precision() {
    class(Precision::Highest, 1e-5, 1e-4);
    class(Precision::High, 2e-3, 5e-3);
    class(Precision::Bf16, 1e-2, 5e-2);
}
