//! Layer norm over heads (`kernels/dense/layer_norm.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{LayerNormBackward, LayerNormForward, LayerNormRecompute, Result, SeqShape};

/// Names of the layer norm kernel and of its gradient, by how many heads their threads keep in registers.
fn kernels(heads: usize) -> [&'static str; 2] {
    match heads {
        0..=128 => ["layer_norm_128", "layer_norm_dx_128"],
        129..=256 => ["layer_norm_256", "layer_norm_dx_256"],
        257..=512 => ["layer_norm_512", "layer_norm_dx_512"],
        _ => ["layer_norm_any", "layer_norm_dx_any"],
    }
}

pub(super) fn forward(be: &Cuda, args: &LayerNormForward<'_, Cuda>) -> Result<()> {
    let LayerNormForward { y, stats, x, gamma, beta, eps, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    let eps = *eps as f32;
    if len == 1 {
        let block = heads.next_multiple_of(32).min(256) as u32;
        let arguments = args![y, stats, *x, *gamma, *beta, eps, heads as i32];
        return be.launch(("layer_norm", "layer_norm_one_step"), (batch, 1, 1), (block, 1), 0, arguments);
    }
    be.launch(
        ("layer_norm", kernels(heads)[0]),
        ((batch * len).div_ceil(32), 1, 1),
        (32, 16),
        0,
        args![y, stats, *x, *gamma, *beta, eps, batch, heads, len],
    )
}

pub(super) fn recompute(be: &Cuda, args: &LayerNormRecompute<'_, Cuda>) -> Result<()> {
    let LayerNormRecompute { y, stats, x, gamma, beta, shape } = args;
    let n = shape.elements();
    let arguments = args![y, *stats, *x, *gamma, *beta, n, shape.heads, shape.len];
    be.launch_elementwise(("layer_norm", "layer_norm_recompute"), n.div_ceil(4), arguments)
}

pub(super) fn backward(be: &Cuda, args: &LayerNormBackward<'_, Cuda>) -> Result<()> {
    let LayerNormBackward { dx, dgamma, dbeta, dy, x, stats, gamma, residual, shape } = args;
    let &SeqShape { batch, heads, len } = shape;
    be.launch(
        ("layer_norm", "layer_norm_dparams"),
        (heads, 1, 1),
        (512, 1),
        0,
        args![dgamma, dbeta, *dy, *x, *stats, batch, heads, len],
    )?;
    be.launch(
        ("layer_norm", kernels(heads)[1]),
        ((batch * len).div_ceil(32), 1, 1),
        (32, 16),
        0,
        args![dx, *dy, *x, *stats, *gamma, *residual, batch, heads, len],
    )
}
