//! Golden cases as layers of the CPU backend: float32 parameters (C recovered where the file says so), float64 truth.
#![allow(dead_code, reason = "each test binary uses its own part")]

use s4_backend::{Discretization, Mode, Scalar, SsmParams, SsmSpec, Transform};
use s4_cpu::Cpu;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where the files are; `S4_GOLDEN` where the program runs on another machine than the one that built it.
pub fn dir() -> String {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/golden");
    std::env::var("S4_GOLDEN").unwrap_or_else(|_| here.into())
}

pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

pub fn read(file: &str) -> (Tensors, Value) {
    let bytes = std::fs::read(format!("{}/{file}", dir())).expect("fixture");
    let (_, meta) = SafeTensors::read_metadata(&bytes).expect("header");
    let config = meta
        .metadata()
        .as_ref()
        .and_then(|m| m.get("config"))
        .map(|s| serde_json::from_str(s).expect("config"));
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensors = all
        .iter()
        .map(|(name, view)| {
            let raw = view.data();
            let data = match view.dtype() {
                Dtype::F64 => {
                    raw.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8"))).collect()
                }
                Dtype::F32 => {
                    raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4")) as f64).collect()
                }
                Dtype::I64 => {
                    raw.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8")) as f64).collect()
                }
                other => panic!("dtype {other:?}"),
            };
            (name.to_string(), (view.shape().to_vec(), data))
        })
        .collect();
    (tensors, config.unwrap_or(Value::Null))
}

/// One case: its layer in f64 and its truth.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub spec: SsmSpec,
    pub batch: usize,
    pub len: usize,
    /// inv_dt, a_real, a_imag, b, c, p, d
    pub params: [Vec<f64>; 7],
    pub truth: Tensors,
}

fn transform(v: &Value) -> Transform {
    match v.as_str().expect("transform") {
        "exp" => Transform::Exp,
        "softplus" => Transform::Softplus,
        "relu" => Transform::Relu,
        "sigmoid" => Transform::Sigmoid,
        "none" => Transform::None,
        other => panic!("{other}"),
    }
}

impl Case {
    pub fn load(name: &str) -> Case {
        let (ckpt, _) = read(&format!("{name}.ckpt.safetensors"));
        let (truth, config) = read(&format!("{name}.golden.safetensors"));
        let size = |k: &str| config[k].as_u64().expect("size") as usize;
        let s4 = config["mode"] == "dplr";
        let get = |k: &str| ckpt.get(k).map(|t| t.1.clone()).unwrap_or_default();
        let spec = SsmSpec {
            mode: if s4 { Mode::S4 } else { Mode::S4d },
            heads: size("H"),
            state: 2 * ckpt["layer.kernel.A_real"].0[1],
            n_ssm: ckpt["layer.kernel.A_real"].0[0],
            rank: if s4 { ckpt["layer.kernel.P"].0[0] } else { 0 },
            channels: size("channels"),
            bidirectional: config["bidirectional"].as_bool().expect("bool"),
            dt_per_state: !config["dt_tie"].as_bool().expect("bool"),
            discretization: if config["disc"] == "zoh" {
                Discretization::Zoh
            } else {
                Discretization::Bilinear
            },
            dt_transform: transform(&config["dt_transform"]),
            real_transform: transform(&config["real_transform"]),
            imag_transform: transform(&config["imag_transform"]),
            truncate: None,
        };
        let params = [
            get("layer.kernel.inv_dt"),
            get("layer.kernel.A_real"),
            get("layer.kernel.A_imag"),
            get("layer.kernel.B"),
            truth["C"].1.clone(),
            get("layer.kernel.P"),
            get("layer.D"),
        ];
        let u = &truth["u"].0;
        Case { name: name.into(), spec, batch: u[0], len: u[2], params, truth }
    }

    /// Every case of the folder.
    pub fn all() -> Vec<Case> {
        let mut names: Vec<String> = std::fs::read_dir(dir())
            .expect("fixtures")
            .filter_map(|e| {
                e.expect("entry").file_name().to_str()?.strip_suffix(".ckpt.safetensors").map(String::from)
            })
            .collect();
        names.sort();
        assert!(names.len() >= 20, "fixtures are missing");
        names.iter().map(|n| Case::load(n)).collect()
    }

    /// The parameters in T.
    pub fn cast<T: Scalar>(&self) -> [Vec<T>; 7] {
        self.params.each_ref().map(|v| cast(v))
    }
}

pub fn cast<T: Scalar>(v: &[f64]) -> Vec<T> {
    v.iter().map(|&x| T::from_f64(x)).collect()
}

pub fn view<T: Scalar>(p: &[Vec<T>; 7]) -> SsmParams<'_, Cpu<T>> {
    SsmParams { inv_dt: &p[0], a_real: &p[1], a_imag: &p[2], b: &p[3], c: &p[4], p: &p[5], d: &p[6] }
}

/// ‖a − b‖/‖b‖, infinite where something is not finite.
pub fn rel<T: Scalar>(a: &[T], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut num, mut den) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        num += ((*a).to_f64() - b).powi(2);
        den += b * b;
    }
    let e = (num / den.max(1e-300)).sqrt();
    if e.is_finite() { e } else { f64::INFINITY }
}

/// (batch, H, N/2, 2) of the files → (batch, H, 2, N/2) of the contract.
pub fn state_in<T: Scalar>(public: &[f64], pairs: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(public.len());
    for head in public.chunks_exact(2 * pairs) {
        for part in 0..2 {
            out.extend((0..pairs).map(|i| T::from_f64(head[2 * i + part])));
        }
    }
    out
}
