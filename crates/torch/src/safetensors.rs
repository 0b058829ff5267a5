//! Reads and writes state dicts as safetensors files.

use crate::{
    error::{Error, Result, quoted},
    tensor::{Dtype, StateDict, Tensor},
};
use safetensors::{Dtype as Stored, SafeTensors, serialize, tensor::TensorView};
use serde_json::Value as Json;
use std::collections::HashMap;

/// The types of values that both this crate and safetensors know.
const DTYPES: [(Dtype, Stored); 11] = [
    (Dtype::F64, Stored::F64),
    (Dtype::F32, Stored::F32),
    (Dtype::F16, Stored::F16),
    (Dtype::Bf16, Stored::BF16),
    (Dtype::I64, Stored::I64),
    (Dtype::I32, Stored::I32),
    (Dtype::I16, Stored::I16),
    (Dtype::I8, Stored::I8),
    (Dtype::U8, Stored::U8),
    (Dtype::Bool, Stored::BOOL),
    (Dtype::C64, Stored::C64),
];

/// The tensors of a file, and the configuration where its metadata has one as JSON under `config`.
pub(crate) fn read_state_dict(bytes: &[u8]) -> Result<(StateDict, Option<Json>)> {
    let bad = |e| Error::new("file", "a sound safetensors file", e);
    let file = SafeTensors::deserialize(bytes).map_err(bad)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
    let mut tensors = StateDict::new();
    for (name, view) in file.iter() {
        let dtype = DTYPES.iter().find(|(_, stored)| *stored == view.dtype()).map(|(dtype, _)| *dtype);
        let dtype = dtype.ok_or_else(|| {
            Error::new(quoted(name), "a type that PyTorch models use", format!("{:?}", view.dtype()))
        })?;
        let tensor = Tensor::new(dtype, view.shape().to_vec(), view.data().to_vec())?;
        tensors.insert(name.to_string(), tensor);
    }
    let config = match header.metadata().as_ref().and_then(|meta| meta.get("config")) {
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|e| Error::new("metadata 'config'", "JSON", e))?)
        }
        None => None,
    };
    Ok((tensors, config))
}

/// The bytes of a safetensors file with these tensors and metadata.
pub fn to_safetensors(tensors: &StateDict, metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>> {
    let bad = |e| Error::new("tensors", "what safetensors can hold", e);
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let stored = DTYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype()).map(|(_, stored)| *stored);
        let stored = stored.ok_or_else(|| {
            Error::new(quoted(name), "a type that safetensors knows", format!("{:?}", tensor.dtype()))
        })?;
        let view = TensorView::new(stored, tensor.shape().to_vec(), tensor.bytes()).map_err(bad)?;
        views.push((name.as_str(), view));
    }
    serialize(views, metadata).map_err(bad)
}
