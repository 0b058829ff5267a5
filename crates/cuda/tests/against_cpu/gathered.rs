//! Training whose work is given to the driver together: it has the bits of training whose kernels are launched one by one, whatever changes
//! between updates, and what fails within it fails as it would without.

use crate::layer::{all, down, full, up};
use s4_backend::*;
use s4_cuda::{Beside, Cuda, Gather, Options, Precision, probe};
use s4_nn::{Batch, HostOptions, Input, Model, ModelConfig, TargetData, TrainConfig, Trainer};
use s4_testing::noise;

fn gpu(precision: Precision, gather: Gather, beside: Beside) -> Option<Cuda> {
    let Ok(devices) = probe() else {
        eprintln!("skipped: no GPU");
        return None;
    };
    let architecture = std::env::var("S4_CUDA_ARCH").ok();
    let options =
        Options { architecture, precision, gather: Some(gather), beside: Some(beside), ..Options::default() };
    Some(Cuda::with(devices[0].ordinal, &options).unwrap())
}

/// Models of which each has something that changes from update to update, or from batch to batch.
const MODELS: [(&str, &str); 4] = [
    (
        "drop path, class weights",
        r#"{"input": 2, "output": 5, "features": 32, "layers": 2, "state": 64, "bidirectional": true, "dropout": 0.1, "dropPath": 0.2,
            "pooling": "mean", "loss": "crossEntropy", "classWeights": [1, 2, 0.5, 1, 1], "labelSmoothing": 0.1}"#,
    ),
    (
        "batch norm, feed-forward layers",
        r#"{"input": 2, "output": 5, "features": 24, "layers": 2, "state": 16, "norm": "batch", "feedForward": 2, "dropout": 0.2,
            "pooling": "last", "loss": "crossEntropy"}"#,
    ),
    (
        "S4D, unaligned sizes",
        r#"{"input": 2, "output": 5, "features": 13, "layers": 3, "state": 32, "mode": "s4d", "dropout": 0.1, "tiedDropout": true,
            "pooling": "mean", "loss": "crossEntropy"}"#,
    ),
    (
        "causal, a target for each time step",
        r#"{"input": 2, "output": 5, "features": 128, "layers": 2, "state": 64, "dropout": 0.1, "loss": "crossEntropy"}"#,
    ),
];

const OPTIONS: &str = r#"{"lr": 1e-2, "ssmLr": 1e-3, "clip": 0.5, "ema": 0.9, "schedule": {"kind": "warmupCosine", "warmup": 3, "total": 20},
    "groups": [{"name": "decoder.*", "lr": 2e-2}], "seed": 3}"#;
/// Another rate, and parameters that stay.
const LATER_OPTIONS: &str = r#"{"lr": 3e-3, "ssmLr": 1e-3, "clip": 0.5, "ema": 0.9,
    "groups": [{"name": "encoder.*", "freeze": true}], "seed": 3}"#;

const SEQUENCES: usize = 4;

