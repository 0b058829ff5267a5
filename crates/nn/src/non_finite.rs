//! Which tensor of an update was not finite, and the error that says so.

use crate::{check, model::Model, param::ParamStore};
use s4_backend::{Backend, Code, Error, Result};

/// Name of the tensor that was not finite first: where the loss is not finite (`finite` false) the output of a part of the
/// network or the loss, else a gradient.
pub(crate) fn non_finite_tensor<B: Backend>(
    model: &Model<B>,
    loss_is_finite: bool,
    batch: usize,
    len: usize,
) -> Result<String> {
    match loss_is_finite {
        false => Ok(model.net.first_non_finite(&model.be, batch, len)?.unwrap_or("loss".into())),
        true => non_finite_gradient(&model.store),
    }
}

/// Name of a parameter whose gradient is not finite, for an error. Of several it is the last, which is nearest to the loss
/// and which the backward therefore computed first.
pub(crate) fn non_finite_gradient<B: Backend>(store: &ParamStore<B>) -> Result<String> {
    for info in store.infos().iter().rev() {
        if check::finite("", "", &store.grad(&info.name)?).is_err() {
            return Ok(format!("gradient of {}", info.name));
        }
    }
    // Every gradient is finite, and so it was the sum of their squares that overflowed.
    Ok("gradient norm".into())
}

/// `ERR_S4_NONFINITE` that names the update and the tensor.
pub(crate) fn non_finite_error(op: &'static str, step: u64, tensor: &str) -> Error {
    Error::new(
        Code::NonFinite,
        op,
        "a finite loss and finite gradients (parameters are those before the step)",
        format!("NaN or Inf at step {step} in {tensor}"),
    )
    .at(Some(step), Some(tensor.into()))
}
