//! The linear layer, made of the products of `gemm.rs`.

use crate::device::Cuda;
use s4_backend::{LinearBackward, LinearForward, LinearShape, Result};

/// y = W x + b.
pub(super) fn forward(be: &Cuda, args: &LinearForward<'_, Cuda>) -> Result<()> {
    let LinearForward { y, x, weight, bias, shape } = args;
    let &LinearShape { batch, inputs, outputs, len } = shape;
    let sizes = (batch, outputs, inputs, len);
    be.weight_times(y.span(), weight.span(), x.span(), bias.map(|b| b.span()), sizes)
}

/// dW += Σ dy·xᵀ, db += Σ dy, dx = Wᵀ·dy.
pub(super) fn backward(be: &Cuda, args: &LinearBackward<'_, Cuda>) -> Result<()> {
    let LinearBackward { dx, dweight, dbias, dy, x, weight, shape } = args;
    let &LinearShape { batch, inputs, outputs, len } = shape;
    let sizes = (batch, outputs, inputs, len);
    be.weight_gradient(dweight.span(), dy.span(), x.span(), sizes)?;
    if let Some(db) = dbias {
        be.bias_gradient(db.span(), dy.span(), (batch, outputs, len))?;
    }
    if let Some(dx) = dx {
        be.weight_t_times(dx.span(), weight.span(), dy.span(), sizes)?;
    }
    Ok(())
}
