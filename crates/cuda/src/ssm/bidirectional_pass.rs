//! Hopper's chunk pass over sequences without an initial or a final state (`kernels/ssm/bidirectional_pass_sm90.cu`):
//! both directions of a bidirectional layer at once, or one.

use super::{
    chunk_call::ChunkCall,
    chunk_pass::Entering,
    chunk_rows::{ChunkRows, rows_from_head},
    chunk_states::ChunkStates,
    discretize::Discrete,
    matrices::TransitionBuffer,
    operands::{Operands, OperandsOf, PLANE},
    pass_backward::Products,
    pass_constants::RecurrenceParts,
    segments::SegmentSplit,
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::{DeviceBlock, Ints},
};
use s4_backend::Result;
use std::{ops::Range, sync::Arc};

/// Shared memory of a thread for a chunk of rows that it waits for.
pub(super) const ROWS_BYTES: usize = 4 * 16 + 2 * 4;

/// Bytes of the exponents of 64 rows.
const EXPONENTS: usize = 64 * 4;

/// Arguments of a pass over both directions, or over one.
#[derive(Clone, Copy)]
pub(super) struct BidirectionalPass<'a> {
    pub(super) y: Option<Span>,
    pub(super) x: PassInput,
    pub(super) operands: &'a Operands,
    /// States that enter the segments, of the direction with time and of the one against it; a pass over one direction
    /// uses the first.
    pub(super) entering: [Entering; 2],
    /// Where the states that enter the chunks go.
    pub(super) states: ChunkStates,
    pub(super) lengths: Option<&'a Ints>,
    pub(super) batch: usize,
    pub(super) len: usize,
    /// Whether a pass over one direction goes from the last chunk to the first.
    pub(super) last_to_first: bool,
}

/// What a pass reads.
#[derive(Clone, Copy)]
pub(super) enum PassInput {
    /// (B, H, L), f32.
    Plain(Span),
    /// As `Plain`, to be normed as it is read.
    Normed(Span, InputNorm),
    Rows(ChunkRows),
}

/// A batch norm of a pass's input: means and inverse deviations (2, H), scale and offset (H).
#[derive(Clone, Copy)]
pub(super) struct InputNorm {
    pub(super) stats: Span,
    pub(super) gamma: Span,
    pub(super) beta: Span,
}

/// What one launch of a pass reads and writes besides x.
#[derive(Clone, Copy, Default)]
struct PassArrays {
    y: Option<Span>,
    /// States that enter the segments, one array per direction.
    init: [Option<Span>; 2],
    /// States that enter the chunks, of the heads of the launch.
    states: ChunkStates,
}

/// Arrays of a backward pass. segment_scans: matrices of [`Cuda::segment_matrices`], where sequences are cut into segments.
pub(super) struct BidirectionalBackward<'a> {
    pub(super) du: Option<Span>,
    pub(super) dy: Span,
    /// dy as rows; `dy` is then not read.
    pub(super) dy_rows: Option<ChunkRows>,
    pub(super) u: Span,
    pub(super) saved: Option<Span>,
    /// States that forward has kept.
    pub(super) states: Option<ChunkStates>,
    pub(super) d: Span,
    pub(super) segment_scans: [Option<&'a DeviceBlock>; 2],
}

impl BidirectionalBackward<'_> {
    /// The adjoint of the pass by these operands.
    fn adjoint_pass<'a>(&self, c: &'a ChunkCall<'_>, operands: &'a Operands) -> BidirectionalPass<'a> {
        BidirectionalPass {
            y: self.du,
            x: self.dy_rows.map_or(PassInput::Plain(self.dy), PassInput::Rows),
            operands,
            entering: [Entering::Computed; 2],
            states: ChunkStates::default(),
            lengths: c.lengths,
            batch: c.batch,
            len: c.len,
            last_to_first: true,
        }
    }
}

