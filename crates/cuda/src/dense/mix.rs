//! The mix: activation, dropout, linear, gate, dropout, residual (`kernels/dense/mix.cu` around the products of
//! `gemm.rs`, or on Hopper, with GLU, products that do it all: `mix_sm90.rs`, and without it the products of
//! `products_sm90.rs`). Backward recomputes a = dropout(activation(s)) and z = W a + b.

use super::{
    dropout::{DropoutKey, drop_args},
    matvec::Matvec,
    mix_sm90::HopperMix,
    products_sm90::{HopperProducts, ProductGradients, ProductInput},
};
use crate::{
    device::Cuda,
    driver::args,
    memory::{DeviceBlock, Ref},
};
use s4_backend::{Activation, Error, MixBackward, MixCall, MixForward, Result};

/// The products of a mix without GLU on Hopper; `None` where the general kernels serve it.
fn products_without_glu(be: &Cuda, call: &MixCall) -> Option<HopperProducts> {
    let &MixCall { ref spec, batch, len, .. } = call;
    if spec.glu { None } else { HopperProducts::if_supported(be, (batch, spec.outputs, spec.inputs, len)) }
}

/// Elements that forward keeps for backward.
pub(super) fn saved_len(be: &Cuda, call: &MixCall) -> usize {
    HopperMix::if_supported(be, call).map_or(0, |hopper| hopper.saved_len())
}

/// Elements that forward keeps where backward gives rows; `None` where it cannot.
pub(super) fn chunk_rows_saved_len(be: &Cuda, call: &MixCall) -> Option<usize> {
    HopperMix::if_gives_chunk_rows(be, call).map(|hopper| hopper.saved_len())
}

/// Elements of the moments that forward can leave; `None` where it cannot.
pub(super) fn moments_len(be: &Cuda, call: &MixCall) -> Option<usize> {
    HopperMix::if_supported(be, call).map(|hopper| hopper.moments_len())
}

/// The mix on Hopper, with backward giving rows or not.
pub(super) fn on_hopper<'a>(
    be: &Cuda,
    op: &'static str,
    call: &'a MixCall,
    rows: bool,
) -> Result<HopperMix<'a>> {
    let hopper = match rows {
        true => HopperMix::if_gives_chunk_rows(be, call),
        false => HopperMix::if_supported(be, call),
    };
    hopper.ok_or_else(|| Error::unsupported(op, "a mix that the kernels of Hopper serve", "another"))
}

/// a = dropout(activation(s)); `None` where that is s itself.
fn activated(be: &Cuda, op: &'static str, s: Ref<'_>, call: &MixCall) -> Result<Option<DeviceBlock>> {
    let drop = DropoutKey::new(call, 0);
    if call.spec.activation == Activation::Identity && drop.threshold == 0 {
        return Ok(None);
    }
    let a = be.scratch(op, s.len())?;
    let n = s.len();
    be.launch_elementwise(
        ("mix", "activate_drop"),
        n.div_ceil(4),
        drop_args![drop; &a, s, n, call.len, call.spec.activation.code()],
    )?;
    Ok(Some(a))
}

/// y = mix(s) (+ residual).
pub(super) fn forward(be: &Cuda, args: &MixForward<'_, Cuda>) -> Result<()> {
    const OP: &str = "mix_forward";
    let MixForward { y, saved, s, residual, params, call } = args;
    let &MixCall { ref spec, batch, len, .. } = call;
    // A stream's step keeps nothing and drops nothing: one kernel.
    let few = Matvec {
        y: y.span(),
        x: s.span(),
        weight: params.weight.span(),
        bias: Some(params.bias.span()),
        residual: residual.map(|r| r.span()),
        batch,
        inputs: spec.inputs,
        outputs: spec.outputs,
        glu: spec.glu,
        activations: [spec.activation, spec.final_activation],
    };
    if len == 1 && saved.is_none() && spec.dropout == 0.0 && be.matvec(&few)? {
        return Ok(());
    }
    if let Some(hopper) = HopperMix::if_supported(be, call) {
        return hopper.forward(be, args, (None, None));
    }
    let z = be.scratch(OP, batch * spec.rows() * len)?;
    let (weight, bias) = (params.weight.span(), Some(params.bias.span()));
    if let Some(hopper) = products_without_glu(be, call) {
        hopper.forward(be, OP, z.span(), ProductInput::Activated(s.span(), call), (weight, bias))?;
    } else {
        let a = activated(be, OP, *s, call)?;
        let a = a.as_ref().map_or(s.span(), |a| a.span());
        be.weight_times(z.span(), weight, a, bias, (batch, spec.rows(), spec.inputs, len))?;
    }
    let (drop, n, f) = (DropoutKey::new(call, 1), y.len(), spec.final_activation.code());
    be.launch_elementwise(
        ("mix", "gate"),
        n.div_ceil(4),
        drop_args![drop; y, &z, *residual, n, len, spec.outputs, spec.glu, f],
    )
}

