//! Whole sequences by chunked passes, forward.

use super::{
    bidirectional_pass::{BidirectionalPass, InputNorm, PassInput},
    chunk_call::ChunkCall,
    chunk_pass::{Entering, Pass},
    chunk_states::ChunkStates,
    plan::ForwardOperands,
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
};
use s4_backend::Result;

/// Arrays of a forward pass, as in [`s4_backend::SsmForward`].
pub(super) struct ChunkForward {
    pub(super) y: Span,
    pub(super) state_end: Option<Span>,
    pub(super) saved: Option<Span>,
    /// Where the pass of `bidirectional_pass.rs` keeps states for backward.
    pub(super) states: ChunkStates,
    pub(super) u: Span,
    /// The norm of u that the pass of `bidirectional_pass.rs` applies as it reads it.
    pub(super) norm: Option<InputNorm>,
    pub(super) state0: Option<Span>,
}

impl Cuda {
    pub(super) fn chunk_forward(
        &self,
        a: &ChunkForward,
        c: &ChunkCall<'_>,
        k: &mut ForwardOperands,
    ) -> Result<()> {
        let Sizes { heads, pairs, rank, np, .. } = c.sizes;
        let rows = c.batch * heads;
        let &ChunkForward { y, state_end, saved, u, norm, state0, .. } = a;
        let spec = &c.layer.spec;
        if c.segment_split.segments > 1
            && k.segment_power.as_ref().is_none_or(|(chunks_per_segment, _)| {
                *chunks_per_segment != c.segment_split.chunks_per_segment
            })
        {
            let [ahead, _] = self.scan_matrices(c, &k.transition, false)?;
            k.segment_power = ahead.map(|b| (c.segment_split.chunks_per_segment, b));
        }
        let segment = k.segment_power.as_ref().filter(|_| c.segment_split.segments > 1).map(|(_, b)| &**b);
        let entering = |anticausal| {
            saved.map_or(Entering::Computed, |s| Entering::ComputedInto(c.saved_of(s, anticausal)))
        };
        if let Some(operands) = &k.operands {
            let pass = BidirectionalPass {
                y: Some(y),
                x: norm.map_or(PassInput::Plain(u), |norm| PassInput::Normed(u, norm)),
                operands,
                entering: [entering(false), entering(spec.bidirectional)],
                states: a.states,
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                last_to_first: false,
            };
            return self.bidirectional_pass(c.op, &pass, c.sizes, c.segment_split, segment);
        }
        let state0 = state0.map(|s| self.pad_state(c.op, s, rows, 2 * pairs, np)).transpose()?;
        let state_at_end_chunk = state_end.map(|_| self.scratch(c.op, rows * np)).transpose()?;
        for (fragments, anticausal) in k.fragments.iter().zip([false, true]) {
            let Some(fragments) = fragments else { continue };
            let pass = Pass {
                y: Some(y),
                x: u,
                fragments,
                state0: state0.as_ref().map(|s| s.span()).filter(|_| !anticausal),
                entering: entering(anticausal),
                end: None,
                states: None,
                state_at_end_chunk: state_at_end_chunk.as_ref().map(|m| m.span()).filter(|_| !anticausal),
                dstate_at_end_chunk: None,
                lengths: c.lengths,
                batch: c.batch,
                len: c.len,
                ins: 1,
                outs: spec.channels,
                last_to_first: anticausal,
                lower: !anticausal,
                accumulate: anticausal,
            };
            self.pass(c.op, &pass, c.sizes, c.segment_split, segment)?;
        }
        if let (Some(end), Some(state_at_end_chunk)) = (state_end, &state_at_end_chunk) {
            let d = &k.discrete;
            self.launch(
                ("partial_chunk", "partial_chunk"),
                (c.batch, heads, 1),
                (32, 1),
                0,
                args![
                    end,
                    state_at_end_chunk,
                    u,
                    c.lengths,
                    d.d0(),
                    d.u(),
                    d.v(),
                    d.b_bar(),
                    heads,
                    pairs,
                    rank,
                    np,
                    c.len
                ],
            )?;
        }
        Ok(())
    }
}
