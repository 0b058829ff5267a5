//! What the dense operations of a block cost here, beside this machine's own rates.
//!
//!     cargo bench -p s4-cpu --bench dense_ops -- [THREADS]
#![allow(clippy::print_stdout)]

use s4_backend::{
    Activation, AdamW, AdamWUpdate, Clip, DenseOps, LayerNormBackward, LayerNormForward, LinearForward,
    LinearShape, Memory, MixBackward, MixCall, MixForward, MixGrads, MixParams, MixSpec, OptimOps, SeqShape,
    random::{DropKey, Rng},
};
use s4_cpu::Cpu;
use std::{hint::black_box, time::Instant};

/// Median, smallest and largest time of a call in ms, after two warm-up calls.
fn time(mut f: impl FnMut()) -> [f64; 3] {
    f();
    f();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 9 || (start.elapsed().as_secs_f64() < 0.5 && times.len() < 200) {
        let t = Instant::now();
        f();
        times.push(t.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[0], times[times.len() - 1]]
}

fn line(name: &str, ms: [f64; 3], note: &str) {
    println!("{name:<44} {:>9.3} ms  [{:.3} .. {:.3}]  {note}", ms[0], ms[1], ms[2]);
}

fn mix_params<'a>(weight: &'a [f32], bias: &'a [f32]) -> MixParams<'a, Cpu<f32>> {
    MixParams { weight, bias }
}

fn main() {
    let threads = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(0);
    let be = Cpu::<f32>::new(threads).expect("a backend");
    println!("threads {}, {}", be.threads(), be.level().as_str());
    let mut rng = Rng::new(1, 2);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
    let mut ws = be.workspace();

    // This machine's own rates: a square product on all threads, and a copy that no cache holds.
    let s = LinearShape { batch: 8, inputs: 1024, outputs: 1024, len: 512 };
    let (x, w) = (draw(8 * 1024 * 512), draw(1024 * 1024));
    let mut y = vec![0.0; x.len()];
    let ms = time(|| {
        let args = LinearForward { y: &mut y[..], x: &x[..], weight: &w[..], bias: None, shape: s };
        be.linear_forward(args, &mut ws).expect("linear")
    });
    let sgemm = 2.0 * 8.0 * 1024.0 * 1024.0 * 512.0 / ms[0] / 1e6;
    line("sgemm 1024×4096×1024", ms, &format!("{sgemm:.0} GFLOP/s"));
    let (a, mut b) = (vec![1.0f32; 1 << 25], vec![0.0f32; 1 << 25]);
    let ms = time(|| be.axpy(&mut b, 1.0, &a).expect("axpy"));
    line("y += x, 2 × 128 MiB", ms, &format!("{:.1} GB/s", 3.0 * 4.0 * (1u64 << 25) as f64 / ms[0] / 1e6));
    drop((a, b));

    for (batch, heads, len) in [(32, 128, 1024), (8, 128, 4096), (2, 128, 16384)] {
        let shape = SeqShape { batch, heads, len };
        let n = shape.elements();
        let (x, dy) = (draw(n), draw(n));
        let (mut y, mut dx) = (vec![0.0; n], vec![0.0; n]);
        let name = |op: &str| format!("{op} ({batch}, {heads}, {len})");
        let ns = |ms: [f64; 3]| format!("{:.2} ns/element", ms[0] * 1e6 / n as f64);

        let (gamma, beta) = (draw(heads), draw(heads));
        let mut stats = vec![0.0; batch * 2 * len];
        let ms = time(|| {
            let (y, stats, x) = (&mut y[..], &mut stats[..], &x[..]);
            let (gamma, beta, eps) = (&gamma[..], &beta[..], 1e-5);
            be.layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps, shape }, &mut ws)
                .expect("norm")
        });
        line(&name("layer norm forward"), ms, &ns(ms));
        let (mut dg, mut db) = (vec![0.0; heads], vec![0.0; heads]);
        let ms = time(|| {
            let args = LayerNormBackward {
                dx: &mut dx[..],
                dgamma: &mut dg[..],
                dbeta: &mut db[..],
                dy: &dy[..],
                x: &x[..],
                stats: &stats[..],
                gamma: &gamma[..],
                residual: Some(&y[..]),
                shape,
            };
            be.layer_norm_backward(args, &mut ws).expect("norm")
        });
        line(&name("layer norm backward"), ms, &ns(ms));

        for dropout in [0.0, 0.1] {
            let spec = MixSpec {
                inputs: heads,
                outputs: heads,
                activation: Activation::Gelu,
                glu: true,
                final_activation: Activation::Identity,
                dropout,
                tied: false,
            };
            let (weight, bias) = (draw(spec.rows() * heads), draw(spec.rows()));
            let key = DropKey { seed: 1, step: 2, site: 3 };
            let flops = 2.0 * (spec.rows() * heads * batch * len) as f64;
            let call = MixCall { spec, key, batch, len };
            let mut saved = vec![0.0; be.mix_saved_len(&call)];
            let share = |ms: [f64; 3], products: f64| {
                let roof = products * flops / sgemm / 1e6;
                format!("{}, its products alone {roof:.1} ms ({:.0} %)", ns(ms), 100.0 * roof / ms[0])
            };
            let ms = time(|| {
                let args = MixForward {
                    y: &mut y[..],
                    saved: Some(&mut saved[..]),
                    s: &x[..],
                    residual: Some(&dy[..]),
                    params: mix_params(&weight, &bias),
                    call,
                };
                be.mix_forward(args, &mut ws).expect("mix")
            });
            line(&name(&format!("mix forward, dropout {dropout}")), ms, &share(ms, 1.0));
            let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; bias.len()]);
            let ms = time(|| {
                let grads = MixGrads { weight: &mut dw[..], bias: &mut db[..] };
                let (ds, dy, s, saved) = (&mut dx[..], &dy[..], &x[..], &saved[..]);
                let params = mix_params(&weight, &bias);
                be.mix_backward(MixBackward { ds, grads, dy, s, saved, params, call }, &mut ws).expect("mix")
            });
            line(&name(&format!("mix backward, dropout {dropout}")), ms, &share(ms, 3.0));
        }
    }

    // One time step of one row: what a stream pays a block.
    let spec = MixSpec {
        inputs: 128,
        outputs: 128,
        activation: Activation::Gelu,
        glu: true,
        final_activation: Activation::Identity,
        dropout: 0.0,
        tied: false,
    };
    let (weight, bias, x) = (draw(spec.rows() * 128), draw(spec.rows()), draw(128));
    let key = DropKey { seed: 0, step: 0, site: 0 };
    let (mut y, mut stats) = (vec![0.0; 128], vec![0.0; 2]);
    let ms = time(|| {
        for _ in 0..1000 {
            let call = MixCall { spec, key, batch: 1, len: 1 };
            let (y, s, residual) = (&mut y[..], &x[..], Some(&x[..]));
            let params = mix_params(&weight, &bias);
            be.mix_forward(MixForward { y, saved: None, s, residual, params, call }, &mut ws).expect("mix");
        }
    });
    line("1000 × mix forward (1, 128, 1)", ms, "µs each as printed");
    let one = SeqShape { batch: 1, heads: 128, len: 1 };
    let ms = time(|| {
        for _ in 0..1000 {
            let (gamma, beta) = (&bias[..128], &bias[..128]);
            let (y, stats, x, eps, shape) = (&mut y[..], &mut stats[..], &x[..], 1e-5, one);
            be.layer_norm_forward(LayerNormForward { y, stats, x, gamma, beta, eps, shape }, &mut ws)
                .expect("norm");
        }
    });
    line("1000 × layer norm forward (1, 128, 1)", ms, "µs each as printed");

    let n = 1 << 22;
    let (mut p, mut m, mut v, g) = (draw(n), vec![0.0; n], vec![0.0; n], draw(n));
    let hyper = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 1 };
    let guard = [1.0, 1.0];
    let ms = time(|| {
        let (value, m, v) = (&mut p[..], &mut m[..], &mut v[..]);
        let clip = Clip { max_norm: 1.0 };
        be.adamw(AdamWUpdate { value, m, v, grad: &g[..], guard: &guard[..], hyper, clip }).expect("adamw");
        black_box(&p);
    });
    line("adamw, 4M parameters", ms, &format!("{:.2} ns/parameter", ms[0] * 1e6 / n as f64));
}
