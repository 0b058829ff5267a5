//! The golden cases through every algorithm, chunks of 8, 16 and 64, f32 and f64.

use crate::{Cpu, SsmPlan, ssm::params::shorten};
use s4_backend::{
    Algorithm, CallOptions, Discretization, Memory, Mode, Scalar, SsmBackward, SsmCall, SsmForward, SsmGrads,
    SsmOps, SsmParams, SsmSpec, Transform,
};
use safetensors::{Dtype, SafeTensors};
use std::{collections::HashMap, fs};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/golden");

type Tensors = HashMap<String, Vec<f64>>;

fn read(file: &str) -> (Tensors, serde_json::Value) {
    let bytes = fs::read(format!("{FOLDER}/{file}.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = tensors.iter().map(|(name, view)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::I64 => data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            other => panic!("{name}: {other:?}"),
        };
        (name.to_string(), values)
    });
    let values = values.collect();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let config = header.metadata().as_ref().unwrap()["config"].clone();
    (values, serde_json::from_str(&config).unwrap())
}

/// One case: the layer and its float64 truth.
struct Case {
    spec: SsmSpec,
    batch: usize,
    len: usize,
    params: Tensors,
    truth: Tensors,
}

fn load(case: &str) -> Case {
    let (params, config) = read(&format!("{case}.ckpt"));
    let (truth, _) = read(&format!("{case}.golden"));
    let size = |name: &str| config[name].as_u64().unwrap() as usize;
    let transform = |name: &str| match config[name].as_str().unwrap() {
        "exp" => Transform::Exp,
        "softplus" => Transform::Softplus,
        "relu" => Transform::Relu,
        "sigmoid" => Transform::Sigmoid,
        "none" => Transform::None,
        other => panic!("{other}"),
    };
    let dplr = config["mode"] == "dplr";
    let pairs = size("d_state") / 2;
    let n_ssm = size("n_ssm");
    let len = size("L");
    let kernel_len = truth["kernel"].len()
        / (size("channels") * size("H") * if config["bidirectional"] == true { 2 } else { 1 });
    let spec = SsmSpec {
        mode: if dplr { Mode::S4 } else { Mode::S4d },
        heads: size("H"),
        state: 2 * pairs,
        n_ssm,
        rank: if dplr { params["layer.kernel.P"].len() / (2 * pairs * n_ssm) } else { 0 },
        channels: size("channels"),
        bidirectional: config["bidirectional"] == true,
        dt_per_state: config["dt_tie"] == false,
        discretization: if config["disc"] == "zoh" { Discretization::Zoh } else { Discretization::Bilinear },
        dt_transform: transform("dt_transform"),
        real_transform: transform("real_transform"),
        imag_transform: transform("imag_transform"),
        truncate: if kernel_len < len { Some(kernel_len) } else { None },
    };
    Case { spec, batch: size("B"), len, params, truth }
}

/// (batch, H, N/2, 2) to (batch, H, 2, N/2).
fn state_in(x: &[f64], pairs: usize) -> Vec<f64> {
    x.chunks(2 * pairs)
        .flat_map(|s| (0..2).flat_map(move |part| (0..pairs).map(move |n| s[2 * n + part])))
        .collect()
}

fn cast<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

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

