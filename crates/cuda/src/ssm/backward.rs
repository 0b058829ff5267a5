//! Whole sequences by chunked passes, backward: the adjoint passes, then the gradients of a chunk's matrices back to the
//! parameters.

use super::{
    bidirectional_pass::BidirectionalBackward,
    chunk_call::ChunkCall,
    chunk_pass::{Entering, Pass},
    chunk_rows::ChunkRows,
    chunk_states::ChunkStates,
    discretize::{Discrete, GradientSpans},
    matrices::{FragmentsOf, KernelRange, Matrices, TransitionBuffer},
    operands::{Operands, OperandsOf},
    pass_constants::{ChunkSequences, PassConstants, RecurrenceParts},
    saved_powers::SavedPowers,
    sizes::{Sizes, T},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::{Error, Result};
use std::sync::Arc;

/// Arrays of a backward pass, as in [`s4_backend::SsmBackward`].
pub(super) struct ChunkBackward<'a> {
    pub(super) du: Option<Span>,
    pub(super) dstate0: Option<Span>,
    pub(super) grads: GradientSpans,
    pub(super) dy: Span,
    /// dy as rows; `dy` is then not read.
    pub(super) dy_rows: Option<ChunkRows>,
    pub(super) dstate_end: Option<Span>,
    pub(super) saved: Option<Span>,
    /// States that forward has kept.
    pub(super) states: Option<ChunkStates>,
    pub(super) u: Span,
    pub(super) state0: Option<Span>,
    /// Kernels of each pass: the causal ones and, in a bidirectional layer, the anticausal ones.
    pub(super) kernel_ranges: &'a [KernelRange],
    /// Whether there is a D; not in a kernel's gradient, where u is an impulse.
    pub(super) with_d: bool,
    /// Powers of Ā that forward has saved, or none.
    pub(super) powers: Option<&'a SavedPowers>,
}

/// What the passes of one backward call share.
struct BackwardShared<'a> {
    discrete: &'a Discrete,
    matrices: &'a Matrices,
    /// Matrices of the scans over segments: of the pass, and of its adjoint.
    segment_scans: [Option<&'a DeviceBlock>; 2],
    /// Initial states (B, H, NP), padded.
    state0: Option<Span>,
    /// (H, gradient_part_count, (2 + 2R)·P): partial sums of the gradients of (D₀, B̄, u, v): one part per sequence of
    /// chunk_matrices_backward.cu, then those of the end chunks; discretize_backward adds them.
    gradient_parts: &'a DeviceBlock,
    gradient_part_count: usize,
    /// How many of the parts, the last ones, partial_chunk_backward writes: it shares the batch among them. 0 where the
    /// final state has no gradient.
    end_chunk_gradient_parts: usize,
}

/// What a backward pass needs of the parameters alone.
pub(super) struct BackwardConstants {
    discrete: Arc<Discrete>,
    /// Ā^T.
    transition: Arc<DeviceBlock>,
    sequences: ChunkSequences,
    /// Operands of the adjoint of a pass of `bidirectional_pass.rs`, where they were made ahead.
    adjoint: Option<Operands>,
}

impl Cuda {
    /// The constants of a backward pass, where forward has saved powers of Ā by these. `ahead`: with the adjoint's operands.
    pub(super) fn backward_constants(
        &self,
        c: &ChunkCall<'_>,
        powers: Option<&SavedPowers>,
        ahead: bool,
    ) -> Result<BackwardConstants> {
        let (op, params, s) = (c.op, &c.layer.params, c.sizes);
        let (discrete, q) = match powers {
            Some(powers) => {
                (powers.discrete.clone(), TransitionBuffer { block: powers.q.clone(), filled: true })
            }
            None => (Arc::new(self.discretize(op, &c.layer)?), self.transition_buffer(op, s)?),
        };
        if !ahead {
            let matrices = self.matrices(op, &discrete, params.c.span(), s, q)?;
            let transition = matrices.q.clone();
            let sequences = ChunkSequences::All(matrices);
            return Ok(BackwardConstants { discrete, transition, sequences, adjoint: None });
        }
        let both = c.layer.spec.bidirectional;
        let segment_ends = c.segment_split.segments > 1;
        let of = OperandsOf { both, adjoint: true, outputs: true, segment_ends };
        let parts = RecurrenceParts { discrete: &discrete, c: params.c.span(), d: params.d.span() };
        let made = self.pass_constants(op, parts, s, q, (of, true))?;
        let PassConstants { operands, transition, sequences } = made;
        let sequences = sequences.expect("asked for");
        Ok(BackwardConstants { discrete, transition, sequences, adjoint: Some(operands) })
    }

