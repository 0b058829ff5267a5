//! How tensors of an official state dict become this library's tensors, and how these become the official ones again.
//! "Theirs" are names and tensors of the official code, "ours" those of this library.

use crate::{
    error::{Error, Result, listed, quoted},
    tensor::{Dtype, StateDict, Tensor},
};

/// The mapping between one or two official tensors (theirs) and one tensor of this library (ours).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TensorMapping {
    /// The same values, in the shape of this library.
    Reshaped { theirs: String, ours: String, shape: Vec<usize> },
    /// The values times −1: version 3 stores Im Λ, version 4 and this library −Im Λ.
    Negated { theirs: String, ours: String },
    /// C of the minimal S4D, whose Λ has positive imaginary parts, so that its C is the conjugate of ours. It has no B:
    /// when our B has been trained, our C is multiplied by it on the way back.
    Conjugate { theirs: String, ours: String, b: String, shape: Vec<usize> },
    /// B, which the minimal S4D does not have: 1 + 0i, in the type of the tensor `like`.
    Ones { ours: String, like: String, shape: Vec<usize> },
    /// The running mean and variance of a batch norm, in this library one tensor (2, H).
    Running { mean: String, variance: String, ours: String },
    /// The embedding of a language model, which the official code multiplies by `factor` = √H at every use; in this
    /// library the factor is part of the stored values.
    Scaled { theirs: String, ours: String, factor: f64 },
    /// A weight that is stored as weight norm does, row by row as v·g/|v|.
    WeightNorm { g: String, v: String, ours: String },
    /// C, or C̃ where the tensor `length` (`l_kernel`) is above 0.
    KernelC { theirs: String, ours: String, length: Option<String> },
    /// A tensor that this library does not have and that is given back unchanged.
    Kept { theirs: String },
}

fn named_tensor<'a>(from: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    from.get(name).ok_or_else(|| Error::new("tensors", quoted(name), "none"))
}

/// The tensor with the sign of every value flipped (`every` 1), or of every second value (`every` 2: imaginary parts).
fn with_signs_flipped(tensor: &Tensor, every: usize) -> Result<Tensor> {
    let size = tensor.dtype().size();
    let mut bytes = tensor.bytes().to_vec();
    for value in bytes.chunks_exact_mut(size * every) {
        value[size * every - 1] ^= 0x80;
    }
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes)
}

