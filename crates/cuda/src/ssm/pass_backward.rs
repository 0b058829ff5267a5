//! Gradients of a chunk's matrices (`kernels/chunk_grad*.cu`): one product over all rows and chunks of a head.

use crate::{
    Cuda, Precision,
    chunk::{Sizes, T},
    device::Span,
    launch::args,
    memory::Block,
    sides::aligned,
    ssm::Call,
};
use s4_backend::*;
use std::ops::Range;

impl Cuda {
    /// (channels, H, T + NP, T + NP): [dToep, dW; dV, dQ], the lower half for the first channel only.
    pub(crate) fn products(
        &self,
        c: &Call<'_>,
        dy: Span,
        ds: &Block,
        u: Span,
        s: &Block,
        channels: usize,
        side: usize,
    ) -> Result<Block> {
        let heads = c.sizes.heads;
        let size = heads * side * side;
        let out = self.scratch(c.op, channels * size)?;
        let parts = self.parts(c, heads);
        let cells = (parts > 1).then(|| self.scratch(c.op, parts * size)).transpose()?;
        for k in 0..channels {
            let one = out.span().part(4 * k * size, 4 * size);
            let target = cells.as_ref().map_or(one, |x| x.span());
            self.product(c, target, [dy, ds.span(), u, s.span()], (channels, k), side, 0..heads, parts)?;
            if let Some(cells) = &cells {
                self.each(("chunk_grad", "sum_parts"), size, args![one, cells, size, parts])?;
            }
        }
        Ok(out)
    }

    /// Diagonal sums of dToep in `g`, and dD.
    pub(crate) fn kernel_gradient(
        &self,
        dkern: &Block,
        dd: Option<Span>,
        g: &Block,
        s: Sizes,
        (k0, channels, flip): (usize, usize, bool),
    ) -> Result<()> {
        let (heads, side) = (s.heads, T + s.np);
        self.launch(
            ("constants_backward", "kernel_gradient"),
            (heads, channels, 1),
            (T as u32, 1),
            0,
            args![dkern, dd, g, heads, s.kc, k0, side, side * side, heads * side * side, flip],
        )
    }

    /// In how many parts rows and chunks are summed, where as many heads go together.
    fn parts(&self, c: &Call<'_>, heads: usize) -> usize {
        let steps = (c.batch * c.cut.chunks).div_ceil(16);
        (2 * self.processors()).div_ceil(heads).min(steps.div_ceil(8)).max(1)
    }

    /// One launch of a gradient's products: `target` (parts, H, T + NP, T + NP), of which the `range` of heads is written;
    /// dy and u are of all heads, ds and s of those in the range.
    pub(crate) fn product(
        &self,
        c: &Call<'_>,
        target: Span,
        [dy, ds, u, s]: [Span; 4],
        (channels, k): (usize, usize),
        side: usize,
        range: Range<usize>,
        parts: usize,
    ) -> Result<()> {
        let Sizes { heads, np, .. } = c.sizes;
        let on = |x: Span, each: usize| x.part(range.start * each, x.bytes() - range.start * each);
        let (target, dy, u) = (on(target, 4 * side * side), on(dy, 4 * c.len), on(u, 4 * c.len));
        let vec = c.len % 4 == 0 && aligned(&[dy, u]);
        let rows = if k == 0 { side } else { T };
        let (b, chunks, len, grid) = (c.batch, c.cut.chunks, c.len, (range.len(), parts, 1));
        if np == 64 && self.halves() {
            let name = if self.inner.precision == Precision::Bf16 { "grad_64_1" } else { "grad_64_3" };
            // Two stages of four planes: 32 rows in core matrices, or 16 in lines.
            let (module, shared) = if self.warpgroups() {
                ("chunk_grad90", 8 * 4 * 16 * 144)
            } else {
                ("chunk_grad16", 8 * 16 * (side + 8) * 2)
            };
            return self.launch(
                (module, name),
                grid,
                (256, 1),
                shared,
                args![target, dy, ds, u, s, c.lengths, b, heads, channels, k, chunks, len, rows, vec],
            );
        }
        let name = match np {
            32 => "grad_32",
            64 => "grad_64",
            _ => "grad_128",
        };
        self.launch(
            ("chunk_grad", name),
            grid,
            (512, 1),
            0,
            args![target, dy, ds, u, s, c.lengths, b, heads, channels, k, chunks, len, rows],
        )
    }
}
