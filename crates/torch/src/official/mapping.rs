//! How tensors of an official state dict become ours, and the way back.

use crate::{
    error::{Error, Result, listed, quoted},
    tensor::{Dtype, StateDict, Tensor},
};

/// One or two of their tensors and the one of ours that they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// The same values in our shape.
    Shape { theirs: String, ours: String, shape: Vec<usize> },
    /// −values: V3 stores Im Λ, V4 and this library −Im Λ.
    Negated { theirs: String, ours: String },
    /// C of the minimal S4D: its Λ has positive imaginary parts, so its C is the conjugate of ours. What our B has become
    /// goes into C on the way back, since there B is 1.
    Conjugate { theirs: String, ours: String, b: String, shape: Vec<usize> },
    /// B that the minimal S4D has not: 1 + 0i, of the type of `like`.
    Ones { ours: String, like: String, shape: Vec<usize> },
    /// Running mean and variance of a batch norm, (2, H).
    Running { mean: String, variance: String, ours: String },
    /// A language model multiplies its embedding's rows by √H; ours are stored multiplied.
    Scaled { theirs: String, ours: String, factor: f64 },
    /// Weight norm: a weight's rows are v·g/|v|.
    WeightNorm { g: String, v: String, ours: String },
    /// C, or C̃ where `l_kernel` is above 0.
    KernelC { theirs: String, ours: String, length: Option<String> },
    /// A tensor that has no counterpart here and goes back as it came.
    Kept { theirs: String },
}

fn get<'a>(from: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    from.get(name).ok_or_else(|| Error::new("tensors", quoted(name), "none"))
}

/// Flips the sign bit of every value (`every` 1) or of every second one (2: imaginary parts).
fn negated(tensor: &Tensor, every: usize) -> Result<Tensor> {
    let size = tensor.dtype().size();
    let mut bytes = tensor.bytes().to_vec();
    for value in bytes.chunks_exact_mut(size * every) {
        value[size * every - 1] ^= 0x80;
    }
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes)
}

