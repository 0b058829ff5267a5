//! Pushes into slots by a queue, which several threads take: each gives what it gives alone.

use crate::common::*;
use s4_backend::{Code, Result};
use s4_nn::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

type Ended = Arc<Mutex<BTreeMap<u64, SlotResult<f32>>>>;

/// A push of the test, whose result goes to a table under its number.
struct Queued {
    number: u64,
    reset: Vec<usize>,
    pushes: Vec<SlotPush>,
    x: Vec<f32>,
    intervals: Option<Vec<f32>>,
    ended: Ended,
}

impl QueuedPush<f32> for Queued {
    fn reset(&self) -> &[usize] {
        &self.reset
    }
    fn arguments(&self) -> Result<SlotArguments<'_, f32>> {
        Ok((&self.pushes, Input::Values(&self.x), self.intervals.as_deref()))
    }
    fn end(self, result: SlotResult<f32>) {
        let before = self.ended.lock().unwrap().insert(self.number, result);
        assert!(before.is_none(), "push {} ended twice", self.number);
    }
}

fn wave(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 101 + i * i * seed % 17) as f32 * 0.61).sin()).collect()
}

fn of(slot: usize, len: usize) -> SlotPush {
    SlotPush { slot, len, has_intervals: false }
}

/// Ticks of a fleet by a queue, with pushes of whole groups and of few slots, with intervals, resets, an input that is not finite, and wrong calls
/// among them.
#[test]
fn each_push_of_a_queue_gives_what_its_streams_give_alone() {
    let json = r#"{"input": 1, "output": 2, "features": 20, "layers": 2, "state": 64, "loss": "mse"}"#;
    for threads in [1, 2, 3] {
        let be = Cpu::<f32>::new(threads).unwrap();
        let mut m = Model::new(be, ModelConfig::from_json(json).unwrap()).unwrap();
        let count = 232;
        let mut slots = m.stream_slots(count, 1.0).unwrap();
        let mut alone: Vec<_> = (0..count).map(|_| m.stream(1, 1.0).unwrap()).collect();
        let group = |g: usize, len: usize| -> Vec<_> {
            (64 * g..count.min(64 * (g + 1))).map(|slot| of(slot, len + slot % 3)).collect()
        };
        let ended = Ended::default();
        let queue = PushQueue::default();
        let mut number = 0;
        for round in 0..3 {
            let timed = |slot| SlotPush { has_intervals: true, ..of(slot, 3) };
            let tick: Vec<(Vec<usize>, Vec<SlotPush>)> = vec![
                (vec![], group(0, 9)),
                (vec![70, 71], group(1, 9)),
                (vec![], group(2, 9)),
                // Few slots of one group, and of several, with a reset in another.
                (vec![], vec![of(3, 5), of(4, 5), of(5, 6)]),
                (vec![200], (0..count).step_by(11).map(|slot| of(slot, 8)).collect()),
                (vec![], group(3, 9)),
                (vec![], (0..64).map(timed).collect()),
                // In no order; one at a time with more time steps than go together.
                (vec![], (0..64).rev().map(|slot| of(slot, 2)).collect()),
                (vec![], vec![of(130, 90)]),
                (vec![], group(0, 1)),
                (vec![], group(3, 30)),
                (vec![], vec![]),
            ];
            let mut sent = Vec::new();
            let first = number;
            for (i, (reset, pushes)) in tick.into_iter().enumerate() {
                let steps: usize = pushes.iter().map(|push| push.len).sum();
                let mut x = wave(100 * round + i, steps);
                if i == 2 {
                    // Of slot 128 + 1.
                    x[pushes[0].len] = f32::NAN;
                }
                let intervals = pushes.first().is_some_and(|push| push.has_intervals);
                let intervals = intervals.then(|| wave(i, steps).iter().map(|v| 1.5 + 0.5 * v).collect());
                sent.push((number, reset.clone(), pushes.clone(), x.clone(), intervals.clone()));
                queue.add(number, Queued { number, reset, pushes, x, intervals, ended: ended.clone() });
                // The number of something else, in whose turn nothing is taken: what follows has slots of what came before.
                number += if [2, 3, 4, 5, 6, 7, 8].contains(&i) { 2 } else { 1 };
            }
            // Wrong: a slot that is none, and too few numbers.
            for (pushes, x) in [(vec![of(count, 1)], vec![0.5]), (group(1, 2), vec![0.5; 7])] {
                queue.add(
                    number,
                    Queued { number, reset: vec![], pushes, x, intervals: None, ended: ended.clone() },
                );
                number += 1;
            }
            assert!(queue.begin(first));
            slots.push_queue(&mut m, &queue);
            assert_eq!(ended.lock().unwrap().len(), 3, "what comes behind something else waits");
            assert!(!queue.begin(first + 2), "it was taken");
            for number in sent.iter().map(|(number, ..)| *number).chain([number - 2]) {
                if queue.begin(number) {
                    slots.push_queue(&mut m, &queue);
                }
            }
            let mut ended = std::mem::take(&mut *ended.lock().unwrap());
            for number in [number - 2, number - 1] {
                let code = ended.remove(&number).unwrap().unwrap().unwrap_err().code;
                assert!([Code::Value, Code::Shape].contains(&code), "{code:?}");
            }
            assert_eq!(ended.len(), sent.len());
            for (number, reset, pushes, x, intervals) in sent {
                let SlotOutputs { outputs, errors } = ended.remove(&number).unwrap().unwrap().unwrap();
                for slot in reset {
                    alone[slot].reset().unwrap();
                }
                let mut begin = 0;
                for (i, push) in pushes.iter().enumerate() {
                    let range = begin..begin + push.len;
                    let options = StepOptions { interval: intervals.as_ref().map(|all| &all[range.clone()]) };
                    let own = alone[push.slot].push_new(
                        &mut m,
                        Input::Values(&x[range.clone()]),
                        push.len,
                        &options,
                    );
                    match own {
                        Ok(own) => {
                            for (a, b) in own.iter().zip(&outputs[2 * begin..]) {
                                assert!(
                                    (a - b).abs() <= 2e-5,
                                    "{threads} threads, push {number}, {push:?}: {a} {b}"
                                );
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.code, Code::NonFinite);
                            assert_eq!(
                                errors.iter().map(|(i, e)| (*i, e.code)).collect::<Vec<_>>(),
                                [(i, error.code)]
                            );
                        }
                    }
                    begin = range.end;
                }
            }
            for (slot, stream) in alone.iter().enumerate() {
                assert_eq!(slots.position(slot).unwrap(), stream.position(), "slot {slot}");
            }
        }
    }
}

