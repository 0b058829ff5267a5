//! The operands of a pass of `bidirectional_pass.rs` straight from the discrete recurrence
//! (`pass_constants` in `kernels/ssm/bidirectional_operands_sm90.cu`): the sequences and matrices of a chunk, which take more memory than
//! anything else of a layer's parameters, are written only where something else reads them.

use super::{
    bidirectional_pass::{Operands, OperandsOf},
    discretize::Discrete,
    matrices::{Matrices, TransitionBuffer},
    sizes::{Sizes, T},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::Result;
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

/// The operands, and what they were made with.
pub(super) struct PassConstants {
    pub(super) operands: Operands,
    /// Ā^T (H, NP, NP).
    pub(super) transition: Arc<DeviceBlock>,
    /// Where they are wanted; the powers v_r D₀^j with the adjoint's alone.
    pub(super) matrices: Option<Matrices>,
}

impl Cuda {
    /// The operands of a pass, and the matrices as well where `with_matrices` is set or the states that leave segments need them. `q` is
    /// filled.
    pub(super) fn pass_constants(
        &self,
        op: &'static str,
        parts: RecurrenceParts<'_>,
        s: Sizes,
        q: TransitionBuffer,
        (of, with_matrices): (OperandsOf, bool),
    ) -> Result<PassConstants> {
        let RecurrenceParts { discrete, c, d } = parts;
        let Sizes { heads, pairs, rank, kc, np } = s;
        if rank > 1 || pairs > 32 || np != 64 || kc != 1 + of.both as usize || !of.outputs {
            let matrices = self.matrices(op, discrete, c, s, q)?;
            let operands = self.operands(op, &matrices, d, s, of)?;
            let transition = matrices.q.clone();
            return Ok(PassConstants { operands, transition, matrices: Some(matrices) });
        }
        let with_powers = with_matrices && of.adjoint;
        let transition = q.block.clone();
        let matrices = match with_matrices || of.segment_ends {
            true => Some(Matrices {
                cols: self.block(op, 16 * heads * (rank + 1) * T * pairs)?,
                rows: self.block(op, 16 * heads * kc * (T + 1) * pairs)?,
                powers: self.block(op, if with_powers { 16 * heads * rank * T * pairs } else { 0 })?,
                kern: self.scratch64(op, heads * kc * T)?,
                q: q.block,
            }),
            false => None,
        };
        let mut operands = self.operand_memory(op, s, of)?;
        let Operands { planes, exponents, count, .. } = &operands;
        let m = matrices.as_ref();
        self.launch(
            ("bidirectional_operands_sm90", "pass_constants"),
            (heads, 1, 1),
            (256, 1),
            SHARED,
            args![
                planes,
                exponents,
                &*transition,
                m.map(|m| &m.cols),
                m.map(|m| &m.rows),
                m.filter(|_| with_powers).map(|m| &m.powers),
                m.map(|m| &m.kern),
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
        if let (true, Some(m)) = (of.segment_ends, m) {
            operands.segment_ends = Some(self.segment_operands(op, m, s, of)?);
        }
        Ok(PassConstants { operands, transition, matrices })
    }
}