/// ds overwrites, dW and db accumulate.
pub(super) fn backward(be: &Cuda, args: &MixBackward<'_, Cuda>) -> Result<()> {
    const OP: &str = "mix_backward";
    let MixBackward { ds, grads, dy, s, params, call, .. } = args;
    let &MixCall { ref spec, batch, len, .. } = call;
    if let Some(hopper) = HopperMix::if_supported(be, call) {
        return hopper.backward(be, args, None);
    }
    if let Some(hopper) = products_without_glu(be, call) {
        return backward_by_products(be, &hopper, args);
    }
    let own = activated(be, OP, *s, call)?;
    let a = own.as_ref().map_or(s.span(), |a| a.span());
    let sizes = (batch, spec.rows(), spec.inputs, len);
    let dz = be.scratch(OP, batch * spec.rows() * len)?;
    be.weight_times(dz.span(), params.weight.span(), a, Some(params.bias.span()), sizes)?;
    let (drop, n, f) = (DropoutKey::new(call, 1), dy.len(), spec.final_activation.code());
    be.launch_elementwise(
        ("mix", "gate_backward"),
        n.div_ceil(4),
        drop_args![drop; &dz, *dy, &dz, n, len, spec.outputs, spec.glu, f],
    )?;
    be.weight_gradient(grads.weight.span(), dz.span(), a, sizes)?;
    be.bias_gradient(grads.bias.span(), dz.span(), (batch, spec.rows(), len))?;
    be.weight_t_times(ds.span(), params.weight.span(), dz.span(), sizes)?;
    if own.is_some() {
        let (drop, n) = (DropoutKey::new(call, 0), s.len());
        be.launch_elementwise(
            ("mix", "activate_drop_backward"),
            n.div_ceil(4),
            drop_args![drop; ds, *s, n, len, spec.activation.code()],
        )?;
    }
    Ok(())
}

/// As [`backward`], of a mix without GLU on Hopper.
fn backward_by_products(be: &Cuda, hopper: &HopperProducts, args: &MixBackward<'_, Cuda>) -> Result<()> {
    const OP: &str = "mix_backward";
    let MixBackward { ds, grads, dy, s, params, call, .. } = args;
    let &MixCall { ref spec, batch, len, .. } = call;
    let input = ProductInput::Activated(s.span(), call);
    let (weight, drop) = (params.weight.span(), DropoutKey::new(call, 1));
    let own;
    let dz = if spec.final_activation == Activation::Identity && drop.threshold == 0 {
        dy.span()
    } else {
        own = be.scratch(OP, dy.len())?;
        // z stands where dz will; the slope of the identity needs none.
        let z = if spec.final_activation == Activation::Identity {
            dy.span()
        } else {
            hopper.forward(be, OP, own.span(), input, (weight, Some(params.bias.span())))?;
            own.span()
        };
        let (n, f) = (dy.len(), spec.final_activation.code());
        be.launch_elementwise(
            ("mix", "gate_backward"),
            n.div_ceil(4),
            drop_args![drop; &own, *dy, z, n, len, spec.outputs, false, f],
        )?;
        own.span().part(0, dy.span().bytes())
    };
    be.bias_gradient(grads.bias.span(), dz, (batch, spec.outputs, len))?;
    let gradients = ProductGradients { dx: Some(ds.span()), dweight: grads.weight.span() };
    hopper.backward(be, OP, gradients, dz, input, weight)
}
