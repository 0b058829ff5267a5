//! Linear layers of sequences of one time step (`kernels/dense/matvec.cu`), as a stream needs them.

use crate::{
    device::Cuda,
    driver::{Span, args},
};
use s4_backend::{Activation, Result};

/// y (batch, outputs) = residual + gate(W·f(x) + bias), W (outputs, or twice as many with GLU; inputs).
pub(super) struct Matvec {
    pub(super) y: Span,
    pub(super) x: Span,
    pub(super) weight: Span,
    pub(super) bias: Option<Span>,
    pub(super) residual: Option<Span>,
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) glu: bool,
    /// The activation f before the product, and the one after it where there is no GLU.
    pub(super) activations: [Activation; 2],
}

impl Cuda {
    /// Enqueues the product where the batch is small enough that this is faster than tiles; else enqueues nothing and gives
    /// false.
    pub(super) fn matvec(&self, r: &Matvec) -> Result<bool> {
        let (kernel, at_once) = if r.batch == 1 { ("matvec_1", 1) } else { ("matvec_8", 8) };
        let shared = 4 * at_once * r.inputs;
        // 64 KiB: what a block has on every chip, enough for the 2,048 inputs of a feed-forward layer of 512 features.
        if r.batch > 64 || shared > 64 << 10 || r.outputs == 0 || r.batch == 0 {
            return Ok(false);
        }
        // Each block computes f(x) of its sequences itself: the more sequences, the more outputs it should have.
        let (warps, each) = if r.batch == 1 { (4, 1) } else { (16, 2) };
        self.launch(
            ("matvec", kernel),
            (r.outputs.div_ceil(warps * each), r.batch.div_ceil(at_once), 1),
            (32 * warps as u32, 1),
            shared,
            args![
                r.y,
                r.x,
                r.weight,
                r.bias,
                r.residual,
                r.batch as i32,
                r.inputs as i32,
                r.outputs as i32,
                r.glu as i32,
                r.activations[0].code(),
                r.activations[1].code()
            ],
        )?;
        Ok(true)
    }
}