/// The tensor with each value x at index i replaced by f(i, x).
fn map_values(tensor: &Tensor, f: impl Fn(usize, f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = tensor.to_f64().into_iter().enumerate().map(|(i, x)| f(i, x)).collect();
    Tensor::from_f64(tensor.dtype(), tensor.shape().to_vec(), &values)
}

/// The Euclidean norm of each row of a tensor (rows, …).
fn row_norms(tensor: &Tensor) -> Vec<f64> {
    let rows = tensor.shape().first().copied().unwrap_or(1).max(1);
    let values = tensor.to_f64();
    values.chunks((values.len() / rows).max(1)).map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
}

/// The values in the type of `like`: F64 where that is F64, otherwise F32.
fn in_type_of(tensor: Tensor, like: &Tensor) -> Result<Tensor> {
    match tensor.dtype() == like.dtype() {
        true => Ok(tensor),
        false => Tensor::from_f64(like.dtype(), tensor.shape().to_vec(), &tensor.to_f64()),
    }
}

/// Whether two tensors hold the same numbers, whatever their types.
pub(super) fn same_values(a: &Tensor, b: &Tensor) -> bool {
    match a.dtype() == b.dtype() {
        true => a == b,
        false => {
            let bits = |t: &Tensor| t.to_f64().into_iter().map(f64::to_bits).collect::<Vec<_>>();
            a.shape() == b.shape() && bits(a) == bits(b)
        }
    }
}

impl TensorMapping {
    /// The name of this library's tensor.
    pub fn ours(&self) -> Option<&str> {
        match self {
            TensorMapping::Reshaped { ours, .. }
            | TensorMapping::Negated { ours, .. }
            | TensorMapping::Conjugate { ours, .. }
            | TensorMapping::Ones { ours, .. }
            | TensorMapping::Running { ours, .. }
            | TensorMapping::Scaled { ours, .. }
            | TensorMapping::WeightNorm { ours, .. }
            | TensorMapping::KernelC { ours, .. } => Some(ours),
            TensorMapping::Kept { .. } => None,
        }
    }
    /// The names of the official tensors.
    pub fn theirs(&self) -> Vec<&str> {
        match self {
            TensorMapping::Reshaped { theirs, .. }
            | TensorMapping::Negated { theirs, .. }
            | TensorMapping::Conjugate { theirs, .. }
            | TensorMapping::Scaled { theirs, .. }
            | TensorMapping::Kept { theirs } => vec![theirs],
            TensorMapping::Ones { .. } => vec![],
            TensorMapping::Running { mean, variance, .. } => vec![mean, variance],
            TensorMapping::WeightNorm { g, v, .. } => vec![g, v],
            TensorMapping::KernelC { theirs, length, .. } => {
                [Some(theirs), length.as_ref()].into_iter().flatten().map(String::as_str).collect()
            }
        }
    }

    /// This library's tensor, from the official ones.
    pub fn to_ours(&self, theirs: &StateDict) -> Result<Option<Tensor>> {
        Ok(Some(match self {
            TensorMapping::Reshaped { theirs: name, shape, .. } => {
                named_tensor(theirs, name)?.clone().reshaped(shape.clone())?
            }
            TensorMapping::Negated { theirs: name, .. } => {
                with_signs_flipped(named_tensor(theirs, name)?, 1)?
            }
            TensorMapping::Conjugate { theirs: name, shape, .. } => {
                with_signs_flipped(named_tensor(theirs, name)?, 2)?.reshaped(shape.clone())?
            }
            TensorMapping::Ones { like, shape, .. } => {
                let values: Vec<f64> =
                    (0..shape.iter().product::<usize>()).map(|i| (1 - i % 2) as f64).collect();
                Tensor::from_f64(named_tensor(theirs, like)?.dtype(), shape.clone(), &values)?
            }
            TensorMapping::Running { mean, variance, .. } => {
                let (mean, variance) = (named_tensor(theirs, mean)?, named_tensor(theirs, variance)?);
                let bytes = [mean.bytes(), in_type_of(variance.clone(), mean)?.bytes()].concat();
                Tensor::new(mean.dtype(), vec![2, mean.len()], bytes)?
            }
            TensorMapping::Scaled { theirs: name, factor, .. } => {
                map_values(named_tensor(theirs, name)?, |_, x| x * factor)?
            }
            TensorMapping::WeightNorm { g, v, .. } => {
                let (g, v) = (named_tensor(theirs, g)?, named_tensor(theirs, v)?);
                let (g, norms) = (g.to_f64(), row_norms(v));
                let width = (v.len() / g.len().max(1)).max(1);
                map_values(v, |i, x| x * g[i / width] / norms[i / width])?
            }
            TensorMapping::KernelC { theirs: name, .. } => named_tensor(theirs, name)?.clone(),
            TensorMapping::Kept { .. } => return Ok(None),
        }))
    }

    /// Adds to `official` the official tensors of this library's tensor, in the shapes and types (F32 or F64) of
    /// `original`.
    pub fn add_theirs(&self, original: &StateDict, ours: &StateDict, official: &mut StateDict) -> Result<()> {
        let our_tensor = |name: &str| named_tensor(ours, name);
        match self {
            TensorMapping::Reshaped { theirs, ours, .. } => {
                let like = named_tensor(original, theirs)?;
                let tensor = in_type_of(our_tensor(ours)?.clone().reshaped(like.shape().to_vec())?, like)?;
                official.insert(theirs.clone(), tensor);
            }
            TensorMapping::Negated { theirs, ours } => {
                official.insert(
                    theirs.clone(),
                    in_type_of(with_signs_flipped(our_tensor(ours)?, 1)?, named_tensor(original, theirs)?)?,
                );
            }
            TensorMapping::Conjugate { theirs, ours, b, .. } => {
                let like = named_tensor(original, theirs)?;
                let (c, b) = (our_tensor(ours)?, our_tensor(b)?.to_f64());
                // C has the shape (1, H, N/2, 2), and so has B, since each feature has an SSM of its own.
                let is_one = b.iter().enumerate().all(|(i, &x)| x == (1 - i % 2) as f64);
                let c = match is_one {
                    true => c.clone(),
                    false => {
                        let values = c.to_f64();
                        map_values(c, |i, _| match i % 2 {
                            0 => values[i] * b[i] - values[i + 1] * b[i + 1],
                            _ => values[i - 1] * b[i] + values[i] * b[i - 1],
                        })?
                    }
                };
                let tensor = with_signs_flipped(&c, 2)?.reshaped(like.shape().to_vec())?;
                official.insert(theirs.clone(), in_type_of(tensor, like)?);
            }
            TensorMapping::Ones { .. } => {}
            TensorMapping::Running { mean, variance, ours } => {
                let running_statistics = our_tensor(ours)?;
                let (first, second) =
                    running_statistics.bytes().split_at(running_statistics.bytes().len() / 2);
                for (name, bytes) in [(mean, first), (variance, second)] {
                    let tensor = Tensor::new(
                        running_statistics.dtype(),
                        vec![running_statistics.len() / 2],
                        bytes.to_vec(),
                    )?;
                    official.insert(name.clone(), in_type_of(tensor, named_tensor(original, name)?)?);
                }
            }
            TensorMapping::Scaled { theirs, ours, factor } => {
                let tensor = map_values(our_tensor(ours)?, |_, x| x / factor)?;
                official.insert(theirs.clone(), in_type_of(tensor, named_tensor(original, theirs)?)?);
            }
            TensorMapping::WeightNorm { g, v, ours } => {
                let weight = our_tensor(ours)?;
                let like = named_tensor(original, g)?;
                let norms = Tensor::from_f64(weight.dtype(), like.shape().to_vec(), &row_norms(weight))?;
                official.insert(g.clone(), in_type_of(norms, like)?);
                official.insert(v.clone(), in_type_of(weight.clone(), named_tensor(original, v)?)?);
            }
            TensorMapping::KernelC { theirs, ours, length } => {
                official.insert(
                    theirs.clone(),
                    in_type_of(our_tensor(ours)?.clone(), named_tensor(original, theirs)?)?,
                );
                // A changed tensor holds C, not C̃: `l_kernel` 0 says so.
                if let Some(length) = length {
                    let like = named_tensor(original, length)?;
                    let zero = vec![0; like.bytes().len()];
                    official.insert(length.clone(), Tensor::new(like.dtype(), like.shape().to_vec(), zero)?);
                }
            }
            TensorMapping::Kept { theirs } => {
                official.insert(theirs.clone(), named_tensor(original, theirs)?.clone());
            }
        }
        Ok(())
    }
}

/// Refuses tensors whose type is not one of real floating-point numbers, and values that are not finite.
pub(super) fn check_values(name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {}
        other => return Err(Error::new(quoted(name), "floating point numbers", format!("{other:?}"))),
    }
    match tensor.to_f64().iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(Error::new(quoted(name), "finite numbers", "NaN or infinity")),
    }
}

/// Refuses tensors for [`TensorMapping::add_theirs`] that have not the names and shapes of `reference`, the tensors
/// that were mapped.
pub(super) fn check_ours(mappings: &[TensorMapping], reference: &StateDict, ours: &StateDict) -> Result<()> {
    for mapping in mappings {
        let Some(name) = mapping.ours() else { continue };
        let (mine, like) = (named_tensor(ours, name)?, named_tensor(reference, name)?);
        if mine.shape() != like.shape() {
            return Err(Error::new(
                quoted(name),
                format!("shape {:?}", like.shape()),
                format!("{:?}", mine.shape()),
            ));
        }
        check_values(name, mine)?;
    }
    match ours.keys().find(|name| !reference.contains_key(*name)) {
        Some(extra) => Err(Error::new(
            "tensors",
            format!("the model's own ({})", listed(reference.keys().map(String::as_str))),
            quoted(extra),
        )),
        None => Ok(()),
    }
}
