//! The recurrence against the golden vectors, from zero and from an initial state, and with other intervals.

use crate::golden::{Case, cast, rel, state_in, view};
use s4_backend::{Memory, Scalar, StepOps};
use s4_cpu::Cpu;

/// Steps through `u` (batch, H, len); returns y (batch, channels·H, len) and the last state.
fn run<T: Scalar>(case: &Case, state: Vec<T>, interval: Option<T>, rate: f64) -> (Vec<T>, Vec<T>) {
    let be = Cpu::<T>::new(1).unwrap();
    let (spec, batch, len) = (&case.spec, case.batch, case.len);
    let params = case.cast::<T>();
    let u = cast::<T>(&case.truth["u"].1);
    let (mut plan, mut ws) = (be.step_plan(spec).unwrap(), be.workspace());
    let mut state = state;
    let mut out = vec![T::zero(); batch * spec.outputs() * len];
    let mut y = vec![T::nan(); batch * spec.outputs()];
    let interval = interval.map(|r| vec![r; batch]);
    let mut warm = 0;
    for t in 0..len {
        let ut: Vec<T> = (0..batch * spec.heads).map(|i| u[i * len + t]).collect();
        be.ssm_step(
            &mut y,
            &mut state,
            &ut,
            interval.as_deref(),
            &view(&params),
            spec,
            batch,
            rate,
            1,
            &mut plan,
            &mut ws,
        )
        .unwrap();
        for (i, y) in y.iter().enumerate() {
            out[i * len + t] = *y;
        }
        if t == 0 {
            warm = be.allocations();
        }
    }
    assert_eq!(be.allocations(), warm, "a steady step allocates nothing");
    (out, state)
}

fn check<T: Scalar>(tol: f64) {
    let mut ran = 0;
    for case in Case::all().iter().filter(|c| c.truth.contains_key("state.final")) {
        ran += 1;
        let n = case.spec.pairs();
        let zero = vec![T::zero(); case.spec.state_len(case.batch)];
        let name = &case.name;
        let (y, x) = run(case, zero.clone(), None, 1.0);
        for (what, e) in [
            ("ssm_out", rel(&y, &case.truth["ssm_out"].1)),
            ("state.final", rel(&x, &state_in::<f64>(&case.truth["state.final"].1, n))),
        ] {
            assert!(e <= tol, "{name} {what}: {e:e}");
        }
        let start = state_in::<T>(&case.truth["state.initial"].1, n);
        let (y, x) = run(case, start, None, 1.0);
        for (what, e) in [
            ("ssm_out.from_initial", rel(&y, &case.truth["ssm_out.from_initial"].1)),
            (
                "state.final_from_initial",
                rel(&x, &state_in::<f64>(&case.truth["state.final_from_initial"].1, n)),
            ),
        ] {
            assert!(e <= tol, "{name} {what}: {e:e}");
        }
        // An interval of 2 is a rate of 2.
        let (a, _) = run(case, zero.clone(), Some(T::from_f64(2.0)), 1.0);
        let (b, _) = run(case, zero, None, 2.0);
        let b: Vec<f64> = b.iter().map(|&x| x.to_f64()).collect();
        assert!(rel(&a, &b) <= tol, "{name} interval");
    }
    assert!(ran >= 15, "only {ran} cases have states");
}

#[test]
fn golden_f64() {
    check::<f64>(1e-10);
}

#[test]
fn golden_f32() {
    check::<f32>(1e-5);
}

#[test]
fn a_bad_interval_changes_nothing() {
    let case = Case::load("dplr_legs");
    let be = Cpu::<f64>::new(1).unwrap();
    let params = case.cast::<f64>();
    let (mut plan, mut ws) = (be.step_plan(&case.spec).unwrap(), be.workspace());
    let mut state = vec![0.5; case.spec.state_len(2)];
    let mut y = vec![0.0; 2 * case.spec.outputs()];
    let u = vec![1.0; 2 * case.spec.heads];
    let got = be.ssm_step(
        &mut y,
        &mut state,
        &u,
        Some(&[1.0, f64::NAN]),
        &view(&params),
        &case.spec,
        2,
        1.0,
        1,
        &mut plan,
        &mut ws,
    );
    assert_eq!(got.unwrap_err().code, s4_backend::Code::Value);
    assert!(state.iter().all(|&x| x == 0.5));
}
