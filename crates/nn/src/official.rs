//! Official PyTorch S4 (V4) state dicts of one block.

use crate::{
    bytes,
    config::{BlockConfig, LayerConfig, NormKind},
    module::Block,
};
use num_complex::Complex;
use s4_backend::{Activation, Backend, Code, Discretization, Error, Mode, Result, Scalar, Transform};
use s4_ssm::{Ssm, c_from_tilde};
use serde::Deserialize;
use std::{collections::HashMap, fmt::Display, path::Path};

/// A named tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f64>,
}

/// What a state dict does not say; names and defaults of the official code, others are taken no notice of.
#[derive(Deserialize)]
#[serde(default)]
struct Official {
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

impl Default for Official {
    fn default() -> Self {
        Official {
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

fn bad(expected: impl Display, got: impl Display) -> Error {
    Error::new(Code::Checkpoint, "official state dict", expected, got)
}

fn transform(what: &str, name: &str) -> Result<Transform> {
    Transform::from_name(name).ok_or_else(|| bad(format!("{what} of {}", Transform::names()), name))
}

fn activation(what: &str, name: &str) -> Result<Activation> {
    let ours = match name {
        "swish" => "silu",
        "id" | "linear" | "none" => "identity",
        same => same,
    };
    Activation::from_name(ours)
        .ok_or_else(|| bad(format!("{what} 'id', or of {}", Activation::names()), name))
}

/// The state dict by our names: without a common prefix.
struct Dict<'a> {
    tensors: &'a HashMap<String, NamedTensor>,
    prefix: String,
}

impl<'a> Dict<'a> {
    fn new(tensors: &'a HashMap<String, NamedTensor>) -> Result<Self> {
        const MARK: &str = "layer.kernel.inv_dt";
        let mut found: Vec<&String> = tensors.keys().filter(|k| k.ends_with(MARK)).collect();
        found.sort();
        match found.as_slice() {
            [one] => Ok(Dict { tensors, prefix: one[..one.len() - MARK.len()].into() }),
            [] => Err(bad(format!("V4 names ('{MARK}', …)"), "none of them")),
            more => Err(bad("one block", format!("{more:?}"))),
        }
    }
    fn get(&self, name: &str) -> Option<&'a NamedTensor> {
        self.tensors.get(&format!("{}{name}", self.prefix))
    }
    fn need(&self, name: &str, dims: usize) -> Result<&'a NamedTensor> {
        let t = self.get(name).ok_or_else(|| bad(format!("tensor '{name}'"), "none"))?;
        // Sizes from a file: a product that overflows is no shape.
        let n = t.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        if t.shape.len() != dims || n != Some(t.data.len()) || t.data.is_empty() {
            return Err(bad(format!("'{name}' with {dims} dimensions"), format!("{:?}", t.shape)));
        }
        if t.data.iter().any(|x| !x.is_finite()) {
            return Err(bad(format!("finite numbers in '{name}'"), "NaN or Inf"));
        }
        Ok(t)
    }
}

/// A block (no norm, no residual, as the official S4Block) from a V4 state dict, with or without a common prefix on its
/// names. `config` is JSON and says what a state dict does not (`disc`, `dt_transform`, `real_transform`,
/// `imag_transform`, `bidirectional`, `activation`, `final_act`; defaults as in the official code). C̃ (`l_kernel` > 0)
/// becomes C by an f64 solve at rate 1. `ERR_S4_CHECKPOINT` with the reason when it does not fit.
pub fn block_from_official<B: Backend>(
    be: B,
    tensors: &HashMap<String, NamedTensor>,
    config: &str,
) -> Result<Block<B>> {
    let official: Official = serde_json::from_str(config).map_err(|e| bad("a configuration object", e))?;
    let dict = Dict::new(tensors)?;
    let (d, c) = (dict.need("layer.D", 2)?, dict.need("layer.kernel.C", 4)?);
    let (a_real, b) = (dict.need("layer.kernel.A_real", 2)?, dict.need("layer.kernel.B", 4)?);
    let inv_dt = dict.need("layer.kernel.inv_dt", 2)?;
    let (weight, bias) = (dict.need("output_linear.0.weight", 2)?, dict.need("output_linear.0.bias", 1)?);
    let p = dict.get("layer.kernel.P").map(|_| dict.need("layer.kernel.P", 4)).transpose()?;
    let (channels, features, pairs) = (d.shape[0], d.shape[1], a_real.shape[1]);
    let mode = match (official.mode.as_deref(), p) {
        (None | Some("dplr" | "nplr" | "s4"), Some(_)) => Mode::S4,
        (None | Some("diag" | "s4d"), None) => Mode::S4d,
        (mode, p) => {
            return Err(bad("mode dplr with P, or diag without", format!("{mode:?}, P: {}", p.is_some())));
        }
    };
    let glu = official.final_act == "glu";
    let block = BlockConfig {
        layer: LayerConfig {
            features,
            state: pairs.checked_mul(2).ok_or_else(|| bad("a state size", pairs))?,
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
                (_, Some(other)) => return Err(bad("disc zoh or bilinear", other)),
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
    block.check("official state dict").map_err(|e| bad(e.expected, e.got))?;
    let spec = block.layer.spec();
    let sizes: [(&str, &NamedTensor, Vec<usize>); 6] = [
        ("layer.kernel.B", b, vec![1, spec.n_ssm, pairs, 2]),
        ("layer.kernel.C", c, vec![spec.kernel_channels(), features, pairs, 2]),
        ("layer.kernel.inv_dt", inv_dt, vec![features, if spec.dt_per_state { pairs } else { 1 }]),
        ("output_linear.0.weight", weight, vec![features * if glu { 2 } else { 1 }, spec.outputs()]),
        ("output_linear.0.bias", bias, vec![features * if glu { 2 } else { 1 }]),
        ("layer.kernel.A_imag", dict.need("layer.kernel.A_imag", 2)?, a_real.shape.clone()),
    ];
    for (name, tensor, shape) in &sizes {
        if tensor.shape != *shape {
            return Err(bad(format!("'{name}' of shape {shape:?}"), format!("{:?}", tensor.shape)));
        }
    }
    if let Some(p) = p
        && p.shape != [spec.rank, spec.n_ssm, pairs, 2]
    {
        return Err(bad(
            format!("P of shape {:?}", [spec.rank, spec.n_ssm, pairs, 2]),
            format!("{:?}", p.shape),
        ));
    }
    let c_values = match dict.get("layer.kernel.l_kernel").and_then(|t| t.data.first().copied()) {
        Some(l) if l > 0.0 => {
            if l > (1u64 << 40) as f64 {
                return Err(bad("l_kernel up to 2^40", l));
            }
            let stored = StoredSsm { inv_dt, a_real, a_imag: sizes[5].1, b, c, p };
            c_of_c_tilde(&spec, l as usize, &stored)?
        }
        _ => c.data.clone(),
    };
    let mut out = Block::<B>::new(be, block)?;
    let mut set = |name: &str, data: &[f64]| {
        let values: Vec<B::Scalar> = data.iter().map(|&x| B::Scalar::from_f64(x)).collect();
        out.store_mut().set(name, &values).map_err(|e| bad(e.expected, e.got))
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
    Ok(out)
}

/// An SSM's tensors as a state dict stores them: before the transforms, complex numbers as pairs.
pub(crate) struct StoredSsm<'a> {
    pub inv_dt: &'a NamedTensor,
    pub a_real: &'a NamedTensor,
    pub a_imag: &'a NamedTensor,
    pub b: &'a NamedTensor,
    /// C̃
    pub c: &'a NamedTensor,
    pub p: Option<&'a NamedTensor>,
}

/// C = C̃(I − Ā^L)⁻¹ (paper Algorithm 1, line 1 backwards), head by head.
pub(crate) fn c_of_c_tilde(
    spec: &s4_backend::SsmSpec,
    len: usize,
    stored: &StoredSsm<'_>,
) -> Result<Vec<f64>> {
    let StoredSsm { inv_dt, a_real, a_imag, b, c, p } = *stored;
    let pairs = spec.pairs();
    let complex =
        |x: &[f64]| -> Vec<Complex<f64>> { x.chunks_exact(2).map(|z| Complex::new(z[0], z[1])).collect() };
    let mut out = vec![0.0; c.data.len()];
    for h in 0..spec.heads {
        let s = h % spec.n_ssm;
        let row = |x: &NamedTensor, i: usize, width: usize| x.data[i * width..][..width].to_vec();
        let lambda = (row(a_real, s, pairs).iter().zip(row(a_imag, s, pairs)))
            .map(|(&re, im)| {
                Complex::new(-spec.real_transform.transformed(re), -spec.imag_transform.transformed(im))
            })
            .collect();
        let c_rows = |k: usize| (k * spec.heads + h) * 2 * pairs;
        let dts = if spec.dt_per_state { pairs } else { 1 };
        let ssm = Ssm {
            lambda,
            p: (0..spec.rank)
                .filter_map(|r| p.map(|p| complex(&row(p, r * spec.n_ssm + s, 2 * pairs))))
                .collect(),
            b: complex(&row(b, s, 2 * pairs)),
            c: (0..spec.kernel_channels()).map(|k| complex(&c.data[c_rows(k)..][..2 * pairs])).collect(),
            dt: row(inv_dt, h, dts).iter().map(|&x| spec.dt_transform.transformed(x)).collect(),
            discretization: s4_ssm::Discretization::Bilinear,
        };
        let rows = c_from_tilde(&ssm, len).ok_or_else(|| {
            bad("C̃ that can be turned back into C", format!("head {h}, whose I − Ā^{len} is singular"))
        })?;
        for (k, row) in rows.iter().enumerate() {
            for (o, z) in out[c_rows(k)..][..2 * pairs].chunks_exact_mut(2).zip(row) {
                (o[0], o[1]) = (z.re, z.im);
            }
        }
    }
    Ok(out)
}

/// From a safetensors file; without `config`, its metadata must hold one under `config`.
pub fn block_from_official_file<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<Block<B>> {
    let file = std::fs::read(path).map_err(|e| bad(format!("a readable file {}", path.display()), e))?;
    let tensors =
        safetensors::SafeTensors::deserialize(&file).map_err(|e| bad("a sound safetensors file", e))?;
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&file).map_err(|e| bad("a sound safetensors header", e))?;
    let meta = header.metadata().clone().unwrap_or_default();
    let config = config
        .or(meta.get("config").map(String::as_str))
        .ok_or_else(|| bad("a configuration, given or in the metadata", "none"))?;
    let tensors = tensors
        .iter()
        .map(|(name, view)| {
            let data = bytes::to_f64(view.dtype(), view.data());
            (name.to_string(), NamedTensor { shape: view.shape().to_vec(), data })
        })
        .collect();
    block_from_official(be, &tensors, config)
}
