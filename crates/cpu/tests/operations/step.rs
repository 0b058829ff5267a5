//! The recurrence against the golden vectors, from zero and from an initial state, and with other intervals.

use crate::golden::{Case, cast, cast_all, rel, state_in, view};
use s4_backend::{
    Algorithm, CallOptions, Discretization, Memory, Mode, Scalar, SsmCall, SsmForward, SsmOps, SsmSpec,
    SsmStep, StepOps, Transform,
};
use s4_cpu::{Cpu, StepPlan};

/// Steps through `u` (batch, H, len); returns y (batch, channels·H, len) and the last state.
fn run<T: Scalar>(case: &Case, state: Vec<T>, interval: Option<T>, rate: f64) -> (Vec<T>, Vec<T>) {
    let be = Cpu::<T>::new(1).unwrap();
    let (spec, batch, len) = (&case.spec, case.batch, case.len);
    let params = cast_all::<T>(&case.params);
    let u = cast::<T>(case.truth.get("u"));
    let (mut plan, mut ws) = (StepPlan::new(&be, spec).unwrap(), be.workspace());
    let mut state = state;
    let mut out = vec![T::zero(); batch * spec.outputs() * len];
    let mut y = vec![T::nan(); batch * spec.outputs()];
    let interval = interval.map(|r| vec![r; batch]);
    let mut warm = 0;
    for t in 0..len {
        let ut: Vec<T> = (0..batch * spec.heads).map(|i| u[i * len + t]).collect();
        let step = SsmStep {
            y: &mut y[..],
            state: &mut state[..],
            u: &ut[..],
            interval: interval.as_deref(),
            params: view(&params),
            spec: *spec,
            batch,
            rate,
            version: 1,
        };
        be.time_step(step, &mut plan, &mut ws).unwrap();
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
    for case in Case::all().iter().filter(|c| c.truth.has("state.final")) {
        ran += 1;
        let n = case.spec.pairs();
        let zero = vec![T::zero(); case.spec.state_len(case.batch)];
        let name = &case.name;
        let (y, x) = run(case, zero.clone(), None, 1.0);
        for (what, e) in [
            ("ssm_out", rel(&y, case.truth.get("ssm_out"))),
            ("state.final", rel(&x, &state_in(case.truth.get("state.final"), n))),
        ] {
            assert!(e <= tol, "{name} {what}: {e:e}");
        }
        let start = cast::<T>(&state_in(case.truth.get("state.initial"), n));
        let (y, x) = run(case, start, None, 1.0);
        for (what, e) in [
            ("ssm_out.from_initial", rel(&y, case.truth.get("ssm_out.from_initial"))),
            ("state.final_from_initial", rel(&x, &state_in(case.truth.get("state.final_from_initial"), n))),
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

/// Λ = 0 is an integrator: B̄ = ΔB for either discretization, and a step is what forward does.
#[test]
fn a_mode_of_zero_integrates() {
    let be = Cpu::<f64>::new(1).unwrap();
    for discretization in [Discretization::Zoh, Discretization::Bilinear] {
        let spec = SsmSpec {
            mode: Mode::S4d,
            heads: 1,
            state: 2,
            n_ssm: 1,
            rank: 0,
            channels: 1,
            bidirectional: false,
            dt_per_state: false,
            discretization,
            dt_transform: Transform::None,
            real_transform: Transform::None,
            imag_transform: Transform::None,
            truncate: None,
        };
        // Δ = 1, Λ = 0, B = 3 + 2i, C = 1, D = 0: y_t = 2Re(C Σ B u) = 6 Σ u.
        let p = [vec![1.0], vec![0.0], vec![0.0], vec![3.0, 2.0], vec![1.0, 0.0], vec![], vec![0.0]];
        let u = [1.0, 0.5, -2.0, 0.25];
        let want = [6.0, 9.0, -3.0, -1.5];
        let (mut plan, mut ws) = (be.step_plan(&spec).unwrap(), be.workspace());
        let (mut state, mut y) = ([0.0; 2], [0.0]);
        for (u, want) in u.iter().zip(want) {
            let step = SsmStep {
                y: &mut y[..],
                state: &mut state[..],
                u: std::slice::from_ref(u),
                interval: None,
                params: view(&p),
                spec,
                batch: 1,
                rate: 1.0,
                version: 1,
            };
            be.ssm_step(step, &mut plan, &mut ws).unwrap();
            assert_eq!(y[0], want, "{discretization}");
        }
        for algorithm in [Algorithm::Fft, Algorithm::Chunk, Algorithm::Cauchy] {
            let options = CallOptions { algorithm, ..CallOptions::default() };
            let call = SsmCall { spec, batch: 1, len: u.len(), options, version: 1 };
            let mut out = [f64::NAN; 4];
            let args = SsmForward {
                y: &mut out[..],
                state_end: None,
                saved: None,
                u: &u[..],
                state0: None,
                params: view(&p),
                call,
            };
            let result = be.ssm_forward(args, &mut be.ssm_plan(&spec).unwrap(), &mut ws);
            if algorithm == Algorithm::Cauchy {
                assert_eq!(result.unwrap_err().code.as_str(), "ERR_S4_UNSUPPORTED");
                continue;
            }
            result.unwrap();
            assert!(rel(&out, &want) <= 1e-14, "{discretization}, {algorithm}: {out:?}");
        }
    }
}