/// Parameters, moments and averages after each of 16 updates: of one length, of two in turn, with lengths, weights and intervals of their own,
/// with other options, of two batches each, and of new lengths each time.
fn train(be: &Cuda, config: &str, reads: bool) -> Vec<Vec<f32>> {
    let config = ModelConfig::from_json(config).unwrap();
    let per_step = config.pooling.is_none();
    let mut model = Model::new(be.clone(), config).unwrap();
    let mut trainer = Trainer::new(&model, TrainConfig::from_json("train", OPTIONS).unwrap()).unwrap();
    let mut results = Vec::new();
    for update in 0..16usize {
        if update == 8 {
            trainer.reconfigure(&model, TrainConfig::from_json("train", LATER_OPTIONS).unwrap()).unwrap();
        }
        let len = match update {
            0..3 => 256,
            3..10 => 256 - 56 * (update % 2),
            10..13 => 256,
            _ => 100 + 11 * update,
        };
        for part in 0..1 + usize::from(update == 11) {
            let stream = (2 * update + part) as u32;
            let x: Vec<f32> = noise(5, stream, SEQUENCES * len * 2).iter().map(|&x| x as f32).collect();
            let targets = if per_step { SEQUENCES * len } else { SEQUENCES };
            let labels: Vec<i32> = (0..targets).map(|i| ((i + update) % 5) as i32).collect();
            let weights: Vec<f32> = (0..targets).map(|i| 1.0 + (i % 3) as f32).collect();
            let lengths: Vec<i32> = (0..SEQUENCES).map(|i| (len - 7 * i) as i32).collect();
            let plain = Batch::new(Input::Values(&x), TargetData::Labels(&labels), SEQUENCES, len);
            let batch = match update % 3 {
                0 if update > 3 => Batch {
                    weights: Some(&weights),
                    call: HostOptions { lengths: Some(&lengths), ..plain.call },
                    ..plain
                },
                1 if update > 3 => Batch { call: HostOptions { rate: 1.5, ..plain.call }, ..plain },
                _ => plain,
            };
            trainer.accumulate(&mut model, &batch).unwrap();
        }
        trainer.update(&mut model).unwrap();
        if reads {
            let stats = trainer.read_stats(&model).unwrap();
            results.push(vec![stats.loss as f32, stats.grad_norm as f32, stats.lr as f32]);
            for info in model.store().infos() {
                results.push(model.store().get(&info.name).unwrap());
            }
        }
    }
    let stats = if reads { None } else { Some(trainer.read_stats(&model).unwrap()) };
    results.extend(stats.map(|stats| vec![stats.loss as f32, stats.grad_norm as f32]));
    trainer.swap_average(&mut model).unwrap();
    results.extend(model.store().infos().iter().map(|info| model.store().get(&info.name).unwrap()));
    trainer.swap_average(&mut model).unwrap();
    results.extend(model.store().infos().iter().map(|info| model.store().get(&info.name).unwrap()));
    results
}

#[track_caller]
fn same_bits(what: &str, got: &[Vec<f32>], want: &[Vec<f32>]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let differs = got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
        assert!(got.len() == want.len() && differs.is_none(), "{what}: array {i} at {differs:?}");
    }
}

#[test]
fn gathered_updates_have_the_bits_of_launched_ones() {
    for precision in [Precision::Highest, Precision::High, Precision::Bf16] {
        let Some(launched) = gpu(precision, Gather::Never, Beside::Never) else { return };
        let others = [
            ("by size", gpu(precision, Gather::BySize, Beside::BySize)),
            ("always", gpu(precision, Gather::Always, Beside::Always)),
        ];
        for (name, config) in MODELS {
            for reads in [true, false] {
                let want = train(&launched, config, reads);
                assert!(want.iter().flatten().all(|x| x.is_finite()));
                same_bits(
                    &format!("{name}, {precision:?}, launched again"),
                    &train(&launched, config, reads),
                    &want,
                );
                for (gather, be) in &others {
                    let be = be.as_ref().unwrap();
                    for round in 0..2 {
                        let what = format!("{name}, {precision:?}, {gather}, reads {reads}, round {round}");
                        same_bits(&what, &train(be, config, reads), &want);
                    }
                }
            }
        }
    }
}

#[test]
fn a_steady_update_asks_for_nothing() {
    for precision in [Precision::Highest, Precision::High] {
        let Some(be) = gpu(precision, Gather::Always, Beside::BySize) else { return };
        let mut model = Model::new(be.clone(), ModelConfig::from_json(MODELS[0].1).unwrap()).unwrap();
        let mut trainer = Trainer::new(&model, TrainConfig::default()).unwrap();
        let mut seen = Vec::new();
        for update in 0..12usize {
            let len = 256 - 56 * (update % 2);
            let x = vec![0.5f32; SEQUENCES * len * 2];
            let batch = Batch::new(Input::Values(&x), TargetData::Labels(&[0, 1, 2, 3]), SEQUENCES, len);
            trainer.train_step(&mut model, &batch).unwrap();
            trainer.read_stats(&model).unwrap();
            seen.push((be.allocations(), be.device_memory()));
        }
        assert!(seen[6..].iter().all(|s| *s == seen[5]), "{seen:?}");
    }
}

