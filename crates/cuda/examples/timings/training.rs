//! Whole training steps, as a caller's loop makes them: the next batch is enqueued before the figures of an update are read.

use s4_backend::Memory;
use s4_cuda::{Cuda, Gather, Options, Precision};
use s4_nn::{Batch, Input, Model, ModelConfig, TargetData, TrainConfig, Trainer};
use std::{io::Write, time::Instant};

/// Updates of a run, and those at its beginning that are not counted.
const UPDATES: (usize, usize) = (60, 20);

/// Times of steps of `layers` bidirectional blocks with GLU and dropout, with work gathered and without, in one precision and the other.
pub fn training(ordinal: usize, out: &mut impl Write, sizes: (usize, usize), shape: (usize, usize)) {
    for precision in [Precision::High, Precision::Highest] {
        for gather in [Gather::Never, Gather::BySize] {
            let options = Options { precision, gather: Some(gather), ..Options::default() };
            let be = Cuda::with(ordinal, &options).expect("device");
            for lens_differ in [false, true] {
                steps(&be, out, sizes, shape, lens_differ, &format!("{precision:?}, gather {gather:?}"));
            }
        }
    }
}

/// The median of the milliseconds of a step, and of the host's part of it, with one length or with a new one each time.
fn steps(
    be: &Cuda,
    out: &mut impl Write,
    (layers, features): (usize, usize),
    (batch, most): (usize, usize),
    lens_differ: bool,
    how: &str,
) {
    let json = format!(
        r#"{{"input": 3, "output": 10, "features": {features}, "layers": {layers}, "state": 64, "bidirectional": true, "dropout": 0.1,
            "pooling": "mean", "loss": "crossEntropy"}}"#
    );
    let config = ModelConfig::from_json(&json).expect("a configuration");
    let mut model = Model::new(be.clone(), config).expect("a model");
    let config = TrainConfig::from_json("timings", r#"{"lr": 1e-3, "clip": 1}"#).expect("options");
    let mut trainer = Trainer::new(&model, config).expect("a trainer");
    let x: Vec<f32> = (0..batch * most * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels: Vec<i32> = (0..batch as i32).map(|i| i % 10).collect();
    let accumulate = |trainer: &mut Trainer<Cuda>, model: &mut Model<Cuda>, i: usize| {
        // Each a multiple of 8, which needs no padding.
        let len = if lens_differ { most - 8 * (i % UPDATES.0) } else { most };
        let (x, labels) = (Input::Values(&x[..batch * len * 3]), TargetData::Labels(&labels));
        trainer.accumulate(model, &Batch::new(x, labels, batch, len)).expect("a batch");
    };
    accumulate(&mut trainer, &mut model, 0);
    let (mut steps, mut hosts) = (Vec::new(), Vec::new());
    let launched = be.launches();
    for i in 1..=UPDATES.0 {
        let start = Instant::now();
        trainer.update(&mut model).expect("an update");
        accumulate(&mut trainer, &mut model, i);
        hosts.push(start.elapsed().as_secs_f64() * 1e3);
        trainer.read_stats(&model).expect("figures");
        steps.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let launches = (be.launches() - launched) / UPDATES.0 as u64;
    let median = |times: &mut [f64]| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (step, host) = (median(&mut steps[UPDATES.1..]), median(&mut hosts[UPDATES.1..]));
    let lens = if lens_differ { "new lengths" } else { "one length" };
    let memory = be.device_memory() as f64 / 1e9;
    writeln!(
        out,
        "training {layers} x {features}, {batch} x {most}, {how}, {lens}: {step:.3} ms a step, {host:.3} of the host, {launches} kernels, {memory:.2} GB"
    )
    .expect("output");
}
