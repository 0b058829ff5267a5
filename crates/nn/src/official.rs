//! Loads one block from a state dict of the official PyTorch S4 code, version 4.

use crate::{
    bytes,
    config::{BlockConfig, LayerConfig, NormKind},
    module::Block,
    read_file::read_whole,
};
use num_complex::Complex;
use s4_backend::{Activation, Backend, Code, Discretization, Error, Mode, Result, Scalar, Transform};
use s4_ssm::{Ssm, c_from_tilde};
use serde::Deserialize;
use std::{collections::HashMap, fmt::Display, path::Path};

/// A tensor of a state dict on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, the last size running fastest.
    pub data: Vec<f64>,
}

/// Options that a state dict does not say, by the names and with the defaults of the official code. Its other options are
/// not read.
#[derive(Deserialize)]
#[serde(default)]
struct OfficialOptions {
    mode: Option<String>,
    disc: Option<String>,
    dt_transform: String,
    real_transform: String,
    imag_transform: String,
    bidirectional: bool,
    activation: String,
    final_act: String,
    truncate: Option<usize>,
}

impl Default for OfficialOptions {
    fn default() -> Self {
        OfficialOptions {
            mode: None,
            disc: None,
            dt_transform: "exp".into(),
            real_transform: "exp".into(),
            imag_transform: "none".into(),
            bidirectional: false,
            activation: "gelu".into(),
            final_act: "glu".into(),
            truncate: None,
        }
    }
}

/// `ERR_S4_CHECKPOINT` with what the state dict should have held and what it holds.
fn state_dict_error(expected: impl Display, got: impl Display) -> Error {
    Error::new(Code::Checkpoint, "official state dict", expected, got)
}

/// The transform of this name, which is the same in the official code. `what`: the option, for the error.
fn transform(what: &str, name: &str) -> Result<Transform> {
    Transform::from_name(name)
        .ok_or_else(|| state_dict_error(format!("{what} of {}", Transform::names()), name))
}

/// The activation that the official code calls `name`. `what`: the option, for the error.
fn activation(what: &str, name: &str) -> Result<Activation> {
    let our_name = match name {
        "swish" => "silu",
        "id" | "linear" | "none" => "identity",
        other => other,
    };
    Activation::from_name(our_name)
        .ok_or_else(|| state_dict_error(format!("{what} 'id', or of {}", Activation::names()), name))
}

/// A state dict whose tensors are looked up without the prefix that all their names have in common.
struct PrefixedTensors<'a> {
    tensors: &'a HashMap<String, NamedTensor>,
    prefix: String,
}

impl<'a> PrefixedTensors<'a> {
    /// Finds the prefix by the one tensor that every block has.
    fn new(tensors: &'a HashMap<String, NamedTensor>) -> Result<Self> {
        const TENSOR_OF_EVERY_BLOCK: &str = "layer.kernel.inv_dt";
        let mut candidates: Vec<&String> =
            tensors.keys().filter(|k| k.ends_with(TENSOR_OF_EVERY_BLOCK)).collect();
        candidates.sort();
        match candidates.as_slice() {
            [one] => {
                Ok(PrefixedTensors { tensors, prefix: one[..one.len() - TENSOR_OF_EVERY_BLOCK.len()].into() })
            }
            [] => Err(state_dict_error(format!("V4 names ('{TENSOR_OF_EVERY_BLOCK}', …)"), "none of them")),
            more => Err(state_dict_error("one block", format!("{more:?}"))),
        }
    }
    /// The tensor of this name, if the state dict has it.
    fn optional(&self, name: &str) -> Option<&'a NamedTensor> {
        self.tensors.get(&format!("{}{name}", self.prefix))
    }
    /// The tensor of this name, which must have `dims` dimensions and finite elements.
    fn required(&self, name: &str, dims: usize) -> Result<&'a NamedTensor> {
        let t = self.optional(name).ok_or_else(|| state_dict_error(format!("tensor '{name}'"), "none"))?;
        // The sizes are those of a file, which may be hostile: their product may overflow.
        let n = t.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        if t.shape.len() != dims || n != Some(t.data.len()) || t.data.is_empty() {
            return Err(state_dict_error(
                format!("'{name}' with {dims} dimensions"),
                format!("{:?}", t.shape),
            ));
        }
        if t.data.iter().any(|x| !x.is_finite()) {
            return Err(state_dict_error(format!("finite numbers in '{name}'"), "NaN or Inf"));
        }
        Ok(t)
    }
}