impl Cuda {
    /// One launch for the given heads.
    fn run_directions(
        &self,
        p: &BidirectionalPass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        PassArrays { y, init, states }: PassArrays,
        heads: Range<usize>,
    ) -> Result<()> {
        let from = heads.start;
        // The part of an array of all heads that begins at the first of these heads.
        let heads_part =
            |x: Span, bytes_per_head: usize| x.part(from * bytes_per_head, x.bytes() - from * bytes_per_head);
        let (row, state) = (4 * p.len, 4 * s.np);
        let Operands { planes, exponents, count, both, .. } = p.operands;
        let tiles = (p.batch * segment_split.segments).div_ceil(64);
        let exact = self.precision().products() == 3;
        // Of the kernels for products of one number and of three, by what they read: numbers, numbers to be normed, rows.
        let names = match (y, both) {
            (None, _) => [["states_1", "", "states_1_rows"], ["states_3", "", ""]],
            (_, true) => [["both_1", "both_1_norm", "both_1_rows"], ["both_3", "both_3_norm", ""]],
            (_, false) => {
                [["outputs_1", "outputs_1_norm", "outputs_1_rows"], ["outputs_3", "outputs_3_norm", ""]]
            }
        }[exact as usize];
        let (name, x, norm, rows) = match p.x {
            PassInput::Plain(x) => (names[0], Some(x), None, states.input),
            PassInput::Normed(x, norm) => (names[1], Some(x), Some(norm), states.input),
            PassInput::Rows(rows) => {
                let rows = [rows.values, rows.exponents];
                (names[2], None, None, Some(rows_from_head(rows, from, (p.batch, segment_split.chunks))))
            }
        };
        let both_at_once = y.is_some() && *both;
        let kept_state_bytes = if exact { 2 * PLANE } else { PLANE };
        let shared = match (y, both_at_once) {
            (None, _) => 4 * PLANE,
            (_, true) => count * PLANE + segment_split.chunks_per_segment * (kept_state_bytes + EXPONENTS),
            (_, false) => count * PLANE,
        };
        let threads = if both_at_once { 256 } else { 128 };
        let waiting = if matches!(p.x, PassInput::Rows(_)) { ROWS_BYTES } else { 0 };
        let dirs = 1 + *both as usize;
        self.launch(
            ("bidirectional_pass_sm90", name),
            (if both_at_once { tiles } else { tiles * dirs }, heads.len(), 1),
            (threads, 1),
            shared + threads as usize * waiting,
            args![
                y.map(|y| heads_part(y, row)),
                x.map(|x| heads_part(x, row)),
                heads_part(planes.span(), count * PLANE),
                heads_part(exponents.span(), 8 * 4),
                init[0].map(|x| heads_part(x, state)),
                init[1].map(|x| heads_part(x, state)),
                states.values[0],
                states.values[1],
                states.exponents[0],
                states.exponents[1],
                rows.map(|[values, _]| values),
                rows.map(|[_, exponents]| exponents),
                states.largest.map(|x| heads_part(x, 4 * 4)),
                p.lengths,
                norm.map(|norm| heads_part(norm.stats, 4)),
                norm.map(|norm| heads_part(norm.gamma, 4)),
                norm.map(|norm| heads_part(norm.beta, 4)),
                p.batch,
                s.heads,
                segment_split.segments,
                segment_split.chunks_per_segment,
                segment_split.chunks,
                dirs,
                p.last_to_first,
                *count,
                p.len
            ],
        )
    }

    /// States that enter the segments: given, or computed by a pass over x and a scan; none where sequences are not
    /// cut. `segment`: from [`Cuda::segment_matrices`], present where there are several segments.
    fn enter(
        &self,
        op: &'static str,
        p: &BidirectionalPass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        segment: Option<&DeviceBlock>,
    ) -> Result<([Option<Span>; 2], Vec<DeviceBlock>)> {
        let Some(segment) = segment else { return Ok(([None; 2], Vec::new())) };
        let dirs = 1 + p.operands.both as usize;
        let entering_len = p.batch * segment_split.segments * s.heads * s.np;
        let (mut init, mut own, mut given) = ([None; 2], Vec::new(), true);
        for (init, entering) in init.iter_mut().zip(&p.entering).take(dirs) {
            given &= matches!(entering, Entering::Given(_));
            *init = Some(match entering {
                Entering::Given(span) | Entering::ComputedInto(span) => *span,
                Entering::Computed => {
                    own.push(self.scratch(op, entering_len)?);
                    own.last().expect("just pushed").span()
                }
            });
        }
        if given {
            return Ok((init, own));
        }
        let ends: Vec<DeviceBlock> =
            (0..dirs).map(|_| self.scratch(op, entering_len)).collect::<Result<_>>()?;
        let end = [Some(ends[0].span()), ends.get(1).map(|e| e.span())];
        self.segment_ends(op, p, s, segment_split, end)?;
        let scan = self.scan_kernel(s.np, p.batch);
        self.launch(
            ("segment_scan", scan.name),
            (p.batch.div_ceil(scan.sequences), s.heads, dirs),
            (scan.threads, 1),
            0,
            args![
                init[0],
                init[1],
                end[0],
                end[1],
                None::<Span>,
                segment,
                p.batch,
                s.heads,
                segment_split.segments,
                !p.operands.both && p.last_to_first
            ],
        )?;
        Ok((init, own))
    }

