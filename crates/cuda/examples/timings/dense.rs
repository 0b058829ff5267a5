//! Times of the operations around the SSM.

use crate::tools::{noise, time};
use s4_backend::*;
use s4_cuda::{Buf, Cuda};
use std::io::Write;

fn params<'a>(be: &Cuda, weight: &'a Buf, bias: &'a Buf) -> MixParams<'a, Cuda> {
    MixParams { weight: be.view(weight, 0..be.len(weight)), bias: be.view(bias, 0..be.len(bias)) }
}

pub fn mix(be: &Cuda, out: &mut impl Write, batch: usize, heads: usize, len: usize) {
    let spec = MixSpec {
        inputs: heads,
        outputs: heads,
        activation: Activation::Gelu,
        glu: true,
        final_activation: Activation::Identity,
        dropout: 0.1,
        tied: false,
    };
    let n = batch * heads * len;
    let (s, dy, w, b) =
        (noise(be, n, 1.0), noise(be, n, 1.0), noise(be, 2 * heads * heads, 0.05), noise(be, 2 * heads, 0.1));
    let call = MixCall { spec, key: random::DropKey { seed: 1, step: 1, site: 0 }, batch, len };
    let saved_len = be.mix_saved_len(&call);
    let [mut y, mut ds] = [n, n].map(|n| be.alloc(n).expect("memory"));
    let mut saved = be.alloc(saved_len).expect("memory");
    let (mut dw, mut db) =
        (be.alloc(2 * heads * heads).expect("memory"), be.alloc(2 * heads).expect("memory"));
    let mut ws = be.workspace();
    let forward = time(be, || {
        let args = MixForward {
            y: be.view_mut(&mut y, 0..n),
            saved: Some(be.view_mut(&mut saved, 0..saved_len)),
            s: be.view(&s, 0..n),
            residual: Some(be.view(&dy, 0..n)),
            params: params(be, &w, &b),
            call,
        };
        be.mix_forward(args, &mut ws).expect("forward")
    });
    let backward = time(be, || {
        let args = MixBackward {
            ds: be.view_mut(&mut ds, 0..n),
            grads: MixGrads {
                weight: be.view_mut(&mut dw, 0..2 * heads * heads),
                bias: be.view_mut(&mut db, 0..2 * heads),
            },
            dy: be.view(&dy, 0..n),
            s: be.view(&s, 0..n),
            saved: be.view(&saved, 0..saved_len),
            params: params(be, &w, &b),
            call,
        };
        be.mix_backward(args, &mut ws).expect("backward")
    });
    let flops = 4.0 * n as f64 * heads as f64;
    writeln!(
        out,
        "mix {batch}×{heads}×{len}: forward {forward:.3} ({:.1} TFLOP/s in the product), backward {backward:.3}",
        flops / forward / 1e9
    )
    .expect("output");
}

pub fn norm(be: &Cuda, out: &mut impl Write, batch: usize, heads: usize, len: usize) {
    let shape = SeqShape { batch, heads, len };
    let n = shape.elements();
    let (x, gamma) = (noise(be, n, 1.0), noise(be, heads, 1.0));
    let [mut y, mut stats] = [n, 2 * batch * len].map(|n| be.alloc(n).expect("memory"));
    let mut ws = be.workspace();
    let t = time(be, || {
        let args = LayerNormForward {
            y: be.view_mut(&mut y, 0..n),
            stats: be.view_mut(&mut stats, 0..2 * batch * len),
            x: be.view(&x, 0..n),
            gamma: be.view(&gamma, 0..heads),
            beta: be.view(&gamma, 0..heads),
            eps: 1e-5,
            shape,
        };
        be.layer_norm_forward(args, &mut ws).expect("norm")
    });
    let dy = noise(be, n, 1.0);
    let [mut dgamma, mut dbeta] = [heads, heads].map(|n| be.alloc(n).expect("memory"));
    let backward = time(be, || {
        let args = LayerNormBackward {
            dx: be.view_mut(&mut y, 0..n),
            dgamma: be.view_mut(&mut dgamma, 0..heads),
            dbeta: be.view_mut(&mut dbeta, 0..heads),
            dy: be.view(&dy, 0..n),
            x: be.view(&x, 0..n),
            stats: be.view(&stats, 0..2 * batch * len),
            gamma: be.view(&gamma, 0..heads),
            residual: Some(be.view(&dy, 0..n)),
            shape,
        };
        be.layer_norm_backward(args, &mut ws).expect("norm")
    });
    let copy = time(be, || be.copy(be.view_mut(&mut y, 0..n), be.view(&x, 0..n)).expect("copy"));
    writeln!(
        out,
        "layer norm {batch}×{heads}×{len}: {t:.3}, backward {backward:.3}; copy {copy:.3} ({:.2} TB/s)",
        8.0 * n as f64 / copy / 1e9
    )
    .expect("output");
}
