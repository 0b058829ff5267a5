//! The golden cases through every algorithm, chunks of 8, 16 and 64, f32 and f64.

use crate::{Cpu, SsmPlan, ssm::params::shorten};
use s4_backend::{
    Algorithm, CallOptions, Discretization, Memory, Scalar, SsmBackward, SsmCall, SsmForward, SsmGrads,
    SsmParams, SsmSpec,
};
use s4_testing::{
    cast,
    golden::{Case, state_in},
    relative, wide,
};

/// erf(x) = 2/√π e^{−x²} Σ 2ⁿ x^{2n+1}/(2n+1)!!
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// Gradient of sum(y·g) with respect to the SSM's output: back through GLU, linear and GELU.
fn dy(case: &Case) -> Vec<f64> {
    let (wide, heads) = (case.spec.outputs(), case.spec.heads);
    let (s, g) = (case.truth.get("ssm_out"), case.truth.get("g"));
    let (weight, bias) =
        (case.checkpoint.get("output_linear.0.weight"), case.checkpoint.get("output_linear.0.bias"));
    let mut dy = vec![0.0; s.len()];
    let cdf = |x: f64| 0.5 * (1.0 + erf(x / 2f64.sqrt()));
    for b in 0..case.batch {
        for t in 0..case.len {
            let at = |feature: usize| (b * wide + feature) * case.len + t;
            let gelu: Vec<f64> = (0..wide).map(|f| s[at(f)] * cdf(s[at(f)])).collect();
            let z = |o: usize| bias[o] + (0..wide).map(|f| weight[o * wide + f] * gelu[f]).sum::<f64>();
            for o in 0..heads {
                let g = g[(b * heads + o) * case.len + t];
                let sigma = 1.0 / (1.0 + (-z(o + heads)).exp());
                let (d1, d2) = (g * sigma, g * z(o) * sigma * (1.0 - sigma));
                for f in 0..wide {
                    dy[at(f)] += d1 * weight[o * wide + f] + d2 * weight[(o + heads) * wide + f];
                }
            }
            for f in 0..wide {
                let x = s[at(f)];
                let pdf = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                dy[at(f)] *= cdf(x) + x * pdf;
            }
        }
    }
    dy
}

/// Relative errors of everything that a run gives, by name.
fn errors<T: Scalar>(case: &Case, algorithm: Algorithm, chunk: usize) -> Vec<(String, f64)> {
    let be = Cpu::<T>::new(2).unwrap();
    let truncated = (case.kernel_len < case.len).then_some(case.kernel_len);
    let spec = &SsmSpec { truncate: truncated, ..case.spec };
    let values = case.params.each_ref().map(|v| cast::<T>(v));
    let [inv_dt, a_real, a_imag, b, c, p, d] = &values;
    let params: SsmParams<'_, Cpu<T>> = SsmParams { inv_dt, a_real, a_imag, b, c, p, d };
    let options = CallOptions { algorithm, ..CallOptions::default() };
    let call = SsmCall { spec: *spec, batch: case.batch, len: case.len, options, version: 1 };
    let mut plan = SsmPlan::with_chunk(spec, chunk);
    let mut ws = be.workspace();
    let u = cast::<T>(case.truth.get("u"));
    let saved_len = plan.saved_len(&be, &call);
    let mut found = Vec::new();
    let mut runs = vec![""];
    if case.truth.has("state.initial") {
        runs.push("from_initial");
    }
    for run in runs {
        let from = !run.is_empty();
        let states = case.truth.has("state.final");
        let truth = |name: &str| (name.to_string(), case.truth.get(name).to_vec());
        let mut y = vec![T::nan(); case.batch * spec.outputs() * case.len];
        let mut end = vec![T::nan(); spec.state_len(case.batch)];
        let mut saved = vec![T::nan(); saved_len];
        let state0 = from.then(|| cast::<T>(&state_in(case.truth.get("state.initial"), spec.pairs())));
        let forward = SsmForward {
            y: &mut y[..],
            state_end: states.then_some(&mut end[..]),
            saved: Some(&mut saved[..]),
            u: &u[..],
            state0: state0.as_deref(),
            params: shorten(&params),
            call,
        };
        be.sequence_forward(forward, &mut plan, &mut ws).unwrap();
        let mut pairs = Vec::new();
        let names = if from {
            ["ssm_out.from_initial", "state.final_from_initial"]
        } else {
            ["ssm_out", "state.final"]
        };
        pairs.push((truth(names[0]), y));
        if states {
            let (name, want) = truth(names[1]);
            pairs.push(((name, state_in(&want, spec.pairs())), end));
        }
        let with_gradient = !from || case.truth.has("from_initial.gs");
        if with_gradient {
            let dy = if from { cast::<T>(case.truth.get("from_initial.g")) } else { cast(&dy(case)) };
            let dend = from.then(|| cast::<T>(&state_in(case.truth.get("from_initial.gs"), spec.pairs())));
            let mut du = vec![T::nan(); u.len()];
            let mut dstate0 = vec![T::nan(); spec.state_len(case.batch)];
            // Gradients accumulate: f64 starts from one; in f32 that would round small gradients away.
            let start = if T::DTYPE == s4_backend::Dtype::F64 { T::one() } else { T::zero() };
            let mut into = values.each_ref().map(|v| vec![start; v.len()]);
            let [inv_dt, a_real, a_imag, b, c, p, d] = into.each_mut().map(Vec::as_mut_slice);
            let grads: SsmGrads<'_, Cpu<T>> = SsmGrads { inv_dt, a_real, a_imag, b, c, p, d };
            let backward = SsmBackward {
                du: Some(&mut du[..]),
                dstate0: from.then_some(&mut dstate0[..]),
                grads,
                dy: &dy[..],
                dstate_end: dend.as_deref(),
                u: &u[..],
                state0: state0.as_deref(),
                saved: &saved[..],
                params: shorten(&params),
                call,
            };
            be.sequence_backward(backward, &mut plan, &mut ws).unwrap();
            let prefix = if from { "from_initial.grad." } else { "grad." };
            let mut push = |name: &str, got: Vec<T>| pairs.push((truth(&format!("{prefix}{name}")), got));
            push("u", du);
            const NAMES: [&str; 7] = [
                "layer.kernel.inv_dt",
                "layer.kernel.A_real",
                "layer.kernel.A_imag",
                "layer.kernel.B",
                "layer.kernel.C",
                "layer.kernel.P",
                "layer.D",
            ];
            for (name, got) in NAMES.into_iter().zip(into).filter(|(_, got)| !got.is_empty()) {
                push(name, got.into_iter().map(|x| x - start).collect());
            }
            if from {
                let (name, want) = truth("from_initial.grad.state.initial");
                pairs.push(((name, state_in(&want, spec.pairs())), dstate0));
            }
        }
        for ((name, want), got) in pairs {
            found.push((name, relative(&wide(&got), &want)));
        }
    }
    found
}

