//! What a layer keeps between calls.

use super::{
    backward::BackwardConstants,
    chunk_call::ChunkCall,
    chunk_states::SavedStatesKey,
    discretize::Discrete,
    matrices::{FragmentsOf, KernelRange, TransitionBuffer},
    operands::{Operands, OperandsOf},
    pass_constants::RecurrenceParts,
    saved_powers::SavedPowers,
    segments::SegmentSplit,
};
use crate::{device::Cuda, driver::Span, memory::DeviceBlock};
use s4_backend::{Result, SsmCall, SsmSpec};
use std::sync::Arc;

/// The constants that depend on parameters and rate alone, kept while those stay the same.
pub struct SsmPlan {
    pub(super) spec: SsmSpec,
    /// Version and rate of the parameters whose constants are kept, and whether they are for `bidirectional_pass.rs`.
    pub(super) key: Option<(u64, u64, bool)>,
    pub(super) constants: Option<ForwardOperands>,
    /// Powers of Ā of the last forward pass of training.
    pub(super) powers: Option<SavedPowers>,
    /// What was computed ahead for the next pass of training.
    pub(super) prepared: Option<(PreparedKey, Prepared)>,
}

impl SsmPlan {
    /// Whether the last forward pass of training was this call and has left its states and its input in `saved`.
    pub(super) fn keeps_states(&self, call: &SsmCall<'_, Cuda>, saved: Span) -> bool {
        let parameters = Some((call.version, call.options.rate.to_bits()));
        let last = self.powers.as_ref().filter(|powers| powers.key == parameters);
        last.is_some_and(|powers| powers.states == Some(SavedStatesKey::of(call, saved)))
    }
}

/// To which pass prepared constants belong.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct PreparedKey {
    /// Version and rate of the parameters.
    parameters: (u64, u64),
    segment_split: SegmentSplit,
    /// Whether they are for `bidirectional_pass.rs`.
    bidirectional_pass: bool,
}

impl PreparedKey {
    /// The key of a call with parameters of this version and rate.
    pub(super) fn of(c: &ChunkCall<'_>, parameters: (u64, u64), bidirectional_pass: bool) -> PreparedKey {
        PreparedKey { parameters, segment_split: c.segment_split, bidirectional_pass }
    }
}

/// Constants of a pass of training.
pub(super) enum Prepared {
    /// With the powers of Ā that backward will need.
    Forward(ForwardOperands, SavedPowers),
    Backward(BackwardConstants),
}

/// The operands of one layer's forward passes.
pub(super) struct ForwardOperands {
    pub(super) discrete: Arc<Discrete>,
    /// Operands of the causal pass, and of the anticausal one.
    pub(super) fragments: [Option<DeviceBlock>; 2],
    /// Operands of a pass over both directions at once (`bidirectional_pass.rs`); `fragments` is then empty.
    pub(super) operands: Option<Operands>,
    /// The chunks of a segment in the latest split, and Ā^(T·chunks) − 1.
    pub(super) segment_power: Option<(usize, Arc<DeviceBlock>)>,
    /// Ā^T in f64, from which `segment_power` is made.
    pub(super) transition: Arc<DeviceBlock>,
}

impl ForwardOperands {
    /// Whether they are enough for sequences that are cut so; the matrices of the scan over segments are made when they are needed.
    pub(super) fn are_for(&self, segment_split: SegmentSplit) -> bool {
        self.operands.as_ref().is_none_or(|operands| operands.are_for(segment_split))
    }
}

impl Cuda {
    /// The constants of a forward pass of training, and the powers of Ā that its backward pass needs, in the memory of the `last` ones.
    pub(super) fn training_constants(
        &self,
        c: &ChunkCall<'_>,
        bidirectional_pass: bool,
        last: Option<SavedPowers>,
    ) -> Result<(ForwardOperands, SavedPowers)> {
        let mut powers = self.saved_powers(c, last)?;
        self.discretize_into(&powers.discrete, &c.layer)?;
        let q = TransitionBuffer { block: powers.q.clone(), filled: false };
        let mut once = self.constants_of(c, bidirectional_pass, powers.discrete.clone(), q)?;
        if c.segment_split.segments > 1 {
            self.save_scans(c, &mut powers)?;
            once.segment_power = powers
                .scans(c.segment_split.chunks_per_segment)
                .map(|[ahead, _]| (c.segment_split.chunks_per_segment, ahead.clone()));
        }
        Ok((once, powers))
    }

    /// The constants of a call, for `bidirectional_pass.rs` or for the general pass.
    pub(super) fn constants(
        &self,
        c: &ChunkCall<'_>,
        bidirectional_pass: bool,
        q: TransitionBuffer,
    ) -> Result<ForwardOperands> {
        let discrete = Arc::new(self.discretize(c.op, &c.layer)?);
        self.constants_of(c, bidirectional_pass, discrete, q)
    }

    /// The constants from the discrete recurrence.
    fn constants_of(
        &self,
        c: &ChunkCall<'_>,
        bidirectional_pass: bool,
        discrete: Arc<Discrete>,
        q: TransitionBuffer,
    ) -> Result<ForwardOperands> {
        let (params, spec) = (&c.layer.params, &c.layer.spec);
        if bidirectional_pass {
            let segment_ends = c.segment_split.segments > 1;
            let of = OperandsOf { both: spec.bidirectional, adjoint: false, outputs: true, segment_ends };
            let parts = RecurrenceParts { discrete: &discrete, c: params.c.span(), d: params.d.span() };
            let made = self.pass_constants(c.op, parts, c.sizes, q, (of, false))?;
            return Ok(ForwardOperands {
                discrete,
                fragments: [None, None],
                operands: Some(made.operands),
                segment_power: None,
                transition: made.transition,
            });
        }
        let matrices = self.matrices(c.op, &discrete, params.c.span(), c.sizes, q)?;
        let pack = |kernels: KernelRange| {
            let d = (!kernels.anticausal).then(|| params.d.span());
            self.pack(c.op, &matrices, d, c.sizes, FragmentsOf { kernels, adjoint: false })
        };
        let [causal, anticausal] = KernelRange::causal_and_anticausal(spec.channels);
        let fragments = [Some(pack(causal)?), spec.bidirectional.then(|| pack(anticausal)).transpose()?];
        Ok(ForwardOperands {
            discrete,
            fragments,
            operands: None,
            segment_power: None,
            transition: matrices.q,
        })
    }
}
