//! Times of the GPU's operations: `timings [millions of elements]`, default 64 (2²⁶). One line a case, ms.

use s4_backend::{random::Rng, *};
use s4_cuda::{Buf, Cuda, diagnose_text, probe};
use std::{io::Write, time::Instant};

fn noise(be: &Cuda, n: usize, scale: f32) -> Buf {
    // A short block of noise, repeated: host time is not what is measured.
    let mut rng = Rng::new(1, 1);
    let block: Vec<f32> = (0..n.min(1 << 16)).map(|_| scale * rng.normal() as f32).collect();
    let mut buf = be.alloc(n).expect("memory");
    for at in (0..n).step_by(block.len().max(1)) {
        let some = block.len().min(n - at);
        be.upload(be.view_mut(&mut buf, at..at + some), &block[..some]).expect("upload");
    }
    buf
}

/// Median of several timed batches of calls, each enough to hide the waits.
fn time(be: &Cuda, mut f: impl FnMut()) -> f64 {
    for _ in 0..2 {
        f();
    }
    be.synchronize().expect("warm-up");
    let mut all = [0.0; 5];
    for t in &mut all {
        let start = Instant::now();
        for _ in 0..4 {
            f();
        }
        be.synchronize().expect("run");
        *t = start.elapsed().as_secs_f64() * 250.0;
    }
    all.sort_by(f64::total_cmp);
    all[2]
}

fn ssm(be: &Cuda, out: &mut impl Write, total: usize, mode: Mode, algorithm: Algorithm, len: usize) {
    let heads = if len > 300_000 { 64 } else { 256 };
    let batch = (total / heads / len).max(1);
    let spec = SsmSpec {
        mode,
        heads,
        state: 64,
        n_ssm: 1,
        rank: (mode == Mode::S4) as usize,
        channels: 1,
        bidirectional: false,
        dt_per_state: false,
        disc: if mode == Mode::S4 { Disc::Bilinear } else { Disc::Zoh },
        dt_transform: Transform::Exp,
        real_transform: Transform::Exp,
        imag_transform: Transform::Exp,
        truncate: None,
    };
    let put = |x: &[f32]| {
        let mut b = be.alloc(x.len()).expect("memory");
        be.upload(be.view_mut(&mut b, 0..x.len()), x).expect("upload");
        b
    };
    let pairs = spec.pairs();
    let dt: Vec<f32> = (0..heads).map(|h| (0.001f32.ln()) + 4.6 * h as f32 / heads as f32).collect();
    let re = vec![0.5f32.ln(); pairs];
    let im: Vec<f32> = (0..pairs).map(|n| (3.1 * (n as f32 + 0.5)).ln()).collect();
    let b: Vec<f32> =
        (0..2 * pairs).map(|n| if n % 2 == 0 { (n as f32 + 1.0).sqrt() } else { 0.0 }).collect();
    let p: Vec<f32> =
        (0..spec.p_len()).map(|n| if n % 2 == 0 { (n as f32 / 2.0 + 0.5).sqrt() } else { 0.0 }).collect();
    let host =
        [put(&dt), put(&re), put(&im), put(&b), noise(be, spec.c_len(), 1.0), put(&p), noise(be, heads, 1.0)];
    let v = |i: usize| be.view(&host[i], 0..be.len(&host[i]));
    let params: SsmParams<'_, Cuda> =
        SsmParams { inv_dt: v(0), a_real: v(1), a_imag: v(2), b: v(3), c: v(4), p: v(5), d: v(6) };
    let n = batch * heads * len;
    let (u, dy) = (noise(be, n, 1.0), noise(be, n, 1.0));
    let (mut y, mut du) = (be.alloc(n).expect("memory"), be.alloc(n).expect("memory"));
    let mut g = host.each_ref().map(|x| be.alloc(be.len(x)).expect("memory"));
    let (mut plan, mut ws) = (be.ssm_plan(&spec).expect("plan"), be.workspace());
    let mut call = SsmCall { spec, batch, len, rate: 1.0, algorithm, version: 0 };
    let mut forward = |be: &Cuda, plan: &mut _, fresh: bool| {
        call.version += fresh as u64;
        be.ssm_forward(
            be.view_mut(&mut y, 0..n),
            None,
            None,
            be.view(&u, 0..n),
            None,
            None,
            &params,
            &call,
            plan,
            &mut ws,
        )
        .expect("forward");
    };
    let train = time(be, || forward(be, &mut plan, true));
    let infer = time(be, || forward(be, &mut plan, false));
    let mut ws = be.workspace();
    let backward = time(be, || {
        let [g0, g1, g2, g3, g4, g5, g6] = &mut g;
        let grads: SsmGrads<'_, Cuda> = SsmGrads {
            inv_dt: be.view_mut(g0, 0..heads),
            a_real: be.view_mut(g1, 0..pairs),
            a_imag: be.view_mut(g2, 0..pairs),
            b: be.view_mut(g3, 0..2 * pairs),
            c: be.view_mut(g4, 0..spec.c_len()),
            p: be.view_mut(g5, 0..spec.p_len()),
            d: be.view_mut(g6, 0..heads),
        };
        be.ssm_backward(
            Some(be.view_mut(&mut du, 0..n)),
            None,
            grads,
            be.view(&dy, 0..n),
            None,
            be.view(&u, 0..n),
            None,
            be.view(&u, 0..0),
            None,
            &params,
            &call,
            &mut plan,
            &mut ws,
        )
        .expect("backward");
    });
    writeln!(
        out,
        "ssm {mode:?} {algorithm:?} {batch}×{heads}×{len}: forward {train:.3} (constants kept {infer:.3}), backward {backward:.3}"
    )
    .expect("output");
}

