//! The linear layer, made of the products of `gemm.rs` or, on Hopper, of `products_sm90.rs`.

use super::products_sm90::{HopperProducts, ProductGradients, ProductInput};
use crate::device::Cuda;
use s4_backend::{LinearBackward, LinearForward, LinearShape, Result};

/// y = W x + b.
pub(super) fn forward(be: &Cuda, args: &LinearForward<'_, Cuda>) -> Result<()> {
    let LinearForward { y, x, weight, bias, shape } = args;
    let &LinearShape { batch, inputs, outputs, len } = shape;
    let sizes = (batch, outputs, inputs, len);
    if let Some(hopper) = HopperProducts::if_supported(be, sizes) {
        let parameters = (weight.span(), bias.map(|b| b.span()));
        return hopper.forward(be, "linear_forward", y.span(), ProductInput::Array(x.span()), parameters);
    }
    be.weight_times(y.span(), weight.span(), x.span(), bias.map(|b| b.span()), sizes)
}

/// dW += Σ dy·xᵀ, db += Σ dy, dx = Wᵀ·dy.
pub(super) fn backward(be: &Cuda, args: &LinearBackward<'_, Cuda>) -> Result<()> {
    let LinearBackward { dx, dweight, dbias, dy, x, weight, shape } = args;
    let &LinearShape { batch, inputs, outputs, len } = shape;
    let sizes = (batch, outputs, inputs, len);
    if let Some(db) = dbias {
        be.bias_gradient(db.span(), dy.span(), (batch, outputs, len))?;
    }
    if let Some(hopper) = HopperProducts::if_supported(be, sizes) {
        let gradients = ProductGradients { dx: dx.as_ref().map(|dx| dx.span()), dweight: dweight.span() };
        let x = ProductInput::Array(x.span());
        return hopper.backward(be, "linear_backward", gradients, dy.span(), x, weight.span());
    }
    be.weight_gradient(dweight.span(), dy.span(), x.span(), sizes)?;
    if let Some(dx) = dx {
        be.weight_t_times(dx.span(), weight.span(), dy.span(), sizes)?;
    }
    Ok(())
}
