//! Loads whole models of the official PyTorch S4 repository, trained by its `train.py` or `example.py`, as models of this
//! library, and writes them back.

use crate::{
    checkpoint::{load_bytes, model_metadata, model_tensors},
    config::ModelConfig,
    model::Model,
    official::{checkpoint_error, given_config, solve_c_tildes, state_dict_error, torch_dtype},
};
use s4_backend::{Backend, Result, Scalar};
use s4_torch::{Checkpoint, Dtype, OfficialModel, StateDict, Tensor, to_safetensors};
use std::path::Path;

/// A model that was loaded from an official checkpoint.
pub struct ImportedModel<B: Backend> {
    /// The model. The state of an official optimiser is not loaded.
    pub model: Model<B>,
    /// A sentence on each thing that was assumed, because neither the tensors nor the configuration say it.
    pub notes: Vec<String>,
}

/// Reads an official file: its tensors by this library's names, with C solved in f64 from each C̃ and rounded to `T`, and
/// its options as those of this library.
fn read_official<T: Scalar>(path: &Path, config: Option<&str>) -> Result<(OfficialModel, ModelConfig)> {
    let Checkpoint { tensors, config: stored, .. } = Checkpoint::open(path).map_err(checkpoint_error)?;
    let config = given_config(config)?.or(stored);
    let mut official = OfficialModel::new(tensors, config.as_ref()).map_err(checkpoint_error)?;
    let config = ModelConfig::from_json(&official.config.to_string())
        .map_err(|e| state_dict_error(e.expected, e.got))?;
    solve_c_tildes::<T>(&mut official, &config.block.layer.spec())?;
    Ok((official, config))
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