/// A block from a version 4 state dict of the official code: like the official S4Block without norm and residual. The
/// tensors' names may have a prefix in common. `config` is JSON of the options that a state dict does not say (`mode`,
/// `disc`, `dt_transform`, `real_transform`, `imag_transform`, `bidirectional`, `activation`, `final_act`, `truncate`),
/// with the official defaults. Where the file holds C̃ (`l_kernel` > 0), C is solved from it in f64, at rate 1.
/// `ERR_S4_CHECKPOINT` with the reason where the tensors do not make a block.
pub fn block_from_official<B: Backend>(
    be: B,
    tensors: &HashMap<String, NamedTensor>,
    config: &str,
) -> Result<Block<B>> {
    let official: OfficialOptions =
        serde_json::from_str(config).map_err(|e| state_dict_error("a configuration object", e))?;
    let dict = PrefixedTensors::new(tensors)?;
    let (d, c) = (dict.required("layer.D", 2)?, dict.required("layer.kernel.C", 4)?);
    let (a_real, b) = (dict.required("layer.kernel.A_real", 2)?, dict.required("layer.kernel.B", 4)?);
    let inv_dt = dict.required("layer.kernel.inv_dt", 2)?;
    let (weight, bias) =
        (dict.required("output_linear.0.weight", 2)?, dict.required("output_linear.0.bias", 1)?);
    let p = dict.optional("layer.kernel.P").map(|_| dict.required("layer.kernel.P", 4)).transpose()?;
    let (channels, features, pairs) = (d.shape[0], d.shape[1], a_real.shape[1]);
    let mode = match (official.mode.as_deref(), p) {
        (None | Some("dplr" | "nplr" | "s4"), Some(_)) => Mode::S4,
        (None | Some("diag" | "s4d"), None) => Mode::S4d,
        (mode, p) => {
            return Err(state_dict_error(
                "mode dplr with P, or diag without",
                format!("{mode:?}, P: {}", p.is_some()),
            ));
        }
    };
    let glu = official.final_act == "glu";
    let block_config = BlockConfig {
        layer: LayerConfig {
            features,
            state: pairs.checked_mul(2).ok_or_else(|| state_dict_error("a state size", pairs))?,
            mode,
            rank: p.map(|p| p.shape[0]),
            n_ssm: Some(a_real.shape[0]),
            channels,
            bidirectional: official.bidirectional,
            dt_per_state: inv_dt.shape[1] != 1,
            discretization: match (mode, official.disc.as_deref()) {
                (Mode::S4, _) => Some(Discretization::Bilinear),
                (_, None | Some("zoh")) => Some(Discretization::Zoh),
                (_, Some("bilinear")) => Some(Discretization::Bilinear),
                (_, Some(other)) => return Err(state_dict_error("disc zoh or bilinear", other)),
            },
            dt_transform: transform("dt_transform", &official.dt_transform)?,
            real_transform: transform("real_transform", &official.real_transform)?,
            imag_transform: transform("imag_transform", &official.imag_transform)?,
            truncate: official.truncate,
            ..LayerConfig::default()
        },
        norm: NormKind::None,
        residual: false,
        activation: activation("activation", &official.activation)?,
        glu,
        final_activation: match glu {
            true => Activation::Identity,
            false => activation("final_act", &official.final_act)?,
        },
        ..BlockConfig::default()
    };
    block_config.check("official state dict").map_err(|e| state_dict_error(e.expected, e.got))?;
    let spec = block_config.layer.spec();
    let sizes: [(&str, &NamedTensor, Vec<usize>); 6] = [
        ("layer.kernel.B", b, vec![1, spec.n_ssm, pairs, 2]),
        ("layer.kernel.C", c, vec![spec.kernel_channels(), features, pairs, 2]),
        ("layer.kernel.inv_dt", inv_dt, vec![features, if spec.dt_per_state { pairs } else { 1 }]),
        ("output_linear.0.weight", weight, vec![features * if glu { 2 } else { 1 }, spec.outputs()]),
        ("output_linear.0.bias", bias, vec![features * if glu { 2 } else { 1 }]),
        ("layer.kernel.A_imag", dict.required("layer.kernel.A_imag", 2)?, a_real.shape.clone()),
    ];
    for (name, tensor, shape) in &sizes {
        if tensor.shape != *shape {
            return Err(state_dict_error(
                format!("'{name}' of shape {shape:?}"),
                format!("{:?}", tensor.shape),
            ));
        }
    }
    if let Some(p) = p
        && p.shape != [spec.rank, spec.n_ssm, pairs, 2]
    {
        return Err(state_dict_error(
            format!("P of shape {:?}", [spec.rank, spec.n_ssm, pairs, 2]),
            format!("{:?}", p.shape),
        ));
    }
    let c_values = match dict.optional("layer.kernel.l_kernel").and_then(|t| t.data.first().copied()) {
        Some(l) if l > 0.0 => {
            if l > (1u64 << 40) as f64 {
                return Err(state_dict_error("l_kernel up to 2^40", l));
            }
            let stored = StoredSsm { inv_dt, a_real, a_imag: sizes[5].1, b, c, p };
            c_from_c_tilde(&spec, l as usize, &stored)?
        }
        _ => c.data.clone(),
    };
    let mut block = Block::<B>::new(be, block_config)?;
    let mut set = |name: &str, data: &[f64]| {
        let values: Vec<B::Scalar> = data.iter().map(|&x| B::Scalar::from_f64(x)).collect();
        block.store_mut().set(name, &values).map_err(|e| state_dict_error(e.expected, e.got))
    };
    set("layer.D", &d.data)?;
    set("layer.kernel.C", &c_values)?;
    set("layer.kernel.inv_dt", &inv_dt.data)?;
    set("layer.kernel.A_real", &a_real.data)?;
    set("layer.kernel.A_imag", &sizes[5].1.data)?;
    set("layer.kernel.B", &b.data)?;
    if let Some(p) = p {
        set("layer.kernel.P", &p.data)?;
    }
    set("output_linear.0.weight", &weight.data)?;
    set("output_linear.0.bias", &bias.data)?;
    Ok(block)
}

