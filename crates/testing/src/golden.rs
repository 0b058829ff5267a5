//! Reads the golden files: inputs, parameters and results that the official code computed in float64 (see the README in
//! their folder).

use crate::layer::Layer;
use s4_backend::{Discretization, Mode, SsmSpec, Transform};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// The folder of the golden files: the environment variable `S4_GOLDEN`, which programs need that run on another
/// machine than the one that built them, or else the folder in this repository.
pub fn folder() -> PathBuf {
    let folder_in_repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/golden");
    std::env::var("S4_GOLDEN").unwrap_or_else(|_| folder_in_repository.into()).into()
}

/// The content of one golden file: its configuration, and every tensor as f64 with its shape.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The configuration, from the key `config` of the file's metadata; null where there is none.
    pub config: Value,
    /// Shape and values by name.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Golden {
    /// Reads the file `{name}.safetensors`; panics where it cannot be read.
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

    /// A size in the configuration; panics where there is none.
    #[track_caller]
    pub fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap_or_else(|| panic!("no size {key}")) as usize
    }

    /// A parameter transform in the configuration.
    fn transform(&self, key: &str) -> Transform {
        let name = self.config[key].as_str().expect(key);
        Transform::from_name(name).unwrap_or_else(|| panic!("transform {name}"))
    }

    /// The layer whose parameters have in this file their official names after `prefix`. C is given, since the files
    /// have C̃ in its place where the official code stores that. D is zero where the file has none.
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

/// The names of all golden cases that consist of a checkpoint and a file of results.
pub fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap_or_else(|e| panic!("{}: {e}", folder().display()));
    let mut names: Vec<String> = entries
        .filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".ckpt.safetensors")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 22, "golden cases are missing: {names:?}");
    names
}

/// One golden case: a layer with float32 parameters (C in float64, computed from C̃ where the checkpoint has that), and
/// its true results.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of its files, without endings.
    pub name: String,
    /// Description of the layer, without truncation.
    pub spec: SsmSpec,
    /// Number of sequences of the input u.
    pub batch: usize,
    /// Length of the input u.
    pub len: usize,
    /// Length of the kernel; where it is below `len`, the results are those of a truncated layer.
    pub kernel_len: usize,
    /// The parameters inv_dt, a_real, a_imag, b, c, p, d.
    pub params: [Vec<f64>; 7],
    /// The checkpoint, with parameters under their official names.
    pub checkpoint: Golden,
    /// The inputs and the true results.
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

    /// Reads every case.
    pub fn all() -> Vec<Case> {
        cases().iter().map(|name| Case::load(name)).collect()
    }

    /// The layer with every Δ multiplied by `rate`.
    pub fn layer(&self, rate: f64) -> Layer {
        Layer { name: self.name.clone(), spec: self.spec, rate, values: self.params.clone() }
    }

    /// Whether the layer has modes that hardly decay. C was computed from C̃ for them, which is accurate to 1e-9 only.
    pub fn is_near_marginal(&self) -> bool {
        let init = &self.truth.config["init"];
        init == "fourier" || init == "hippo"
    }
}

/// Reorders a state from the layout of the files, (batch, H, N/2, 2), to that of backends, (batch, H, 2, N/2).
pub fn state_in(state: &[f64], pairs: usize) -> Vec<f64> {
    let rows = state.chunks_exact(2 * pairs);
    rows.flat_map(|row| (0..2).flat_map(move |part| (0..pairs).map(move |n| row[2 * n + part]))).collect()
}
