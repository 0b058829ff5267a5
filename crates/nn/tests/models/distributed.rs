//! Several ranks, each a thread with a model of its own, against one trainer that accumulates all their batches, or that is given the
//! joint batch: the same parameters and figures.

#![allow(clippy::single_range_in_vec_init, reason = "each is a list of ranges, of which some have one")]

use crate::common::*;
use s4_backend::{CommCall, CommOps, CommStop};
use s4_nn::*;
use std::{ops::Range, time::Duration};

const JSON: &str =
    r#"{"input": 2, "output": 3, "features": 6, "layers": 2, "state": 8, "pooling": "mean", "seed": 5}"#;
const LEN: usize = 24;

/// What is trained on: rows of inputs, labels, weights, lengths.
struct Rows {
    x: Vec<f64>,
    labels: Vec<i32>,
    weights: Vec<f64>,
    lengths: Vec<i32>,
}

fn rows(count: usize) -> Rows {
    Rows {
        x: noise(7, count * LEN * 2),
        labels: (0..count).map(|i| (i * 7 % 3) as i32).collect(),
        weights: (0..count).map(|i| 0.25 + (i * 5 % 7) as f64).collect(),
        lengths: (0..count).map(|i| (LEN - i * 3 % 11) as i32).collect(),
    }
}

impl Rows {
    fn batch(&self, of: Range<usize>) -> Batch<'_, f64> {
        Batch {
            call: with_lengths(&self.lengths[of.clone()]),
            weights: Some(&self.weights[of.clone()]),
            ..Batch::new(
                Input::Values(&self.x[of.start * LEN * 2..of.end * LEN * 2]),
                TargetData::Labels(&self.labels[of.clone()]),
                of.len(),
                LEN,
            )
        }
    }
}

