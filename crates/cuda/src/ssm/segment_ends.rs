//! The states that leave segments which begin with zero (`kernels/ssm/segment_ends_sm90.cu`), for Hopper's chunk pass over sequences that are
//! cut into segments.

use super::{
    bidirectional_pass::{BidirectionalPass, PassInput, ROWS_BYTES},
    operands::{PLANE, SegmentOperands},
    segments::SegmentSplit,
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
};
use s4_backend::{Error, Result};

impl Cuda {
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
        let Some(operands) = p.operands.segment_ends.as_ref() else {
            return Err(Error::unsupported(op, "operands of sequences cut into segments", "others"));
        };
        let SegmentOperands { planes, exponents, count } = operands;
        // By what they read: numbers, numbers to be normed, rows; a pass norms, its adjoint reads rows.
        let names = match (self.precision().products(), p.operands.both, p.last_to_first) {
            (3, true, _) => ["ends_3_both", "ends_3_both_norm", ""],
            (3, false, false) => ["ends_3_ahead", "ends_3_ahead_norm", ""],
            (3, false, true) => ["ends_3_back", "", ""],
            (_, true, _) => ["ends_1_both", "ends_1_both_norm", "ends_1_both_rows"],
            (_, false, false) => ["ends_1_ahead", "ends_1_ahead_norm", ""],
            (_, false, true) => ["ends_1_back", "", "ends_1_back_rows"],
        };
        let (name, x, norm, rows) = match p.x {
            PassInput::Plain(x) => (names[0], Some(x), None, p.states.input),
            PassInput::Normed(x, norm) => (names[1], Some(x), Some(norm), p.states.input),
            PassInput::Rows(rows) => (names[2], None, None, Some([rows.values, rows.exponents])),
        };
        // x that waits in shared memory: chunks, and bytes of a thread.
        let stages = if self.precision().products() == 3 { 2 } else { 4 };
        let waiting = if matches!(p.x, PassInput::Rows(_)) { ROWS_BYTES } else { 128 };
        let tiles = (p.batch * segments).div_ceil(64);
        self.launch(
            ("segment_ends_sm90", name),
            (tiles.div_ceil(2), s.heads, 1),
            (256, 1),
            count * PLANE + stages * 256 * waiting,
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
