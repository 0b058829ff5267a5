//! Blocks, a training step with its memory, a stream, and a fleet of them: `cargo bench -p s4-nn [-- block|train|stream|step|fleet] [threads] [time steps] [streams]`.
//!
//! Times are the best of several runs, in milliseconds; memory is the rise of VmHWM (peak resident) over what it was
//! before the model was made.
#![allow(clippy::print_stdout)]

use s4_cpu::Cpu;
use s4_nn::*;
use std::time::Instant;

fn best(runs: usize, mut f: impl FnMut()) -> f64 {
    (0..runs)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64() * 1e3
        })
        .fold(f64::INFINITY, f64::min)
}

/// Peak resident memory in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.1).sin() + (i as f32 * 0.37).cos()).collect()
}

fn blocks(threads: usize) {
    for mode in ["s4", "s4d"] {
        for (batch, len) in [(32, 1024), (8, 4096), (2, 16384)] {
            for algorithm in [Algorithm::Fft, Algorithm::Chunk] {
                let config = format!(r#"{{"features": 128, "mode": "{mode}"}}"#);
                let config = BlockConfig::from_json(&config).expect("a configuration");
                let mut block =
                    Block::new(Cpu::<f32>::new(threads).expect("a CPU"), config).expect("a block");
                let u = wave(batch * len * 128);
                let opts = ForwardOptions {
                    save: true,
                    call: CallOptions { algorithm, ..Default::default() },
                    ..Default::default()
                };
                let (mut forward, mut both) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..4 {
                    // As in training: the parameters have changed, so constants are made anew.
                    block.store_mut().mark_changed();
                    forward = forward.min(best(1, || drop(block.forward(&u, batch, len, &opts))));
                    block.store_mut().mark_changed();
                    both = both.min(best(1, || {
                        let y = block.forward(&u, batch, len, &opts).expect("a forward").y;
                        drop(block.backward(&y, None));
                    }));
                }
                println!(
                    "block {mode} 128 {batch}x{len} {algorithm:?}: forward {forward:.1} ms, with backward {both:.1} ms"
                );
            }
        }
    }
}

fn train(threads: usize) {
    let (batch, len) = (2, 16000);
    let (x, y) = (wave(batch * len), wave(batch * len));
    for algorithm in [Algorithm::Auto, Algorithm::Fft, Algorithm::Chunk] {
        let before = peak();
        let json = r#"{"input": 1, "output": 1, "features": 64, "layers": 4, "loss": "mse"}"#;
        let config = ModelConfig::from_json(json).expect("a configuration");
        let mut model = Model::new(Cpu::<f32>::new(threads).expect("a CPU"), config).expect("a model");
        let mut trainer = Trainer::new(&model, TrainConfig::default()).expect("a trainer");
        let batch = Batch {
            call: CallOptions { algorithm, ..Default::default() },
            ..Batch::new(Input::Values(&x), TargetData::Values(&y), batch, len)
        };
        let ms = best(4, || {
            trainer.train_step(&mut model, &batch).expect("a step");
            trainer.read_stats(&model).expect("figures");
        });
        println!("train step 4x64, 2x16000, {algorithm:?}: {ms:.0} ms, peak +{:.0} MB", peak() - before);
    }
}

fn stream(sizes: &[usize]) {
    for mode in ["s4", "s4d"] {
        let json = format!(
            r#"{{"input": 1, "output": 1, "features": 128, "layers": 6, "loss": "mse", "mode": "{mode}"}}"#
        );
        let config = ModelConfig::from_json(&json).expect("a configuration");
        let mut model = Model::new(Cpu::<f32>::new(1).expect("a CPU"), config).expect("a model");
        let mut stream = model.stream(1, 1.0).expect("a stream");
        for &n in sizes {
            let x = wave(4096);
            let mut y = vec![0.0; n];
            let mut push = || {
                for x in x.chunks_exact(n) {
                    let opts = StepOptions::default();
                    stream.push(&mut model, Input::Values(x), n, &opts, &mut y).expect("a push");
                }
            };
            push();
            let ms = best(3, push);
            println!("stream {mode} 6x128, one thread, pushes of {n}: {:.0} samples/s", 4096.0 / ms * 1e3);
        }
    }
}

/// Processor time of this process so far, in seconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, of which the second stands in parentheses and may hold anything: ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// `count` streams of 6 × 128 in slots: what a sample costs, by the time steps of a push and by how many of the slots push. `only`: pushes of so
/// many time steps alone.
fn fleet(threads: usize, only: Option<usize>, count: usize) {
    let json = r#"{"input": 1, "output": 1, "features": 128, "layers": 6, "loss": "mse"}"#;
    let config = ModelConfig::from_json(json).expect("a configuration");
    let mut model = Model::new(Cpu::<f32>::new(threads).expect("a CPU"), config).expect("a model");
    let mut slots = model.stream_slots(count, 1.0).expect("slots");
    // Time steps of a push, how much longer those of every third are, and the slots: every one, every second, ….
    for (len, more, stride) in [
        (10, 0, 1),
        (64, 0, 1),
        (65, 0, 1),
        (20, 0, 1),
        (9, 2, 1),
        (16, 0, 1),
        (5, 0, 1),
        (2, 0, 1),
        (1, 0, 1),
        (10, 0, 2),
        (10, 0, 4),
    ] {
        if only.is_some_and(|only| only != len) {
            continue;
        }
        let pushes: Vec<_> = (0..count)
            .step_by(stride)
            .map(|slot| SlotPush {
                slot,
                len: len + if slot % 3 == 0 { more } else { 0 },
                has_intervals: false,
            })
            .collect();
        let steps: usize = pushes.iter().map(|push| push.len).sum();
        let x = wave(steps);
        let mut push = || drop(slots.push(&mut model, &pushes, Input::Values(&x), None).expect("a push"));
        push();
        let (begin, processor) = (Instant::now(), processor_time());
        let mut pushed = 0;
        while begin.elapsed().as_secs_f64() < 2.0 {
            push();
            pushed += steps;
        }
        let micros = |seconds: f64| seconds * 1e6 / pushed as f64;
        println!(
            "fleet 6x128, 1 of {stride} slots, {len} time steps (+{more}): {:.2} us a sample, {:.2} us of processor time",
            micros(begin.elapsed().as_secs_f64()),
            micros(processor_time() - processor)
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let threads = args.iter().find_map(|a| a.parse().ok()).unwrap_or(0);
    let wanted =
        |name: &str| args.iter().all(|a| a.parse::<usize>().is_ok()) || args.iter().any(|a| a == name);
    if wanted("train") {
        train(threads);
    }
    if wanted("block") {
        blocks(threads);
    }
    if wanted("stream") {
        stream(&[1, 8, 32, 64, 256, 1024]);
    }
    if args.iter().any(|a| a == "fleet") {
        let mut numbers = args.iter().filter_map(|a| a.parse().ok()).skip(1);
        fleet(threads, numbers.next(), numbers.next().unwrap_or(1000));
    }
    if args.iter().any(|a| a == "step") {
        stream(&[1]);
    }
}
