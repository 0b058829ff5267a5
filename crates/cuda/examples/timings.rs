//! Times of the GPU's operations, ms, one line a case: `timings [high | bf16] [dense] [ssm] [two-sided] [fft] [step] [once:LEN]`, all by default
//! (`once` runs a forward and a backward pass twice, for a profiler). The SSM's cases have 2²⁶ elements.

use s4_backend::{random::Rng, *};
use s4_cuda::{Buf, Cuda, Options, Precision, diagnose_text, probe};
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

/// All of a buffer.
fn whole_mut<'a>(be: &Cuda, buf: &'a mut Buf) -> <Cuda as Memory>::Mut<'a> {
    let n = be.len(buf);
    be.view_mut(buf, 0..n)
}

/// One layer with its arrays: 2²⁶ elements where they fit a whole number of rows.
struct Layer {
    spec: SsmSpec,
    batch: usize,
    len: usize,
    params: [Buf; 7],
    grads: [Buf; 7],
    u: Buf,
    dy: Buf,
    y: Buf,
    du: Buf,
    saved: Buf,
    plan: s4_cuda::SsmPlan,
    version: u64,
}

impl Layer {
    fn new(be: &Cuda, mode: Mode, (batch, heads, len): (usize, usize, usize), bidirectional: bool) -> Layer {
        let spec = SsmSpec {
            mode,
            heads,
            state: 64,
            n_ssm: 1,
            rank: (mode == Mode::S4) as usize,
            channels: 1,
            bidirectional,
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
        let params = [
            put(&dt),
            put(&re),
            put(&im),
            put(&b),
            noise(be, spec.c_len(), 1.0),
            put(&p),
            noise(be, heads, 1.0),
        ];
        let grads = params.each_ref().map(|x| be.alloc(be.len(x)).expect("memory"));
        let n = batch * heads * len;
        let empty = || be.alloc(n).expect("memory");
        let plan = be.ssm_plan(&spec).expect("plan");
        let (u, dy) = (noise(be, n, 1.0), noise(be, n, 1.0));
        let mut l = Layer {
            spec,
            batch,
            len,
            params,
            grads,
            u,
            dy,
            y: empty(),
            du: empty(),
            saved: empty(),
            plan,
            version: 0,
        };
        let saved = be.ssm_saved_len(&l.call(Algorithm::Chunk));
        l.saved = be.alloc(saved).expect("memory");
        l
    }

    fn call(&self, algorithm: Algorithm) -> SsmCall {
        let (spec, batch, len) = (self.spec, self.batch, self.len);
        SsmCall { spec, batch, len, rate: 1.0, algorithm, version: self.version }
    }

    fn views<'a>(be: &Cuda, params: &'a [Buf; 7]) -> SsmParams<'a, Cuda> {
        let v = |i: usize| be.view(&params[i], 0..be.len(&params[i]));
        SsmParams { inv_dt: v(0), a_real: v(1), a_imag: v(2), b: v(3), c: v(4), p: v(5), d: v(6) }
    }

    /// `fresh`: parameters are taken to have changed since the last call.
    fn forward(&mut self, be: &Cuda, algorithm: Algorithm, fresh: bool) {
        self.version += fresh as u64;
        let (call, n, saved) = (self.call(algorithm), be.len(&self.u), be.len(&self.saved));
        be.ssm_forward(
            be.view_mut(&mut self.y, 0..n),
            None,
            Some(be.view_mut(&mut self.saved, 0..saved)),
            be.view(&self.u, 0..n),
            None,
            None,
            &Self::views(be, &self.params),
            &call,
            &mut self.plan,
            &mut be.workspace(),
        )
        .expect("forward");
    }

    /// Forward alone, which keeps the matrices of parameters that stand still.
    fn infer(&mut self, be: &Cuda) {
        let (call, n) = (self.call(Algorithm::Chunk), be.len(&self.u));
        let y = be.view_mut(&mut self.y, 0..n);
        let (u, params) = (be.view(&self.u, 0..n), Self::views(be, &self.params));
        be.ssm_forward(y, None, None, u, None, None, &params, &call, &mut self.plan, &mut be.workspace())
            .expect("forward");
    }

    fn backward(&mut self, be: &Cuda, algorithm: Algorithm) {
        let (call, n) = (self.call(algorithm), be.len(&self.u));
        let [inv_dt, a_real, a_imag, b, c, p, d] = self.grads.each_mut().map(|g| whole_mut(be, g));
        let grads: SsmGrads<'_, Cuda> = SsmGrads { inv_dt, a_real, a_imag, b, c, p, d };
        be.ssm_backward(
            Some(be.view_mut(&mut self.du, 0..n)),
            None,
            grads,
            be.view(&self.dy, 0..n),
            None,
            be.view(&self.u, 0..n),
            None,
            be.view(&self.saved, 0..be.len(&self.saved)),
            None,
            &Self::views(be, &self.params),
            &call,
            &mut self.plan,
            &mut be.workspace(),
        )
        .expect("backward");
    }
}

/// Batch, heads and length of about `total` elements.
fn rows(total: usize, len: usize) -> (usize, usize, usize) {
    let heads = if len > 300_000 { 64 } else { 256 };
    ((total / heads / len).max(1), heads, len)
}