fn model(json: &str) -> Model<Cpu<f64>> {
    Model::new(Cpu::<f64>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

fn config(json: &str) -> TrainConfig {
    TrainConfig::from_json("test", json).unwrap()
}

fn values<B: Backend>(m: &Model<B>) -> Vec<B::Scalar> {
    m.store().infos().iter().flat_map(|p| m.store().get(&p.name).unwrap()).collect()
}

fn call(be: &Cpu<f64>, id: Option<s4_backend::CommId>, rank: usize, world_size: usize) -> CommCall {
    CommCall {
        id: id.unwrap_or_else(|| be.comm_id().unwrap()),
        rank,
        world_size,
        timeout: Duration::from_secs(60),
        stop: CommStop::default(),
    }
}

/// Runs every rank on a thread of its own, with a trainer that has joined the others.
fn on_ranks<R: Send>(
    world_size: usize,
    json: &str,
    train: &str,
    run: impl Fn(usize, &mut Model<Cpu<f64>>, &mut Trainer<Cpu<f64>>) -> R + Sync,
) -> Vec<R> {
    let be = Cpu::<f64>::new(1).unwrap();
    let id = be.comm_id().unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..world_size)
            .map(|rank| {
                let run = &run;
                scope.spawn(move || {
                    // Each begins elsewhere: rank 0's parameters count.
                    let own = json.replace(r#""seed": 5"#, &format!(r#""seed": {}"#, 5 + rank));
                    let mut m = model(&own);
                    let mut t = Trainer::new(&m, config(train)).unwrap();
                    let call = call(m.backend(), Some(id), rank, world_size);
                    let comm = m.backend().join(&call).unwrap();
                    t.join(&mut m, comm).unwrap();
                    t.share(&mut m).unwrap();
                    run(rank, &mut m, &mut t)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// An update from these parts of the rows, accumulated; without any, nothing is brought to the update.
fn update(
    m: &mut Model<Cpu<f64>>,
    t: &mut Trainer<Cpu<f64>>,
    data: &Rows,
    parts: &[Range<usize>],
) -> StepStats {
    for part in parts {
        t.accumulate(m, &data.batch(part.clone())).unwrap();
    }
    if parts.is_empty() {
        t.accumulate_nothing(m).unwrap();
    }
    t.count_items(parts.iter().map(|part| part.len() as u64).sum());
    t.update(m).unwrap();
    t.read_stats(m).unwrap()
}

/// The figures of an update by several ranks against those of one.
fn same_figures(what: &str, got: &StepStats, want: &StepStats) {
    let numbers = |s: &StepStats| {
        let MetricSums { weight, sums: [a, b, c] } = s.metrics;
        [s.loss, s.grad_norm, s.weight, s.lr, weight, a, b, c]
    };
    close(what, &numbers(got), &numbers(want), 1e-9);
    let counts = |s: &StepStats| [s.step, s.rows, s.time_steps, s.items];
    assert_eq!(counts(got), counts(want), "{what}");
}

const TRAIN: &str = r#"{"lr": 0.01, "clip": 0.05, "ema": 0.9, "weightDecay": 0.1,
    "schedule": {"kind": "warmupCosine", "warmup": 2, "total": 8, "floor": 0.1}}"#;

#[test]
fn ranks_train_as_one_device_on_the_joint_batch() {
    let data = rows(48);
    for world_size in [2, 3] {
        let per_rank = 12 / world_size;
        let mut m = model(JSON);
        let mut t = Trainer::new(&m, config(TRAIN)).unwrap();
        let want: Vec<StepStats> = (0..4)
            .map(|step| update(&mut m, &mut t, &data, std::slice::from_ref(&(step * 12..step * 12 + 12))))
            .collect();
        let results = on_ranks(world_size, JSON, TRAIN, |rank, m, t| {
            let stats: Vec<_> = (0..4)
                .map(|step| {
                    let first = step * 12 + rank * per_rank;
                    update(m, t, &data, std::slice::from_ref(&(first..first + per_rank)))
                })
                .collect();
            t.compare(m).unwrap();
            let trained = values(m);
            t.swap_average(m).unwrap();
            (stats, trained, values(m))
        });
        for (rank, (stats, trained, average)) in results.iter().enumerate() {
            for (got, want) in stats.iter().zip(&want) {
                same_figures(&format!("rank {rank} of {world_size}, step {}", want.step), got, want);
                assert_eq!(got.ranks, world_size as u64);
            }
            close("parameters", trained, &values(&m), 1e-9);
            // The same bits on all ranks.
            assert!(*trained == results[0].1 && *average == results[0].2);
        }
        t.swap_average(&mut m).unwrap();
        close("average", &results[0].2, &values(&m), 1e-9);
    }
}

#[test]
fn uneven_ends_and_batches_that_count_nothing_weigh_what_they_count() {
    let mut data = rows(20);
    // Rows 8 to 10 are one rank's batch, and count nothing.
    data.weights[8..10].fill(0.0);
    // What each of three ranks has for each update; of the last, nobody anything.
    let updates = [
        [Some(0..3), Some(3..4), Some(4..8)],
        [Some(10..12), Some(8..10), Some(12..13)],
        [Some(13..17), None, Some(17..18)],
        [None, Some(18..20), None],
    ];
    let joint: [Range<usize>; 4] = [0..8, 8..13, 13..18, 18..20];
    let mut m = model(JSON);
    let mut t = Trainer::new(&m, config(TRAIN)).unwrap();
    let want: Vec<_> =
        joint.iter().map(|of| update(&mut m, &mut t, &data, std::slice::from_ref(of))).collect();
    let results = on_ranks(3, JSON, TRAIN, |rank, m, t| {
        let stats: Vec<_> = updates.iter().map(|of| update(m, t, &data, of[rank].as_slice())).collect();
        let (before, steps) = (values(m), t.steps());
        let end = update(m, t, &data, &[]);
        assert!(values(m) == before && t.steps() == steps, "nothing counts, and nothing is updated");
        (stats, end, values(m))
    });
    for (stats, end, trained) in &results {
        for (got, want) in stats.iter().zip(&want) {
            same_figures(&format!("step {}", want.step), got, want);
        }
        assert_eq!(stats.iter().map(|s| s.ranks).collect::<Vec<_>>(), [3, 3, 2, 1]);
        assert_eq!((end.ranks, end.weight, end.rows), (0, 0.0, 0));
        assert!(end.loss.is_nan());
        close("parameters", trained, &values(&m), 1e-9);
    }
}

#[test]
fn accumulation_reduces_once_and_draws_the_masks_of_one_device() {
    let json = JSON.replace(r#""seed": 5"#, r#""dropout": 0.3, "seed": 5"#);
    let data = rows(24);
    // One device that accumulates the batches in the order of their numbers: first of every rank, then second of every rank.
    let parts = |step: usize| (0..4).map(move |i| step * 12 + i * 3..step * 12 + i * 3 + 3);
    let mut m = model(&json);
    let mut t = Trainer::new(&m, config(TRAIN)).unwrap();
    let want: Vec<_> =
        (0..2).map(|step| update(&mut m, &mut t, &data, &parts(step).collect::<Vec<_>>())).collect();
    let results = on_ranks(2, &json, TRAIN, |rank, m, t| {
        let own = |step| parts(step).skip(rank).step_by(2).collect::<Vec<_>>();
        let stats: Vec<_> = (0..2).map(|step| update(m, t, &data, &own(step))).collect();
        (stats, values(m))
    });
    for (stats, trained) in &results {
        stats.iter().zip(&want).for_each(|(got, want)| same_figures("accumulated", got, want));
        close("parameters", trained, &values(&m), 1e-9);
    }
}

#[test]
fn a_rank_that_is_not_finite_leaves_the_update_out_everywhere() {
    let json =
        r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse", "seed": 5}"#;
    let (x, y) = (noise(1, 20), noise(2, 20));
    let huge = [1e200; 20];
    let results = on_ranks(3, json, "{}", |rank, m, t| {
        let batch = |y| Batch::new(Input::Values(&x), TargetData::Values(y), 1, 20);
        t.train_step(m, &batch(&y)).unwrap();
        t.read_stats(m).unwrap();
        let before = values(m);
        let bad = batch(if rank == 1 { &huge } else { &y });
        t.train_step(m, &bad).unwrap();
        let error = t.read_stats(m).unwrap_err();
        let named = t.find_failed_tensor(m, &bad, error.clone()).unwrap();
        assert!(values(m) == before, "rank {rank}");
        t.train_step(m, &batch(&y)).unwrap();
        let after = t.read_stats(m).unwrap();
        assert!(values(m) != before);
        (error, named, after.step, values(m))
    });
    for (error, named, step, trained) in &results {
        for error in [error, named] {
            assert_eq!((error.code.as_str(), error.step), ("ERR_S4_NONFINITE", Some(2)));
            assert_eq!(error.tensor.as_deref(), Some("loss (rank 1)"), "{error}");
        }
        assert_eq!(*step, 2);
        assert!(*trained == results[0].3);
    }
}

/// Of every update, so that ranks are the same wherever the loop ends; by the ranks that have a batch.
#[test]
fn the_statistics_of_batch_norm_are_the_means_of_the_ranks() {
    let json = JSON.replace(r#""seed": 5"#, r#""norm": "batch", "seed": 5"#);
    let train = r#"{"lr": 0, "ssmLr": 0}"#;
    let data = rows(12);
    let file_numbers = |m: &Model<Cpu<f64>>| save_bytes(m, None, None).unwrap();
    // Without learning, statistics alone change.
    let alone = |parts: &[Range<usize>]| {
        let mut m = model(&json);
        let mut t = Trainer::new(&m, config(train)).unwrap();
        for of in parts {
            update(&mut m, &mut t, &data, std::slice::from_ref(of));
        }
        running(&file_numbers(&m))
    };
    let parts: [&[Range<usize>]; 2] = [&[0..4, 8..12], &[4..8]];
    let results = on_ranks(2, &json, train, |rank, m, t| {
        let mut after = Vec::new();
        for i in 0..2 {
            update(m, t, &data, parts[rank].get(i..i + 1).unwrap_or(&[]));
            after.push(running(&file_numbers(m)));
        }
        after
    });
    let first = [alone(&[0..4]), alone(&[4..8])];
    let mean: Vec<f64> = first[0].iter().zip(&first[1]).map(|(a, b)| (a + b) / 2.0).collect();
    // The second update's are those of rank 0 alone: 0.9·before + 0.1·of the batch, of which the first update of a new model
    // says the last term: its running mean is 0 and its running variance 1.
    let batch = alone(&[8..12]);
    let begin = (0..24).map(|i| if i % 12 < 6 { 0.0 } else { 1.0 });
    let second: Vec<f64> =
        mean.iter().zip(&batch).zip(begin).map(|((m, b), begin)| 0.9 * m + b - 0.9 * begin).collect();
    assert!(first[0] != first[1] && mean.len() == 2 * 2 * 6);
    for after in &results {
        close("running statistics", &after[0], &mean, 1e-12);
        close("of one rank's batch", &after[1], &second, 1e-12);
        assert_eq!(after, &results[0]);
    }
}

/// Synchronised batch norm: ranks of several sizes, one without a batch and one whose targets do not count are one device with the
/// joint batch, in figures, parameters, averages and running statistics.
#[test]
fn synchronised_batch_norm_is_that_of_the_joint_batch() {
    let mut data = rows(30);
    // Rows 16 to 18 are one rank's batch, whose targets do not count; they are in the statistics all the same.
    data.weights[16..18].fill(0.0);
    // What each of three ranks has for each update.
    let updates = [
        [Some(0..3), Some(3..4), Some(4..8)],
        [Some(8..13), None, Some(13..14)],
        [Some(14..16), Some(16..18), None],
        [None, Some(18..23), None],
        [Some(23..24), Some(24..28), Some(28..30)],
    ];
    let joint: [Range<usize>; 5] = [0..8, 8..14, 14..18, 18..23, 23..30];
    let variants = [
        r#""norm": "batch", "seed": 5"#,
        r#""norm": "batch", "prenorm": false, "feedForward": 2, "seed": 5"#,
        r#""norm": "batch", "loss": "mse", "seed": 5"#,
    ];
    for variant in variants {
        let json = JSON.replace(r#""seed": 5"#, variant);
        let targets = noise(3, 30 * 3);
        let batch = |of: &Range<usize>| match variant.contains("mse") {
            true => Batch {
                target: TargetData::Values(&targets[of.start * 3..of.end * 3]),
                ..data.batch(of.clone())
            },
            false => data.batch(of.clone()),
        };
        let step = |m: &mut Model<Cpu<f64>>, t: &mut Trainer<Cpu<f64>>, of: Option<&Range<usize>>| {
            match of {
                Some(of) => t.accumulate(m, &batch(of)).unwrap(),
                None => t.accumulate_nothing(m).unwrap(),
            }
            t.update(m).unwrap();
            t.read_stats(m).unwrap()
        };
        let mut m = model(&json);
        let mut t = Trainer::new(&m, config(TRAIN)).unwrap();
        let want: Vec<_> = joint.iter().map(|of| step(&mut m, &mut t, Some(of))).collect();
        let statistics = running(&save_bytes(&m, None, None).unwrap());
        let synchronised = TRAIN.replacen('{', r#"{"syncBatchNorm": true, "#, 1);
        let results = on_ranks(3, &json, &synchronised, |rank, m, t| {
            let stats: Vec<_> = updates.iter().map(|of| step(m, t, of[rank].as_ref())).collect();
            // Where nobody has a batch nothing changes, as at the end of an epoch.
            let before = (values(m), running(&save_bytes(m, None, None).unwrap()));
            assert_eq!(step(m, t, None).ranks, 0);
            let after = (values(m), running(&save_bytes(m, None, None).unwrap()));
            assert!(before == after);
            (stats, before)
        });
        for (stats, (trained, ran)) in &results {
            for (got, want) in stats.iter().zip(&want) {
                same_figures(&format!("{variant}, step {}", want.step), got, want);
            }
            close(variant, trained, &values(&m), 1e-10);
            close(variant, ran, &statistics, 1e-10);
            assert!(*trained == results[0].1.0 && *ran == results[0].1.1, "the same bits on all ranks");
        }
        // Without the option each rank has statistics of its own, and other figures.
        let local = on_ranks(3, &json, TRAIN, |rank, m, t| step(m, t, updates[0][rank].as_ref()).loss);
        assert!((local[0] - want[0].loss).abs() > 1e-3, "{} {}", local[0], want[0].loss);
    }
}

#[test]
fn synchronised_batch_norm_takes_one_batch_an_update_and_names_the_rank_that_is_not_finite() {
    let json = r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse", "norm": "batch", "seed": 5}"#;
    let (x, y) = (noise(1, 20), noise(2, 20));
    let huge = [1e200; 20];
    let results = on_ranks(2, json, r#"{"syncBatchNorm": true}"#, |rank, m, t| {
        let batch = |y| Batch::new(Input::Values(&x), TargetData::Values(y), 1, 20);
        let before = values(m);
        let bad = batch(if rank == 1 { &huge } else { &y });
        t.train_step(m, &bad).unwrap();
        let error = t.read_stats(m).unwrap_err();
        let named = t.find_failed_tensor(m, &bad, error.clone()).unwrap();
        assert!(values(m) == before);
        t.accumulate(m, &batch(&y)).unwrap();
        let second = t.accumulate(m, &batch(&y)).unwrap_err();
        t.update(m).unwrap();
        t.read_stats(m).unwrap();
        assert!(values(m) != before);
        (named, second.code.as_str(), values(m))
    });
    for (named, second, trained) in &results {
        assert_eq!(named.code.as_str(), "ERR_S4_NONFINITE");
        assert_eq!(named.tensor.as_deref(), Some("loss (rank 1)"), "{named}");
        assert_eq!(*second, "ERR_S4_UNSUPPORTED");
        assert!(*trained == results[0].2);
    }
}

/// The running statistics in a checkpoint.
fn running(bytes: &[u8]) -> Vec<f64> {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let mut out = Vec::new();
    for layer in 0..2 {
        let offsets = &header[format!("blocks.{layer}.norm.running")]["data_offsets"];
        let at = |i: usize| 8 + n + offsets[i].as_u64().unwrap() as usize;
        let numbers = bytes[at(0)..at(1)].chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
        out.extend(numbers);
    }
    out
}

/// A run that goes on with several ranks, from rank 0's checkpoint alone, as one device goes on.
#[test]
fn a_run_is_resumed_by_any_number_of_ranks() {
    let data = rows(36);
    let whole = |s: &mut TrainingSession<Cpu<f64>>, of: Range<usize>| {
        let batch = data.batch(of.clone());
        s.step(Some(owned(&batch)), of.len() as u64).unwrap();
        s.stats().unwrap()
    };
    let begin = |json: &str| {
        let mut s = TrainingSession::new(model(json));
        s.begin_run(TRAIN, false).unwrap();
        s
    };
    let mut alone = begin(JSON);
    whole(&mut alone, 0..12);
    let file = alone.save_bytes(true, None).unwrap();
    for of in [12..24, 24..36] {
        whole(&mut alone, of);
    }
    let be = Cpu::<f64>::new(1).unwrap();
    let first = load_bytes(be.clone(), &file).unwrap();
    let mut first = TrainingSession::loaded(first.model, first.trainer);
    first.begin_run("{}", true).unwrap();
    let state = first.run_state().unwrap();
    let mut second = TrainingSession::new(model(&JSON.replace(r#""seed": 5"#, r#""seed": 9"#)));
    second.begin_shared_run(&state).unwrap();
    let id = be.comm_id().unwrap();
    let mut sessions = [first, second];
    std::thread::scope(|scope| {
        for (rank, s) in sessions.iter_mut().enumerate() {
            let (whole, be) = (&whole, &be);
            scope.spawn(move || {
                s.join(&call(be, Some(id), rank, 2)).unwrap();
                whole(s, 12 + 6 * rank..18 + 6 * rank);
                // The second rank's data ends before.
                match rank {
                    0 => drop(whole(s, 24..36)),
                    _ => {
                        s.step_without_batch().unwrap();
                        s.stats().unwrap();
                    }
                }
                s.leave().unwrap();
            });
        }
    });
    for s in &sessions {
        close("parameters", &values(s.model()), &values(alone.model()), 1e-9);
        let (got, want) = (s.progress(), alone.progress());
        close("loss", &[got.loss, got.weight], &[want.loss, want.weight], 1e-9);
        assert_eq!((got.items, got.samples, s.steps()), (want.items, want.samples, alone.steps()));
    }
}

/// A batch with arrays of its own.
fn owned(batch: &Batch<'_, f64>) -> OwnedBatch<f64> {
    OwnedBatch {
        input: match batch.input {
            Input::Values(x) => OwnedArray::Values(x.to_vec()),
            Input::Tokens(x) => OwnedArray::Integers(x.to_vec()),
        },
        target: match batch.target {
            TargetData::Values(x) => OwnedArray::Values(x.to_vec()),
            TargetData::Labels(x) => OwnedArray::Integers(x.to_vec()),
        },
        batch: batch.batch,
        len: batch.len,
        weights: batch.weights.map(<[f64]>::to_vec),
        lengths: batch.call.lengths.map(<[i32]>::to_vec),
        intervals: None,
        call: HostOptions::default(),
    }
}

#[test]
fn a_rank_without_others_needs_a_batch() {
    let mut m = model(JSON);
    let mut t = Trainer::new(&m, config("{}")).unwrap();
    assert_eq!(t.accumulate_nothing(&mut m).unwrap_err().code.as_str(), "ERR_S4_VALUE");
}
