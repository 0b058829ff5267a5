//! Gradients of whole models in training, by the trainer, on the GPU in f32 and on the CPU in f64: what the operations of a block hand to each
//! other, whichever of them the backend takes together.

use crate::gpu_with;
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::Precision;
use s4_nn::{Batch, HostOptions, Input, Model, ModelConfig, TargetData, TrainConfig, Trainer};
use s4_testing::noise;

/// Norms before and after, what stands between two norms, one direction and both, sizes that Hopper's kernels take and others.
const MODELS: [(&str, &str); 7] = [
    ("batch norm", r#""features": 64, "state": 64, "bidirectional": true, "norm": "batch", "dropout": 0.1"#),
    (
        "batch norm last",
        r#""features": 32, "state": 64, "bidirectional": true, "norm": "batch", "prenorm": false"#,
    ),
    ("drop path", r#""features": 32, "state": 64, "bidirectional": true, "norm": "batch", "dropPath": 0.3"#),
    (
        "feed-forward layers",
        r#""features": 24, "state": 16, "bidirectional": true, "norm": "batch", "feedForward": 2"#,
    ),
    ("one direction", r#""features": 32, "state": 64, "norm": "batch", "dropout": 0.1"#),
    (
        "layer norm",
        r#""features": 136, "state": 64, "bidirectional": true, "norm": "layer", "tiedDropout": true, "dropout": 0.2"#,
    ),
    ("odd features", r#""features": 21, "state": 64, "bidirectional": true, "norm": "batch""#),
];

/// Names and gradients after two batches of one update; the second one longer, of sequences of their own lengths.
fn gradients<B: Backend>(be: &B, model: &str) -> Vec<(String, Vec<f64>)> {
    let config = format!(
        r#"{{"input": 2, "output": 5, "layers": 3, "pooling": "mean", "loss": "crossEntropy", {model}}}"#
    );
    let mut model = Model::new(be.clone(), ModelConfig::from_json(&config).unwrap()).unwrap();
    let options = TrainConfig::from_json("train", r#"{"lr": 1e-3, "seed": 3}"#).unwrap();
    let mut trainer = Trainer::new(&model, options).unwrap();
    for (stream, (sequences, len)) in [(20usize, 264usize), (6, 600)].into_iter().enumerate() {
        let x: Vec<B::Scalar> =
            noise(5, stream as u32, sequences * len * 2).iter().map(|&x| B::Scalar::from_f64(x)).collect();
        let labels: Vec<i32> = (0..sequences).map(|i| (i % 5) as i32).collect();
        let lengths: Vec<i32> = (0..sequences).map(|i| (len - 11 * i) as i32).collect();
        let plain = Batch::new(Input::Values(&x), TargetData::Labels(&labels), sequences, len);
        let batch = match stream {
            0 => plain,
            _ => Batch { call: HostOptions { lengths: Some(&lengths), ..plain.call }, ..plain },
        };
        trainer.accumulate(&mut model, &batch).unwrap();
    }
    let store = model.store();
    let gradient = |name: &str| store.grad(name).unwrap().iter().map(|g| g.to_f64()).collect();
    store.infos().iter().map(|info| (info.name.clone(), gradient(&info.name))).collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// A tensor's error by its own norm, or by a thousandth of that of all: some gradients are zero but for rounding, as those of offsets before a
/// norm.
fn compare<B: Backend>(be: &B, what: &str, tolerance: f64) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    for (name, model) in MODELS {
        let (got, want) = (gradients(be, model), gradients(&cpu, model));
        let all = norm(want.iter().flat_map(|(_, g)| g.iter().copied()));
        assert!(all > 0.0 && got.len() == want.len(), "{name}");
        for ((tensor, got), (_, want)) in got.iter().zip(&want) {
            let error =
                norm(got.iter().zip(want).map(|(a, b)| a - b)) / norm(want.iter().copied()).max(1e-3 * all);
            assert!(error <= tolerance, "{what}, {name}, {tensor}: {error:.2e} above {tolerance:.0e}");
        }
    }
}

#[test]
fn models_of_these_tests_on_the_cpu_in_f32() {
    compare(&Cpu::<f32>::new(0).unwrap(), "f32", 1e-3);
}

#[test]
fn gradients_of_models_in_every_precision() {
    for (precision, tolerance) in
        [(Precision::Highest, 1e-3), (Precision::High, 3e-2), (Precision::Bf16, 1e-1)]
    {
        let Some(be) = gpu_with(precision) else { return };
        compare(&be, &format!("{precision:?}"), tolerance);
    }
}