/// The input of a push is long enough for its check to go over all threads, which are at work on other pushes.
#[test]
fn threads_with_long_inputs_do_not_wait_for_each_other() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let json = r#"{"input": 256, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse"}"#;
        let be = Cpu::<f32>::new(8).unwrap();
        let mut m = Model::new(be, ModelConfig::from_json(json).unwrap()).unwrap();
        let mut slots = m.stream_slots(1024, 1.0).unwrap();
        let (queue, results) = (PushQueue::default(), Ended::default());
        for tick in 0..300 {
            for number in 16 * tick..16 * tick + 16 {
                let g = number as usize % 16;
                let pushes = (64 * g..64 * (g + 1)).map(|slot| of(slot, 8)).collect();
                let (x, ended) = (vec![0.5; 64 * 8 * 256], results.clone());
                queue.add(number, Queued { number, reset: vec![], pushes, x, intervals: None, ended });
            }
            assert!(queue.begin(16 * tick));
            slots.push_queue(&mut m, &queue);
        }
        assert_eq!(results.lock().unwrap().len(), 16 * 300);
        assert_eq!(slots.position(1023).unwrap(), 8 * 300);
        done.send(()).unwrap();
    });
    ended.recv_timeout(std::time::Duration::from_secs(120)).expect("an end");
}

#[test]
fn a_queue_has_enough_pushes_for_all_threads() {
    let json = r#"{"features": 4, "layers": 1, "state": 4, "loss": "mse"}"#;
    for (threads, count, expected) in
        [(1, 200, [64, 2]), (2, 200, [64, 3]), (4, 200, [256, 2]), (4, 300, [64, 5]), (8, 200, [512, 2])]
    {
        let be = Cpu::<f32>::new(threads).unwrap();
        let m = Model::new(be, ModelConfig::from_json(json).unwrap()).unwrap();
        assert_eq!(
            m.stream_slots(count, 1.0).unwrap().pushes_of_queue(),
            Some(expected),
            "{threads} threads"
        );
    }
}
