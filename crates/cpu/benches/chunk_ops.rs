//! The SSM on a whole sequence: ns an element, forward and forward + backward, constants made anew each time.
//!
//! `cargo bench -p s4-cpu --bench chunk_ops -- [chunk] [fft] [auto] [cauchy] [--s4d] [--rows N] [--max LOG2]`
//! prints one line a length with the rate of this machine's own matrix product from the same run, so that
//! lines of two machines can be compared. `crossover` prints both algorithms over rows × length instead, by
//! processor time: what the rule of `auto` in `src/ssm/sequence.rs` is made from.
#![allow(clippy::print_stdout)]

use s4_backend::{
    Algorithm, CallOptions, DenseOps, Discretization, LinearForward, LinearShape, Memory, Mode, SsmBackward,
    SsmCall, SsmForward, SsmGrads, SsmOps, SsmParams, SsmSpec, Transform, random::Rng,
};
use s4_cpu::Cpu;
use std::time::Instant;

fn normals(rng: &mut Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.normal() as f32).collect()
}

/// Seconds that this process's threads have run so far, from the scheduler (Linux); `None` elsewhere.
fn processor_time() -> Option<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9;
    }
    Some(sum)
}

/// Medians of some runs, in seconds: by the clock, and of processor time shared evenly by the threads, which
/// other work on the machine disturbs less.
fn median(threads: usize, seconds: f64, mut run: impl FnMut()) -> [f64; 2] {
    run();
    let mut times: [Vec<f64>; 2] = Default::default();
    let begin = Instant::now();
    while times[0].len() < 5 || (times[0].len() < 25 && begin.elapsed().as_secs_f64() < seconds) {
        let (start, before) = (Instant::now(), processor_time());
        run();
        let wall = start.elapsed().as_secs_f64();
        times[0].push(wall);
        let spent = before.zip(processor_time()).map(|(a, b)| (b - a) / threads as f64);
        times[1].push(spent.unwrap_or(wall));
    }
    times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    })
}

/// GFLOP/s of a large product.
fn sgemm(be: &Cpu<f32>) -> [f64; 2] {
    let n = 768;
    let shape = LinearShape { batch: 4, inputs: n, outputs: n, len: n };
    let mut rng = Rng::new(1, 0);
    let (x, w) = (normals(&mut rng, 4 * n * n), normals(&mut rng, n * n));
    let (mut y, mut ws) = (vec![0.0; 4 * n * n], be.workspace());
    let time = median(be.threads(), 1.0, || {
        let args = LinearForward { y: &mut y[..], x: &x[..], weight: &w[..], bias: None, shape };
        be.linear_forward(args, &mut ws).expect("linear")
    });
    time.map(|time| 8.0 * (n as f64).powi(3) / time / 1e9)
}

struct Layer {
    spec: SsmSpec,
    inv_dt: Vec<f32>,
    a_real: Vec<f32>,
    a_imag: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    p: Vec<f32>,
    d: Vec<f32>,
}

impl Layer {
    fn new(heads: usize, state: usize, s4d: bool) -> Self {
        let spec = SsmSpec {
            mode: if s4d { Mode::S4d } else { Mode::S4 },
            heads,
            state,
            n_ssm: 1,
            rank: usize::from(!s4d),
            channels: 1,
            bidirectional: false,
            dt_per_state: false,
            discretization: if s4d { Discretization::Zoh } else { Discretization::Bilinear },
            dt_transform: Transform::Exp,
            real_transform: Transform::Exp,
            imag_transform: Transform::None,
            truncate: None,
        };
        let mut rng = Rng::new(2, 0);
        let pairs = spec.pairs();
        Layer {
            spec,
            inv_dt: (0..heads).map(|h| (1e-3 * 100f64.powf(h as f64 / heads as f64)).ln() as f32).collect(),
            a_real: vec![0.5f32.ln(); pairs],
            a_imag: (0..pairs).map(|n| 3.0 * n as f32 + 1.0).collect(),
            b: normals(&mut rng, spec.b_len()),
            c: normals(&mut rng, spec.c_len()),
            p: normals(&mut rng, spec.p_len()),
            d: normals(&mut rng, spec.d_len()),
        }
    }

