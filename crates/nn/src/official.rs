//! What the loaders of official PyTorch checkpoints share, and the one that loads a single block.

use crate::{config::BlockConfig, host_ssm::HostParams, module::Block};
use s4_backend::{Backend, Code, Error, Result, Scalar, SsmSpec};
use s4_ssm::{Ssm, c_from_tilde};
use s4_torch::{Checkpoint, Dtype, OfficialModel, StateDict, Tensor};
use serde_json::Value as Json;
use std::{fmt::Display, path::Path};

/// `ERR_S4_CHECKPOINT` with what an official checkpoint should have held and what it holds.
pub(crate) fn state_dict_error(expected: impl Display, got: impl Display) -> Error {
    Error::new(Code::Checkpoint, "official state dict", expected, got)
}

/// `ERR_S4_CHECKPOINT` for an error of the reader of PyTorch files, with the key or option that does not fit.
pub(crate) fn checkpoint_error(error: s4_torch::Error) -> Error {
    state_dict_error(format!("{}: {}", error.at, error.expected), error.got)
}

/// The options that a caller gave as JSON, if any.
pub(crate) fn given_config(text: Option<&str>) -> Result<Option<Json>> {
    text.map(|text| {
        serde_json::from_str(text).map_err(|e| state_dict_error("a configuration in JSON", e.to_string()))
    })
    .transpose()
}

/// Solves C of every layer whose tensor holds C̃ in place of it, in f64, and rounds it to `T`. `spec`: the SSM of every layer.
pub(crate) fn solve_c_tildes<T: Scalar>(official: &mut OfficialModel, spec: &SsmSpec) -> Result<()> {
    for tilde in official.c_tildes.clone() {
        let length = usize::try_from(tilde.length)
            .map_err(|_| state_dict_error("a smaller l_kernel", tilde.length))?;
        let c: Vec<f64> = c_from_c_tilde(spec, length, &official.tensors, &tilde.name)?
            .into_iter()
            .map(|x| T::from_f64(x).to_f64())
            .collect();
        let shape = named(&official.tensors, &tilde.name)?.shape().to_vec();
        let c = Tensor::from_f64(torch_dtype::<T>(), shape, &c).map_err(checkpoint_error)?;
        official.set_solved_c(&tilde.name, c).map_err(checkpoint_error)?;
    }
    Ok(())
}

/// A scalar type in the words of the reader of PyTorch files, crate `s4_torch`.
pub(crate) fn torch_dtype<T: Scalar>() -> Dtype {
    match T::DTYPE {
        s4_backend::Dtype::F32 => Dtype::F32,
        s4_backend::Dtype::F64 => Dtype::F64,
    }
}

fn named<'a>(tensors: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| state_dict_error(format!("tensor '{name}'"), "none"))
}

/// C = C̃(I − Ā^L)⁻¹ for each head: line 1 of the paper's Algorithm 1, solved for C. `len` is L, `name` the tensor that
/// holds C̃, beside which those of Δ, Λ, B and P stand.
fn c_from_c_tilde(spec: &SsmSpec, len: usize, tensors: &StateDict, name: &str) -> Result<Vec<f64>> {
    let prefix = name.strip_suffix('C').unwrap_or(name);
    let values = |part: &str| named(tensors, &format!("{prefix}{part}")).map(Tensor::to_f64);
    let p = if spec.rank > 0 { values("P")? } else { Vec::new() };
    let (inv_dt, a_real, a_imag) = (values("inv_dt")?, values("A_real")?, values("A_imag")?);
    let params = HostParams { inv_dt, a_real, a_imag, b: values("B")?, c: values("C")?, p };
    let pairs = spec.pairs();
    let mut solved_c = vec![0.0; params.c.len()];
    for h in 0..spec.heads {
        let c_offset = |k: usize| (k * spec.heads + h) * 2 * pairs;
        let ssm = Ssm { discretization: s4_ssm::Discretization::Bilinear, ..params.head(spec, h) };
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

/// A tensor of an official state dict, of these values in this shape. `ERR_S4_CHECKPOINT` where they do not fit.
pub fn official_tensor(shape: Vec<usize>, values: &[f64]) -> Result<Tensor> {
    Tensor::from_f64(Dtype::F64, shape, values).map_err(checkpoint_error)
}

/// A block from a state dict of the official code, with the names of version 4 or 3 or of the minimal S4D: like the
/// official S4Block without norm and residual. The tensors' names may have a prefix in common. `config` is JSON of the
/// options that a state dict does not say (`dt_transform`, `disc`, `activation`, …), with the defaults of the official
/// class; `truncate`, of this library, cuts the kernel. Where the file holds C̃ (`l_kernel` > 0), C is solved from it in
/// f64, at rate 1. `ERR_S4_CHECKPOINT` with the key or option that does not make a block.
pub fn block_from_official<B: Backend>(be: B, tensors: StateDict, config: &str) -> Result<Block<B>> {
    block_from_tensors(be, tensors, given_config(Some(config))?)
}

/// As [`block_from_official`], from a file: a `.pt` or `.ckpt` file (a zip archive of `torch.save`, of which no code is
/// run) or safetensors. Without `config` the file must hold it.
pub fn block_from_official_file<B: Backend>(be: B, path: &Path, config: Option<&str>) -> Result<Block<B>> {
    let Checkpoint { tensors, config: stored, .. } = Checkpoint::open(path).map_err(checkpoint_error)?;
    let config = given_config(config)?
        .or(stored)
        .ok_or_else(|| state_dict_error("a configuration, given or in the file", "none"))?;
    block_from_tensors(be, tensors, Some(config))
}

fn block_from_tensors<B: Backend>(be: B, tensors: StateDict, config: Option<Json>) -> Result<Block<B>> {
    let mut official = OfficialModel::of_block(tensors, config.as_ref()).map_err(checkpoint_error)?;
    let config = BlockConfig::from_json(&official.config.to_string())
        .map_err(|e| state_dict_error(e.expected, e.got))?;
    solve_c_tildes::<B::Scalar>(&mut official, &config.layer.spec())?;
    let mut block = Block::<B>::new(be, config)?;
    for (name, tensor) in &official.tensors {
        let values: Vec<B::Scalar> = tensor.to_f64().into_iter().map(B::Scalar::from_f64).collect();
        block.store_mut().set(name, &values).map_err(|e| state_dict_error(e.expected, e.got))?;
    }
    Ok(block)
}
