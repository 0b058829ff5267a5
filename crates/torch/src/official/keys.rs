//! The keys of a state dict: each is used once, and one that is not is refused by name.

use super::step::check_values;
use crate::{
    error::{Error, Result, quoted},
    tensor::{StateDict, Tensor},
};
use std::collections::BTreeSet;

/// A state dict while it is mapped.
pub(super) struct Keys<'a> {
    tensors: &'a StateDict,
    /// `module.` where every key starts with it.
    prefix: &'static str,
    used: BTreeSet<String>,
}

impl<'a> Keys<'a> {
    pub fn new(tensors: &'a StateDict) -> Self {
        const WRAPPED: &str = "module.";
        let wrapped = !tensors.is_empty() && tensors.keys().all(|k| k.starts_with(WRAPPED));
        Keys { tensors, prefix: if wrapped { WRAPPED } else { "" }, used: BTreeSet::new() }
    }
    /// The name in the file.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&self.full(name))
    }
    /// Names (without the prefix) that start with `start`.
    pub fn starting(&self, start: &str) -> Vec<&'a str> {
        let start = self.full(start);
        self.tensors.keys().filter(|k| k.starts_with(&start)).map(|k| &k[self.prefix.len()..]).collect()
    }
    /// The tensor of this name; does not count the key as used.
    pub fn peek(&self, name: &str) -> Result<&'a Tensor> {
        let full = self.full(name);
        self.tensors
            .get(&full)
            .ok_or_else(|| Error::new("state dict", format!("key {}", quoted(&full)), "none"))
    }
    /// A tensor of finite floating point numbers with as many dimensions as `dims`.
    pub fn real(&mut self, name: &str, dims: usize) -> Result<&'a Tensor> {
        let tensor = self.peek(name)?;
        let full = self.full(name);
        if tensor.shape().len() != dims || tensor.is_empty() {
            return Err(Error::new(
                quoted(&full),
                format!("{dims} dimensions, none of them 0"),
                format!("{:?}", tensor.shape()),
            ));
        }
        check_values(&full, tensor)?;
        self.used.insert(full);
        Ok(tensor)
    }
    /// The same of exactly this shape.
    pub fn shaped(&mut self, name: &str, shape: &[usize]) -> Result<&'a Tensor> {
        let tensor = self.real(name, shape.len())?;
        match tensor.shape() == shape {
            true => Ok(tensor),
            false => Err(Error::new(
                quoted(&self.full(name)),
                format!("shape {shape:?}"),
                format!("{:?}", tensor.shape()),
            )),
        }
    }
    /// Takes note of a key whose values are not looked at.
    pub fn keep(&mut self, name: &str) -> String {
        let full = self.full(name);
        self.used.insert(full.clone());
        full
    }
    /// Refuses the first key that nothing used.
    pub fn all_used(&self) -> Result<()> {
        match self.tensors.keys().find(|k| !self.used.contains(*k)) {
            Some(key) => Err(unknown(key)),
            None => Ok(()),
        }
    }
}

/// What a key belongs to that this library has not, by its ending.
const ENDINGS: [(&str, &str); 3] = [
    ("norm.norm.m", "transposed layer norm (one scale and shift, no epsilon)"),
    ("norm.norm.s", "transposed layer norm (one scale and shift, no epsilon)"),
    ("kernel.w", "names of V1 or V2"),
];
/// What a key belongs to that this library has not, by a part of the key.
const PARTS: [(&str, &str); 24] = [
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

/// A refusal that names the key and, where it is known, what it belongs to.
pub(super) fn unknown(key: &str) -> Error {
    let ending = ENDINGS.iter().find(|(part, _)| key.ends_with(part));
    let got = match ending.or_else(|| PARTS.iter().find(|(part, _)| key.contains(part))) {
        Some((_, what)) => format!("key {}: {what}", quoted(key)),
        None => format!("key {}", quoted(key)),
    };
    Error::new("state dict", "only what this library's models have", got)
}
