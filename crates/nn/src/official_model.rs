//! Loads whole models of the official PyTorch S4 repository, trained by its `train.py` or `example.py`, as models of this
//! library, and writes them back.

use crate::{
    checkpoint::{load_bytes, model_metadata, model_tensors},
    config::ModelConfig,
    model::Model,
    official::{NamedTensor, StoredSsm, c_from_c_tilde},
};
use s4_backend::{Backend, Code, Error, Result, Scalar};
use s4_torch::{Checkpoint, Dtype, OfficialModel, StateDict, Tensor, to_safetensors};
use std::path::Path;

/// A model that was loaded from an official checkpoint.
pub struct ImportedModel<B: Backend> {
    /// The model. The state of an official optimiser is not loaded.
    pub model: Model<B>,
    /// A sentence on each thing that was assumed, because neither the tensors nor the configuration say it.
    pub notes: Vec<String>,
}

/// `ERR_S4_CHECKPOINT` for an error of the reader of PyTorch files, with the key or option that does not fit.
fn checkpoint_error(error: s4_torch::Error) -> Error {
    Error::new(Code::Checkpoint, "official model", format!("{}: {}", error.at, error.expected), error.got)
}

/// Reads an official file: its tensors by this library's names, with C solved in f64 from each C̃ and rounded to `T`, and
/// its options as those of this library.
fn read_official<T: Scalar>(path: &Path, config: Option<&str>) -> Result<(OfficialModel, ModelConfig)> {
    let invalid = |expected: &str, got: String| Error::new(Code::Checkpoint, "official model", expected, got);
    let Checkpoint { tensors, config: stored, .. } = Checkpoint::open(path).map_err(checkpoint_error)?;
    let given: Option<serde_json::Value> = config
        .map(|text| serde_json::from_str(text).map_err(|e| invalid("a configuration in JSON", e.to_string())))
        .transpose()?;
    let mut official = OfficialModel::new(tensors, given.or(stored).as_ref()).map_err(checkpoint_error)?;
    let config = ModelConfig::from_json(&official.config.to_string())
        .and_then(|config| config.check("official model").map(|()| config))
        .map_err(|e| invalid(&e.expected, e.got))?;
    for tilde in official.c_tildes.clone() {
        let c = solved_c::<T>(&official.tensors, &config, &tilde.name, tilde.length)?;
        official.set_solved_c(&tilde.name, c).map_err(checkpoint_error)?;
    }
    Ok((official, config))
}

/// Solves C of the layer whose tensor `name` holds C̃ = C(I − Ā^length), and rounds it to `T`.
fn solved_c<T: Scalar>(tensors: &StateDict, config: &ModelConfig, name: &str, length: u64) -> Result<Tensor> {
    let missing =
        |name: &str| Error::new(Code::Checkpoint, "official model", format!("tensor '{name}'"), "none");
    let prefix = name.strip_suffix('C').ok_or_else(|| missing("…kernel.C"))?;
    let optional = |tensor_name: &str| {
        tensors
            .get(&format!("{prefix}{tensor_name}"))
            .map(|t| NamedTensor { shape: t.shape().to_vec(), data: t.to_f64() })
    };
    let required =
        |tensor_name: &str| optional(tensor_name).ok_or_else(|| missing(&format!("{prefix}{tensor_name}")));
    let (inv_dt, a_real, a_imag) = (required("inv_dt")?, required("A_real")?, required("A_imag")?);
    let (b, c, p) = (required("B")?, required("C")?, optional("P"));
    let stored = StoredSsm { inv_dt: &inv_dt, a_real: &a_real, a_imag: &a_imag, b: &b, c: &c, p: p.as_ref() };
    let length = usize::try_from(length).map_err(|_| missing("l_kernel of this machine's sizes"))?;
    let values: Vec<f64> = c_from_c_tilde(&config.block.layer.spec(), length, &stored)?
        .into_iter()
        .map(|x| T::from_f64(x).to_f64())
        .collect();
    Tensor::from_f64(torch_dtype::<T>(), c.shape, &values).map_err(checkpoint_error)
}

/// A scalar type in the words of the reader of PyTorch files, crate `s4_torch`.
fn torch_dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

/// Loads a model from a checkpoint of the official code: a `.pt` or `.ckpt` file (a zip archive of `torch.save`, of which
/// no code is run) or safetensors. `config`, where the file holds none: the configuration of `train.py`, or the options of
/// its layer, as JSON. `ERR_S4_CHECKPOINT` names the key or option that has no counterpart here.
pub fn model_from_official<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<ImportedModel<B>> {
    let (official, config) = read_official::<B::Scalar>(path, config)?;
    // The tensors become a checkpoint of this library, which is then loaded: names, shapes and values are checked there.
    let mut tensors = StateDict::new();
    for (name, tensor) in &official.tensors {
        let as_f32_or_f64 = match tensor.dtype() {
            Dtype::F32 | Dtype::F64 => tensor.clone(),
            // F16 and BF16, whose values an F32 holds exactly.
            _ => Tensor::from_f64(Dtype::F32, tensor.shape().to_vec(), &tensor.to_f64())
                .map_err(checkpoint_error)?,
        };
        tensors.insert(name.clone(), as_f32_or_f64);
    }
    let metadata = model_metadata::<B::Scalar>(&config).into_iter().collect();
    let bytes = to_safetensors(&tensors, Some(metadata)).map_err(checkpoint_error)?;
    Ok(ImportedModel { model: load_bytes(be, &bytes)?.model, notes: official.notes })
}

/// A model as an official state dict in the bytes of a safetensors file, with the names, shapes and types of the file
/// `original` that it was loaded from. Tensors that have not changed since are the same bit for bit, a C̃ too; a C that has
/// changed is written as C, with `l_kernel` 0.
pub fn model_to_official<B: Backend>(
    model: &Model<B>,
    original: &Path,
    config: Option<&str>,
) -> Result<Vec<u8>> {
    let (official, _) = read_official::<B::Scalar>(original, config)?;
    let mut our_tensors = StateDict::new();
    for tensor in model_tensors(model)? {
        debug_assert_eq!(tensor.dtype.bitsize() / 8, torch_dtype::<B::Scalar>().size());
        let bytes = (tensor.bytes)()?.into_owned();
        let ours = Tensor::new(torch_dtype::<B::Scalar>(), tensor.shape, bytes).map_err(checkpoint_error)?;
        our_tensors.insert(tensor.name, ours);
    }
    let official_tensors = official.to_official(&our_tensors).map_err(checkpoint_error)?;
    to_safetensors(&official_tensors, None).map_err(checkpoint_error)
}
