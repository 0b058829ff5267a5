//! Times of one time step per sequence.

use crate::{
    layer::Layer,
    tools::{noise, time},
};
use s4_backend::*;
use s4_cuda::{Buf, Cuda};
use std::io::Write;

/// Eight SSM layers of 512 heads, one time step each, without what lies between the layers of a model.
pub fn step(be: &Cuda, out: &mut impl Write, batch: usize) {
    let (layers, heads) = (8, 512);
    let l = Layer::new(be, Mode::S4, (1, heads, 1), false);
    let n = l.spec.state_len(batch);
    let mut states: Vec<Buf> = (0..layers).map(|_| be.alloc(n).expect("memory")).collect();
    let mut plans: Vec<_> = (0..layers).map(|_| be.step_plan(&l.spec).expect("plan")).collect();
    let u = noise(be, batch * heads, 1.0);
    let mut y = be.alloc(batch * heads).expect("memory");
    let mut ws = be.workspace();
    let t = time(be, || {
        for (state, plan) in states.iter_mut().zip(&mut plans) {
            let args = SsmStep {
                y: be.view_mut(&mut y, 0..batch * heads),
                state: be.view_mut(state, 0..n),
                u: be.view(&u, 0..batch * heads),
                interval: None,
                params: Layer::views(be, &l.params),
                spec: l.spec,
                batch,
                rate: 1.0,
                version: 1,
            };
            be.ssm_step(args, plan, &mut ws).expect("step");
        }
    });
    writeln!(out, "step of 8 × 512, batch {batch}: {t:.4}").expect("output");
}

/// One time step per sequence from host array to host array: eight blocks (norm, SSM, GLU) in a graph. Returns ms of
/// the graph alone, and with upload and download, each waited for.
pub fn stream(be: &Cuda, out: &mut impl Write, batch: usize) {
    let (layers, heads) = (8, 512);
    let l = Layer::new(be, Mode::S4, (1, heads, 1), false);
    let (n, rows) = (l.spec.state_len(batch), batch * heads);
    let mut states: Vec<Buf> = (0..layers).map(|_| be.alloc(n).expect("memory")).collect();
    let mut plans: Vec<_> = (0..layers).map(|_| be.step_plan(&l.spec).expect("plan")).collect();
    let weights: Vec<Buf> = (0..layers).map(|_| noise(be, 2 * heads * heads, 0.05)).collect();
    let (gamma, bias) = (noise(be, heads, 1.0), noise(be, 2 * heads, 0.1));
    let [mut x, mut normed, mut y, mut stats] =
        [rows, rows, rows, 2 * batch].map(|n| be.alloc(n).expect("memory"));
    let spec = MixSpec {
        inputs: heads,
        outputs: heads,
        activation: Activation::Gelu,
        glu: true,
        final_activation: Activation::Identity,
        dropout: 0.0,
        tied: false,
    };
    let (key, shape) = (random::DropKey { seed: 1, step: 1, site: 0 }, SeqShape { batch, heads, len: 1 });
    let mut ws = be.workspace();
    let mut blocks = || {
        for ((state, plan), w) in states.iter_mut().zip(&mut plans).zip(&weights) {
            let norm = LayerNormForward {
                y: be.view_mut(&mut normed, 0..rows),
                stats: be.view_mut(&mut stats, 0..2 * batch),
                x: be.view(&x, 0..rows),
                gamma: be.view(&gamma, 0..heads),
                beta: be.view(&gamma, 0..heads),
                eps: 1e-5,
                shape,
            };
            be.layer_norm_forward(norm, &mut ws)?;
            let step = SsmStep {
                y: be.view_mut(&mut y, 0..rows),
                state: be.view_mut(state, 0..n),
                u: be.view(&normed, 0..rows),
                interval: None,
                params: Layer::views(be, &l.params),
                spec: l.spec,
                batch,
                rate: 1.0,
                version: 1,
            };
            be.ssm_step(step, plan, &mut ws)?;
            let mix = MixForward {
                y: be.view_mut(&mut x, 0..rows),
                saved: None,
                s: be.view(&y, 0..rows),
                residual: Some(be.view(&normed, 0..rows)),
                params: MixParams {
                    weight: be.view(w, 0..2 * heads * heads),
                    bias: be.view(&bias, 0..2 * heads),
                },
                call: MixCall { spec, key, batch, len: 1 },
            };
            be.mix_forward(mix, &mut ws)?;
        }
        Ok(())
    };
    let mut graph = <Cuda as Memory>::Graph::default();
    let alone = time(be, || be.replay(&mut graph, [0, 0], &mut blocks).expect("step"));
    let (mut host, mut ends) = (vec![0.5f32; batch], be.alloc(batch).expect("memory"));
    // A buffer was made: the graph is recorded anew.
    let whole = time(be, || {
        be.upload(be.view_mut(&mut ends, 0..batch), &host).expect("upload");
        be.replay(&mut graph, [0, 0], &mut blocks).expect("step");
        be.download(&mut host, be.view(&ends, 0..batch)).expect("download");
    });
    writeln!(out, "stream through 8 × 512, batch {batch}: graph {alone:.4}, from host to host {whole:.4}")
        .expect("output");
}
