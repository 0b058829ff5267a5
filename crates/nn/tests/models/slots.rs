//! Streams in slots: each gives what a stream of its own gives, whatever the others push, and when.

use crate::common::*;
use s4_backend::Code;
use s4_nn::*;

type M = Model<Cpu<f32>>;

fn model(json: &str) -> M {
    Model::new(Cpu::<f32>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

/// Numbers from −1 to 1 that depend on the seed alone.
fn wave(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 101 + i * i * seed % 17) as f32 * 0.61).sin()).collect()
}

/// One push of slots, and the same by streams of their own; gives the largest difference of the outputs.
fn push_both(
    m: &mut M,
    slots: &mut StreamSlots<Cpu<f32>>,
    alone: &mut [Stepper<Cpu<f32>>],
    pushes: &[SlotPush],
    seed: usize,
) -> f32 {
    let (input, output) = (m.config().input, m.config().decoder_outputs());
    let steps: usize = pushes.iter().map(|push| push.len).sum();
    let x = wave(seed, steps * input);
    let intervals: Vec<f32> = wave(seed + 1, steps).iter().map(|v| 1.5 + 0.5 * v).collect();
    let any = pushes.iter().any(|push| push.has_intervals);
    let got = slots.push(m, pushes, Input::Values(&x), any.then_some(&intervals[..])).unwrap();
    assert!(got.errors.is_empty(), "{:?}", got.errors);
    let (mut begin, mut worst) = (0, 0f32);
    for push in pushes {
        let own = &x[begin * input..(begin + push.len) * input];
        let interval = push.has_intervals.then(|| &intervals[begin..begin + push.len]);
        let stream = &mut alone[push.slot];
        let y = stream.push_new(m, Input::Values(own), push.len, &StepOptions { interval }).unwrap();
        for (a, b) in y.iter().zip(&got.outputs[begin * output..]) {
            assert!(a.is_finite() && b.is_finite());
            worst = worst.max((a - b).abs());
        }
        assert_eq!(slots.position(push.slot).unwrap(), stream.position());
        begin += push.len;
    }
    worst
}

fn of(slot: usize, len: usize) -> SlotPush {
    SlotPush { slot, len, has_intervals: false }
}

#[test]
fn each_slot_gives_what_a_stream_of_its_own_gives() {
    for json in [
        r#"{"input": 2, "output": 3, "features": 8, "layers": 2, "state": 8, "loss": "mse"}"#,
        r#"{"input": 2, "output": 3, "features": 8, "layers": 2, "state": 8, "mode": "s4d", "norm": "batch", "prenorm": true, "loss": "mse"}"#,
        r#"{"input": 1, "output": 3, "features": 6, "layers": 1, "state": 4, "pooling": "mean"}"#,
        r#"{"input": 1, "output": 3, "features": 6, "layers": 1, "state": 4, "pooling": "max", "activation": "relu"}"#,
        r#"{"input": 1, "output": 3, "features": 6, "layers": 1, "state": 4, "pooling": "logMeanExp"}"#,
    ] {
        let mut m = model(json);
        // Two whole groups and a part of one.
        let count = 150;
        let mut slots = m.stream_slots(count, 1.0).unwrap();
        let mut alone: Vec<_> = (0..count).map(|_| m.stream(1, 1.0).unwrap()).collect();
        let rounds: [Vec<SlotPush>; 9] = [
            // Every slot equally many: groups are pushed where they stand.
            (0..count).map(|slot| of(slot, 3)).collect(),
            // One slot alone, and slots of all groups.
            vec![of(77, 2)],
            (0..count).step_by(7).map(|slot| of(slot, 1)).collect(),
            // Each its own length, in no order; lengths that go through the forward of whole sequences among them.
            (0..count).rev().map(|slot| of(slot, 1 + slot % 4)).collect(),
            vec![of(149, 40), of(0, 33), of(64, 40), of(63, 40)],
            // After slots were gathered, whole groups again.
            (0..count).map(|slot| of(slot, 2)).collect(),
            (64..128).map(|slot| SlotPush { slot, len: 2, has_intervals: true }).collect(),
            vec![SlotPush { slot: 5, len: 3, has_intervals: true }, of(6, 3), of(7, 3)],
            (0..count).map(|slot| of(slot, 1)).collect(),
        ];
        for (round, pushes) in rounds.iter().enumerate() {
            let worst = push_both(&mut m, &mut slots, &mut alone, pushes, 10 + round);
            assert!(worst <= 2e-5, "{json}: round {round}: {worst:e}");
        }
        // A slot that is reset begins anew, the one beside it goes on.
        slots.reset(9).unwrap();
        alone[9].reset().unwrap();
        let worst = push_both(&mut m, &mut slots, &mut alone, &[of(9, 5), of(10, 5)], 40);
        assert!(worst <= 2e-5, "{json}: after a reset: {worst:e}");
        // A state goes from a slot to a stream, from a stream to a slot, and to another slot.
        let saved = slots.save(&m, 10).unwrap();
        alone[10].restore(&saved).unwrap();
        slots.restore(&m, 11, &alone[12].save().unwrap()).unwrap();
        let moved = alone[12].save().unwrap();
        alone[11].restore(&moved).unwrap();
        let worst = push_both(&mut m, &mut slots, &mut alone, &[of(10, 4), of(11, 4), of(12, 4)], 41);
        assert!(worst <= 2e-5, "{json}: after a restore: {worst:e}");
    }
}

