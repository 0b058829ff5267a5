//! What a checkpoint says of its run is looked at like everything else in it: numbers that no run has are refused.

use crate::{common::*, training::with_header};
use s4_nn::*;
use serde_json::{Value, json};

/// A checkpoint of a model in training.
fn checkpoint() -> (Model<Cpu<f32>>, Vec<u8>) {
    let config = r#"{"features": 4, "state": 4, "layers": 1, "loss": "mse"}"#;
    let mut m = Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(config).unwrap()).unwrap();
    let train =
        r#"{"ema": 0.5, "carryState": true, "schedule": {"kind": "plateau", "factor": 0.5, "patience": 1}}"#;
    let mut t = Trainer::new(&m, TrainConfig::from_json("test", train).unwrap()).unwrap();
    let (x, y): (Vec<f32>, Vec<f32>) = (cast(&noise(1, 20)), cast(&noise(2, 20)));
    t.train_step(&mut m, &Batch::new(Input::Values(&x), TargetData::Values(&y), 2, 10)).unwrap();
    t.read_stats(&m).unwrap();
    t.observe(1.0);
    let bytes = save_bytes(&m, Some(&t), None).unwrap();
    (m, bytes)
}

/// The checkpoint with what it says of the trainer changed.
fn with_trainer(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    with_header(bytes, |header| {
        let text = header["__metadata__"]["trainer"].as_str().unwrap();
        let mut trainer: Value = serde_json::from_str(text).unwrap();
        change(&mut trainer);
        header["__metadata__"]["trainer"] = trainer.to_string().into();
    })
}

#[test]
fn numbers_that_no_run_has_are_refused() {
    let (_, good) = checkpoint();
    let load = |bytes: &[u8]| load_bytes(Cpu::<f32>::new(1).unwrap(), bytes);
    assert!(load(&with_trainer(&good, |_| {})).unwrap().trainer.is_some());
    let places: [&[&str]; 22] = [
        &["step"],
        &["carried"],
        &["progress", "epochs"],
        &["progress", "samples"],
        &["progress", "items"],
        &["progress", "weight"],
        &["progress", "metrics", "weight"],
        &["progress", "gradNorm"],
        &["progress", "lr"],
        &["schedule", "plateau"],
        &["schedule", "waited"],
        &["schedule", "config", "factor"],
        &["schedule", "config", "patience"],
        &["config", "lr"],
        &["config", "ssmLr"],
        &["config", "weightDecay"],
        &["config", "beta1"],
        &["config", "beta2"],
        &["config", "eps"],
        &["config", "ema"],
        &["config", "seed"],
        &["config", "epochs"],
    ];
    for place in places {
        for number in [json!(-1), json!(-0.5), json!("1"), json!({}), json!([1])] {
            let bytes = with_trainer(&good, |trainer| {
                let at = place.iter().fold(trainer, |value, name| &mut value[name]);
                *at = number.clone();
            });
            let Err(error) = load(&bytes) else { panic!("{place:?} {number} was accepted") };
            assert_eq!(error.code.as_str(), "ERR_S4_CHECKPOINT", "{place:?} {number}: {error}");
        }
    }
    let huge: [&[&str]; 9] = [
        &["step"],
        &["carried"],
        &["progress", "epochs"],
        &["progress", "samples"],
        &["progress", "items"],
        &["schedule", "plateau"],
        &["schedule", "waited"],
        &["config", "seed"],
        &["config", "epochs"],
    ];
    for place in huge {
        for number in [u64::MAX, 1 << 63, 1 << 53] {
            let bytes = with_trainer(&good, |trainer| {
                let at = place.iter().fold(trainer, |value, name| &mut value[name]);
                *at = number.into();
            });
            let Err(error) = load(&bytes) else { panic!("{place:?} {number} was accepted") };
            assert_eq!(error.code.as_str(), "ERR_S4_CHECKPOINT", "{place:?} {number}: {error}");
        }
    }
    // The average in the parameters' place, of a run that keeps none; a run of no epoch.
    let changes: [fn(&mut Value); 3] = [
        |trainer| (trainer["swapped"], trainer["config"]["ema"]) = (true.into(), Value::Null),
        |trainer| trainer["config"]["epochs"] = 0.into(),
        |trainer| trainer["progress"]["loss"] = json!(1e308 * 10.0),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let error = load(&with_trainer(&good, change)).err().unwrap_or_else(|| panic!("change {i}"));
        assert_eq!(error.code.as_str(), "ERR_S4_CHECKPOINT", "{error}");
    }
}

#[test]
fn second_moments_below_zero_are_refused() {
    let (m, good) = checkpoint();
    let name = &m.store().infos()[0].name;
    for (prefix, accepted) in [("optimizer.m.", true), ("optimizer.v.", false)] {
        let mut bytes = good.clone();
        let n = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&good[8..8 + n]).unwrap();
        let at = header[format!("{prefix}{name}")]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[8 + n + at..][..4].copy_from_slice(&(-1e-9f32).to_le_bytes());
        match load_bytes(Cpu::<f32>::new(1).unwrap(), &bytes) {
            Ok(_) => assert!(accepted, "{prefix}"),
            Err(error) => assert!(!accepted && error.code.as_str() == "ERR_S4_CHECKPOINT", "{error}"),
        }
    }
}
