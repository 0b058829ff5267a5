//! y and the end state, by every algorithm.

use crate::device::{run, run_in};
use s4_backend::{
    Algorithm, CallOptions, Code, Discretization, Error, Memory, Scalar, SsmCall, SsmForward, SsmOps,
};
use s4_cpu::Cpu;
use s4_testing::{
    layer::{Call, Layer, layers},
    relative, relative_or_zero, truth,
};

/// The algorithms a layer runs by: a truncated kernel is convolved, and Algorithm 1 is of the bilinear transform.
pub fn algorithms(layer: &Layer) -> Vec<Algorithm> {
    let runs = |algorithm: &Algorithm| match algorithm {
        Algorithm::Chunk => layer.spec.truncate.is_none(),
        Algorithm::Cauchy => layer.spec.discretization == Discretization::Bilinear,
        _ => true,
    };
    Algorithm::ALL.iter().copied().filter(runs).collect()
}

fn forward<B: SsmOps>(be: &B, tol: f64) {
    for layer in layers() {
        for len in [1, 2, 3, 17, 63, 64, 65, 130, 489, 1024, 1047] {
            for own_lengths in [false, true] {
                let call = Call::new(&layer, 3, len, own_lengths);
                let (y, end) = truth::forward(&layer, &call);
                for algorithm in algorithms(&layer) {
                    let got = run(be, &layer, &call, algorithm, 0);
                    let place = format!(
                        "{}, {algorithm:?}, {}, length {len}, own lengths {own_lengths}",
                        layer.name,
                        B::Scalar::DTYPE.as_str()
                    );
                    let error = relative(&got.y, &y);
                    assert!(error <= tol, "{place}: y {error:e}");
                    if let (Some(got), Some(end)) = (&got.state_end, &end) {
                        let error = relative(got, end);
                        assert!(error <= tol, "{place}: end state {error:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn forward_f64() {
    forward(&Cpu::<f64>::new(2).unwrap(), 1e-10);
}

#[test]
fn forward_f32() {
    forward(&Cpu::<f32>::new(2).unwrap(), 1e-5);
}

/// From zero, `None` and a zero state are one; one sequence and many.
#[test]
fn no_state_is_the_zero_state() {
    let be = Cpu::<f64>::new(1).unwrap();
    for layer in layers().into_iter().filter(|l| l.spec.has_state()) {
        for algorithm in algorithms(&layer) {
            let mut call = Call::new(&layer, 1, 77, false);
            call.state0 = None;
            let without = run(&be, &layer, &call, algorithm, 1);
            call.state0 = Some(vec![0.0; layer.spec.state_len(1)]);
            let with = run(&be, &layer, &call, algorithm, 1);
            assert!(relative(&without.y, &with.y) <= 1e-13, "{}", layer.name);
            assert!(relative(&without.y, &truth::forward(&layer, &call).0) <= 1e-10, "{}", layer.name);
            for (a, b) in without.grads.iter().zip(&with.grads) {
                assert!(relative_or_zero(a, b) <= 1e-12, "{}", layer.name);
            }
        }
    }
}

/// A plan keeps constants of one version; a new version, another length, another rate replace them.
#[test]
fn a_plan_follows_parameters_length_and_rate() {
    let be = Cpu::<f64>::new(2).unwrap();
    for layer in layers() {
        for algorithm in algorithms(&layer) {
            let mut plan = be.ssm_plan(&layer.spec).unwrap();
            let mut moved = layer.clone();
            moved.values[0].iter_mut().for_each(|x| *x *= 0.9);
            moved.values[4].iter_mut().for_each(|x| *x += 0.5);
            let faster = Layer { rate: layer.rate * 1.5, ..moved.clone() };
            let calls = [
                (&layer, 1, 70),
                (&layer, 1, 70),
                (&moved, 2, 70),
                (&moved, 2, 33),
                (&faster, 2, 33),
                (&moved, 2, 70),
            ];
            for (i, (layer, version, len)) in calls.into_iter().enumerate() {
                let call = Call::new(layer, 2, len, false);
                let got = run_in(&be, (&mut plan, version), layer, &call, algorithm, 0);
                let error = relative(&got.y, &truth::forward(layer, &call).0);
                assert!(error <= 1e-10, "{}, {algorithm:?}, call {i}: {error:e}", layer.name);
            }
        }
    }
}

/// The number of threads changes no bit.
#[test]
fn the_same_bits_at_one_and_two_threads() {
    let (one, two) = (Cpu::<f32>::new(1).unwrap(), Cpu::<f32>::new(2).unwrap());
    for layer in layers() {
        for (batch, len) in [(2, 700), (5, 64), (1, 3001)] {
            let call = Call::new(&layer, batch, len, batch > 1);
            for algorithm in algorithms(&layer) {
                let (a, b) = (run(&one, &layer, &call, algorithm, 1), run(&two, &layer, &call, algorithm, 1));
                let place = format!("{}, {algorithm:?}, {batch} × {len}", layer.name);
                assert_eq!(bits(&a.y), bits(&b.y), "{place}: y");
                assert_eq!(
                    a.state_end.map(|s| bits(&s)),
                    b.state_end.map(|s| bits(&s)),
                    "{place}: end state"
                );
                assert_eq!(bits(&a.du), bits(&b.du), "{place}: du");
                for (a, b) in a.grads.iter().zip(&b.grads) {
                    assert_eq!(bits(a), bits(b), "{place}: gradients");
                }
            }
        }
    }
}

fn bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn auto_is_one_of_the_two() {
    let be = Cpu::<f32>::new(1).unwrap();
    for layer in layers() {
        for len in [1, 100, 1 << 20] {
            let call = |algorithm| SsmCall {
                spec: layer.spec,
                batch: 2,
                len,
                options: CallOptions { algorithm, ..CallOptions::default() },
                version: 1,
            };
            let chosen = be.chosen_algorithm(&call(Algorithm::Auto));
            assert!(matches!(chosen, Algorithm::Fft | Algorithm::Chunk));
            assert!(algorithms(&layer).contains(&chosen), "{}", layer.name);
            for algorithm in algorithms(&layer).into_iter().filter(|&a| a != Algorithm::Auto) {
                assert_eq!(be.chosen_algorithm(&call(algorithm)), algorithm);
            }
        }
    }
}

/// The error of a forward call that the backend must refuse, before anything is written to `y`.
fn refusal(be: &Cpu<f64>, layer: &Layer, call: SsmCall<'_, Cpu<f64>>, u: &[f64], outputs: usize) -> Error {
    let spec = layer.spec;
    let buffers = crate::device::Buffers::of(be, layer);
    let mut y = vec![7.0; outputs];
    let (state_end, saved, state0, params) = (None, None, None, buffers.params(be));
    let args = SsmForward { y: &mut y[..], state_end, saved, u, state0, params, call };
    let (mut plan, mut ws) = (be.ssm_plan(&spec).unwrap(), be.workspace());
    let error = be.ssm_forward(args, &mut plan, &mut ws).unwrap_err();
    assert!(y.iter().all(|&y| y == 7.0), "{}", layer.name);
    error
}

/// What a layer cannot be run by is refused.
#[test]
fn other_algorithms_are_refused() {
    let be = Cpu::<f64>::new(1).unwrap();
    let mut refused = 0;
    for layer in layers() {
        for &algorithm in Algorithm::ALL.iter().filter(|a| !algorithms(&layer).contains(a)) {
            let (spec, len) = (layer.spec, 100);
            let options = CallOptions { algorithm, ..CallOptions::default() };
            let call = SsmCall { spec, batch: 1, len, options, version: 1 };
            let error = refusal(&be, &layer, call, &vec![0.0; spec.heads * len], spec.outputs() * len);
            assert_eq!(error.code, Code::Unsupported, "{}, {algorithm}: {error}", layer.name);
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused}");
}

/// More time steps with intervals than backends count are refused, before arrays are looked at.
#[test]
fn too_many_steps_with_intervals_are_refused() {
    let be = Cpu::<f64>::new(1).unwrap();
    let layer = layers().into_iter().find(|l| l.spec.truncate.is_none()).unwrap();
    let intervals = be.alloc(1).unwrap();
    let options = CallOptions { intervals: Some(&intervals), ..CallOptions::default() };
    let call = SsmCall { spec: layer.spec, batch: 1, len: (1 << 30) + 1, options, version: 1 };
    let error = refusal(&be, &layer, call, &[0.0], 1);
    assert_eq!(error.code, Code::Unsupported, "{error}");
}
