//! One sample a row (`kernels/rows.cu`): what a stream's step is made of.

use crate::{device::Span, launch::args, memory::Cuda};
use s4_backend::Result;

/// y (batch, outputs) = residual + gate(W·f(x) + bias), W (outputs, or twice as many with GLU; inputs).
pub(crate) struct Rows {
    pub(crate) y: Span,
    pub(crate) x: Span,
    pub(crate) weight: Span,
    pub(crate) bias: Option<Span>,
    pub(crate) residual: Option<Span>,
    pub(crate) batch: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) glu: bool,
    /// f, and the gate without GLU: codes of `pointwise.cuh`.
    pub(crate) activations: (i32, i32),
}

impl Cuda {
    /// Enqueues it where rows are few; false where the tiles of a matrix product do better.
    pub(crate) fn rows(&self, r: &Rows) -> Result<bool> {
        let (kernel, at_once) = if r.batch == 1 { ("rows_1", 1) } else { ("rows_8", 8) };
        let shared = 4 * at_once * r.inputs;
        if r.batch > 64 || shared > 48 << 10 || r.outputs == 0 || r.batch == 0 {
            return Ok(false);
        }
        // Each block makes f(x) of its rows anew: the more rows, the more outputs it should have for that.
        let (warps, each) = if r.batch == 1 { (4, 1) } else { (16, 2) };
        self.launch(
            ("rows", kernel),
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
                r.activations.0,
                r.activations.1
            ],
        )?;
        Ok(true)
    }
}