fn mix(be: &Cuda, out: &mut impl Write, batch: usize, heads: usize, len: usize) {
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
    let params =
        MixParams::<Cuda> { weight: be.view(&w, 0..2 * heads * heads), bias: be.view(&b, 0..2 * heads) };
    let saved_len = be.mix_saved_len(&spec, batch, len);
    let [mut y, mut ds] = [n, n].map(|n| be.alloc(n).expect("memory"));
    let mut saved = be.alloc(saved_len).expect("memory");
    let (mut dw, mut db) =
        (be.alloc(2 * heads * heads).expect("memory"), be.alloc(2 * heads).expect("memory"));
    let key = random::DropKey { seed: 1, step: 1, site: 0 };
    let mut ws = be.workspace();
    let forward = time(be, || {
        be.mix_forward(
            be.view_mut(&mut y, 0..n),
            Some(be.view_mut(&mut saved, 0..saved_len)),
            be.view(&s, 0..n),
            Some(be.view(&dy, 0..n)),
            &params,
            &spec,
            key,
            batch,
            len,
            &mut ws,
        )
        .expect("forward")
    });
    let backward = time(be, || {
        let grads = MixGrads::<Cuda> {
            weight: be.view_mut(&mut dw, 0..2 * heads * heads),
            bias: be.view_mut(&mut db, 0..2 * heads),
        };
        be.mix_backward(
            be.view_mut(&mut ds, 0..n),
            grads,
            be.view(&dy, 0..n),
            be.view(&s, 0..n),
            be.view(&saved, 0..saved_len),
            &params,
            &spec,
            key,
            batch,
            len,
            &mut ws,
        )
        .expect("backward")
    });
    let flops = 4.0 * n as f64 * heads as f64;
    writeln!(
        out,
        "mix {batch}×{heads}×{len}: forward {forward:.3} ({:.1} TFLOP/s in the product), backward {backward:.3}",
        flops / forward / 1e9
    )
    .expect("output");
}

fn norm(be: &Cuda, out: &mut impl Write, batch: usize, heads: usize, len: usize) {
    let shape = SeqShape { batch, heads, len };
    let n = shape.elements();
    let (x, gamma) = (noise(be, n, 1.0), noise(be, heads, 1.0));
    let [mut y, mut stats] = [n, 2 * batch * len].map(|n| be.alloc(n).expect("memory"));
    let mut ws = be.workspace();
    let t = time(be, || {
        be.layer_norm_forward(
            be.view_mut(&mut y, 0..n),
            be.view_mut(&mut stats, 0..2 * batch * len),
            be.view(&x, 0..n),
            be.view(&gamma, 0..heads),
            be.view(&gamma, 0..heads),
            1e-5,
            &shape,
            &mut ws,
        )
        .expect("norm")
    });
    let copy = time(be, || be.copy(be.view_mut(&mut y, 0..n), be.view(&x, 0..n)).expect("copy"));
    writeln!(
        out,
        "layer norm {batch}×{heads}×{len}: {t:.3}; copy {copy:.3} ({:.2} TB/s)",
        8.0 * n as f64 / copy / 1e9
    )
    .expect("output");
}

fn main() {
    let out = &mut std::io::stdout();
    writeln!(out, "{}", diagnose_text()).expect("output");
    let Ok(devices) = probe() else { return };
    let be = Cuda::new(devices[0].ordinal).expect("device");
    let total = std::env::args().nth(1).and_then(|n| n.parse::<usize>().ok()).unwrap_or(64) << 20;
    norm(&be, out, 50, 512, 1024);
    mix(&be, out, 50, 512, 1024);
    mix(&be, out, 16, 256, 16384);
    for len in [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20] {
        ssm(&be, out, total, Mode::S4, Algorithm::Chunk, len);
    }
    ssm(&be, out, total, Mode::S4d, Algorithm::Chunk, 1 << 12);
    for len in [1 << 10, 1 << 14, 1 << 18] {
        ssm(&be, out, total, Mode::S4, Algorithm::Fft, len);
    }
    writeln!(out, "memory held: {:.2} GB, launches: {}", be.memory_held() as f64 / 1e9, be.launches())
        .expect("output");
}