/// Ticks of a fleet whose streams push a block of time steps and more or fewer, leave, come anew, and begin from the state of
/// another.
#[test]
fn a_fleet_gives_what_its_streams_give_alone() {
    for mode in ["s4", "s4d"] {
        let json = format!(
            r#"{{"input": 2, "output": 2, "features": 20, "layers": 2, "state": 64, "mode": "{mode}", "loss": "mse", "feedForward": 2}}"#
        );
        for threads in [1, 2] {
            let be = Cpu::<f32>::new(threads).unwrap();
            let mut m = Model::new(be.clone(), ModelConfig::from_json(&json).unwrap()).unwrap();
            let count = 100;
            let mut slots = m.stream_slots(count, 1.0).unwrap();
            let mut alone: Vec<_> = (0..count).map(|_| m.stream(1, 1.0).unwrap()).collect();
            let mut steady = 0;
            for tick in 0..12 {
                let pushes: Vec<SlotPush> = match tick % 4 {
                    // A few of each group; most of the first group and few of the second, with one long push.
                    2 => (0..count)
                        .filter(|slot| (slot + tick) % 5 == 0)
                        .map(|slot| of(slot, 7 + slot % 3))
                        .collect(),
                    3 => (0..count)
                        .filter(|slot| *slot < 50 || slot % 9 == 0)
                        .map(|slot| of(slot, if slot == 3 { 61 } else { 1 + (slot + tick) % 20 }))
                        .collect(),
                    _ => (0..count).map(|slot| of(slot, 9 + (slot * 7 + tick) % 3)).collect(),
                };
                let worst = push_both(&mut m, &mut slots, &mut alone, &pushes, 10 + tick);
                assert!(worst <= 2e-5, "{mode}: tick {tick}: {worst:e}");
                // One leaves and another comes into its slot; one begins where another stands.
                let (leaves, from) = ((tick * 13) % count, (tick * 29 + 5) % count);
                slots.reset(leaves).unwrap();
                alone[leaves].reset().unwrap();
                let saved = slots.save(&m, from).unwrap();
                let to = (from + 37) % count;
                slots.restore(&m, to, &saved).unwrap();
                alone[to] = alone[from].fork(&m).unwrap();
                let (state, own) = (slots.save(&m, leaves).unwrap(), alone[leaves].save().unwrap());
                assert_eq!(state.len(), own.len());
                if tick == 7 {
                    steady = be.allocations();
                }
                if tick > 7 {
                    // What the streams for comparison ask for apart: nothing is asked for by a tick.
                    let before = be.allocations();
                    let x = wave(90 + tick, 2 * count * 10);
                    let even: Vec<_> = (0..count).map(|slot| of(slot, 10)).collect();
                    slots.push(&mut m, &even, Input::Values(&x), None).unwrap();
                    assert_eq!(be.allocations(), before, "a steady tick allocates nothing");
                    assert!(before >= steady);
                    for (slot, x) in x.chunks_exact(20).enumerate() {
                        alone[slot].push_new(&mut m, Input::Values(x), 10, &StepOptions::default()).unwrap();
                    }
                }
            }
        }
    }
}

/// Threads that take groups have constants of the parameters; after a change all of them meet the new ones.
#[test]
fn groups_on_several_threads_follow_parameters_that_change() {
    let json = r#"{"input": 1, "output": 2, "features": 20, "layers": 2, "state": 64, "loss": "mse"}"#;
    for threads in [2, 3] {
        let be = Cpu::<f32>::new(threads).unwrap();
        let mut m = Model::new(be, ModelConfig::from_json(json).unwrap()).unwrap();
        let count = 260;
        let mut slots = m.stream_slots(count, 1.0).unwrap();
        let mut alone: Vec<_> = (0..count).map(|_| m.stream(1, 1.0).unwrap()).collect();
        let pushes: Vec<_> = (0..count).map(|slot| of(slot, 9 + slot % 3)).collect();
        for round in 0..4 {
            let worst = push_both(&mut m, &mut slots, &mut alone, &pushes, 60 + round);
            assert!(worst <= 2e-5, "{threads} threads, round {round}: {worst:e}");
            for name in ["blocks.1.layer.kernel.C", "blocks.0.layer.kernel.A_real", "decoder.weight"] {
                let changed: Vec<f32> = m.store().get(name).unwrap().iter().map(|x| 0.8 * x).collect();
                m.store_mut().set(name, &changed).unwrap();
            }
        }
    }
}

