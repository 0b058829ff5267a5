//! The keys of an official state dict, with a record of those that were mapped: a key that is left over is an error.

use super::mapping::check_values;
use crate::{
    error::{Error, Result, listed, quoted},
    tensor::{StateDict, Tensor},
};
use std::collections::BTreeSet;

/// The keys of a state dict while it is mapped.
pub(super) struct Keys<'a> {
    tensors: &'a StateDict,
    /// What stands before every name in the file: of a model `module.` where every key starts with it (torch's
    /// DataParallel adds it), otherwise nothing; of a block whatever a larger model calls it.
    prefix: String,
    /// Keys in the file that have been mapped.
    used_names: BTreeSet<String>,
}

impl<'a> Keys<'a> {
    /// The keys of a whole model.
    pub fn of_model(tensors: &'a StateDict) -> Self {
        const WRAPPED: &str = "module.";
        let wrapped = !tensors.is_empty() && tensors.keys().all(|k| k.starts_with(WRAPPED));
        let prefix = if wrapped { WRAPPED } else { "" };
        Keys { tensors, prefix: prefix.into(), used_names: BTreeSet::new() }
    }
    /// The keys of a single block. What stands before its names is found by the step size, which every block has once.
    pub fn of_block(tensors: &'a StateDict) -> Result<Self> {
        let mut prefixes = tensors.keys().filter_map(|key| {
            STEP_SIZES.iter().find_map(|name| key.strip_suffix(name)).map(|prefix| (key, prefix))
        });
        match (prefixes.next(), prefixes.next()) {
            (Some((_, prefix)), None) => {
                Ok(Keys { tensors, prefix: prefix.into(), used_names: BTreeSet::new() })
            }
            (Some((one, _)), Some((other, _))) => Err(Error::new(
                "state dict",
                "the tensors of one block",
                listed([one, other].map(String::as_str).into_iter()),
            )),
            (None, _) => Err(Error::new(
                "state dict",
                format!("a block's key that ends in {}", STEP_SIZES.map(quoted).join(" or ")),
                match tensors.is_empty() {
                    true => "none".to_string(),
                    false => listed(tensors.keys().map(String::as_str)),
                },
            )),
        }
    }
    /// The key in the file of a name without prefix.
    pub fn key_in_file(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    /// Whether the file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&self.key_in_file(name))
    }
    /// Names (without the prefix) that start with `start`.
    pub fn names_starting_with(&self, start: &str) -> Vec<&'a str> {
        let start = self.key_in_file(start);
        self.tensors.keys().filter(|k| k.starts_with(&start)).map(|k| &k[self.prefix.len()..]).collect()
    }
    /// The tensor of this name; does not record the key as mapped.
    pub fn tensor(&self, name: &str) -> Result<&'a Tensor> {
        let key_in_file = self.key_in_file(name);
        self.tensors
            .get(&key_in_file)
            .ok_or_else(|| Error::new("state dict", format!("key {}", quoted(&key_in_file)), "none"))
    }
    /// The tensor of this name, of finite floating-point numbers with `dims` dimensions; records the key as mapped.
    pub fn real_tensor(&mut self, name: &str, dims: usize) -> Result<&'a Tensor> {
        let tensor = self.tensor(name)?;
        let key_in_file = self.key_in_file(name);
        if tensor.shape().len() != dims || tensor.is_empty() {
            return Err(Error::new(
                quoted(&key_in_file),
                format!("{dims} dimensions, none of them 0"),
                format!("{:?}", tensor.shape()),
            ));
        }
        check_values(&key_in_file, tensor)?;
        self.used_names.insert(key_in_file);
        Ok(tensor)
    }
    /// The tensor of this name, of finite floating-point numbers in exactly this shape; records the key as mapped.
    pub fn tensor_of_shape(&mut self, name: &str, shape: &[usize]) -> Result<&'a Tensor> {
        let tensor = self.real_tensor(name, shape.len())?;
        match tensor.shape() == shape {
            true => Ok(tensor),
            false => Err(Error::new(
                quoted(&self.key_in_file(name)),
                format!("shape {shape:?}"),
                format!("{:?}", tensor.shape()),
            )),
        }
    }
    /// Records a key as mapped without looking at its values; gives the key in the file.
    pub fn mark_used(&mut self, name: &str) -> String {
        let key_in_file = self.key_in_file(name);
        self.used_names.insert(key_in_file.clone());
        key_in_file
    }
    /// Refuses the first key that was not mapped.
    pub fn all_used(&self) -> Result<()> {
        match self.tensors.keys().find(|k| !self.used_names.contains(*k)) {
            Some(key) => Err(unmapped_key(key)),
            None => Ok(()),
        }
    }
}

/// The names of a block's step size in versions 4 and 3 and in the minimal S4D. The second ends as the third does, and is
/// looked for first.
const STEP_SIZES: [&str; 3] = ["layer.kernel.inv_dt", "kernel.kernel.log_dt", "kernel.log_dt"];

/// Features of official models that this library does not have, by the ending of their keys.
const UNSUPPORTED_BY_ENDING: [(&str, &str); 3] = [
    ("norm.norm.m", "transposed layer norm (one scale and shift, no epsilon)"),
    ("norm.norm.s", "transposed layer norm (one scale and shift, no epsilon)"),
    ("kernel.w", "names of V1 or V2"),
];
/// Features of official models that this library does not have, by a part of their keys.
const UNSUPPORTED_BY_PART: [(&str, &str); 24] = [
    (".reverse_layer.", "two layers of opposite directions (the backbone's bidirectional)"),
    (".bidirectional_linear.", "two layers of opposite directions (the backbone's bidirectional)"),
    (".residual.", "a residual with weights (affine, highway)"),
    (".pool.", "pooling with weights"),
    (".input_gate.", "a gate"),
    (".output_gate.", "a gate"),
    (".input_linear.", "a bottleneck"),
    (".ff.", "a feed-forward layer among the layers"),
    (".mha.", "attention"),
    ("c_layers.", "SaShiMi"),
    ("d_layers.", "SaShiMi or U-Net"),
    ("u_layers.", "SaShiMi or U-Net"),
    ("center_layers.", "U-Net"),
    ("encoder.0.pe", "a position encoder"),
    ("encoder.1.pe", "a position encoder"),
    (".mask_embed.", "a time encoder"),
    (".encoders.", "a time encoder"),
    (".conv.", "a convolutional encoder"),
    (".text_embedding.", "a text encoder"),
    (".embedding.", "a class or time stamp encoder"),
    (".retrieval.", "a retrieval decoder"),
    (".cluster_", "adaptive softmax"),
    (".emb_layers.", "adaptive softmax"),
    (".omega", "names of V2"),
];

/// The error of a key that cannot be mapped, which names the key and, where it is known, the feature that has such
/// keys.
pub(super) fn unmapped_key(key: &str) -> Error {
    let ending = UNSUPPORTED_BY_ENDING.iter().find(|(part, _)| key.ends_with(part));
    let got = match ending.or_else(|| UNSUPPORTED_BY_PART.iter().find(|(part, _)| key.contains(part))) {
        Some((_, what)) => format!("key {}: {what}", quoted(key)),
        None => format!("key {}", quoted(key)),
    };
    Error::new("state dict", "only what this library's models have", got)
}
