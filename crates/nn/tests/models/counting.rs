//! What counts in training: time steps that are no padding, and batches of which a target counts.

use crate::common::*;
use s4_nn::*;

const NORMS: &str = r#"{"input": 1, "output": 1, "features": 4, "layers": 2, "state": 4, "norm": "batch", "loss": "mse",
    "dropout": 0.1}"#;
const LEN: usize = 10;

fn session(config: &str) -> TrainingSession<Cpu<f32>> {
    let model = Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(NORMS).unwrap()).unwrap();
    let mut session = TrainingSession::new(model);
    session.begin_run(config, false).unwrap();
    session
}

fn batch(seed: u64, lengths: &[i32], weight: f32) -> OwnedBatch<f32> {
    let n = lengths.len() * LEN;
    OwnedBatch {
        input: OwnedArray::Values(cast(&noise(seed, n))),
        target: OwnedArray::Values(cast(&noise(seed + 1, n))),
        batch: lengths.len(),
        len: LEN,
        lengths: Some(lengths.to_vec()),
        intervals: None,
        weights: Some(vec![weight; n]),
        call: CallOptions::default(),
    }
}

/// The model without its run: its parameters and running statistics.
fn bits(session: &mut TrainingSession<Cpu<f32>>) -> Vec<u8> {
    session.save_bytes(false, None).unwrap()
}

#[test]
fn padding_does_not_count() {
    let mut s = session("{}");
    s.step(Some(batch(1, &[3, 10], 1.0)), 1).unwrap();
    assert_eq!(s.stats().unwrap().time_steps, 13);
    assert_eq!(s.progress().samples, 13);
    s.accumulate(&batch(2, &[1, 2], 1.0).batch()).unwrap();
    s.accumulate(&batch(3, &[4], 1.0).batch()).unwrap();
    assert_eq!(s.update("{}").unwrap().time_steps, 7);
    assert_eq!(s.progress().samples, 20);
}

#[test]
fn one_time_step_beside_padding_has_no_variance() {
    let mut s = session("{}");
    let before = bits(&mut s);
    let error = s.accumulate(&batch(1, &[1], 1.0).batch()).unwrap_err();
    assert_eq!(error.code.as_str(), "ERR_S4_VALUE", "{error}");
    assert_eq!(bits(&mut s), before);
    s.accumulate(&batch(1, &[1, 1], 1.0).batch()).unwrap();
    // By itself too, and as a block.
    let call = CallOptions { training: true, ..with_lengths(&[1]) };
    let options = ForwardOptions { call, ..Default::default() };
    let x = [0.5f32; LEN * 4];
    let forward = s.model_mut().forward(Input::Values(&x[..LEN]), 1, LEN, &options);
    assert_eq!(forward.unwrap_err().code.as_str(), "ERR_S4_VALUE");
    let config = BlockConfig::from_json(r#"{"features": 4, "state": 4, "norm": "batch"}"#).unwrap();
    let mut block = Block::new(Cpu::<f32>::new(1).unwrap(), config).unwrap();
    assert_eq!(block.forward(&x, 1, LEN, &options).unwrap_err().code.as_str(), "ERR_S4_VALUE");
    let two =
        ForwardOptions { call: CallOptions { training: true, ..with_lengths(&[2]) }, ..Default::default() };
    assert!(block.forward(&x, 1, LEN, &two).is_ok());
}

#[test]
fn a_batch_that_counts_nothing_moves_nothing() {
    for config in ["{}", r#"{"carryState": true}"#] {
        let (mut plain, mut mixed) = (session(config), session(config));
        let start = bits(&mut mixed);
        mixed.step(Some(batch(7, &[10, 10], 0.0)), 1).unwrap();
        let stats = mixed.stats().unwrap();
        assert!(stats.loss.is_nan() && stats.weight == 0.0 && stats.rows == 0, "{stats:?}");
        assert_eq!(bits(&mut mixed), start, "{config}");
        assert_eq!(mixed.steps(), 0);
        if config != "{}" {
            // The states go on: time has passed.
            mixed.reset_state().unwrap();
        }
        // Within a group it changes nothing either, before the others and after.
        for (session, with_none) in [(&mut plain, false), (&mut mixed, true)] {
            session.accumulate(&batch(1, &[10, 10], 1.0).batch()).unwrap();
            if with_none && config == "{}" {
                session.accumulate(&batch(9, &[10, 10], 0.0).batch()).unwrap();
            }
            session.update("{}").unwrap();
        }
        assert_eq!(bits(&mut plain), bits(&mut mixed), "{config}");
    }
    // Batches that zeroed gradients leave out of the update count nothing any more.
    let mut s = session("{}");
    let before = bits(&mut s);
    s.accumulate(&batch(1, &[10, 10], 1.0).batch()).unwrap();
    s.zero_grad().unwrap();
    assert!(s.update("{}").unwrap().loss.is_nan());
    assert_eq!(bits(&mut s), before);
}

#[test]
fn carried_states_go_on_through_a_batch_that_counts_nothing() {
    // The outputs that follow are those of the sequence of both batches.
    let train = |weight: f32| {
        let mut s = session(r#"{"carryState": true, "lr": 0, "ssmLr": 0, "weightDecay": 0}"#);
        s.step(Some(batch(1, &[10], weight)), 1).unwrap();
        assert_eq!(s.stats().unwrap().step, u64::from(weight > 0.0));
        s.step(Some(batch(3, &[10], 1.0)), 1).unwrap();
        s.stats().unwrap().loss
    };
    let fresh = {
        let mut s = session(r#"{"carryState": true, "lr": 0, "ssmLr": 0, "weightDecay": 0}"#);
        s.step(Some(batch(3, &[10], 1.0)), 1).unwrap();
        s.stats().unwrap().loss
    };
    assert_ne!(train(0.0), fresh);
}
