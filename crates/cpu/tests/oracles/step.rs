//! The recurrence, one time step at a time.

use crate::device::steps;
use s4_backend::{Code, Memory, SsmStep, StepOps};
use s4_cpu::Cpu;
use s4_ssm::{C64, recurrence};
use s4_testing::{
    layer::{Call, layers},
    relative, truth,
};

/// The steps of every layer with a state give the oracle's y and end state within `tol`.
fn check_steps<B: StepOps>(be: &B, tol: f64) {
    for layer in layers().into_iter().filter(|l| l.spec.has_state()) {
        for (batch, len) in [(1, 1), (2, 300), (5, 40)] {
            let call = Call::new(&layer, batch, len, false);
            let (y, end) = truth::forward(&layer, &call);
            let (got_y, got_end) = steps(be, &layer, &call, None);
            for (what, got, expected) in [("y", got_y, y), ("state", got_end, end.unwrap())] {
                let error = relative(&got, &expected);
                assert!(error <= tol, "{}, {batch} × {len}, {what}: {error:e}", layer.name);
            }
        }
    }
}

#[test]
fn steps_are_the_recurrence_f64() {
    check_steps(&Cpu::<f64>::new(1).unwrap(), 1e-10);
}

#[test]
fn steps_are_the_recurrence_f32() {
    check_steps(&Cpu::<f32>::new(1).unwrap(), 1e-5);
}

/// Each sequence at each step with an interval of its own: Δ·rate·interval.
fn intervals<B: StepOps>(be: &B, tol: f64) {
    let (batch, len) = (3, 25);
    let interval = |t: usize, b: usize| 0.25 * (1 + (t + 2 * b) % 8) as f64;
    let all: Vec<f64> = (0..len * batch).map(|i| interval(i / batch, i % batch)).collect();
    for layer in layers().into_iter().filter(|l| l.spec.has_state()) {
        let spec = layer.spec;
        let call = Call::new(&layer, batch, len, false);
        let state0 = call.state0.as_ref().unwrap();
        let mut y = vec![0.0; batch * spec.outputs() * len];
        for b in 0..batch {
            for h in 0..spec.heads {
                let row = b * spec.heads + h;
                let x0 = &state0[row * spec.state..][..spec.state];
                let mut x: Vec<C64> =
                    (0..spec.pairs()).map(|n| C64::new(x0[n], x0[spec.pairs() + n])).collect();
                for t in 0..len {
                    let u = call.u[row * len + t];
                    let (out, next) = recurrence(&layer.heads(interval(t, b))[h], &[u], Some(&x));
                    x = next;
                    for c in 0..spec.channels {
                        let feature = c * spec.heads + h;
                        y[(b * spec.outputs() + feature) * len + t] =
                            out[c][0] + layer.values[6][feature] * u;
                    }
                }
            }
        }
        let error = relative(&steps(be, &layer, &call, Some(&all)).0, &y);
        assert!(error <= tol, "{}: {error:e}", layer.name);
        // An interval of 1 is no interval.
        let ones = vec![1.0; batch * len];
        let (with, without) = (steps(be, &layer, &call, Some(&ones)), steps(be, &layer, &call, None));
        assert!(
            relative(&with.0, &without.0) <= tol && relative(&with.1, &without.1) <= tol,
            "{}",
            layer.name
        );
    }
}

#[test]
fn intervals_f64() {
    intervals(&Cpu::<f64>::new(1).unwrap(), 1e-10);
}

#[test]
fn intervals_f32() {
    intervals(&Cpu::<f32>::new(1).unwrap(), 1e-5);
}

#[test]
fn layers_without_a_state_do_not_step() {
    let be = Cpu::<f64>::new(1).unwrap();
    for layer in layers().into_iter().filter(|l| !l.spec.has_state()) {
        let refused = be.step_plan(&layer.spec).map(|mut plan| {
            let spec = layer.spec;
            let params = crate::device::Buffers::of(&be, &layer);
            let (mut y, mut state) = (vec![0.0; spec.outputs()], vec![0.0; spec.state_len(1)]);
            let u = vec![0.0; spec.heads];
            let (params, mut ws) = (params.params(&be), be.workspace());
            let step = SsmStep {
                y: &mut y[..],
                state: &mut state[..],
                u: &u[..],
                interval: None,
                params,
                spec,
                batch: 1,
                rate: 1.0,
                version: 1,
            };
            be.ssm_step(step, &mut plan, &mut ws)
        });
        let error = refused.and_then(|step| step).unwrap_err();
        assert_eq!(error.code, Code::Unsupported, "{}: {error}", layer.name);
    }
}
