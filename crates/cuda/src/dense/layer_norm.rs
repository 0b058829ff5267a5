//! Layer norm over heads (`kernels/dense/layer_norm.cu`).

use crate::{device::Cuda, driver::args};
use s4_backend::{LayerNormBackward, LayerNormForward, LayerNormRecompute, Result, SeqShape};

/// The layer norm kernel and its gradient for a number of heads.
struct Kernels {
    forward: &'static str,
    dx: &'static str,
    /// Warps of a block.
    warps: usize,
}

impl Kernels {
    fn of(heads: usize) -> Kernels {
        match heads {
            0..=128 => Kernels { forward: "layer_norm_128", dx: "layer_norm_dx_128", warps: 4 },
            129..=256 => Kernels { forward: "layer_norm_256", dx: "layer_norm_dx_256", warps: 8 },
            257..=512 => Kernels { forward: "layer_norm_512", dx: "layer_norm_dx_512", warps: 16 },
            _ => Kernels { forward: "layer_norm_any", dx: "layer_norm_dx_any", warps: 8 },
        }
    }

    /// Blocks that go through all tiles of 32 positions, where a multiprocessor has registers for `resident_warps`.
    fn blocks(&self, be: &Cuda, positions: usize, resident_warps: usize) -> usize {
        positions.div_ceil(32).min(be.processors() * resident_warps / self.warps)
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
    let (kernels, positions) = (Kernels::of(heads), batch * len);
    be.launch(
        ("layer_norm", kernels.forward),
        (kernels.blocks(be, positions, 32), 1, 1),
        (32, kernels.warps as u32),
        0,
        args![y, stats, *x, *gamma, *beta, eps, positions, heads, len],
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
    let (kernels, positions) = (Kernels::of(heads), batch * len);
    let blocks = kernels.blocks(be, positions, 16);
    let sums = be.scratch("layer_norm_backward", blocks * 2 * heads)?;
    be.launch(
        ("layer_norm", kernels.dx),
        (blocks, 1, 1),
        (32, kernels.warps as u32),
        0,
        args![dx, &sums, *dy, *x, *stats, *gamma, *residual, positions, heads, len],
    )?;
    be.beside(shape.elements()).launch(
        ("layer_norm", "layer_norm_dparams"),
        ((2 * heads).div_ceil(32), 1, 1),
        (32, 16),
        0,
        args![dgamma, dbeta, &sums, blocks, heads],
    )
}