#[test]
fn what_is_wrong_with_one_push_is_its_error_alone() {
    // Found in the input, or in the output alone; in one group, and in one of four that two threads compute.
    for (count, threads, wrong) in
        [(5, 1, f32::NAN), (64, 1, f32::NAN), (64, 1, f32::MAX), (200, 2, f32::NAN), (200, 2, f32::MAX)]
    {
        // A norm would bring the largest number back into range.
        let json = match wrong.is_nan() {
            true => r#"{"features": 8, "layers": 2, "state": 8, "loss": "mse"}"#,
            false => r#"{"features": 8, "layers": 2, "state": 8, "loss": "mse", "norm": "none"}"#,
        };
        let be = Cpu::<f32>::new(threads).unwrap();
        let mut m = Model::new(be, ModelConfig::from_json(json).unwrap()).unwrap();
        let mut slots = m.stream_slots(count, 1.0).unwrap();
        let mut alone: Vec<_> = (0..count).map(|_| m.stream(1, 1.0).unwrap()).collect();
        let all: Vec<_> = (0..count).map(|slot| of(slot, 2)).collect();
        push_both(&mut m, &mut slots, &mut alone, &all, 1);
        let before: Vec<_> = (0..count).map(|slot| slots.save(&m, slot).unwrap()).collect();
        let mut x = wave(2, 2 * count);
        x[2 * 3 + 1] = wrong;
        let got = slots.push(&mut m, &all, Input::Values(&x), None).unwrap();
        assert_eq!(got.errors.iter().map(|(i, e)| (*i, e.code)).collect::<Vec<_>>(), [(3, Code::NonFinite)]);
        for slot in 0..count {
            let y = &got.outputs[2 * slot..2 * slot + 2];
            if slot == 3 {
                assert_eq!(slots.save(&m, slot).unwrap(), before[slot]);
                assert_eq!(y, [0.0, 0.0]);
            } else {
                let x = Input::Values(&x[2 * slot..2 * slot + 2]);
                let own = alone[slot].push_new(&mut m, x, 2, &StepOptions::default()).unwrap();
                assert!(own.iter().zip(y).all(|(a, b)| (a - b).abs() <= 2e-5), "{slot}");
            }
        }
        assert_eq!(slots.position(3).unwrap(), 2);
        assert_eq!(slots.position(4).unwrap(), 4);
    }
}

#[test]
fn wrong_calls_change_nothing() {
    let mut m = model(r#"{"features": 4, "layers": 1, "state": 4, "loss": "mse"}"#);
    let mut slots = m.stream_slots(3, 1.0).unwrap();
    slots.push(&mut m, &[of(1, 4)], Input::Values(&wave(1, 4)), None).unwrap();
    let before = slots.save(&m, 1).unwrap();
    let x = wave(2, 4);
    let mut code = |pushes: &[SlotPush], x: &[f32], intervals: Option<&[f32]>| {
        slots.push(&mut m, pushes, Input::Values(x), intervals).unwrap_err().code
    };
    assert_eq!(code(&[of(3, 4)], &x, None), Code::Value);
    assert_eq!(code(&[of(1, 2), of(1, 2)], &x, None), Code::Value);
    assert_eq!(code(&[of(1, 0)], &[], None), Code::Value);
    assert_eq!(code(&[of(1, usize::MAX), of(2, 2)], &x, None), Code::Value);
    assert_eq!(code(&[of(1, 3)], &x, None), Code::Shape);
    assert_eq!(code(&[of(1, 4)], &x, Some(&[1.0])), Code::Shape);
    assert_eq!(slots.save(&m, 1).unwrap(), before);
    assert_eq!(slots.restore(&m, 1, b"no state").unwrap_err().code, Code::Checkpoint);
    assert_eq!(slots.save(&m, 1).unwrap(), before);
    assert!(slots.push(&mut m, &[], Input::Values(&[]), None).unwrap().outputs.is_empty());
    let two_sided =
        model(r#"{"features": 4, "layers": 1, "state": 4, "bidirectional": true, "loss": "mse"}"#);
    assert_eq!(two_sided.stream_slots(2, 1.0).err().unwrap().code, Code::Unsupported);
}
