//! Gradients of a chunk's matrices (`kernels/ssm/chunk_pass_backward*.cu`): gradient product per head over all sequences and
//! chunks.

use super::{
    chunk_call::ChunkCall,
    chunk_states::ChunkStates,
    matrices::KernelRange,
    sizes::{Sizes, T},
};
use crate::{
    Precision,
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::Result;
use std::ops::Range;

/// One launch of that product. dy and u hold all heads, ds and s those in the range.
pub(super) struct Products {
    /// (parts, H, T + NP, T + NP), of which the heads in the range are written.
    pub(super) target: Span,
    pub(super) dy: Span,
    pub(super) ds: Span,
    pub(super) u: Span,
    pub(super) s: Span,
    /// Number of dy's channels, and which of them.
    pub(super) channel: (usize, usize),
    pub(super) heads: Range<usize>,
    pub(super) parts: usize,
}

/// One side of the product of one direction: dY and dS, or X and S.
pub(super) struct StateOperand {
    /// Numbers of all heads.
    rows: Span,
    /// States of the heads of a range, and their powers of two where they are f16.
    states: Span,
    exponents: Option<Span>,
    /// Bits of the largest magnitudes of all heads (H, 4), where the states are f16.
    largest: Option<Span>,
    direction: usize,
}

impl StateOperand {
    pub(super) fn new(rows: Span, states: &ChunkStates, direction: usize) -> StateOperand {
        StateOperand {
            rows,
            states: states.values[direction].expect("a pass over this direction"),
            exponents: states.exponents[direction],
            largest: states.largest,
            direction,
        }
    }
}

impl Cuda {
    /// The gradients [dToep, dW; dV, dQ] of one direction, for the heads of the range.
    pub(super) fn gradient_product(
        &self,
        c: &ChunkCall<'_>,
        target: Span,
        dy: &StateOperand,
        u: &StateOperand,
        range: Range<usize>,
        parts: usize,
    ) -> Result<()> {
        let (Some(largest_dy), Some(largest_x)) = (dy.largest, u.largest) else {
            let (ds, s) = (dy.states, u.states);
            let products =
                Products { target, dy: dy.rows, ds, u: u.rows, s, channel: (1, 0), heads: range, parts };
            return self.chunk_gradient_product(c, &products);
        };
        let (side, heads, chunks) = (c.sizes.side(), c.sizes.heads, c.segment_split.chunks);
        // ⌈2³² / chunks⌉, which does not fit for one chunk, nor is used.
        let reciprocal = (1u64 << 32).div_ceil(chunks as u64) as u32;
        let heads_part = |x: Span, bytes_per_head: usize| {
            x.part(range.start * bytes_per_head, x.bytes() - range.start * bytes_per_head)
        };
        self.launch(
            ("chunk_pass_backward_f16_sm90", "grad"),
            (range.len(), parts, 1),
            (256, 1),
            // Of 32 (sequence, chunk) each: three stages of copies, two of both operands in core matrices.
            3 * (6 * 4096 + 2 * 4 * 32) + 2 * 2 * 4 * 16 * 144,
            args![
                heads_part(target, 4 * side * side),
                heads_part(dy.rows, 4 * c.len),
                dy.states,
                dy.exponents,
                heads_part(u.rows, 4 * c.len),
                u.states,
                u.exponents,
                heads_part(largest_dy, 4 * 4),
                heads_part(largest_x, 4 * 4),
                1 + dy.direction,
                1 + u.direction,
                c.lengths,
                c.batch,
                heads,
                chunks,
                reciprocal,
                c.len
            ],
        )
    }

    /// The gradients [dToep, dW; dV, dQ] (channels, H, T + NP, T + NP); dV and dQ with the first channel only.
    pub(super) fn products(
        &self,
        c: &ChunkCall<'_>,
        dy: Span,
        ds: &DeviceBlock,
        u: Span,
        s: &DeviceBlock,
        channels: usize,
    ) -> Result<DeviceBlock> {
        let heads = c.sizes.heads;
        let gradient_len = heads * c.sizes.side() * c.sizes.side();
        let gradients = self.scratch(c.op, channels * gradient_len)?;
        let parts = self.parts(c, heads);
        let cells = (parts > 1).then(|| self.scratch(c.op, parts * gradient_len)).transpose()?;
        for k in 0..channels {
            let gradient = gradients.span().part(4 * k * gradient_len, 4 * gradient_len);
            let target = cells.as_ref().map_or(gradient, |x| x.span());
            let (ds, s) = (ds.span(), s.span());
            let one_channel =
                Products { target, dy, ds, u, s, channel: (channels, k), heads: 0..heads, parts };
            self.chunk_gradient_product(c, &one_channel)?;
            if let Some(cells) = &cells {
                self.launch_elementwise(
                    ("chunk_pass_backward", "sum_parts"),
                    gradient_len,
                    args![gradient, cells, gradient_len, parts],
                )?;
            }
        }
        Ok(gradients)
    }

    /// Adds up dToep, in `g`, along its diagonals: the gradient of the kernel's first T elements, and dD.
    pub(super) fn kernel_gradient(
        &self,
        dkern: &DeviceBlock,
        dd: Option<Span>,
        g: &DeviceBlock,
        s: Sizes,
        kernels: KernelRange,
    ) -> Result<()> {
        let (heads, side) = (s.heads, s.side());
        let KernelRange { first, count: channels, anticausal } = kernels;
        self.launch(
            ("chunk_matrices_backward", "kernel_gradient"),
            (heads, channels, 1),
            (T as u32, 1),
            0,
            args![dkern, dd, g, heads, s.kc, first, side, side * side, heads * side * side, anticausal],
        )
    }

    /// Number of ranges into which the sum over (sequence, chunk) is cut, where so many heads are in gradient launch.
    fn parts(&self, c: &ChunkCall<'_>, heads: usize) -> usize {
        let steps = (c.batch * c.segment_split.chunks).div_ceil(16);
        (2 * self.processors()).div_ceil(heads).min(steps.div_ceil(8)).max(1)
    }

    pub(super) fn chunk_gradient_product(&self, c: &ChunkCall<'_>, p: &Products) -> Result<()> {
        let &Products { target, dy, ds, u, s, channel: (channels, k), ref heads, parts } = p;
        let (range, side) = (heads, c.sizes.side());
        let Sizes { heads, np, .. } = c.sizes;
        let heads_part = |x: Span, bytes_per_head: usize| {
            x.part(range.start * bytes_per_head, x.bytes() - range.start * bytes_per_head)
        };
        let (target, dy, u) =
            (heads_part(target, 4 * side * side), heads_part(dy, 4 * c.len), heads_part(u, 4 * c.len));
        let vec = c.len % 4 == 0 && dy.is_aligned() && u.is_aligned();
        let rows = if k == 0 { side } else { T };
        let (b, chunks, len, grid) = (c.batch, c.segment_split.chunks, c.len, (range.len(), parts, 1));
        if np == 64 && self.multiplies_split16() {
            let kernel_name = if self.precision() == Precision::Bf16 { "grad_64_1" } else { "grad_64_3" };
            // Two stages of four planes (high and low parts of both operands): 32 (sequence, chunk) in core matrices,
            // or 16 in lines.
            let (module, shared) = if self.multiplies_by_warpgroups() {
                ("chunk_pass_backward_bf16_sm90", 8 * 4 * 16 * 144)
            } else {
                ("chunk_pass_backward_bf16", 8 * 16 * (side + 8) * 2)
            };
            return self.launch(
                (module, kernel_name),
                grid,
                (256, 1),
                shared,
                args![target, dy, ds, u, s, c.lengths, b, heads, channels, k, chunks, len, rows, vec],
            );
        }
        let kernel_name = match np {
            32 => "grad_32",
            64 => "grad_64",
            _ => "grad_128",
        };
        self.launch(
            ("chunk_pass_backward", kernel_name),
            grid,
            (512, 1),
            0,
            args![target, dy, ds, u, s, c.lengths, b, heads, channels, k, chunks, len, rows],
        )
    }
}
