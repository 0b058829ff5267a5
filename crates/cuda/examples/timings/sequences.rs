//! Times of the SSM on whole sequences.

use crate::{layer::Layer, tools::time};
use s4_backend::*;
use s4_cuda::Cuda;
use std::io::Write;

/// (batch, heads, length) with about `total` elements.
fn rows(total: usize, len: usize) -> (usize, usize, usize) {
    let heads = if len > 300_000 { 64 } else { 256 };
    ((total / heads / len).max(1), heads, len)
}

pub fn ssm(be: &Cuda, out: &mut impl Write, total: usize, mode: Mode, algorithm: Algorithm, len: usize) {
    let shape = rows(total, len);
    let mut l = Layer::new(be, mode, shape, false);
    let train = time(be, || l.forward(be, algorithm, true));
    let infer = if algorithm == Algorithm::Chunk { time(be, || l.infer(be)) } else { train };
    let backward = time(be, || l.backward(be, algorithm));
    let both = time(be, || {
        l.forward(be, algorithm, true);
        l.backward(be, algorithm);
    });
    writeln!(
        out,
        "ssm {mode:?} {algorithm:?} {shape:?}: forward {train:.3} (constants kept {infer:.3}), backward {backward:.3}, both {both:.3}"
    )
    .expect("output");
}

/// A two-sided layer at the sizes of a published experiment.
pub fn two_sided(be: &Cuda, out: &mut impl Write, shape: (usize, usize, usize)) {
    let mut l = Layer::new(be, Mode::S4, shape, true);
    let forward = time(be, || l.forward(be, Algorithm::Chunk, true));
    let infer = time(be, || l.infer(be));
    let backward = time(be, || l.backward(be, Algorithm::Chunk));
    writeln!(
        out,
        "two-sided {shape:?}: forward {forward:.3} (constants kept {infer:.3}), backward {backward:.3}"
    )
    .expect("output");
}

/// The kernel and the FFT convolution by themselves.
pub fn kernel_and_conv(be: &Cuda, out: &mut impl Write, total: usize, len: usize) {
    let shape = rows(total, len);
    let mut l = Layer::new(be, Mode::S4, shape, false);
    let (heads, n) = (shape.1, be.len(&l.u));
    let mut kernel = be.alloc(heads * len).expect("memory");
    let mut ws = be.workspace();
    let k = time(be, || {
        let args = KernelForward {
            kernel: be.view_mut(&mut kernel, 0..heads * len),
            params: Layer::views(be, &l.params),
            spec: l.spec,
            len,
            rate: 1.0,
        };
        be.kernel_forward(args, &mut ws).expect("kernel");
    });
    let shape_of_conv =
        ConvShape { batch: shape.0, heads, channels: 1, len, kernel_len: len, bidirectional: false };
    let c = time(be, || {
        let args = ConvForward {
            y: be.view_mut(&mut l.y, 0..n),
            u: be.view(&l.u, 0..n),
            kernel: be.view(&kernel, 0..heads * len),
            d: None,
            shape: shape_of_conv,
        };
        be.conv_forward(args, &mut ws).expect("convolution");
    });
    writeln!(out, "{shape:?}: kernel {k:.3}, fft convolution {c:.3}").expect("output");
}

/// The kernel by the paper's Algorithm 1 and its transpose by themselves, and the layer by it.
pub fn cauchy(be: &Cuda, out: &mut impl Write, total: usize, len: usize) {
    let shape = rows(total, len);
    let mut l = Layer::new(be, Mode::S4, shape, false);
    let n = shape.1 * len;
    let mut kernel = be.alloc(n).expect("memory");
    let mut ws = be.workspace();
    let forward = time(be, || {
        let args = KernelForward {
            kernel: be.view_mut(&mut kernel, 0..n),
            params: Layer::views(be, &l.params),
            spec: l.spec,
            len,
            rate: 1.0,
        };
        be.kernel_by_cauchy(args, &mut ws).expect("kernel");
    });
    let backward = time(be, || {
        let args = KernelBackward {
            grads: Layer::gradient_views(be, &mut l.grads),
            dkernel: be.view(&kernel, 0..n),
            params: Layer::views(be, &l.params),
            spec: l.spec,
            len,
            rate: 1.0,
        };
        be.kernel_by_cauchy_backward(args, &mut ws).expect("gradients of a kernel");
    });
    writeln!(out, "{shape:?}: kernel by Algorithm 1 {forward:.3}, its transpose {backward:.3}")
        .expect("output");
    drop(kernel);
    drop(l);
    ssm(be, out, total, Mode::S4, Algorithm::Cauchy, len);
}

/// One call of each, for a profiler.
pub fn once(be: &Cuda, len: usize) {
    let mut l = Layer::new(be, Mode::S4, rows(64 << 20, len), false);
    for _ in 0..2 {
        l.forward(be, Algorithm::Chunk, true);
        l.backward(be, Algorithm::Chunk);
    }
    be.synchronize().expect("run");
}