fn ssm(be: &Cuda, out: &mut impl Write, total: usize, mode: Mode, algorithm: Algorithm, len: usize) {
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
fn two_sided(be: &Cuda, out: &mut impl Write, shape: (usize, usize, usize)) {
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

/// Eight layers of 512 heads, one sample each: without what lies between the layers.
fn step(be: &Cuda, out: &mut impl Write, batch: usize) {
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
            be.ssm_step(
                be.view_mut(&mut y, 0..batch * heads),
                be.view_mut(state, 0..n),
                be.view(&u, 0..batch * heads),
                None,
                &Layer::views(be, &l.params),
                &l.spec,
                batch,
                1.0,
                1,
                plan,
                &mut ws,
            )
            .expect("step");
        }
    });
    writeln!(out, "step of 8 × 512, batch {batch}: {t:.4}").expect("output");
}

/// One sample a row from host array to host array: eight blocks (norm, SSM, GLU) in a graph. Returns ms of the graph alone,
/// and with upload and download, each waited for.
fn stream(be: &Cuda, out: &mut impl Write, batch: usize) {
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
            be.layer_norm_forward(
                be.view_mut(&mut normed, 0..rows),
                be.view_mut(&mut stats, 0..2 * batch),
                be.view(&x, 0..rows),
                be.view(&gamma, 0..heads),
                be.view(&gamma, 0..heads),
                1e-5,
                &shape,
                &mut ws,
            )?;
            be.ssm_step(
                be.view_mut(&mut y, 0..rows),
                be.view_mut(state, 0..n),
                be.view(&normed, 0..rows),
                None,
                &Layer::views(be, &l.params),
                &l.spec,
                batch,
                1.0,
                1,
                plan,
                &mut ws,
            )?;
            let params = MixParams::<Cuda> {
                weight: be.view(w, 0..2 * heads * heads),
                bias: be.view(&bias, 0..2 * heads),
            };
            be.mix_forward(
                be.view_mut(&mut x, 0..rows),
                None,
                be.view(&y, 0..rows),
                Some(be.view(&normed, 0..rows)),
                &params,
                &spec,
                key,
                batch,
                1,
                &mut ws,
            )?;
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

/// The paper's kernel and the FFT convolution by themselves.
fn kernel_and_conv(be: &Cuda, out: &mut impl Write, total: usize, len: usize) {
    let shape = rows(total, len);
    let mut l = Layer::new(be, Mode::S4, shape, false);
    let (heads, n) = (shape.1, be.len(&l.u));
    let mut kernel = be.alloc(heads * len).expect("memory");
    let mut ws = be.workspace();
    let k = time(be, || {
        be.kernel_forward(
            be.view_mut(&mut kernel, 0..heads * len),
            &Layer::views(be, &l.params),
            &l.spec,
            len,
            1.0,
            &mut ws,
        )
        .expect("kernel");
    });
    let conv = ConvShape { batch: shape.0, heads, channels: 1, len, kernel_len: len, two_sided: false };
    let c = time(be, || {
        be.conv_forward(
            be.view_mut(&mut l.y, 0..n),
            be.view(&l.u, 0..n),
            be.view(&kernel, 0..heads * len),
            None,
            &conv,
            &mut ws,
        )
        .expect("convolution");
    });
    writeln!(out, "{shape:?}: kernel {k:.3}, fft convolution {c:.3}").expect("output");
}

/// One call of each, for a profiler.
fn once(be: &Cuda, len: usize) {
    let mut l = Layer::new(be, Mode::S4, rows(64 << 20, len), false);
    for _ in 0..2 {
        l.forward(be, Algorithm::Chunk, true);
        l.backward(be, Algorithm::Chunk);
    }
    be.synchronize().expect("run");
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
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
    let precision = asked.iter().position(|a| a.parse::<Precision>().is_ok());
    let precision = precision.map_or(Precision::Highest, |i| asked.remove(i).parse().expect("tried"));
    writeln!(out, "precision {precision:?}").expect("output");
    let options = Options { precision, ..Options::default() };
    let be = Cuda::with(devices[0].ordinal, &options).expect("device");
    let total = 64 << 20;
    let lens = [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20];
    let all = ["dense", "ssm", "two-sided", "fft", "step"].map(String::from);
    for section in if asked.is_empty() { &all[..] } else { &asked } {
        match section.as_str() {
            "dense" => {
                norm(&be, out, 50, 512, 1024);
                mix(&be, out, 50, 512, 1024);
                mix(&be, out, 16, 256, 16384);
            }
            "ssm" => {
                for len in lens {
                    ssm(&be, out, total, Mode::S4, Algorithm::Chunk, len);
                }
                ssm(&be, out, total, Mode::S4d, Algorithm::Chunk, 1 << 12);
            }
            "two-sided" => {
                for shape in [(50, 512, 1024), (16, 256, 16384), (16, 128, 16000), (50, 256, 2048)] {
                    two_sided(&be, out, shape);
                }
            }
            "fft" => {
                for len in lens {
                    kernel_and_conv(&be, out, total, len);
                }
            }
            "step" => {
                for batch in [1, 64, 1024] {
                    step(&be, out, batch);
                    stream(&be, out, batch);
                }
            }
            // once:LEN
            other => once(&be, other.trim_start_matches("once:").parse().expect("a length")),
        }
        be.trim();
    }
    writeln!(out, "memory held: {:.2} GB, launches: {}", be.device_memory() as f64 / 1e9, be.launches())
        .expect("output");
}
