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
        intervals: None,
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
    ahead.end(false).unwrap();
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

/// A run of one epoch, the default, that goes on after it makes no update: its new options stay, whatever is refused later.
#[test]
fn options_of_a_resumed_run_without_epochs_left_stay() {
    let mut session = session();
    session.step(Some(batch(0)), 1).unwrap();
    session.stats().unwrap();
    session.end_epoch(0.0).unwrap();
    session.end(false).unwrap();
    session.begin_run(r#"{"lr": 0.5}"#, true).unwrap();
    session.begin_run(r#"{"lr": 0.25}"#, false).unwrap();
    session.end(true).unwrap();
    assert_eq!(session.train_config().adam.lr, 0.5);
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

fn bare() -> TrainingSession<Cpu<f32>> {
    let model = Model::new(Cpu::new(2).unwrap(), ModelConfig::from_json(MODEL).unwrap()).unwrap();
    TrainingSession::new(model)
}

#[test]
fn a_refused_update_leaves_no_run_and_no_options() {
    let mut s = bare();
    assert_eq!(s.update(r#"{"lr": 1}"#).unwrap_err().code.as_str(), "ERR_S4_VALUE");
    for _ in 0..2 {
        // There is no run to resume: none has begun.
        assert_eq!(s.begin_run("{}", true).unwrap_err().code.as_str(), "ERR_S4_CHECKPOINT");
        let mut wrong = batch(1);
        wrong.len = 39;
        assert_eq!(s.accumulate(&wrong.batch()).unwrap_err().code.as_str(), "ERR_S4_SHAPE");
    }
    s.accumulate(&batch(1).batch()).unwrap();
    assert_eq!(s.update(r#"{"lr": 0.25}"#).unwrap().lr, 0.25);
    let options = s.train_config();
    // Without a batch, with impossible options, and with a loss that is not finite.
    assert!(s.update(r#"{"lr": 7}"#).is_err());
    s.accumulate(&batch(2).batch()).unwrap();
    assert_eq!(s.update(r#"{"lr": 7, "beta1": 2}"#).unwrap_err().code.as_str(), "ERR_S4_VALUE");
    assert_eq!(s.train_config(), options);
    let weight = s.model().store().get("decoder.weight").unwrap();
    s.model_mut().store_mut().set("decoder.weight", &vec![3e38; weight.len()]).unwrap();
    s.accumulate(&batch(3).batch()).unwrap();
    assert_eq!(s.update(r#"{"lr": 7}"#).unwrap_err().code.as_str(), "ERR_S4_NONFINITE");
    assert_eq!(s.train_config(), options);
    s.model_mut().store_mut().set("decoder.weight", &weight).unwrap();
    s.accumulate(&batch(4).batch()).unwrap();
    assert_eq!(s.update("{}").unwrap().lr, 0.25);
}

#[test]
fn a_group_of_batches_waits_while_the_average_is_in_place() {
    let run = |disturbed: bool| {
        let mut s = session();
        s.step(Some(batch(0)), 1).unwrap();
        s.stats().unwrap();
        s.accumulate(&batch(1).batch()).unwrap();
        if disturbed {
            let refused = |result: Result<(), s4_backend::Error>| {
                assert_eq!(result.unwrap_err().code.as_str(), "ERR_S4_UNSUPPORTED");
            };
            s.swap_average().unwrap();
            refused(s.accumulate(&batch(9).batch()));
            refused(s.update(r#"{"lr": 9}"#).map(drop));
            refused(s.step(Some(batch(9)), 1));
            refused(s.begin_ahead(batch(9)));
            refused(s.begin_run("{}", false));
            s.swap_average().unwrap();
        }
        s.accumulate(&batch(2).batch()).unwrap();
        let stats = s.update("{}").unwrap();
        (stats, s.save_bytes(true, None).unwrap())
    };
    assert_eq!(run(true), run(false));
}