    fn params(&self) -> SsmParams<'_, Cpu<f32>> {
        SsmParams {
            inv_dt: &self.inv_dt,
            a_real: &self.a_real,
            a_imag: &self.a_imag,
            b: &self.b,
            c: &self.c,
            p: &self.p,
            d: &self.d,
        }
    }

    /// Seconds of (forward without saving, forward + backward).
    fn time(&self, be: &Cpu<f32>, batch: usize, len: usize, algorithm: Algorithm, s: f64) -> [[f64; 2]; 2] {
        let spec = self.spec;
        let size = batch * len * spec.heads;
        let mut rng = Rng::new(3, 0);
        let (u, dy) = (normals(&mut rng, size), normals(&mut rng, size));
        let (mut y, mut du) = (vec![0.0; size], vec![0.0; size]);
        let options = CallOptions { algorithm, ..CallOptions::default() };
        let mut call = SsmCall { spec, batch, len, options, version: 0 };
        let mut saved = vec![0.0; be.ssm_saved_len(&call)];
        let (mut plan, mut ws) = (be.ssm_plan(&spec).expect("plan"), be.workspace());
        let mut g = Layer::new(spec.heads, spec.state, spec.mode == Mode::S4d);
        [false, true].map(|training| {
            median(be.threads(), s, || {
                call.version += 1;
                let forward = SsmForward {
                    y: &mut y[..],
                    state_end: None,
                    saved: training.then_some(&mut saved[..]),
                    u: &u[..],
                    state0: None,
                    params: self.params(),
                    call,
                };
                be.ssm_forward(forward, &mut plan, &mut ws).expect("forward");
                if training {
                    let grads: SsmGrads<'_, Cpu<f32>> = SsmGrads {
                        inv_dt: &mut g.inv_dt,
                        a_real: &mut g.a_real,
                        a_imag: &mut g.a_imag,
                        b: &mut g.b,
                        c: &mut g.c,
                        p: &mut g.p,
                        d: &mut g.d,
                    };
                    let backward = SsmBackward {
                        du: Some(&mut du[..]),
                        dstate0: None,
                        grads,
                        dy: &dy[..],
                        dstate_end: None,
                        u: &u[..],
                        state0: None,
                        saved: &saved[..],
                        params: self.params(),
                        call,
                    };
                    be.ssm_backward(backward, &mut plan, &mut ws).expect("backward");
                }
            })
        })
    }
}

/// Both algorithms over rows × length: fft / chunk forward, fft / chunk forward + backward.
fn crossovers(be: &Cpu<f32>, layer: &Layer) {
    let heads = layer.spec.heads;
    println!("rows × length: ns an element of processor time, fft / chunk forward; fft / chunk both");
    for rows in [1, 2, 4, 8, 32] {
        for log2 in (8..=18).step_by(2) {
            let len = 1usize << log2;
            if rows * len * heads > 1 << 26 {
                break;
            }
            let per = 1e9 / (rows * len * heads) as f64;
            let [fft, chunk] = [Algorithm::Fft, Algorithm::Chunk]
                .map(|algorithm| layer.time(be, rows, len, algorithm, 0.1).map(|t| t[1] * per));
            let better = |i: usize| if chunk[i] < fft[i] { "chunk" } else { "fft" };
            println!(
                "{rows:>2} × {len:<7} {:6.2} / {:6.2} {:<5}   {:6.2} / {:6.2} {}",
                fft[0],
                chunk[0],
                better(0),
                fft[1],
                chunk[1],
                better(1)
            );
        }
    }
    println!("product {:.0} GFLOP/s of processor time", sgemm(be)[1]);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|a| a == name);
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    let all = [
        ("chunk", Algorithm::Chunk),
        ("fft", Algorithm::Fft),
        ("auto", Algorithm::Auto),
        ("cauchy", Algorithm::Cauchy),
    ];
    let mut algorithms: Vec<_> = all.iter().filter(|(name, _)| has(name)).collect();
    if algorithms.is_empty() {
        algorithms = vec![&all[0], &all[2]];
    }
    let be = Cpu::<f32>::new(0).expect("threads");
    let (heads, state) = (number("--heads", 64), number("--state", 64));
    let layer = Layer::new(heads, state, has("--s4d"));
    println!(
        "{} threads, {}, {heads} heads, N = {state}; ns an element by the clock (by processor time)",
        be.threads(),
        be.level().as_str(),
    );
    if has("crossover") {
        crossovers(&be, &layer);
        return;
    }
    for log2 in [10, 12, 14, 16, 20] {
        if log2 > number("--max", 20) {
            break;
        }
        let len = 1usize << log2;
        let rows = number("--rows", (1usize << 22) / heads / len).max(1);
        let mut line = format!("L 2^{log2:<2} rows {rows:<4}");
        for (name, algorithm) in &algorithms {
            let per = 1e9 / (rows * len * heads) as f64;
            let [forward, both] = layer.time(&be, rows, len, *algorithm, 1.0).map(|t| t.map(|t| t * per));
            line += &format!(
                "  {name}: forward {:5.2} ({:5.2}) both {:5.2} ({:5.2})",
                forward[0], forward[1], both[0], both[1]
            );
        }
        let [wall, processor] = sgemm(&be);
        println!("{line}  product {wall:.0} ({processor:.0}) GFLOP/s");
    }
}
