//! One call of an SSM that is computed by chunk passes: its layer, sizes and lengths, and how its sequences are cut into
//! segments.

use super::{
    discretize::Layer,
    segments::{SegmentSplit, split_bidirectional, split_for_passes},
    sizes::{Sizes, saved_states_len},
};
use crate::{
    device::Cuda,
    driver::Span,
    memory::{DeviceBlock, Ints},
};
use s4_backend::{Result, SsmCall, SsmParams, SsmSpec};
use std::sync::Arc;

/// A call by chunk passes.
pub(super) struct ChunkCall<'a> {
    pub(super) op: &'static str,
    pub(super) layer: Layer<'a>,
    pub(super) sizes: Sizes,
    pub(super) batch: usize,
    pub(super) len: usize,
    pub(super) segment_split: SegmentSplit,
    /// Whether the pass of `bidirectional_pass.rs` serves it, as far as sizes decide.
    pub(super) bidirectional_pass: bool,
    pub(super) lengths: Option<&'a Ints>,
}

impl ChunkCall<'_> {
    /// Elements of the states that enter the segments of one pass.
    fn entering_len(&self) -> usize {
        entering_len(self.sizes, self.segment_split, self.batch)
    }

    /// Bytes of those states in `saved`, of all passes.
    pub(super) fn entering_bytes(&self) -> usize {
        4 * (1 + self.layer.spec.bidirectional as usize) * self.entering_len()
    }

    /// The part of `saved`, the states that enter the segments, that belongs to one direction.
    pub(super) fn saved_of(&self, saved: Span, anticausal: bool) -> Span {
        let bytes = 4 * self.entering_len();
        saved.part(anticausal as usize * bytes, bytes)
    }
}

/// Elements of the states that enter the segments of one pass, which forward saves for backward where sequences are
/// cut; else 0.
fn entering_len(s: Sizes, segment_split: SegmentSplit, batch: usize) -> usize {
    if segment_split.segments > 1 { batch * segment_split.segments * s.heads * s.np } else { 0 }
}

impl Cuda {
    /// Sizes of the chunk kernels for a layer. With products of one number the states of a bidirectional layer are padded to what
    /// `bidirectional_pass.rs` is compiled for, where that can serve it: it takes less time than the general kernels for half as many states.
    /// (With exact products those are the more exact ones: their gradients' products are of f32.)
    fn chunk_sizes(&self, op: &'static str, spec: &SsmSpec) -> Result<Sizes> {
        let sizes = Sizes::new(op, spec)?;
        let serves = self.precision().products() == 1
            && spec.bidirectional
            && spec.channels == 1
            && self.multiplies_by_warpgroups();
        Ok(if serves { Sizes { np: sizes.np.max(64), ..sizes } } else { sizes })
    }

    /// How a call's sequences are cut, and whether `bidirectional_pass.rs` serves it.
    fn plan_segments(&self, spec: &SsmSpec, s: Sizes, (batch, len): (usize, usize)) -> (SegmentSplit, bool) {
        let suits = self.multiplies_by_warpgroups() && s.np == 64 && spec.channels == 1 && len % 4 == 0;
        let segment_split = if suits && spec.bidirectional {
            split_bidirectional(batch, spec.heads, len, self.processors(), self.precision().products())
        } else {
            split_for_passes(batch, spec.heads, len, self.processors())
        };
        // With one direction, 64 segments make one warpgroup's work; a quarter of it is still quicker than the general pass.
        (segment_split, suits && (spec.bidirectional || batch * segment_split.segments >= 16))
    }

    /// Whether `bidirectional_pass.rs` serves a call, as far as sizes decide.
    pub(super) fn passes_in_both_directions(
        &self,
        op: &'static str,
        spec: &SsmSpec,
        (batch, len): (usize, usize),
    ) -> bool {
        if batch == 0 || len == 0 {
            return false;
        }
        self.chunk_sizes(op, spec).is_ok_and(|s| self.plan_segments(spec, s, (batch, len)).1)
    }

    /// The call with its sizes and its cut.
    pub(super) fn chunk_call<'a>(
        &self,
        op: &'static str,
        call: &SsmCall<'a, Cuda>,
        params: SsmParams<'a, Cuda>,
    ) -> Result<ChunkCall<'a>> {
        let layer = Layer { params, spec: call.spec, rate: call.options.rate };
        let planned = self.chunk_call_without_lengths(op, layer, (call.batch, call.len))?;
        Ok(ChunkCall { lengths: call.options.lengths, ..planned })
    }

    /// A call on `batch` sequences of `len` time steps, without lengths.
    pub(super) fn chunk_call_without_lengths<'a>(
        &self,
        op: &'static str,
        layer: Layer<'a>,
        (batch, len): (usize, usize),
    ) -> Result<ChunkCall<'a>> {
        let sizes = self.chunk_sizes(op, &layer.spec)?;
        let (segment_split, bidirectional_pass) = self.plan_segments(&layer.spec, sizes, (batch, len));
        Ok(ChunkCall { op, layer, sizes, batch, len, segment_split, bidirectional_pass, lengths: None })
    }

    /// Elements that forward saves for backward; 0 where the sizes are not supported.
    pub(super) fn chunk_saved_len(&self, spec: &SsmSpec, batch: usize, len: usize) -> usize {
        match self.chunk_sizes("ssm_saved_len", spec) {
            Ok(s) if batch > 0 && len > 0 => {
                let (segment_split, bidirectional_pass) = self.plan_segments(spec, s, (batch, len));
                let directions = 1 + spec.bidirectional as usize;
                let states = match bidirectional_pass && self.states_in_f16() {
                    true => saved_states_len(s, directions, batch, segment_split.chunks),
                    false => 0,
                };
                directions * entering_len(s, segment_split, batch) + states
            }
            _ => 0,
        }
    }

    /// Ā^(T·chunks_per_segment) − 1 for the scans of the pass and of its adjoint, where sequences are cut.
    pub(super) fn scan_matrices(
        &self,
        c: &ChunkCall<'_>,
        q: &DeviceBlock,
        backward: bool,
    ) -> Result<[Option<Arc<DeviceBlock>>; 2]> {
        if c.segment_split.segments == 1 {
            return Ok([None, None]);
        }
        let make = || self.scratch(c.op, c.sizes.transition_len()).map(Arc::new);
        let (ahead, back) = (make()?, backward.then(make).transpose()?);
        self.segment_matrices(c.op, q, c.sizes, c.segment_split.chunks_per_segment, &ahead, back.as_deref())?;
        Ok([Some(ahead), back])
    }
}