fn map(tensor: &Tensor, f: impl Fn(usize, f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = tensor.to_f64().into_iter().enumerate().map(|(i, x)| f(i, x)).collect();
    Tensor::from_f64(tensor.dtype(), tensor.shape().to_vec(), &values)
}

/// |row| of every row of (rows, …).
fn row_norms(tensor: &Tensor) -> Vec<f64> {
    let rows = tensor.shape().first().copied().unwrap_or(1).max(1);
    let values = tensor.to_f64();
    values.chunks((values.len() / rows).max(1)).map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
}

/// The values in the type that `like` has, where that is F32 or F64.
fn typed(tensor: Tensor, like: &Tensor) -> Result<Tensor> {
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

impl Step {
    /// Our tensor's name.
    pub fn ours(&self) -> Option<&str> {
        match self {
            Step::Shape { ours, .. }
            | Step::Negated { ours, .. }
            | Step::Conjugate { ours, .. }
            | Step::Ones { ours, .. }
            | Step::Running { ours, .. }
            | Step::Scaled { ours, .. }
            | Step::WeightNorm { ours, .. }
            | Step::KernelC { ours, .. } => Some(ours),
            Step::Kept { .. } => None,
        }
    }
    /// Their tensors' names.
    pub fn theirs(&self) -> Vec<&str> {
        match self {
            Step::Shape { theirs, .. }
            | Step::Negated { theirs, .. }
            | Step::Conjugate { theirs, .. }
            | Step::Scaled { theirs, .. }
            | Step::Kept { theirs } => vec![theirs],
            Step::Ones { .. } => vec![],
            Step::Running { mean, variance, .. } => vec![mean, variance],
            Step::WeightNorm { g, v, .. } => vec![g, v],
            Step::KernelC { theirs, length, .. } => {
                [Some(theirs), length.as_ref()].into_iter().flatten().map(String::as_str).collect()
            }
        }
    }

    /// Our tensor from theirs.
    pub fn apply(&self, theirs: &StateDict) -> Result<Option<Tensor>> {
        Ok(Some(match self {
            Step::Shape { theirs: name, shape, .. } => get(theirs, name)?.clone().reshaped(shape.clone())?,
            Step::Negated { theirs: name, .. } => negated(get(theirs, name)?, 1)?,
            Step::Conjugate { theirs: name, shape, .. } => {
                negated(get(theirs, name)?, 2)?.reshaped(shape.clone())?
            }
            Step::Ones { like, shape, .. } => {
                let values: Vec<f64> =
                    (0..shape.iter().product::<usize>()).map(|i| (1 - i % 2) as f64).collect();
                Tensor::from_f64(get(theirs, like)?.dtype(), shape.clone(), &values)?
            }
            Step::Running { mean, variance, .. } => {
                let (mean, variance) = (get(theirs, mean)?, get(theirs, variance)?);
                let bytes = [mean.bytes(), typed(variance.clone(), mean)?.bytes()].concat();
                Tensor::new(mean.dtype(), vec![2, mean.len()], bytes)?
            }
            Step::Scaled { theirs: name, factor, .. } => map(get(theirs, name)?, |_, x| x * factor)?,
            Step::WeightNorm { g, v, .. } => {
                let (g, v) = (get(theirs, g)?, get(theirs, v)?);
                let (g, norms) = (g.to_f64(), row_norms(v));
                let width = (v.len() / g.len().max(1)).max(1);
                map(v, |i, x| x * g[i / width] / norms[i / width])?
            }
            Step::KernelC { theirs: name, .. } => get(theirs, name)?.clone(),
            Step::Kept { .. } => return Ok(None),
        }))
    }

    /// Their tensors from ours, in their own shapes and (F32 and F64) types.
    pub fn back(&self, original: &StateDict, ours: &StateDict, out: &mut StateDict) -> Result<()> {
        let mine = |name: &str| get(ours, name);
        match self {
            Step::Shape { theirs, ours, .. } => {
                let like = get(original, theirs)?;
                let tensor = typed(mine(ours)?.clone().reshaped(like.shape().to_vec())?, like)?;
                out.insert(theirs.clone(), tensor);
            }
            Step::Negated { theirs, ours } => {
                out.insert(theirs.clone(), typed(negated(mine(ours)?, 1)?, get(original, theirs)?)?);
            }
            Step::Conjugate { theirs, ours, b, .. } => {
                let like = get(original, theirs)?;
                let (c, b) = (mine(ours)?, mine(b)?.to_f64());
                // C is (1, H, N/2, 2) and B, with an SSM a feature, too.
                let is_one = b.iter().enumerate().all(|(i, &x)| x == (1 - i % 2) as f64);
                let c = match is_one {
                    true => c.clone(),
                    false => {
                        let values = c.to_f64();
                        map(c, |i, _| match i % 2 {
                            0 => values[i] * b[i] - values[i + 1] * b[i + 1],
                            _ => values[i - 1] * b[i] + values[i] * b[i - 1],
                        })?
                    }
                };
                let tensor = negated(&c, 2)?.reshaped(like.shape().to_vec())?;
                out.insert(theirs.clone(), typed(tensor, like)?);
            }
            Step::Ones { .. } => {}
            Step::Running { mean, variance, ours } => {
                let both = mine(ours)?;
                let (first, second) = both.bytes().split_at(both.bytes().len() / 2);
                for (name, bytes) in [(mean, first), (variance, second)] {
                    let tensor = Tensor::new(both.dtype(), vec![both.len() / 2], bytes.to_vec())?;
                    out.insert(name.clone(), typed(tensor, get(original, name)?)?);
                }
            }
            Step::Scaled { theirs, ours, factor } => {
                let tensor = map(mine(ours)?, |_, x| x / factor)?;
                out.insert(theirs.clone(), typed(tensor, get(original, theirs)?)?);
            }
            Step::WeightNorm { g, v, ours } => {
                let weight = mine(ours)?;
                let like = get(original, g)?;
                let norms = Tensor::from_f64(weight.dtype(), like.shape().to_vec(), &row_norms(weight))?;
                out.insert(g.clone(), typed(norms, like)?);
                out.insert(v.clone(), typed(weight.clone(), get(original, v)?)?);
            }
            Step::KernelC { theirs, ours, length } => {
                out.insert(theirs.clone(), typed(mine(ours)?.clone(), get(original, theirs)?)?);
                // What is not the C̃ that came is C.
                if let Some(length) = length {
                    let like = get(original, length)?;
                    let zero = vec![0; like.bytes().len()];
                    out.insert(length.clone(), Tensor::new(like.dtype(), like.shape().to_vec(), zero)?);
                }
            }
            Step::Kept { theirs } => {
                out.insert(theirs.clone(), get(original, theirs)?.clone());
            }
        }
        Ok(())
    }
}

/// Refuses types that are no real floating point numbers, and values that are not finite.
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

/// Names and shapes of tensors that were given to go back, compared with those that came.
pub(super) fn check_ours(steps: &[Step], reference: &StateDict, ours: &StateDict) -> Result<()> {
    for step in steps {
        let Some(name) = step.ours() else { continue };
        let (mine, like) = (get(ours, name)?, get(reference, name)?);
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