/// The tensors of an SSM as a state dict stores them: A and Δ as their parameters, complex numbers as pairs (re, im).
pub(crate) struct StoredSsm<'a> {
    pub inv_dt: &'a NamedTensor,
    pub a_real: &'a NamedTensor,
    pub a_imag: &'a NamedTensor,
    pub b: &'a NamedTensor,
    /// C̃, not C.
    pub c: &'a NamedTensor,
    pub p: Option<&'a NamedTensor>,
}

/// C = C̃(I − Ā^L)⁻¹ for each head: line 1 of the paper's Algorithm 1, solved for C. `len` is L.
pub(crate) fn c_from_c_tilde(
    spec: &s4_backend::SsmSpec,
    len: usize,
    stored: &StoredSsm<'_>,
) -> Result<Vec<f64>> {
    let StoredSsm { inv_dt, a_real, a_imag, b, c, p } = *stored;
    let pairs = spec.pairs();
    let complex =
        |x: &[f64]| -> Vec<Complex<f64>> { x.chunks_exact(2).map(|z| Complex::new(z[0], z[1])).collect() };
    let mut solved_c = vec![0.0; c.data.len()];
    for h in 0..spec.heads {
        let s = h % spec.n_ssm;
        let row = |x: &NamedTensor, i: usize, width: usize| x.data[i * width..][..width].to_vec();
        let lambda = (row(a_real, s, pairs).iter().zip(row(a_imag, s, pairs)))
            .map(|(&re, im)| {
                Complex::new(-spec.real_transform.transformed(re), -spec.imag_transform.transformed(im))
            })
            .collect();
        let c_offset = |k: usize| (k * spec.heads + h) * 2 * pairs;
        let dt_count = if spec.dt_per_state { pairs } else { 1 };
        let ssm = Ssm {
            lambda,
            p: (0..spec.rank)
                .filter_map(|r| p.map(|p| complex(&row(p, r * spec.n_ssm + s, 2 * pairs))))
                .collect(),
            b: complex(&row(b, s, 2 * pairs)),
            c: (0..spec.kernel_channels()).map(|k| complex(&c.data[c_offset(k)..][..2 * pairs])).collect(),
            dt: row(inv_dt, h, dt_count).iter().map(|&x| spec.dt_transform.transformed(x)).collect(),
            discretization: s4_ssm::Discretization::Bilinear,
        };
        let rows = c_from_tilde(&ssm, len).ok_or_else(|| {
            state_dict_error(
                "C̃ that can be turned back into C",
                format!("head {h}, whose I − Ā^{len} is singular"),
            )
        })?;
        for (k, row) in rows.iter().enumerate() {
            for (o, z) in solved_c[c_offset(k)..][..2 * pairs].chunks_exact_mut(2).zip(row) {
                (o[0], o[1]) = (z.re, z.im);
            }
        }
    }
    Ok(solved_c)
}

/// As [`block_from_official`], from a safetensors file. Without `config` the file's metadata must hold it under that name.
pub fn block_from_official_file<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<Block<B>> {
    let file = read_whole("official state dict", path)?;
    let tensors = safetensors::SafeTensors::deserialize(&file)
        .map_err(|e| state_dict_error("a sound safetensors file", e))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&file)
        .map_err(|e| state_dict_error("a sound safetensors header", e))?;
    let meta = header.metadata().clone().unwrap_or_default();
    let config = config
        .or(meta.get("config").map(String::as_str))
        .ok_or_else(|| state_dict_error("a configuration, given or in the metadata", "none"))?;
    let tensors = tensors
        .iter()
        .map(|(name, view)| {
            let data = bytes::from_bytes(view.dtype(), view.data())?;
            Ok((name.to_string(), NamedTensor { shape: view.shape().to_vec(), data }))
        })
        .collect::<Result<_>>()?;
    block_from_official(be, &tensors, config)
}
