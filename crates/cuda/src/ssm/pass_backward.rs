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
    driver::{Arg, ElementType, Span, TensorMap, args},
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

impl Cuda {
    /// The gradients [dToep, dW; dV, dQ] of the causal pass and, in a bidirectional layer, of the anticausal one, for the heads of the
    /// range: of operands in f16. `dx`: what the adjoint pass has left, `x`: what the pass has left.
    pub(super) fn gradient_products_of_f16(
        &self,
        c: &ChunkCall<'_>,
        targets: [Option<Span>; 2],
        dx: &ChunkStates,
        x: &ChunkStates,
        range: Range<usize>,
        parts: usize,
    ) -> Result<()> {
        let (side, heads) = (c.sizes.side(), c.sizes.heads);
        let target =
            |x: Span| x.part(4 * side * side * range.start, x.bytes() - 4 * side * side * range.start);
        let total = c.batch * c.segment_split.chunks;
        let both = targets[1].is_some();
        let (rows_of_a_step, stages) = (if both { 64 } else { 32 }, 4);
        // Values and exponents, and the largest numbers, of which there are four a head: `which` of them.
        let rows = |[values, exponents]: [Span; 2], of: &ChunkStates, which: usize| -> Result<[Arg; 3]> {
            let shape = (range.len(), total, T);
            let map = TensorMap::new(c.op, values, ElementType::F16, shape, (rows_of_a_step, 128))?;
            let largest = of.largest.expect("with states in f16");
            let at = 4 * (4 * range.start + which);
            Ok([map.into(), exponents.into(), largest.part(at, largest.bytes() - at).into()])
        };
        let input = |of: &ChunkStates| rows(of.input.expect("with states in f16"), of, 0);
        let states = |of: &ChunkStates, dir: usize| {
            let of_direction =
                [of.values[dir], of.exponents[dir]].map(|x| x.expect("a pass over this direction"));
            rows(of_direction, of, 1 + dir)
        };
        let (dy, u) = (input(dx)?, input(x)?);
        // The adjoint of the causal pass goes against time.
        let (name, arrays) = match both {
            false => ("grad_one", vec![dy, u, states(dx, 0)?, states(x, 0)?]),
            true => {
                let (s, ds) = ([states(x, 0)?, states(x, 1)?], [states(dx, 1)?, states(dx, 0)?]);
                ("grad_both", vec![dy, s[1], ds[0], u, ds[1], s[0]])
            }
        };
        let shared = stages * (arrays.len() * rows_of_a_step * (128 + 4) + 8) + 1024;
        let threads = 8 * rows_of_a_step as u32;
        let mut arguments: Vec<Arg> = targets.into_iter().flatten().map(|x| target(x).into()).collect();
        arguments.extend(arrays.into_iter().flatten());
        arguments.extend(args![total, heads]);
        let grid = (range.len(), parts, 1);
        self.launch(("chunk_pass_backward_f16_sm90", name), grid, (threads, 1), shared, &arguments)
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