/// y += x, so often that a graph is worth while.
fn add(be: &Cuda, x: &Buf, y: &mut Buf) -> Result<()> {
    (0..20).try_for_each(|_| be.axpy(full(be, y), 1.0, all(be, x)))
}

type Buf = <Cuda as Memory>::Buf;

#[test]
fn what_comes_between_is_in_its_order() {
    let Some(be) = gpu(Precision::Highest, Gather::Always, Beside::Always) else { return };
    let n = 9;
    let (x, mut y) = (up(&be, &vec![1.0; n]), be.alloc(n).unwrap());
    for round in 0..5 {
        let mut host = vec![0.0f32; n];
        be.enqueue_together(n, &mut || {
            be.fill(full(&be, &mut y), 0.0)?;
            add(&be, &x, &mut y)?;
            // Transfers, buffers that come and go, memory given back, and another call within.
            be.download(&mut host, all(&be, &y))?;
            assert_eq!(host, vec![20.0; n]);
            be.upload(full(&be, &mut y), &host)?;
            add(&be, &x, &mut y)?;
            let mut brief = be.alloc(3 << 20)?;
            be.fill(full(&be, &mut brief), 7.0)?;
            drop(brief);
            be.trim();
            be.enqueue_together(n, &mut || add(&be, &x, &mut y))?;
            let (mut a, b) = (be.alloc(n)?, &y);
            be.copy(full(&be, &mut a), all(&be, b))?;
            be.copy(full(&be, &mut y), all(&be, &a))
        })
        .unwrap();
        assert_eq!(down(&be, &y), vec![60.0; n], "round {round}");
    }
}

#[test]
fn what_is_recorded_is_enqueued_at_once() {
    let Some(be) = gpu(Precision::Highest, Gather::Always, Beside::Never) else { return };
    let n = 9;
    let (x, mut y) = (up(&be, &vec![1.0; n]), be.alloc(n).unwrap());
    let mut graph = <Cuda as Memory>::Graph::default();
    for _ in 0..5 {
        be.enqueue_together(n, &mut || {
            add(&be, &x, &mut y)?;
            be.replay(&mut graph, [1, 1], &mut || add(&be, &x, &mut y))?;
            add(&be, &x, &mut y)
        })
        .unwrap();
        be.replay(&mut graph, [1, 1], &mut || be.enqueue_together(n, &mut || add(&be, &x, &mut y))).unwrap();
    }
    assert_eq!(down(&be, &y), vec![400.0; n]);
}

#[test]
fn an_error_or_a_panic_leaves_what_was_enqueued_before_it() {
    let Some(be) = gpu(Precision::Highest, Gather::Always, Beside::Never) else { return };
    let n = 9;
    let (x, mut y) = (up(&be, &vec![1.0; n]), be.alloc(n).unwrap());
    for times in 1..4 {
        let failed = be.enqueue_together(n, &mut || {
            add(&be, &x, &mut y)?;
            be.alloc(1 << 40).map(drop)
        });
        assert_eq!(failed.unwrap_err().code, Code::Memory);
        assert_eq!(down(&be, &y), vec![(60 * times - 40) as f64; n]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            be.enqueue_together(n, &mut || {
                add(&be, &x, &mut y)?;
                panic!("as asked")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(down(&be, &y), vec![(60 * times - 20) as f64; n]);
        add(&be, &x, &mut y).unwrap();
        assert_eq!(down(&be, &y), vec![60.0 * times as f64; n]);
    }
}

#[test]
fn threads_with_one_queue_have_the_bits_of_one_thread() {
    let Some(launched) = gpu(Precision::High, Gather::Never, Beside::Never) else { return };
    let Some(be) = gpu(Precision::High, Gather::BySize, Beside::BySize) else { return };
    let want: Vec<_> = MODELS.iter().map(|(_, config)| train(&launched, config, false)).collect();
    std::thread::scope(|scope| {
        for ((name, config), want) in MODELS.iter().zip(&want) {
            let be = be.clone();
            scope.spawn(move || same_bits(name, &train(&be, config, false), want));
        }
    });
}
