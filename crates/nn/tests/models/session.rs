//! The training session: begun ahead or not, the same updates; a failure names its tensor and drops what was begun.

use crate::common::*;
use s4_nn::*;

const MODEL: &str = r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "norm": "batch", "loss": "mse",
    "dropout": 0.2}"#;
const TRAIN: &str = r#"{"seed": 3, "ema": 0.5, "carryState": true}"#;

fn session() -> TrainingSession<Cpu<f32>> {
    let model = Model::new(Cpu::new(2).unwrap(), ModelConfig::from_json(MODEL).unwrap()).unwrap();
    let mut session = TrainingSession::new(model);
    session.begin_run(TRAIN, false).unwrap();
    session
}

fn batch(i: u64) -> OwnedBatch<f32> {
    OwnedBatch {
        input: OwnedArray::Values(cast(&noise(2 * i, 40))),
        target: OwnedArray::Values(cast(&noise(2 * i + 1, 40))),
        batch: 1,
        len: 40,
        lengths: None,
        weights: None,
        call: CallOptions::default(),
    }
}

#[test]
fn begun_ahead_is_the_same_training() {
    let (mut plain, mut ahead) = (session(), session());
    ahead.step(Some(batch(0)), 1).unwrap();
    for i in 0..5 {
        plain.step(Some(batch(i)), 1).unwrap();
        let want = plain.stats().unwrap();
        ahead.begin_ahead(batch(i + 1)).unwrap();
        assert_eq!(ahead.stats().unwrap(), want, "step {i}");
        ahead.step(None, 1).unwrap();
    }
    plain.step(Some(batch(5)), 1).unwrap();
    assert_eq!(ahead.stats().unwrap(), plain.stats().unwrap());
    assert!(ahead.step(None, 1).is_err(), "nothing was begun");
    // What is begun and dropped leaves nothing behind.
    ahead.begin_ahead(batch(9)).unwrap();
    ahead.end().unwrap();
    for session in [&mut plain, &mut ahead] {
        session.accumulate(&batch(6).batch()).unwrap();
        session.accumulate(&batch(7).batch()).unwrap();
    }
    assert_eq!(ahead.update("{}").unwrap(), plain.update("{}").unwrap());
}

#[test]
fn a_failure_behind_a_batch_begun_ahead_is_named() {
    let mut session = session();
    session.step(Some(batch(0)), 1).unwrap();
    session.stats().unwrap();
    let weight = session.model().store().get("decoder.weight").unwrap();
    session.model_mut().store_mut().set("decoder.weight", &vec![3e38; weight.len()]).unwrap();
    session.step(Some(batch(1)), 1).unwrap();
    session.begin_ahead(batch(2)).unwrap();
    let error = session.stats().unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.step, error.tensor.as_deref()),
        ("ERR_S4_NONFINITE", Some(2), Some("loss"))
    );
    assert!(session.step(None, 1).is_err(), "what was begun is dropped");
    // The parameters are those before; with a sound decoder training goes on.
    assert_eq!(session.model().store().get("decoder.weight").unwrap()[0], 3e38);
    session.model_mut().store_mut().set("decoder.weight", &weight).unwrap();
    session.step(Some(batch(3)), 1).unwrap();
    assert!(session.stats().unwrap().loss.is_finite());
}

#[test]
fn resuming_replaces_what_is_given_and_keeps_the_rest() {
    let mut session = session();
    session.step(Some(batch(0)), 1).unwrap();
    assert_eq!(session.stats().unwrap().lr, 4e-3);
    session.begin_run(r#"{"lr": 0.5}"#, true).unwrap();
    session.step(Some(batch(1)), 1).unwrap();
    let stats = session.stats().unwrap();
    assert_eq!((stats.step, stats.lr), (2, 0.5));
    // `ema` stayed as it was.
    session.swap_average().unwrap();
    assert!(session.begin_run(r#"{"lr": "fast"}"#, true).is_err());
}