    /// Gradients by the adjoint passes; the states that enter the chunks are those that forward has kept, or are computed again.
    pub(super) fn chunk_backward(
        &self,
        a: &ChunkBackward<'_>,
        c: &ChunkCall<'_>,
        constants: Option<BackwardConstants>,
    ) -> Result<()> {
        let (op, Sizes { heads, pairs, rank, kc, np }) = (c.op, c.sizes);
        let (rows, params) = (c.batch * heads, &c.layer.params);
        // What the layer after this one has left to do beside the queue: the memory of one such layer is in use at a time.
        self.join_gradients(op)?;
        // From the gradients of the matrices to those of the parameters: du needs nothing of it.
        let beside = self.beside(rows * c.len);
        let plain = a.state0.is_none() && a.dstate_end.is_none() && a.dstate0.is_none() && a.with_d;
        // u is not read where its states have been kept.
        let read = a.states.is_none().then_some(a.u);
        let aligned = [Some(a.dy), read, a.du].into_iter().flatten().all(Span::is_aligned);
        let constants = match constants {
            Some(constants) => constants,
            None => {
                let ahead = c.bidirectional_pass && plain && aligned && a.du.is_some();
                self.backward_constants(c, a.powers, ahead)?
            }
        };
        let BackwardConstants { discrete, transition, mut sequences, adjoint } = constants;
        let [ahead, back] = match a.powers.and_then(|p| p.scans(c.segment_split.chunks_per_segment)) {
            Some(both) if c.segment_split.segments > 1 => both.clone().map(Some),
            _ => self.scan_matrices(c, &transition, true)?,
        };
        let segment_scans = [ahead.as_deref(), back.as_deref()];
        let state0 = a.state0.map(|s| self.pad_state(op, s, rows, 2 * pairs, np)).transpose()?;
        let end_chunk_gradient_parts = if a.dstate_end.is_some() { c.batch.min(8) } else { 0 };
        let gradient_part_count = 1 + 2 * rank + kc + end_chunk_gradient_parts;
        let gradient_parts = self.block(op, 16 * heads * gradient_part_count * (2 + 2 * rank) * pairs)?;
        // `sequence_gradients.cu` takes those sums itself.
        let dkern = (!c.sizes.one_pair_a_lane()).then(|| self.scratch64(op, heads * kc * T)).transpose()?;

        let mut products: Vec<DeviceBlock> = Vec::new();
        let mut du_end_chunk = None;
        if c.bidirectional_pass && plain && a.states.is_some() && !aligned {
            // The general pass reads u, which may be anything.
            return Err(Error::value(
                op,
                "dy and du at multiples of 16 bytes, as whole buffers are",
                "another address",
            ));
        }
        if c.bidirectional_pass && plain && aligned {
            let b = BidirectionalBackward {
                du: a.du,
                dy: a.dy,
                dy_rows: a.dy_rows,
                u: a.u,
                saved: a.saved,
                states: a.states,
                d: params.d.span(),
                segment_scans,
            };
            // What is in use beside the queue afterwards is taken first: what the passes use is in one piece again behind it.
            let cells = heads * c.sizes.side() * c.sizes.side();
            for _ in a.kernel_ranges {
                products.push(self.scratch(op, cells)?);
            }
            self.bidirectional_backward(c, &b, &discrete, &transition, adjoint, &products)?;
            for (g, &kernels) in products.iter().zip(a.kernel_ranges) {
                let dd = (!kernels.anticausal).then_some(a.grads.d);
                if let Some(dkern) = &dkern {
                    beside.kernel_gradient(dkern, dd, g, c.sizes, kernels)?;
                }
            }
        } else if a.dy_rows.is_some() {
            return Err(Error::unsupported(op, "a call that takes rows", "another"));
        } else {
            if !matches!(sequences, ChunkSequences::All(_)) {
                // They were made for another pass.
                let q = TransitionBuffer { block: transition.clone(), filled: true };
                sequences = ChunkSequences::All(self.matrices(op, &discrete, params.c.span(), c.sizes, q)?);
            }
            let ChunkSequences::All(matrices) = &sequences else { unreachable!("made above") };
            let shared = BackwardShared {
                discrete: &discrete,
                matrices,
                segment_scans,
                state0: state0.as_ref().map(|s| s.span()),
                gradient_parts: &gradient_parts,
                gradient_part_count,
                end_chunk_gradient_parts,
            };
            for &kernels in a.kernel_ranges {
                let (g, last) = self.direction_backward(a, c, &shared, kernels)?;
                du_end_chunk = last.or(du_end_chunk);
                let dd = (a.with_d && !kernels.anticausal).then_some(a.grads.d);
                if let Some(dkern) = &dkern {
                    beside.kernel_gradient(dkern, dd, &g, c.sizes, kernels)?;
                }
                products.push(g);
            }
        }
        beside.matrices_backward(
            a,
            c,
            &sequences,
            &discrete,
            (&products, dkern.as_ref()),
            (&gradient_parts, gradient_part_count),
        )?;
        beside.discretize_backward(op, a.grads, &gradient_parts, gradient_part_count, &c.layer)?;
        self.note_gradients();
        if let (Some(du), Some(last)) = (a.du, &du_end_chunk) {
            let n = rows * T;
            let arguments = args![du, last, c.lengths, c.batch, heads, c.len];
            self.launch_elementwise(("partial_chunk", "add_partial_chunk"), n, arguments)?;
        }
        Ok(())
    }