fn check<T: Scalar>(algorithm: Algorithm, chunk: usize, output: f64, gradient: f64) {
    let (mut bad, mut ran) = (Vec::new(), 0);
    for case in Case::all() {
        let name = &case.name;
        let runs = match algorithm {
            Algorithm::Chunk => case.kernel_len == case.len,
            Algorithm::Cauchy => case.spec.discretization == Discretization::Bilinear,
            _ => true,
        };
        if !runs {
            continue;
        }
        ran += 1;
        for (what, err) in errors::<T>(&case, algorithm, chunk) {
            // Where C was recovered from C̃ of near-marginal modes the truth itself is less sharp.
            let blunt = if case.is_near_marginal() { 1e-9 } else { 0.0 };
            let tol = if what.contains("grad") { gradient } else { output.max(blunt) };
            if !(err.is_finite() && err <= tol) {
                bad.push(format!("{name} {what} {err:.1e}"));
            }
        }
    }
    assert!(ran >= 12, "{algorithm:?}: {ran} cases");
    assert!(bad.is_empty(), "{algorithm:?} T={chunk}: {bad:#?}");
}

#[test]
fn chunks_of_8_f64() {
    check::<f64>(Algorithm::Chunk, 8, 1e-10, 1e-8);
}
#[test]
fn chunks_of_16_f64() {
    check::<f64>(Algorithm::Chunk, 16, 1e-10, 1e-8);
}
#[test]
fn chunks_of_64_f64() {
    check::<f64>(Algorithm::Chunk, 64, 1e-10, 1e-8);
}
#[test]
fn chunks_of_8_f32() {
    check::<f32>(Algorithm::Chunk, 8, 1e-5, 1e-4);
}
#[test]
fn chunks_of_16_f32() {
    check::<f32>(Algorithm::Chunk, 16, 1e-5, 1e-4);
}
#[test]
fn chunks_of_64_f32() {
    check::<f32>(Algorithm::Chunk, 64, 1e-5, 1e-4);
}
#[test]
fn fft_f64() {
    check::<f64>(Algorithm::Fft, 64, 1e-10, 1e-8);
}
#[test]
fn fft_f32() {
    check::<f32>(Algorithm::Fft, 64, 1e-5, 1e-4);
}
#[test]
fn cauchy_f64() {
    check::<f64>(Algorithm::Cauchy, 64, 1e-10, 1e-9);
}
#[test]
fn cauchy_f32() {
    check::<f32>(Algorithm::Cauchy, 64, 1e-5, 1e-4);
}