impl Case {
    /// Gradient of sum(y·g) with respect to the SSM's output: back through GLU, linear and GELU.
    fn dy(&self) -> Vec<f64> {
        let (wide, heads) = (self.spec.outputs(), self.spec.heads);
        let (s, g) = (&self.truth["ssm_out"], &self.truth["g"]);
        let (weight, bias) = (&self.params["output_linear.0.weight"], &self.params["output_linear.0.bias"]);
        let mut dy = vec![0.0; s.len()];
        let cdf = |x: f64| 0.5 * (1.0 + erf(x / 2f64.sqrt()));
        for b in 0..self.batch {
            for t in 0..self.len {
                let at = |feature: usize| (b * wide + feature) * self.len + t;
                let gelu: Vec<f64> = (0..wide).map(|f| s[at(f)] * cdf(s[at(f)])).collect();
                let z = |o: usize| bias[o] + (0..wide).map(|f| weight[o * wide + f] * gelu[f]).sum::<f64>();
                for o in 0..heads {
                    let g = g[(b * heads + o) * self.len + t];
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
}

/// Relative errors of everything that a run gives, by name.
fn errors<T: Scalar>(case: &Case, algorithm: Algorithm, chunk: usize) -> Vec<(String, f64)> {
    let be = Cpu::<T>::new(2).unwrap();
    let spec = &case.spec;
    let param = |name: &str| cast::<T>(case.params.get(name).map_or(&[], |v| v));
    let (inv_dt, a_real, a_imag) =
        (param("layer.kernel.inv_dt"), param("layer.kernel.A_real"), param("layer.kernel.A_imag"));
    let (b, p, d) = (param("layer.kernel.B"), param("layer.kernel.P"), param("layer.D"));
    let c = cast::<T>(&case.truth["C"]);
    let params: SsmParams<'_, Cpu<T>> =
        SsmParams { inv_dt: &inv_dt, a_real: &a_real, a_imag: &a_imag, b: &b, c: &c, p: &p, d: &d };
    let options = CallOptions { algorithm, ..CallOptions::default() };
    let call = SsmCall { spec: *spec, batch: case.batch, len: case.len, options, version: 1 };
    let mut plan = SsmPlan::with_chunk(spec, chunk);
    let mut ws = be.workspace();
    let u = cast::<T>(&case.truth["u"]);
    let saved_len = plan.saved_len(&be, &call);
    let mut found = Vec::new();
    let mut runs = vec![""];
    if case.truth.contains_key("state.initial") {
        runs.push("from_initial");
    }
    for run in runs {
        let from = !run.is_empty();
        let states = case.truth.contains_key("state.final");
        let truth = |name: &str| case.truth.get(name).map(|x| (name.to_string(), x.clone()));
        let mut y = vec![T::nan(); case.batch * spec.outputs() * case.len];
        let mut end = vec![T::nan(); spec.state_len(case.batch)];
        let mut saved = vec![T::nan(); saved_len];
        let state0 = from.then(|| cast::<T>(&state_in(&case.truth["state.initial"], spec.pairs())));
        let forward = SsmForward {
            y: &mut y[..],
            state_end: states.then_some(&mut end[..]),
            saved: Some(&mut saved[..]),
            u: &u[..],
            state0: state0.as_deref(),
            params: shorten(&params),
            call,
        };
        be.ssm_forward(forward, &mut plan, &mut ws).unwrap();
        let mut pairs = Vec::new();
        let names = if from {
            ["ssm_out.from_initial", "state.final_from_initial"]
        } else {
            ["ssm_out", "state.final"]
        };
        pairs.push((truth(names[0]).unwrap(), y));
        if states {
            let (name, want) = truth(names[1]).unwrap();
            pairs.push(((name, state_in(&want, spec.pairs())), end));
        }
        let with_gradient = !from || case.truth.contains_key("from_initial.gs");
        if with_gradient {
            let dy = cast::<T>(&if from { case.truth["from_initial.g"].clone() } else { case.dy() });
            let dend = from.then(|| cast::<T>(&state_in(&case.truth["from_initial.gs"], spec.pairs())));
            let mut du = vec![T::nan(); u.len()];
            let mut dstate0 = vec![T::nan(); spec.state_len(case.batch)];
            // Gradients accumulate: f64 starts from one; in f32 that would round small gradients away.
            let start = if T::DTYPE == s4_backend::Dtype::F64 { T::one() } else { T::zero() };
            let fresh = |like: &[T]| vec![start; like.len()];
            let (mut g_inv_dt, mut g_a_real, mut g_a_imag) = (fresh(&inv_dt), fresh(&a_real), fresh(&a_imag));
            let (mut g_b, mut g_c, mut g_p, mut g_d) = (fresh(&b), fresh(&c), fresh(&p), fresh(&d));
            let grads: SsmGrads<'_, Cpu<T>> = SsmGrads {
                inv_dt: &mut g_inv_dt,
                a_real: &mut g_a_real,
                a_imag: &mut g_a_imag,
                b: &mut g_b,
                c: &mut g_c,
                p: &mut g_p,
                d: &mut g_d,
            };
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
            be.ssm_backward(backward, &mut plan, &mut ws).unwrap();
            let prefix = if from { "from_initial.grad." } else { "grad." };
            let mut push =
                |name: &str, got: Vec<T>| pairs.push((truth(&format!("{prefix}{name}")).unwrap(), got));
            push("u", du);
            for (name, got) in [
                ("layer.kernel.inv_dt", g_inv_dt),
                ("layer.kernel.A_real", g_a_real),
                ("layer.kernel.A_imag", g_a_imag),
                ("layer.kernel.B", g_b),
                ("layer.kernel.C", g_c),
                ("layer.kernel.P", g_p),
                ("layer.D", g_d),
            ] {
                if !got.is_empty() {
                    push(name, got.into_iter().map(|x| x - start).collect());
                }
            }
            if from {
                let (name, want) = truth("from_initial.grad.state.initial").unwrap();
                pairs.push(((name, state_in(&want, spec.pairs())), dstate0));
            }
        }
        for ((name, want), got) in pairs {
            assert_eq!(want.len(), got.len(), "{name}");
            let diff: f64 = want.iter().zip(&got).map(|(a, &b)| (a - b.to_f64()).powi(2)).sum();
            let norm: f64 = want.iter().map(|a| a * a).sum();
            found.push((name, (diff / norm).sqrt()));
        }
    }
    found
}

fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(FOLDER)
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".ckpt.safetensors").map(String::from))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    names
}

fn check<T: Scalar>(algorithm: Algorithm, chunk: usize, output: f64, gradient: f64) {
    let (mut bad, mut ran) = (Vec::new(), 0);
    for name in cases() {
        let case = load(&name);
        let runs = match algorithm {
            Algorithm::Chunk => case.spec.truncate.is_none(),
            Algorithm::Cauchy => case.spec.discretization == Discretization::Bilinear,
            _ => true,
        };
        if !runs {
            continue;
        }
        ran += 1;
        for (what, err) in errors::<T>(&case, algorithm, chunk) {
            // Where C was recovered from C̃ of near-marginal modes the truth itself is less sharp.
            let blunt = if name.contains("fourier") || name.contains("hippo") { 1e-9 } else { 0.0 };
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
