//! Kernel, convolution and step: `cargo bench -p s4-cpu --bench ssm_ops`. Medians of 9, f32.
#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints")]

use s4_backend::{
    ConvBackward, ConvForward, ConvOps, ConvShape, Discretization, KernelBackward, KernelForward, KernelOps,
    Memory, Mode, SsmGrads, SsmParams, SsmSpec, SsmStep, StepOps, Transform, random::Rng,
};
use s4_cpu::Cpu;
use std::time::Instant;

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[4]
}

fn draw(n: usize) -> Vec<f32> {
    let mut rng = Rng::new(1, n as u32);
    (0..n).map(|_| rng.normal() as f32).collect()
}

fn spec(mode: Mode) -> SsmSpec {
    let s4 = mode == Mode::S4;
    SsmSpec {
        mode,
        heads: 128,
        state: 64,
        n_ssm: 128,
        rank: usize::from(s4),
        channels: 1,
        bidirectional: false,
        dt_per_state: false,
        discretization: if s4 { Discretization::Bilinear } else { Discretization::Zoh },
        dt_transform: Transform::Exp,
        real_transform: Transform::Exp,
        imag_transform: Transform::None,
        truncate: None,
    }
}

/// Parameters of the size and spread of a fresh layer.
fn params(spec: &SsmSpec) -> [Vec<f32>; 7] {
    let n = spec.pairs();
    [
        (0..spec.heads).map(|h| -6.9 + 4.6 * h as f32 / spec.heads as f32).collect(),
        vec![-0.7; spec.a_len()],
        (0..spec.a_len()).map(|i| std::f32::consts::PI * (i % n) as f32).collect(),
        draw(spec.b_len()),
        draw(spec.c_len()),
        draw(spec.p_len()),
        draw(spec.d_len()),
    ]
}

fn view(p: &[Vec<f32>; 7]) -> SsmParams<'_, Cpu<f32>> {
    SsmParams { inv_dt: &p[0], a_real: &p[1], a_imag: &p[2], b: &p[3], c: &p[4], p: &p[5], d: &p[6] }
}

fn main() {
    for threads in [1, 2] {
        let be = Cpu::<f32>::new(threads).expect("a pool");
        println!("{threads} threads, {}", be.level().as_str());
        let mut ws = be.workspace();
        for mode in [Mode::S4, Mode::S4d] {
            let spec = spec(mode);
            let p = params(&spec);
            for len in [1024, 4096, 16_384] {
                let mut kernel = vec![0.0; spec.heads * len];
                let forward = median(|| {
                    let (kernel, params) = (&mut kernel[..], view(&p));
                    let args = KernelForward { kernel, params, spec, len, rate: 1.0 };
                    be.kernel_forward(args, &mut ws).expect("kernel")
                });
                let mut grads = p.each_ref().map(|p| vec![0.0f32; p.len()]);
                let backward = median(|| {
                    let [inv_dt, a_real, a_imag, b, c, p_, d] = grads.each_mut().map(Vec::as_mut_slice);
                    let into = SsmGrads { inv_dt, a_real, a_imag, b, c, p: p_, d };
                    let (dkernel, params) = (&kernel[..], view(&p));
                    let args = KernelBackward { grads: into, dkernel, params, spec, len, rate: 1.0 };
                    be.kernel_backward(args, &mut ws).expect("kernel")
                });
                println!(
                    "kernel {mode:?} 128 × {len}: forward {:.2} ms, backward {:.2} ms",
                    1e3 * forward,
                    1e3 * backward
                );
            }
            let (mut plan, mut state) = (be.step_plan(&spec).expect("plan"), vec![0.0; spec.state_len(1)]);
            let (u, mut y) = (draw(spec.heads), vec![0.0; spec.heads]);
            let many = median(|| {
                for _ in 0..100 {
                    let step = SsmStep {
                        y: &mut y[..],
                        state: &mut state[..],
                        u: &u[..],
                        interval: None,
                        params: view(&p),
                        spec,
                        batch: 1,
                        rate: 1.0,
                        version: 1,
                    };
                    be.ssm_step(step, &mut plan, &mut ws).expect("step");
                }
            });
            println!("step {mode:?} 128 × 64, batch 1: {:.2} µs", 1e4 * many);
        }
        for (batch, len) in [(32, 1024), (8, 4096), (2, 16_384), (1, 16_384), (2, 65_536)] {
            let shape =
                ConvShape { batch, heads: 128, channels: 1, len, kernel_len: len, bidirectional: false };
            let (u, kernel, d) = (draw(batch * 128 * len), draw(128 * len), draw(128));
            let (mut y, mut du) = (vec![0.0; u.len()], vec![0.0; u.len()]);
            let (mut dk, mut dd) = (vec![0.0; kernel.len()], vec![0.0; 128]);
            let forward = median(|| {
                let (u, kernel, d) = (&u[..], &kernel[..], Some(&d[..]));
                be.conv_forward(ConvForward { y: &mut y[..], u, kernel, d, shape }, &mut ws).expect("conv");
            });
            let backward = median(|| {
                let args = ConvBackward {
                    du: Some(&mut du[..]),
                    dkernel: &mut dk[..],
                    dd: Some(&mut dd[..]),
                    dy: &y[..],
                    u: &u[..],
                    kernel: &kernel[..],
                    d: Some(&d[..]),
                    shape,
                };
                be.conv_backward(args, &mut ws).expect("conv");
            });
            let per = 1e9 / u.len() as f64;
            println!(
                "conv {batch} × 128 × {len}, the kernel's transform in it: forward {:.2} ns/element, backward {:.2}",
                forward * per,
                backward * per
            );
        }
    }
}
