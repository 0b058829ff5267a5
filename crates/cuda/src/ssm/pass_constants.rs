//! The operands of a pass of `bidirectional_pass.rs` straight from the discrete recurrence
//! (`pass_constants` in `kernels/ssm/bidirectional_operands_sm90.cu`): the sequences of a chunk, which take more memory than anything else of
//! a layer's parameters, stay in shared memory.

use super::{
    discretize::Discrete,
    matrices::{Matrices, TransitionBuffer},
    operands::{Operands, OperandsOf},
    sizes::{Sizes, T},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::{Error, Result};
use std::sync::Arc;

/// Bytes of the kernel's `PassConstants`: Ā^j u in f64, four arrays of f32 and some single numbers.
const SHARED: usize = 64 * 68 * (8 + 4 * 4) + 2 * 64 * 8 + 128 * 4 + 32 * 16 + 16 * 4;

/// What a layer's parameters are to a pass.
#[derive(Clone, Copy)]
pub(super) struct RecurrenceParts<'a> {
    pub(super) discrete: &'a Discrete,
    pub(super) c: Span,
    pub(super) d: Span,
}

/// The sequences of a chunk that the gradient of Ā^T takes.
pub(super) enum ChunkSequences {
    /// With all others, in f64.
    All(Matrices),
    /// Ā^j u and v D₀^j (H, T, P) in f32, of rank one; empty of rank zero.
    RankOne([DeviceBlock; 2]),
}

/// The operands, and what was made with them.
pub(super) struct PassConstants {
    pub(super) operands: Operands,
    /// Ā^T (H, NP, NP).
    pub(super) transition: Arc<DeviceBlock>,
    /// There where they were asked for.
    pub(super) sequences: Option<ChunkSequences>,
}

impl Cuda {
    /// The operands of a pass, and the sequences if `with_sequences` is set. Fills `q`.
    pub(super) fn pass_constants(
        &self,
        op: &'static str,
        parts: RecurrenceParts<'_>,
        s: Sizes,
        q: TransitionBuffer,
        (of, with_sequences): (OperandsOf, bool),
    ) -> Result<PassConstants> {
        let RecurrenceParts { discrete, c, d } = parts;
        let Sizes { heads, pairs, rank, kc, np } = s;
        if !s.one_pair_a_lane() || np != 64 || kc != 1 + of.both as usize {
            let matrices = self.matrices(op, discrete, c, s, q)?;
            let operands = self.operands(op, &matrices, d, s, of)?;
            let transition = matrices.q.clone();
            let sequences = with_sequences.then_some(ChunkSequences::All(matrices));
            return Ok(PassConstants { operands, transition, sequences });
        }
        let powers = || self.block(op, 8 * heads * rank * T * pairs);
        let in_f32 = with_sequences.then(|| Ok::<_, Error>([powers()?, powers()?])).transpose()?;
        let mut operands = self.operand_memory(op, s, of)?;
        let Operands { planes, exponents, count, .. } = &operands;
        self.launch(
            ("bidirectional_operands_sm90", "pass_constants"),
            (heads, 1, 1),
            (256, 1),
            SHARED,
            args![
                planes,
                exponents,
                &*q.block,
                in_f32.as_ref().map(|[u, _]| u),
                in_f32.as_ref().map(|[_, v]| v),
                discrete.d0(),
                discrete.u(),
                discrete.v(),
                discrete.b_bar(),
                c,
                d,
                heads,
                pairs,
                rank,
                kc,
                q.filled,
                of.adjoint,
                *count
            ],
        )?;
        operands.segment_ends =
            of.segment_ends.then(|| self.segment_operands(op, &operands, s)).transpose()?;
        let sequences = in_f32.map(ChunkSequences::RankOne);
        Ok(PassConstants { operands, transition: q.block, sequences })
    }
}