    /// Recomputes the pass of one direction for its states, then runs its adjoint. Gives the gradients of the chunk's
    /// matrices and, where the final state has a gradient, what du of each sequence's end chunk receives from it.
    fn direction_backward(
        &self,
        a: &ChunkBackward<'_>,
        c: &ChunkCall<'_>,
        shared: &BackwardShared<'_>,
        kernels: KernelRange,
    ) -> Result<(DeviceBlock, Option<DeviceBlock>)> {
        let (op, Sizes { heads, pairs, rank, np, .. }) = (c.op, c.sizes);
        let KernelRange { count: channels, anticausal, .. } = kernels;
        let (rows, d) = (c.batch * heads, shared.discrete);
        let pack = |adjoint| FragmentsOf { kernels, adjoint };
        let skip = (a.with_d && !anticausal).then(|| c.layer.params.d.span());
        let forward = self.pack(op, shared.matrices, skip, c.sizes, pack(false))?;
        let adjoint = self.pack(op, shared.matrices, skip, c.sizes, pack(true))?;
        let states_len = heads * c.batch * c.segment_split.chunks * np;
        let (s, ds) = (self.scratch(op, states_len)?, self.scratch(op, states_len)?);
        let state_at_end_chunk = a.dstate_end.map(|_| self.scratch(op, rows * np)).transpose()?;
        let mut pass = Pass {
            y: None,
            x: a.u,
            fragments: &forward,
            state0: shared.state0,
            entering: a.saved.map_or(Entering::Computed, |s| Entering::Given(c.saved_of(s, anticausal))),
            end: None,
            states: Some(s.span()),
            state_at_end_chunk: state_at_end_chunk.as_ref().map(|m| m.span()),
            dstate_at_end_chunk: None,
            lengths: c.lengths,
            batch: c.batch,
            len: c.len,
            ins: 1,
            outs: channels,
            last_to_first: anticausal,
            lower: !anticausal,
            accumulate: false,
        };
        self.pass(op, &pass, c.sizes, c.segment_split, shared.segment_scans[0])?;
        let (mut dstate_at_end_chunk, mut du_end_chunk) = (None, None);
        if let (Some(dend), Some(state_at_end_chunk)) = (a.dstate_end, &state_at_end_chunk) {
            let (i, last) = (self.scratch(op, rows * np)?, self.scratch(op, rows * T)?);
            let (gradient_part_count, end_chunk_gradient_parts) =
                (shared.gradient_part_count, shared.end_chunk_gradient_parts);
            let states = self.block(op, 16 * heads * end_chunk_gradient_parts * T * pairs)?;
            self.launch(
                ("partial_chunk", "partial_chunk_backward"),
                (heads, end_chunk_gradient_parts, 1),
                (32, 1),
                0,
                args![
                    &i,
                    &last,
                    shared.gradient_parts,
                    &states,
                    dend,
                    state_at_end_chunk,
                    a.u,
                    c.lengths,
                    d.d0(),
                    d.u(),
                    d.v(),
                    d.b_bar(),
                    c.batch,
                    heads,
                    pairs,
                    rank,
                    np,
                    c.len,
                    gradient_part_count,
                    gradient_part_count - end_chunk_gradient_parts
                ],
            )?;
            (dstate_at_end_chunk, du_end_chunk) = (Some(i), Some(last));
        }
        let end = a.dstate0.map(|_| self.scratch(op, rows * np)).transpose()?;
        pass = Pass {
            y: a.du,
            x: a.dy,
            fragments: &adjoint,
            state0: None,
            entering: Entering::Computed,
            end: end.as_ref().map(|e| e.span()),
            states: Some(ds.span()),
            state_at_end_chunk: None,
            dstate_at_end_chunk: dstate_at_end_chunk.as_ref().map(|i| i.span()),
            lengths: c.lengths,
            batch: c.batch,
            len: c.len,
            ins: channels,
            outs: 1,
            last_to_first: !anticausal,
            lower: anticausal,
            accumulate: anticausal,
        };
        self.pass(op, &pass, c.sizes, c.segment_split, shared.segment_scans[1])?;
        if let (Some(dstate0), Some(end)) = (a.dstate0, &end) {
            let n = rows * 2 * pairs;
            let arguments = args![dstate0, end, c.batch, heads, 2 * pairs, np, 1usize, 0usize];
            self.launch_elementwise(("states", "cut_state"), n, arguments)?;
        }
        Ok((self.products(c, a.dy, &ds, a.u, &s, channels)?, du_end_chunk))
    }

