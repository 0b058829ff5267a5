//! Training: truncated back-propagation, lengths, divergence, checkpoints, no allocation, same bits on any threads.

use crate::common::*;
use s4_nn::*;

const SMALL: &str = r#"{"input": 2, "output": 3, "features": 8, "layers": 2, "state": 8, "pooling": "mean",
    "norm": "batch", "dropout": 0.1, "seed": 5}"#;

fn model<T: Scalar>(json: &str, threads: usize) -> Model<Cpu<T>>
where
    Cpu<T>: Backend<Scalar = T>,
{
    Model::new(Cpu::<T>::new(threads).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

fn values<B: Backend>(m: &Model<B>) -> Vec<B::Scalar> {
    m.store().infos().iter().flat_map(|p| m.store().get(&p.name).unwrap()).collect()
}

/// A few steps on noise.
fn run(m: &mut Model<Cpu<f32>>, t: &mut Trainer<Cpu<f32>>, steps: std::ops::Range<u64>) -> Vec<f64> {
    steps
        .map(|i| {
            let x: Vec<f32> = cast(&noise(100 + i, 4 * 70 * 2));
            let labels = [0, 1, 2, 1];
            let lengths = [70, 64, 1, 33];
            let batch = Batch {
                call: with_lengths(&lengths),
                ..Batch::new(Input::Values(&x), TargetData::Labels(&labels), 4, 70)
            };
            t.train_step(m, &batch).unwrap();
            t.read_stats(m).unwrap().loss
        })
        .collect()
}

fn config() -> TrainConfig {
    TrainConfig {
        adam: AdamConfig { clip: Some(1.0), ..Default::default() },
        schedule: ScheduleConfig::WarmupCosine { warmup: 3, total: 20, floor: 0.1 },
        ema: Some(0.9),
        seed: 11,
        carry_state: false,
        ..Default::default()
    }
}

#[test]
fn same_bits_on_one_thread_and_two() {
    let mut results = Vec::new();
    for threads in [1, 2, 3] {
        let mut m = model::<f32>(SMALL, threads);
        let mut t = Trainer::new(&m, config()).unwrap();
        let losses = run(&mut m, &mut t, 0..4);
        results.push((losses, values(&m)));
    }
    assert!(results[0] == results[1] && results[0] == results[2]);
    assert!(results[0].0.iter().all(|l| l.is_finite()));
}

#[test]
fn resumed_training_is_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut m = model::<f32>(SMALL, 2);
    let mut t = Trainer::new(&m, config()).unwrap();
    run(&mut m, &mut t, 0..3);
    save(&path, &m, Some(&t), Some(r#"{"epoch": 3}"#)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let want = (run(&mut m, &mut t, 3..6), values(&m));
    let LoadedCheckpoint { model: mut m2, trainer, extra } =
        load(Cpu::<f32>::new(1).unwrap(), &path).unwrap();
    let mut t2 = trainer.unwrap();
    assert_eq!((extra.as_deref(), t2.steps(), t2.config()), (Some(r#"{"epoch": 3}"#), 3, t.config()));
    // A round trip changes nothing.
    assert!(save_bytes(&m2, Some(&t2), Some(r#"{"epoch": 3}"#)).unwrap() == bytes);
    assert!(want == (run(&mut m2, &mut t2, 3..6), values(&m2)));
    // The averages too, and running statistics as the predictions see them.
    let x: Vec<f32> = cast(&noise(1, 40));
    let predict =
        |m: &mut Model<Cpu<f32>>| m.forward(Input::Values(&x), 1, 20, &Default::default()).unwrap().y;
    assert_eq!(predict(&mut m), predict(&mut m2));
    t.swap_average(&mut m).unwrap();
    t2.swap_average(&mut m2).unwrap();
    assert!(values(&m) == values(&m2) && values(&m) != want.1);
    assert_eq!(predict(&mut m), predict(&mut m2));
    t.swap_average(&mut m).unwrap();
    assert!(values(&m) == want.1);
    let (config, dtype) = inspect(&path).unwrap();
    assert_eq!((&config, dtype.as_str()), (m.config(), "f32"));
    // Nothing but the checkpoint is left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // Saving where there is no folder leaves the old file alone.
    assert_eq!(
        save(&folder.path().join("no/where"), &m, None, None).unwrap_err().code.as_str(),
        "ERR_S4_CHECKPOINT"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// A file with its header changed.
pub fn with_header(bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    change(&mut header);
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + n..]].concat()
}

#[test]
fn damaged_checkpoints_are_refused() {
    let m = model::<f32>(SMALL, 1);
    let t = Trainer::new(&m, config()).unwrap();
    let good = save_bytes(&m, Some(&t), None).unwrap();
    let be = Cpu::<f32>::new(1).unwrap();
    assert!(load_bytes(be.clone(), &good).is_ok());
    let n = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let meta = |h: &mut serde_json::Value, key: &str, value: Option<&str>| {
        let meta = h["__metadata__"].as_object_mut().unwrap();
        match value {
            Some(v) => meta.insert(key.into(), v.into()),
            None => meta.remove(key),
        };
    };
    let huge = m.config().to_json().replace(r#""features":8"#, r#""features":1048576"#);
    let mut nan = good.clone();
    nan[8 + n..8 + n + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("a header longer than the file", [&u64::MAX.to_le_bytes()[..], &good[8..]].concat()),
        ("no JSON", [&8u64.to_le_bytes()[..], b"notjson!"].concat()),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("too long", [&good[..], &[0; 4]].concat()),
        ("NaN", nan),
        ("not ours", with_header(&good, |h| meta(h, "format", Some("other")))),
        ("another version", with_header(&good, |h| meta(h, "version", Some("3")))),
        ("no configuration", with_header(&good, |h| meta(h, "config", None))),
        ("a bad configuration", with_header(&good, |h| meta(h, "config", Some("{\"features\": -1}")))),
        ("a configuration for more than the file", with_header(&good, |h| meta(h, "config", Some(&huge)))),
        ("a bad trainer", with_header(&good, |h| meta(h, "trainer", Some("{}")))),
        ("no trainer for its tensors", with_header(&good, |h| meta(h, "trainer", None))),
    ];
    let name = "blocks.0.layer.kernel.C";
    bad.push((
        "a missing name",
        with_header(&good, |h| {
            let tensor = h.as_object_mut().unwrap().remove(name).unwrap();
            h["blocks.0.layer.kernel.X"] = tensor;
        }),
    ));
    bad.push(("a wrong shape", with_header(&good, |h| h[name]["shape"] = serde_json::json!([8, 1, 4, 2]))));
    bad.push((
        "a shape that overflows",
        with_header(&good, |h| {
            h[name]["shape"] = serde_json::json!([u64::MAX, 2, 4, 2]);
        }),
    ));
    bad.push(("a wrong type", with_header(&good, |h| h[name]["dtype"] = "I32".into())));
    bad.push((
        "offsets outside",
        with_header(&good, |h| h[name]["data_offsets"] = serde_json::json!([0, 1u64 << 60])),
    ));
    bad.push((
        "overlapping offsets",
        with_header(&good, |h| {
            h[name]["data_offsets"] = h["blocks.1.layer.kernel.C"]["data_offsets"].clone();
        }),
    ));
    for (what, bytes) in bad {
        let error = load_bytes(be.clone(), &bytes).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.code.as_str(), "ERR_S4_CHECKPOINT", "{what}: {error}");
    }
    // Flipped bytes of the header never panic.
    for i in (0..8 + n).step_by(3) {
        let mut bytes = good.clone();
        bytes[i] ^= 0x15;
        if let Err(e) = load_bytes(be.clone(), &bytes) {
            assert_eq!(e.code.as_str(), "ERR_S4_CHECKPOINT");
        }
    }
}

#[test]
fn divergence_names_step_and_tensor_and_spoils_nothing() {
    let mut m = model::<f32>(
        r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "norm": "batch", "loss": "mse"}"#,
        2,
    );
    let config = TrainConfig { carry_state: true, ema: Some(0.5), ..Default::default() };
    let mut t = Trainer::new(&m, config).unwrap();
    let (x, y): (Vec<f32>, Vec<f32>) = (cast(&noise(1, 40)), cast(&noise(2, 40)));
    let batch = |x: &'_ [f32]| x.to_vec();
    let good = Batch::new(Input::Values(&x), TargetData::Values(&y), 1, 40);
    t.train_step(&mut m, &good).unwrap();
    t.read_stats(&m).unwrap();
    let before = save_bytes(&m, Some(&t), None).unwrap();
    let want = values(&m);
    // Finite inputs whose square is not: the loss overflows.
    let huge = batch(&[1e30; 40]);
    let bad = Batch::new(Input::Values(&x), TargetData::Values(&huge), 1, 40);
    t.train_step(&mut m, &bad).unwrap();
    let error = t.read_stats(&m).unwrap_err();
    assert_eq!((error.code.as_str(), error.step), ("ERR_S4_NONFINITE", Some(2)));
    assert_eq!(error.tensor.as_deref(), Some("loss"));
    assert!(values(&m) == want);
    // An activation that overflows is named; batch norm's running statistics stay.
    let mut m2 = load_bytes(Cpu::<f32>::new(1).unwrap(), &before).unwrap();
    let weight = m2.model.store().get("blocks.1.output_linear.0.weight").unwrap();
    let big: Vec<f32> = weight.iter().map(|w| w.signum() * 3e38).collect();
    m2.model.store_mut().set("blocks.1.output_linear.0.weight", &big).unwrap();
    let mut t2 = m2.trainer.unwrap();
    t2.train_step(&mut m2.model, &good).unwrap();
    let error = t2.read_stats(&m2.model).unwrap_err();
    assert_eq!(error.tensor.as_deref(), Some("blocks.1"), "{error}");
    m2.model.store_mut().set("blocks.1.output_linear.0.weight", &weight).unwrap();
    // Step 2 counted as an update that changed nothing; everything else is as before it.
    let after =
        load_bytes(Cpu::<f32>::new(1).unwrap(), &save_bytes(&m2.model, None, None).unwrap()).unwrap().model;
    assert!(values(&after) == want);
    let predict =
        |m: &mut Model<Cpu<f32>>| m.forward(Input::Values(&x), 1, 40, &Default::default()).unwrap().y;
    let mut first = load_bytes(Cpu::<f32>::new(1).unwrap(), &before).unwrap().model;
    assert_eq!(predict(&mut first), predict(&mut m2.model));
    assert_eq!(predict(&mut first), predict(&mut m));
    // And training goes on.
    t.train_step(&mut m, &good).unwrap();
    let stats = t.read_stats(&m).unwrap();
    assert!(stats.loss.is_finite() && values(&m) != want);
    // The first failure among several unread steps is the one named.
    for b in [&good, &bad, &good] {
        t.train_step(&mut m, b).unwrap();
    }
    let error = t.read_stats(&m).unwrap_err();
    assert!(error.step.is_some() && t.read_stats(&m).is_err());
}

#[test]
fn accumulated_batches_are_one_batch() {
    let json = r#"{"input": 1, "output": 2, "features": 4, "layers": 1, "state": 4, "loss": "gaussian", "pooling": "last"}"#;
    let mut m = model::<f64>(json, 1);
    let (x, y) = (noise(1, 40), noise(2, 4));
    let mut t = Trainer::new(&m, TrainConfig::default()).unwrap();
    t.accumulate(&mut m, &Batch::new(Input::Values(&x), TargetData::Values(&y), 2, 20)).unwrap();
    let name = "blocks.0.layer.kernel.inv_dt";
    let both = m.store().grad(name).unwrap();
    let mut t = Trainer::new(&m, TrainConfig::default()).unwrap();
    for i in 0..2 {
        let (x, y) = (&x[i * 20..][..20], &y[i * 2..][..2]);
        t.accumulate(&mut m, &Batch::new(Input::Values(x), TargetData::Values(y), 1, 20)).unwrap();
    }
    close("accumulated", &m.store().grad(name).unwrap(), &both, 1e-12);
    t.update(&mut m).unwrap();
    assert_eq!(t.read_stats(&m).unwrap().rows, 2);
}

#[test]
fn steady_steps_allocate_nothing() {
    let mut m = model::<f32>(SMALL, 2);
    let be = m.backend().clone();
    let mut t = Trainer::new(&m, config()).unwrap();
    run(&mut m, &mut t, 0..2);
    let before = be.allocations();
    run(&mut m, &mut t, 2..6);
    assert_eq!(be.allocations(), before, "training");
    let json = r#"{"input": 2, "output": 3, "features": 8, "layers": 2, "state": 8, "loss": "mse"}"#;
    let mut m = model::<f32>(json, 2);
    let be = m.backend().clone();
    let mut stream = m.stream(2, 1.0).unwrap();
    let x: Vec<f32> = cast(&noise(1, 2 * 100 * 2));
    let mut y = vec![0.0; 2 * 100 * 3];
    let mut push = |m: &mut Model<Cpu<f32>>, n: usize| {
        let (x, y) = (&x[..2 * n * 2], &mut y[..2 * n * 3]);
        stream.push(m, Input::Values(x), n, &StepOptions::default(), y).unwrap();
    };
    for n in [1, 100, 5, 100] {
        push(&mut m, n);
    }
    let before = be.allocations();
    for n in [1, 1, 100, 5, 100, 1] {
        push(&mut m, n);
    }
    assert_eq!(be.allocations(), before, "streaming");
}

#[test]
fn bad_batches_are_refused_before_any_work() {
    let mut m = model::<f32>(SMALL, 1);
    let mut t = Trainer::new(&m, config()).unwrap();
    let (x, labels) = (vec![0.5f32; 2 * 10 * 2], [0, 2]);
    let ok = Batch::new(Input::Values(&x), TargetData::Labels(&labels), 2, 10);
    let nan = [&[f32::NAN][..], &x[1..]].concat();
    let reals = vec![0.0f32; 6];
    let tokens = vec![0; 20];
    for (batch, code) in [
        (Batch { input: Input::Values(&x[1..]), ..ok }, "ERR_S4_SHAPE"),
        (Batch { input: Input::Values(&nan), ..ok }, "ERR_S4_VALUE"),
        (Batch { input: Input::Tokens(&tokens), ..ok }, "ERR_S4_DTYPE"),
        (Batch { len: 0, ..ok }, "ERR_S4_SHAPE"),
        (Batch { batch: usize::MAX, ..ok }, "ERR_S4_SHAPE"),
        (Batch { len: 1 << 60, ..ok }, "ERR_S4_SHAPE"),
        (Batch { call: at_rate(f64::NAN), ..ok }, "ERR_S4_VALUE"),
        (Batch { call: at_rate(0.0), ..ok }, "ERR_S4_VALUE"),
        (Batch { call: with_lengths(&[10, 11]), ..ok }, "ERR_S4_VALUE"),
        (Batch { call: with_lengths(&[10, 0]), ..ok }, "ERR_S4_VALUE"),
        (Batch { call: with_lengths(&[10]), ..ok }, "ERR_S4_SHAPE"),
        (Batch { target: TargetData::Labels(&[0, 3]), ..ok }, "ERR_S4_VALUE"),
        (Batch { target: TargetData::Labels(&[0]), ..ok }, "ERR_S4_SHAPE"),
        (Batch { target: TargetData::Values(&reals), ..ok }, "ERR_S4_DTYPE"),
        (Batch { weights: Some(&[1.0, -1.0]), ..ok }, "ERR_S4_VALUE"),
    ] {
        let error = t.train_step(&mut m, &batch).unwrap_err();
        assert_eq!(error.code.as_str(), code, "{error}");
        let mut total = Evaluation::default();
        assert_eq!(m.evaluate(&batch, 1, &mut total).unwrap_err().code.as_str(), code);
    }
    assert_eq!(t.steps(), 0);
    t.train_step(&mut m, &ok).unwrap();
    assert!(t.read_stats(&m).is_ok() && t.read_stats(&m).is_err());
    assert!(t.update(&mut m).is_err(), "an update needs a batch");
    assert!(m.store_mut().set("decoder.bias", &[0.0]).is_err());
    assert!(m.store_mut().set("decoder.bias", &[f32::INFINITY; 3]).is_err());
    assert!(m.store().get("decoder").is_err());
    // Backward needs its forward, with the same parameters.
    assert!(m.backward(&[0.0; 6], None).is_err());
    m.forward(Input::Values(&x), 2, 10, &ForwardOptions { save: true, ..Default::default() }).unwrap();
    m.store_mut().set("decoder.bias", &[0.0; 3]).unwrap();
    assert!(m.backward(&[0.0; 6], None).is_err());
}

#[test]
fn evaluation_counts_what_training_counts() {
    let mut m = model::<f64>(r#"{"input": 2, "output": 3, "features": 8, "layers": 1, "state": 8}"#, 1);
    let (x, mut labels) = (noise(1, 2 * 10 * 2), vec![1; 20]);
    labels[3] = -1;
    let lengths = [10, 4];
    let batch = Batch {
        call: with_lengths(&lengths),
        ..Batch::new(Input::Values(&x), TargetData::Labels(&labels), 2, 10)
    };
    let mut total = Evaluation::default();
    m.evaluate(&batch, 1, &mut total).unwrap();
    assert_eq!(total.rows, 13.0);
    let mut t = Trainer::new(&m, TrainConfig::default()).unwrap();
    t.train_step(&mut m, &batch).unwrap();
    let stats = t.read_stats(&m).unwrap();
    close("loss", &[total.means().loss], &[stats.loss], 1e-12);
    assert_eq!((stats.rows, stats.metrics), (13, total.metrics));
}

#[test]
fn adam_of_a_custom_loop_is_the_trainers() {
    let json = r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse"}"#;
    let (mut a, mut b) = (model::<f64>(json, 1), model::<f64>(json, 1));
    let (x, y) = (noise(1, 20), noise(2, 20));
    let mut t = Trainer::new(&a, TrainConfig::default()).unwrap();
    let mut adam = Adam::new(b.backend().clone(), b.store(), AdamConfig::default()).unwrap();
    for _ in 0..3 {
        t.train_step(&mut a, &Batch::new(Input::Values(&x), TargetData::Values(&y), 1, 20)).unwrap();
        b.store_mut().zero_grad().unwrap();
        let opts = ForwardOptions { call: in_training(true), ..Default::default() };
        let out = b.forward(Input::Values(&x), 1, 20, &opts).unwrap().y;
        let d: Vec<f64> = out.iter().zip(&y).map(|(o, y)| 2.0 * (o - y) / 20.0).collect();
        b.backward(&d, None).unwrap();
        let squared_norm = adam.squared_norm(b.store()).unwrap();
        adam.update(b.store_mut(), 1.0, squared_norm).unwrap();
    }
    close("custom loop", &values(&b), &values(&a), 1e-12);
}

/// Gradients begun before the update's figures are read, kept or dropped, are those of the steps one by one.
#[test]
fn a_batch_begun_ahead_changes_nothing() {
    let json = r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "norm": "batch", "loss": "mse",
        "dropout": 0.2}"#;
    let config = TrainConfig { carry_state: true, seed: 3, ema: Some(0.5), ..Default::default() };
    let data: Vec<(Vec<f32>, Vec<f32>)> =
        (0..6).map(|i| (cast(&noise(2 * i, 40)), cast(&noise(2 * i + 1, 40)))).collect();
    let batch = |i: usize| Batch::new(Input::Values(&data[i].0), TargetData::Values(&data[i].1), 1, 40);
    let start = || {
        let m = model::<f32>(json, 2);
        let t = Trainer::new(&m, config.clone()).unwrap();
        (m, t)
    };
    let (mut a, mut ta) = start();
    let (mut b, mut tb) = start();
    tb.accumulate(&mut b, &batch(0)).unwrap();
    for i in 0..5 {
        ta.train_step(&mut a, &batch(i)).unwrap();
        let want = ta.read_stats(&a).unwrap();
        tb.update(&mut b).unwrap();
        tb.accumulate(&mut b, &batch(i + 1)).unwrap();
        assert_eq!(tb.read_stats(&b).unwrap(), want);
        assert!(values(&b) == values(&a), "step {i}");
        // A prediction meanwhile sees the statistics of the update, not of the batch behind it.
        let predict =
            |m: &mut Model<Cpu<f32>>| m.forward(batch(0).input, 1, 40, &ForwardOptions::default()).unwrap().y;
        assert!(predict(&mut b) == predict(&mut a), "step {i}");
        if i == 2 {
            tb.discard(&mut b).unwrap();
            tb.accumulate(&mut b, &batch(i + 1)).unwrap();
        }
    }
    tb.discard(&mut b).unwrap();
    // All numbers of a checkpoint, behind a header whose order is free.
    let numbers = |m: &Model<Cpu<f32>>, t: &Trainer<Cpu<f32>>| {
        let file = save_bytes(m, Some(t), None).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        file[8 + header..].to_vec()
    };
    assert!(numbers(&b, &tb) == numbers(&a, &ta));
}

/// A failure is named as it would have been without the batch behind it.
#[test]
fn a_failure_behind_which_a_batch_was_begun_is_explained() {
    let json = r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "norm": "batch", "loss": "mse",
        "dropout": 0.2}"#;
    let config = TrainConfig { carry_state: true, ..Default::default() };
    let (x, y): (Vec<f32>, Vec<f32>) = (cast(&noise(1, 40)), cast(&noise(2, 40)));
    let huge = [1e30; 40];
    let good = Batch::new(Input::Values(&x), TargetData::Values(&y), 1, 40);
    let bad = Batch::new(Input::Values(&x), TargetData::Values(&huge), 1, 40);
    // What a weight does that overflows in the forward, in the backward alone, and a target that no square holds.
    let cases =
        [("blocks.1.output_linear.0.weight", 3e38, good), ("decoder.weight", 1e30, good), ("", 0.0, bad)];
    for (name, size, batch) in cases {
        let start = || {
            let mut m = model::<f32>(json, 2);
            let mut t = Trainer::new(&m, config.clone()).unwrap();
            t.train_step(&mut m, &good).unwrap();
            t.read_stats(&m).unwrap();
            if !name.is_empty() {
                let weight = m.store().get(name).unwrap();
                let big: Vec<f32> = weight.iter().map(|w| w.signum() * size).collect();
                m.store_mut().set(name, &big).unwrap();
            }
            (m, t)
        };
        let (mut a, mut ta) = start();
        ta.train_step(&mut a, &batch).unwrap();
        let want = ta.read_stats(&a).unwrap_err();
        let (mut b, mut tb) = start();
        let before = values(&b);
        tb.train_step(&mut b, &batch).unwrap();
        tb.accumulate(&mut b, &good).unwrap();
        let error = tb.read_stats(&b).unwrap_err();
        let error = tb.find_failed_tensor(&mut b, &batch, error).unwrap();
        assert_eq!((error.step, &error.tensor), (want.step, &want.tensor), "{name}");
        assert_eq!(error.to_string(), want.to_string());
        assert!(values(&b) == before && tb.steps() == ta.steps());
    }
}
