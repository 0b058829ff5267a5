//! Whole models of the official repository (its `train.py` and `example.py`) as models of this library, and back.

use crate::{
    bytes::dtype,
    checkpoint::{load_bytes, model_metadata, model_tensors},
    config::ModelConfig,
    model::Model,
    official::{NamedTensor, StoredSsm, c_of_c_tilde},
};
use s4_backend::{Backend, Code, Error, Result, Scalar};
use s4_torch::{Checkpoint, Dtype, OfficialModel, StateDict, Tensor, to_safetensors};
use std::path::Path;

/// A model read from an official checkpoint.
pub struct ImportedModel<B: Backend> {
    /// The model, in evaluation's state: no optimiser comes along.
    pub model: Model<B>,
    /// What neither tensors nor configuration told and was assumed, a sentence each.
    pub notes: Vec<String>,
}

/// `ERR_S4_CHECKPOINT`, with the key or option that does not fit.
fn refused(error: s4_torch::Error) -> Error {
    Error::new(Code::Checkpoint, "official model", format!("{}: {}", error.at, error.expected), error.got)
}

/// The file mapped to this library's options and names, every C̃ solved to C in f64 and rounded to the scalar.
fn mapped<T: Scalar>(path: &Path, config: Option<&str>) -> Result<(OfficialModel, ModelConfig)> {
    let bad = |expected: &str, got: String| Error::new(Code::Checkpoint, "official model", expected, got);
    let Checkpoint { tensors, config: stored, .. } = Checkpoint::open(path).map_err(refused)?;
    let given: Option<serde_json::Value> = config
        .map(|text| serde_json::from_str(text).map_err(|e| bad("a configuration in JSON", e.to_string())))
        .transpose()?;
    let mut official = OfficialModel::new(tensors, given.or(stored).as_ref()).map_err(refused)?;
    let config = ModelConfig::from_json(&official.config.to_string())
        .and_then(|config| config.check("official model").map(|()| config))
        .map_err(|e| bad(&e.expected, e.got))?;
    for tilde in official.c_tildes.clone() {
        let c = solved_c::<T>(&official.tensors, &config, &tilde.name, tilde.length)?;
        official.set_solved_c(&tilde.name, c).map_err(refused)?;
    }
    Ok((official, config))
}

/// C of the layer whose tensor `name` holds C̃ = C(I − Ā^length).
fn solved_c<T: Scalar>(tensors: &StateDict, config: &ModelConfig, name: &str, length: u64) -> Result<Tensor> {
    let missing =
        |name: &str| Error::new(Code::Checkpoint, "official model", format!("tensor '{name}'"), "none");
    let kernel = name.strip_suffix('C').ok_or_else(|| missing("…kernel.C"))?;
    let read = |part: &str| {
        tensors
            .get(&format!("{kernel}{part}"))
            .map(|t| NamedTensor { shape: t.shape().to_vec(), data: t.to_f64() })
    };
    let need = |part: &str| read(part).ok_or_else(|| missing(&format!("{kernel}{part}")));
    let (inv_dt, a_real, a_imag) = (need("inv_dt")?, need("A_real")?, need("A_imag")?);
    let (b, c, p) = (need("B")?, need("C")?, read("P"));
    let stored = StoredSsm { inv_dt: &inv_dt, a_real: &a_real, a_imag: &a_imag, b: &b, c: &c, p: p.as_ref() };
    let length = usize::try_from(length).map_err(|_| missing("l_kernel of this machine's sizes"))?;
    let values: Vec<f64> = c_of_c_tilde(&config.block.layer.spec(), length, &stored)?
        .into_iter()
        .map(|x| T::from_f64(x).to_f64())
        .collect();
    Tensor::from_f64(torch_dtype::<T>(), c.shape, &values).map_err(refused)
}

/// The torch reader's name of a scalar type.
fn torch_dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

/// A model from a checkpoint of the official code: `.pt` and `.ckpt` (zip archives of `torch.save`; no code in them is run) or
/// safetensors. `config`: JSON of what `train.py` was configured with, or options of its layer, where the file has none.
/// `ERR_S4_CHECKPOINT` names the key or option that cannot be mapped.
pub fn model_from_official<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<ImportedModel<B>> {
    let (official, config) = mapped::<B::Scalar>(path, config)?;
    // A checkpoint of this library's own is made of it, so that names, shapes and values are checked where all others are.
    let mut tensors = StateDict::new();
    for (name, tensor) in &official.tensors {
        let plain = match tensor.dtype() {
            Dtype::F32 | Dtype::F64 => tensor.clone(),
            // F16 and BF16, whose values F32 holds exactly.
            _ => Tensor::from_f64(Dtype::F32, tensor.shape().to_vec(), &tensor.to_f64()).map_err(refused)?,
        };
        tensors.insert(name.clone(), plain);
    }
    let bytes = to_safetensors(&tensors, Some(model_metadata::<B::Scalar>(&config))).map_err(refused)?;
    Ok(ImportedModel { model: load_bytes(be, &bytes)?.model, notes: official.notes })
}

/// The model as an official state dict in safetensors, in the names, shapes and types of the file that it came from. What has not
/// changed since is written bit for bit, a C̃ too; a C that changed is written as C, with `l_kernel` 0.
pub fn model_to_official<B: Backend>(
    model: &Model<B>,
    original: &Path,
    config: Option<&str>,
) -> Result<Vec<u8>> {
    let (official, _) = mapped::<B::Scalar>(original, config)?;
    let mut ours = StateDict::new();
    for (name, shape, bytes) in model_tensors(model)? {
        debug_assert_eq!(dtype::<B::Scalar>().bitsize() / 8, torch_dtype::<B::Scalar>().size());
        let tensor = Tensor::new(torch_dtype::<B::Scalar>(), shape, bytes).map_err(refused)?;
        ours.insert(name, tensor);
    }
    let theirs = official.to_official(&ours).map_err(refused)?;
    to_safetensors(&theirs, None).map_err(refused)
}
