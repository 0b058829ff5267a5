//! What a training step's forward pass leaves for its backward pass: the powers of Ā that cost more to recompute than
//! to keep. The other matrices are recomputed: they are ten times as large.

use super::{chunk_call::ChunkCall, sizes::Sizes};
use crate::{device::Cuda, memory::DeviceBlock};
use s4_backend::Result;
use std::sync::Arc;

/// Powers of Ā; lives as long as its plan and is overwritten by every forward pass, so that a steady step asks for no
/// memory.
pub(super) struct SavedPowers {
    /// Version and rate of the parameters they belong to; `None` while they are computed.
    pub(super) key: Option<(u64, u64)>,
    /// (H, NP, NP), f64: Ā^T.
    pub(super) q: Arc<DeviceBlock>,
    /// `chunks_per_segment` and Ā^(T·chunks_per_segment) − 1 for the scans of the pass and of its adjoint, where sequences are cut into segments of
    /// `chunks_per_segment` chunks; `chunks_per_segment` is 0 while the matrices are not those of these parameters.
    segment: Option<(usize, [Arc<DeviceBlock>; 2])>,
}

impl SavedPowers {
    /// The matrices of the scans over segments of `chunks_per_segment` chunks, if they were saved.
    pub(super) fn scans(&self, each: usize) -> Option<&[Arc<DeviceBlock>; 2]> {
        self.segment.as_ref().filter(|(own, _)| *own == each).map(|(_, both)| both)
    }
}

impl Cuda {
    /// Memory for the powers: that of the last ones, or new.
    pub(super) fn saved_powers(
        &self,
        op: &'static str,
        s: Sizes,
        last: Option<SavedPowers>,
    ) -> Result<SavedPowers> {
        let bytes = 8 * s.transition_len();
        if let Some(mut last) = last {
            // Its memory is of the same layer, so of the same size.
            last.key = None;
            if let Some((each, _)) = &mut last.segment {
                *each = 0;
            }
            return Ok(last);
        }
        Ok(SavedPowers { key: None, q: Arc::new(self.buffer(op, bytes)?), segment: None })
    }

    /// Computes the matrices of the scans from `q`.
    pub(super) fn save_scans(&self, c: &ChunkCall<'_>, powers: &mut SavedPowers) -> Result<()> {
        let bytes = 4 * c.sizes.transition_len();
        let make = || self.buffer(c.op, bytes).map(Arc::new);
        let [ahead, back] = match powers.segment.take() {
            Some((_, both)) => both,
            None => [make()?, make()?],
        };
        self.segment_matrices(
            c.op,
            &powers.q,
            c.sizes,
            c.segment_split.chunks_per_segment,
            &ahead,
            Some(&back),
        )?;
        powers.segment = Some((c.segment_split.chunks_per_segment, [ahead, back]));
        Ok(())
    }
}