    /// [dToep, dW; dV, dQ] of each direction and the gradient of the first T samples of the kernel, back to
    /// the parts of the gradients of (D₀, B̄, u, v) and to dC.
    fn matrices_backward(
        &self,
        a: &ChunkBackward<'_>,
        c: &ChunkCall<'_>,
        sequences: &ChunkSequences,
        d: &Discrete,
        (products, dkern): (&[DeviceBlock], Option<&DeviceBlock>),
        (gradient_parts, gradient_part_count): (&DeviceBlock, usize),
    ) -> Result<()> {
        let (op, Sizes { heads, pairs, rank, kc, .. }) = (c.op, c.sizes);
        let side = c.sizes.side();
        let (g0, g1) = (&products[0], products.get(1));
        let powers_len = heads * rank * T * pairs;
        let (ga, gb) = (self.block(op, 8 * powers_len)?, self.block(op, 8 * powers_len)?);
        let (grid, threads) = ((heads, rank, 2 * (2 * pairs).div_ceil(64)), (256, 1));
        match sequences {
            _ if rank == 0 => (),
            ChunkSequences::All(m) => self.launch(
                ("chunk_matrices_backward", "transition_gradient"),
                grid,
                threads,
                0,
                args![&ga, &gb, g0, g1, &m.cols, &m.powers, pairs, rank, side, side * side],
            )?,
            ChunkSequences::RankOne([u, v]) => self.launch(
                ("chunk_matrices_backward", "transition_gradient_of_f32"),
                grid,
                threads,
                0,
                args![&ga, &gb, g0, g1, u, v, pairs, side, side * side],
            )?,
        }
        let products = args![&ga, &gb, g0, g1];
        let recurrence = args![d.d0(), d.u(), d.v()];
        let channels = a.kernel_ranges[0].count;
        let last = args![
            heads,
            pairs,
            rank,
            kc,
            channels,
            side,
            side * side,
            heads * side * side,
            gradient_part_count
        ];
        let (grid, threads) = ((heads, 1 + 2 * rank + kc, 1), (64, 1));
        match (sequences, dkern) {
            (ChunkSequences::All(m), Some(dkern)) => {
                let name = if pairs <= 32 { "sequences_backward_32" } else { "sequences_backward_64" };
                let first = args![gradient_parts, a.grads.c, dkern];
                let all =
                    [&first[..], products, args![&m.cols, &m.rows, &m.powers], recurrence, last].concat();
                self.launch(("chunk_matrices_backward", name), grid, threads, 4 * 16 * 256, &all)
            }
            _ => {
                let dd = a.with_d.then_some(a.grads.d);
                let first = args![gradient_parts, a.grads.c, dd];
                let all =
                    [&first[..], products, recurrence, args![d.b_bar(), c.layer.params.c], last].concat();
                self.launch(("sequence_gradients", "sequence_gradients"), grid, threads, 0, &all)
            }
        }
    }
}
