//! The weights of a checkpoint file and the configuration that is stored with them.

use crate::{
    error::{Error, Result, quoted},
    file::TorchFile,
    hyper, safetensors,
    tensor::StateDict,
    value::{Object, Value},
};
use serde_json::Value as Json;
use std::{fs::File, io::Read, path::Path};

/// Largest size of a safetensors file in bytes; such files are read as a whole.
const MAX_SAFETENSORS_BYTES: u64 = 1 << 36;

/// The state dict of a checkpoint file, and the configuration where the file has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The tensors by their names in the file.
    pub tensors: StateDict,
    /// The hyper-parameters, with omegaconf's references replaced by their values.
    pub config: Option<Json>,
    /// The key under which the weights were found: `"state_dict"`, `"model"`, `"model_state_dict"`, or `""` for none.
    pub under: &'static str,
}

/// Keys under which training programs store a state dict: that of PyTorch Lightning, that of the official `example.py`,
/// and another common one.
const WEIGHT_KEYS: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// Keys under which training programs store hyper-parameters.
const CONFIG_KEYS: [&str; 3] = ["hyper_parameters", "config", "hparams"];

impl Checkpoint {
    /// Reads a file: as safetensors where its name ends in `.safetensors` or its header is that of such a file, otherwise
    /// as a zip archive of `torch.save`.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Error::new(path.display(), "a readable file", e);
        match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
            || begins_as_safetensors(path).map_err(io)?
        {
            true => {
                let len = std::fs::metadata(path).map_err(io)?.len();
                if len > MAX_SAFETENSORS_BYTES {
                    return Err(Error::new(
                        path.display(),
                        format!("at most {MAX_SAFETENSORS_BYTES} bytes"),
                        len,
                    ));
                }
                Checkpoint::from_safetensors(&std::fs::read(path).map_err(io)?)
            }
            false => Checkpoint::from_file(TorchFile::open(path)?),
        }
    }

    /// Reads the bytes of a `.pt` or `.ckpt` file.
    pub fn from_torch(bytes: Vec<u8>) -> Result<Self> {
        Checkpoint::from_file(TorchFile::from_bytes(bytes)?)
    }

    /// Reads the bytes of a safetensors file, whose metadata may hold the configuration under `config`.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let (tensors, config) = safetensors::read_state_dict(bytes)?;
        Ok(Checkpoint { tensors, config, under: "" })
    }

    fn from_file(mut file: TorchFile) -> Result<Self> {
        let root = file.pickle.root;
        if file.pickle.items(root).is_none() {
            return Err(Error::new("the checkpoint", "a dict of tensors", file.pickle.kind(root)));
        }
        let (under, weights) = find_weights(&file, root)?;
        let config = match under {
            "" => None,
            _ => CONFIG_KEYS
                .iter()
                .filter_map(|key| file.pickle.get(root, key))
                .map(|value| hyper::to_json(&file.pickle, value))
                .find(Json::is_object),
        };
        Ok(Checkpoint { tensors: file.read_tensors(weights)?, config, under })
    }
}

/// Whether a file begins with a length and then a header in JSON. A zip archive never does.
fn begins_as_safetensors(path: &Path) -> std::io::Result<bool> {
    let mut first_bytes = Vec::new();
    File::open(path)?.take(9).read_to_end(&mut first_bytes)?;
    Ok(first_bytes.get(8) == Some(&b'{') && !first_bytes.starts_with(b"PK"))
}

/// The dict of the weights and its key: the root itself (with key "") where any of its values is a tensor.
fn find_weights(file: &TorchFile, root: Value) -> Result<(&'static str, Value)> {
    let pickle = &file.pickle;
    let is_tensor = |value: &Value| matches!(pickle.object(*value), Some(Object::Tensor(_)));
    let items = pickle.items(root).unwrap_or_default();
    if items.iter().any(|(_, value)| is_tensor(value))
        && WEIGHT_KEYS.iter().all(|k| pickle.get(root, k).is_none())
    {
        return Ok(("", root));
    }
    for key in WEIGHT_KEYS {
        if let Some(value) = pickle.get(root, key) {
            return match pickle.items(value) {
                Some(items) if items.iter().any(|(_, value)| is_tensor(value)) => Ok((key, value)),
                Some(_) => Err(Error::new(format!("key {}", quoted(key)), "tensors", "none")),
                None => Err(Error::new(
                    format!("key {}", quoted(key)),
                    "a state dict (save model.state_dict(), not the model)",
                    pickle.kind(value),
                )),
            };
        }
    }
    let keys: Vec<String> =
        items.iter().filter_map(|(key, _)| pickle.text(*key)).take(8).map(quoted).collect();
    Err(Error::new(
        "the checkpoint",
        "tensors, or a state dict under 'state_dict' or 'model'",
        match keys.is_empty() {
            true => "nothing".to_string(),
            false => format!("keys {}", keys.join(", ")),
        },
    ))
}
