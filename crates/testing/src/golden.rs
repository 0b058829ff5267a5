//! The golden files: float64 truth of the official code (README beside them).

use crate::layer::Layer;
use s4_backend::{Discretization, Mode, SsmSpec, Transform};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// Where the files are: `S4_GOLDEN` where a program runs on another machine than the one that built it.
pub fn folder() -> PathBuf {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/golden");
    std::env::var("S4_GOLDEN").unwrap_or_else(|_| here.into()).into()
}

/// One file: its configuration, and every tensor as f64 with its shape.
#[derive(Clone, Debug)]
pub struct Golden {
    /// `config` of the metadata; null where there is none.
    pub config: Value,
    /// Shape and values by name.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Golden {
    /// Reads `{name}.safetensors` of the folder; panics where it cannot.
    pub fn read(name: &str) -> Golden {
        let path = folder().join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect(name);
        let config = header.metadata().as_ref().and_then(|m| m.get("config"));
        let config = config.map_or(Value::Null, |text| serde_json::from_str(text).expect(name));
        let file = SafeTensors::deserialize(&bytes).expect(name);
        let tensors = file.iter().map(|(tensor, view)| {
            let raw = view.data();
            let values = match view.dtype() {
                Dtype::F32 => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::F64 => raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                Dtype::I64 => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                other => panic!("{name}: {tensor} is {other:?}"),
            };
            (tensor.to_string(), (view.shape().to_vec(), values))
        });
        Golden { tensors: tensors.collect(), config }
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The values of a tensor; panics where there is none.
    #[track_caller]
    pub fn get(&self, name: &str) -> &[f64] {
        &self.tensor(name).1
    }

    /// The shape of a tensor; panics where there is none.
    #[track_caller]
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensor(name).0
    }

    #[track_caller]
    fn tensor(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// A number of the configuration.
    #[track_caller]
    pub fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap_or_else(|| panic!("no size {key}")) as usize
    }

    /// A transform of the configuration.
    fn transform(&self, key: &str) -> Transform {
        let name = self.config[key].as_str().expect(key);
        Transform::from_name(name).unwrap_or_else(|| panic!("transform {name}"))
    }

    /// The layer whose parameters have the official names after `prefix`, with the configuration of this file and
    /// the C given (the files hold C̃ where the official code would). No D where the file has none: zeros.
    pub fn layer(&self, name: &str, prefix: &str, c: &[f64]) -> Layer {
        let shape = |tensor: &str| self.shape(&format!("{prefix}{tensor}"));
        let get = |tensor: &str| self.get(&format!("{prefix}{tensor}")).to_vec();
        let flag = |key: &str| self.config[key].as_bool();
        let (heads, pairs) = (shape("inv_dt")[0], shape("A_real")[1]);
        let bidirectional = flag("bidirectional").unwrap_or(false);
        let p = format!("{prefix}P");
        let s4 = self.config["mode"] == "dplr";
        let zoh = self.config["disc"] == "zoh";
        let spec = SsmSpec {
            mode: if s4 { Mode::S4 } else { Mode::S4d },
            heads,
            state: 2 * pairs,
            n_ssm: shape("A_real")[0],
            rank: if s4 { self.shape(&p)[0] } else { 0 },
            channels: c.len() / (2 * pairs * heads * if bidirectional { 2 } else { 1 }),
            bidirectional,
            dt_per_state: flag("dt_tie") == Some(false),
            discretization: if zoh { Discretization::Zoh } else { Discretization::Bilinear },
            dt_transform: self.transform("dt_transform"),
            real_transform: self.transform("real_transform"),
            imag_transform: self.transform("imag_transform"),
            truncate: None,
        };
        let p = if s4 { self.get(&p).to_vec() } else { Vec::new() };
        let d = if self.has("layer.D") { self.get("layer.D").to_vec() } else { vec![0.0; spec.outputs()] };
        let values = [get("inv_dt"), get("A_real"), get("A_imag"), get("B"), c.to_vec(), p, d];
        Layer { name: name.into(), spec, rate: 1.0, values }
    }
}

/// The names of all cases that have a checkpoint.
pub fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap_or_else(|e| panic!("{}: {e}", folder().display()));
    let mut names: Vec<String> = entries
        .filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".ckpt.safetensors")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 22, "golden cases are missing: {names:?}");
    names
}

/// One case as a layer of the contract: float32 parameters (C in float64, recovered where the file says so).
#[derive(Clone, Debug)]
pub struct Case {
    /// Of its files.
    pub name: String,
    /// The layer, not truncated.
    pub spec: SsmSpec,
    /// Rows of `u`.
    pub batch: usize,
    /// Length of `u`.
    pub len: usize,
    /// Length of the kernel; below `len` the truth is of a truncated layer.
    pub kernel_len: usize,
    /// inv_dt, a_real, a_imag, b, c, p, d
    pub params: [Vec<f64>; 7],
    /// The checkpoint: parameters under their official names.
    pub checkpoint: Golden,
    /// The truth.
    pub truth: Golden,
}

impl Case {
    /// Reads both files of a case.
    pub fn load(name: &str) -> Case {
        let checkpoint = Golden::read(&format!("{name}.ckpt"));
        let truth = Golden::read(&format!("{name}.golden"));
        let Layer { spec, values, .. } = checkpoint.layer(name, "layer.kernel.", truth.get("C"));
        let u = truth.shape("u");
        let (batch, len, kernel_len) = (u[0], u[2], truth.shape("kernel")[2]);
        Case { name: name.into(), spec, batch, len, kernel_len, params: values, checkpoint, truth }
    }

    /// Every case of the folder.
    pub fn all() -> Vec<Case> {
        cases().iter().map(|name| Case::load(name)).collect()
    }

    /// The layer at a rate.
    pub fn layer(&self, rate: f64) -> Layer {
        Layer { name: self.name.clone(), spec: self.spec, rate, values: self.params.clone() }
    }

    /// C was recovered from C̃ of modes that hardly decay: the truth itself is sharp to 1e-9 only.
    pub fn is_near_marginal(&self) -> bool {
        let init = &self.truth.config["init"];
        init == "fourier" || init == "hippo"
    }
}

/// (batch, H, N/2, 2) of the files → (batch, H, 2, N/2) of the contract.
pub fn state_in(state: &[f64], pairs: usize) -> Vec<f64> {
    let rows = state.chunks_exact(2 * pairs);
    rows.flat_map(|row| (0..2).flat_map(move |part| (0..pairs).map(move |n| row[2 * n + part]))).collect()
}
