//! The matrices of a chunk as the passes on Hopper multiply by them: of the pass of `bidirectional_pass.rs`
//! (`kernels/ssm/bidirectional_operands_sm90.cu`), and of the states that leave segments (`kernels/ssm/segment_ends_sm90.cu`).

use super::{
    matrices::Matrices,
    segments::{SegmentSplit, most_chunks},
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::Result;

/// Bytes of one plane: the high or the low parts of a 64 × 64 matrix.
pub(super) const PLANE: usize = 64 * 64 * 2;

/// Which operands a pass needs.
#[derive(Clone, Copy)]
pub(super) struct OperandsOf {
    /// Whether the operands of both directions of a bidirectional layer are made.
    pub(super) both: bool,
    /// Whether they are the operands of the pass's adjoint.
    pub(super) adjoint: bool,
    /// Whether the operands of the outputs are made too, not the operands of the states alone.
    pub(super) outputs: bool,
    /// Whether those of the states that leave segments are made too.
    pub(super) segment_ends: bool,
}

/// The matrices of every head, as `kernels/ssm/bidirectional_operands_sm90.cu` lays them out.
pub(super) struct Operands {
    pub(super) planes: DeviceBlock,
    /// (H, 8): powers of two of each kind of matrix.
    pub(super) exponents: DeviceBlock,
    /// Planes per head.
    pub(super) count: usize,
    /// Whether they are of both directions.
    pub(super) both: bool,
    /// Those of the states that leave segments, if they were made.
    pub(super) segment_ends: Option<SegmentOperands>,
}

impl Operands {
    /// Whether they are enough for sequences that are cut so.
    pub(super) fn are_for(&self, segment_split: SegmentSplit) -> bool {
        segment_split.segments == 1 || self.segment_ends.is_some()
    }
}

/// The matrices of every head, as `kernels/ssm/segment_ends_sm90.cu` lays them out.
pub(super) struct SegmentOperands {
    pub(super) planes: DeviceBlock,
    pub(super) exponents: DeviceBlock,
    /// Planes per head.
    pub(super) count: usize,
}

impl Cuda {
    pub(super) fn operands(
        &self,
        op: &'static str,
        m: &Matrices,
        d: Span,
        s: Sizes,
        of: OperandsOf,
    ) -> Result<Operands> {
        let Sizes { heads, pairs, rank, kc, .. } = s;
        let kinds = if of.both { 3usize } else { 2 };
        let kinds = if of.outputs { 2 * kinds } else { kinds };
        let mut operands = self.operand_memory(op, s, of)?;
        let Operands { planes, exponents, count, .. } = &operands;
        self.launch(
            ("bidirectional_operands_sm90", "operand_planes"),
            (heads, kinds, 1),
            (256, 1),
            0,
            args![
                planes, exponents, &m.kern, &*m.q, &m.cols, &m.rows, d, heads, pairs, rank, kc, of.both,
                of.adjoint, *count
            ],
        )?;
        operands.segment_ends =
            of.segment_ends.then(|| self.segment_operands(op, &operands, s)).transpose()?;
        Ok(operands)
    }

    /// Memory for operands, without those of the states that leave segments.
    pub(super) fn operand_memory(&self, op: &'static str, s: Sizes, of: OperandsOf) -> Result<Operands> {
        let lows = if self.precision().products() == 3 { 2 } else { 1 };
        let (states, outputs) = if of.both { (6, 3) } else { (4, 2) };
        let count = states + if of.outputs { lows * outputs } else { 0 };
        let planes = self.block(op, s.heads * count * PLANE)?;
        let exponents = self.block(op, s.heads * 8 * 4)?;
        Ok(Operands { planes, exponents, count, both: of.both, segment_ends: None })
    }

    /// Those of the states that leave segments, from the operands of the same pass.
    pub(super) fn segment_operands(
        &self,
        op: &'static str,
        of: &Operands,
        s: Sizes,
    ) -> Result<SegmentOperands> {
        let dirs = 1 + of.both as usize;
        let products = self.precision().products();
        let lows = if products == 3 { 2 } else { 1 };
        // Q⁴ is always needed, Q⁸ where segments may have more than eight chunks: those of one direction may have any number.
        let powers = if of.both && most_chunks(products) <= 8 { 1 } else { 2 };
        let count = dirs * 4 * lows + 2 * powers;
        let planes = self.block(op, s.heads * count * PLANE)?;
        let exponents = self.block(op, s.heads * 16 * 4)?;
        self.launch(
            ("segment_ends_sm90", "segment_operands"),
            (s.heads, 1 + dirs, 1),
            (128, 1),
            4 * PLANE,
            args![&planes, &exponents, &of.planes, &of.exponents, dirs, lows, count, of.count],
        )?;
        Ok(SegmentOperands { planes, exponents, count })
    }
}
