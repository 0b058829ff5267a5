//! What a layer keeps between calls.

use super::{
    bidirectional_pass::{Operands, OperandsOf},
    call::Call,
    discretize::Discrete,
    matrices::{KernelRange, Pack, TransitionBuffer},
    saved_powers::SavedPowers,
};
use crate::{device::Cuda, memory::Block};
use s4_backend::{Result, SsmSpec};
use std::sync::Arc;

/// What depends on parameters and rate alone, kept while they stay the same.
pub struct SsmPlan {
    pub(super) spec: SsmSpec,
    /// Version and rate of the parameters whose constants are kept, and whether they are for `bidirectional_pass.rs`.
    pub(super) key: Option<(u64, u64, bool)>,
    pub(super) constants: Option<Constants>,
    /// Of the last forward pass of training.
    pub(super) powers: Option<SavedPowers>,
}

/// The matrices of one layer's passes.
pub(super) struct Constants {
    pub(super) discrete: Discrete,
    /// Operands of the causal pass, and of the anticausal one.
    pub(super) fragments: [Option<Block>; 2],
    /// Those of both at once, instead (`bidirectional_pass.rs`).
    pub(super) operands: Option<Operands>,
    /// Ā^(T·each) − 1 for the latest way of cutting.
    pub(super) segment: Option<(usize, Arc<Block>)>,
    /// Ā^T in f64, to make it from.
    pub(super) q: Arc<Block>,
}

impl Cuda {
    /// The constants of a call, for `bidirectional_pass.rs` or for the general pass.
    pub(super) fn constants(
        &self,
        c: &Call<'_>,
        bidirectional_pass: bool,
        q: TransitionBuffer,
    ) -> Result<Constants> {
        let (params, spec) = (&c.layer.params, &c.layer.spec);
        let discrete = self.discretize(c.op, &c.layer)?;
        let matrices = self.matrices(c.op, &discrete, params.c.span(), c.sizes, q)?;
        if bidirectional_pass {
            let of = OperandsOf { both: spec.bidirectional, adjoint: false, outputs: true };
            let operands = Some(self.operands(c.op, &matrices, params.d.span(), c.sizes, of)?);
            return Ok(Constants {
                discrete,
                fragments: [None, None],
                operands,
                segment: None,
                q: matrices.q,
            });
        }
        let pack = |kernels: KernelRange| {
            let d = (!kernels.anticausal).then(|| params.d.span());
            self.pack(c.op, &matrices, d, c.sizes, Pack { kernels, adjoint: false })
        };
        let [causal, anticausal] = KernelRange::causal_and_anticausal(spec.channels);
        let fragments = [Some(pack(causal)?), spec.bidirectional.then(|| pack(anticausal)).transpose()?];
        Ok(Constants { discrete, fragments, operands: None, segment: None, q: matrices.q })
    }
}
