//! The states that leave segments which begin with zero (`kernels/ssm/segment_ends_sm90.cu`), for Hopper's chunk pass over sequences that are
//! cut into segments.

use super::{
    bidirectional_pass::{BidirectionalPass, OperandsOf, PLANE, PassInput},
    segments::SegmentSplit,
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::DeviceBlock,
};
use s4_backend::{Error, Result};

/// Bytes of two tiles of f64 in shared memory.
const TILES: usize = 2 * 64 * 68 * 8;

/// The matrices of every head, as the kernel lays them out.
pub(super) struct SegmentOperands {
    planes: DeviceBlock,
    exponents: DeviceBlock,
    /// Planes per head.
    count: usize,
}

/// What the operands are made of, in f64 as in `matrices.rs`.
pub(super) struct SegmentSequences<'a> {
    pub(super) q: &'a DeviceBlock,
    pub(super) cols: &'a DeviceBlock,
    pub(super) rows: &'a DeviceBlock,
}

impl Cuda {
    pub(super) fn segment_operands(
        &self,
        op: &'static str,
        m: SegmentSequences<'_>,
        s: Sizes,
        of: OperandsOf,
    ) -> Result<SegmentOperands> {
        let Sizes { heads, pairs, rank, kc, .. } = s;
        let dirs = 1 + of.both as usize;
        let lows = if self.precision().products() == 3 { 2usize } else { 1 };
        let count = dirs * 4 * lows + 4;
        let planes = self.block(op, heads * count * PLANE)?;
        let exponents = self.block(op, heads * 16 * 4)?;
        self.launch(
            ("segment_ends_sm90", "segment_operands"),
            (heads, dirs + 1, 1),
            (256, 1),
            TILES,
            args![
                &planes, &exponents, m.q, m.cols, m.rows, heads, pairs, rank, kc, of.both, of.adjoint, lows,
                count
            ],
        )?;
        Ok(SegmentOperands { planes, exponents, count })
    }

    /// Writes the states to `end`, one array (B, segments, H, NP) per direction; and x as rows, where the pass keeps them so.
    pub(super) fn segment_ends(
        &self,
        op: &'static str,
        p: &BidirectionalPass<'_>,
        s: Sizes,
        segment_split: SegmentSplit,
        end: [Option<Span>; 2],
    ) -> Result<()> {
        let SegmentSplit { segments, chunks_per_segment, chunks } = segment_split;
        let Some(operands) = p.operands.segment_ends() else {
            return Err(Error::unsupported(op, "operands of sequences cut into segments", "others"));
        };
        let SegmentOperands { planes, exponents, count } = operands;
        // By what they read: numbers, numbers to be normed, rows.
        let names = match (self.precision().products(), p.operands.both(), p.last_to_first) {
            (3, true, _) => ["ends_3_both", "ends_3_both_norm", ""],
            (3, false, false) => ["ends_3_ahead", "ends_3_ahead_norm", ""],
            (3, false, true) => ["ends_3_back", "ends_3_back_norm", ""],
            (_, true, _) => ["ends_1_both", "ends_1_both_norm", "ends_1_both_rows"],
            (_, false, false) => ["ends_1_ahead", "ends_1_ahead_norm", "ends_1_ahead_rows"],
            (_, false, true) => ["ends_1_back", "ends_1_back_norm", "ends_1_back_rows"],
        };
        let (name, x, norm, rows) = match p.x {
            PassInput::Plain(x) => (names[0], Some(x), None, p.states.input),
            PassInput::Normed(x, norm) => (names[1], Some(x), Some(norm), p.states.input),
            PassInput::Rows(rows) => (names[2], None, None, Some([rows.values, rows.exponents])),
        };
        let tiles = (p.batch * segments).div_ceil(64);
        self.launch(
            ("segment_ends_sm90", name),
            (tiles.div_ceil(2), s.heads, 1),
            (256, 1),
            count * PLANE,
            args![
                end[0],
                end[1],
                x,
                planes,
                exponents,
                rows.map(|[values, _]| values),
                rows.map(|[_, exponents]| exponents),
                p.states.largest,
                p.lengths,
                norm.map(|norm| norm.stats),
                norm.map(|norm| norm.gamma),
                norm.map(|norm| norm.beta),
                p.batch,
                s.heads,
                segments,
                chunks_per_segment,
                chunks,
                *count,
                p.len
            ],
        )
    }
}