    /// Runs a pass over all heads.
    pub(super) fn bidirectional_pass(
        &self,
        op: &'static str,
        p: &BidirectionalPass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        segment: Option<&DeviceBlock>,
    ) -> Result<()> {
        let (init, _own) = self.enter(op, p, s, segment_split, segment)?;
        let arrays = PassArrays { y: p.y, init, states: p.states };
        let given = p.entering.iter().any(|entering| matches!(entering, Entering::Given(_)));
        let x = match (p.states.input, p.states.largest) {
            (Some([values, exponents]), Some(largest)) if segment.is_some() && !given => {
                PassInput::Rows(ChunkRows { values, exponents, largest })
            }
            _ => p.x,
        };
        self.run_directions(&BidirectionalPass { x, ..*p }, s, segment_split, arrays, 0..s.heads)
    }

    /// Writes the gradients [dToep, dW; dV, dQ] (H, T + NP, T + NP) of the causal pass and of the anticausal one to `sums`, and du.
    /// `adjoint`: operands that were made ahead.
    pub(super) fn bidirectional_backward(
        &self,
        c: &ChunkCall<'_>,
        b: &BidirectionalBackward<'_>,
        discrete: &Discrete,
        transition: &Arc<DeviceBlock>,
        adjoint: Option<Operands>,
        sums: &[DeviceBlock],
    ) -> Result<()> {
        let (op, s, both) = (c.op, c.sizes, c.layer.spec.bidirectional);
        let side = s.side();
        let dirs = 1 + both as usize;
        let cut = c.segment_split.segments > 1;
        let of = |adjoint, outputs, segment_ends| OperandsOf { both, adjoint, outputs, segment_ends };
        let parts = RecurrenceParts { discrete, c: c.layer.params.c.span(), d: b.d };
        let operands = |of| {
            let q = TransitionBuffer { block: transition.clone(), filled: true };
            self.pass_constants(op, parts, s, q, (of, false)).map(|made| made.operands)
        };
        let mut adjoint = match adjoint {
            Some(adjoint) if b.du.is_some() => adjoint,
            _ => operands(of(true, b.du.is_some(), cut))?,
        };
        let split = c.segment_split;
        let (dinit, _down) = self.enter(op, &b.adjoint_pass(c, &adjoint), s, split, b.segment_scans[1])?;
        // Their memory is free for what follows.
        adjoint.segment_ends = None;
        let back = b.adjoint_pass(c, &adjoint);
        let entering =
            |anticausal| b.saved.map_or(Entering::Computed, |s| Entering::Given(c.saved_of(s, anticausal)));
        let forward =
            b.states.is_none().then(|| operands(of(false, false, cut && b.saved.is_none()))).transpose()?;
        let ahead = BidirectionalPass {
            y: None,
            x: PassInput::Plain(b.u),
            // Not used where the states have been kept.
            operands: forward.as_ref().unwrap_or(&adjoint),
            entering: [entering(false), entering(both)],
            states: ChunkStates::default(),
            lengths: c.lengths,
            batch: c.batch,
            len: c.len,
            last_to_first: false,
        };
        let (init, _own) = match b.states {
            None => self.enter(op, &ahead, s, split, b.segment_scans[0])?,
            Some(_) => ([None; 2], Vec::new()),
        };
        // Two portions of the heads, one after the other, so that the states of one are in memory at a time.
        let portions = if both && s.heads % 2 == 0 { 2 } else { 1 };
        let portion = s.heads / portions;
        // As many blocks of the gradient's products as run at a time and no more: a few more would run alone after the others.
        let (at_a_time, rows) = if both && self.states_in_f16() { (1, 64) } else { (2, 32) };
        let steps = (c.batch * split.chunks).div_ceil(rows);
        let parts = (at_a_time * self.processors() / portion).min(steps.div_ceil(8)).max(1);
        let cells = s.heads * side * side;
        let partial_sums_count = if parts > 1 { dirs } else { 0 };
        let partial_sums: Vec<DeviceBlock> =
            (0..partial_sums_count).map(|_| self.scratch(op, parts * cells)).collect::<Result<_>>()?;
        let x = b.states.is_none().then(|| self.states_scratch(c, portion, true)).transpose()?;
        let dx = self.states_scratch(c, portion, b.dy_rows.is_none())?;
        for from in (0..s.heads).step_by(portion) {
            let heads = from..from + portion;
            let x = match (&x, b.states) {
                (Some(scratch), _) => {
                    let states = scratch.states();
                    let arrays = PassArrays { y: None, init, states };
                    self.run_directions(&ahead, s, split, arrays, heads.clone())?;
                    states
                }
                (None, kept) => kept.unwrap_or_default().from_head(from, c),
            };
            let mut dx = dx.states();
            if let Some(rows) = b.dy_rows {
                let given = ChunkStates {
                    input: Some([rows.values, rows.exponents]),
                    largest: Some(rows.largest),
                    ..ChunkStates::default()
                };
                dx = ChunkStates { values: dx.values, exponents: dx.exponents, ..given.from_head(from, c) };
            }
            let arrays = PassArrays { y: b.du, init: dinit, states: dx };
            self.run_directions(&back, s, split, arrays, heads.clone())?;
            let target = |dir: usize| partial_sums.get(dir).unwrap_or(&sums[dir]).span();
            if self.states_in_f16() {
                let targets = [Some(target(0)), both.then(|| target(1))];
                self.gradient_products_of_f16(c, targets, &dx, &x, heads, parts)?;
                continue;
            }
            for dir in 0..dirs {
                // The adjoint of the causal pass goes against time.
                let states = |x: &ChunkStates, dir: usize| x.values[dir].expect("a pass over this direction");
                let (ds, s) = (states(&dx, dirs - 1 - dir), states(&x, dir));
                let (dy, u, channel, heads) = (b.dy, b.u, (1, 0), heads.clone());
                let products = Products { target: target(dir), dy, ds, u, s, channel, heads, parts };
                self.chunk_gradient_product(c, &products)?;
            }
        }
        for (sum, cell) in sums.iter().zip(&partial_sums) {
            self.launch_elementwise(
                ("chunk_pass_backward", "sum_parts"),
                cells,
                args![sum, cell, cells, parts],
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssm::{segments::split_bidirectional, sizes::T};

    #[test]
    fn segments_cover_the_sequence_and_fit_in_shared_memory() {
        for (batch, heads, len) in [
            (1, 1, 4),
            (50, 512, 1024),
            (16, 256, 16384),
            (1, 64, 1 << 20),
            (3, 5, 1000),
            (1, 1, 257),
            (1, 2, 300),
        ] {
            for products in [1, 3] {
                let c = split_bidirectional(batch, heads, len, 132, products);
                assert_eq!(c.chunks, len.div_ceil(T));
                assert!(
                    c.chunks_per_segment * c.segments >= c.chunks
                        && c.chunks_per_segment * (c.segments - 1) < c.chunks,
                    "{c:?}"
                );
                // Of as many chunks `segment_ends_sm90.cu` makes sums.
                assert!(c.segments == 1 || [4, 8, 16].contains(&c.chunks_per_segment), "{c:?}");
                let (planes, kept_state_bytes) = if products == 3 { (12, 2 * PLANE) } else { (9, PLANE) };
                assert!(
                    planes * PLANE + c.chunks_per_segment * (kept_state_bytes + EXPONENTS) <= 227 << 10,
                    "{c:?}"
                );
            }
        }
        assert_eq!(split_bidirectional(50, 512, 1024, 132, 1).segments, 1);
        assert_eq!(split_bidirectional(50, 256, 2048, 132, 1).segments, 2);
    }
}
