//! What a training step's forward pass leaves for its backward pass: the discrete recurrence, and the powers of Ā that cost more to recompute
//! than to keep. The other matrices are recomputed: they are ten times as large. And whose saved values hold the states that entered
//! the chunks (`chunk_states.rs`).

use super::{chunk_call::ChunkCall, chunk_states::SavedStatesKey, discretize::Discrete};
use crate::{device::Cuda, memory::DeviceBlock};
use s4_backend::Result;
use std::sync::Arc;

/// Powers of Ā; lives as long as its plan and is overwritten by every forward pass, so that a steady step asks for no
/// memory.
pub(super) struct SavedPowers {
    /// Version and rate of the parameters they belong to; `None` while they are computed.
    pub(super) key: Option<(u64, u64)>,
    pub(super) discrete: Arc<Discrete>,
    /// (H, NP, NP), f64: Ā^T.
    pub(super) q: Arc<DeviceBlock>,
    /// Where sequences are cut into segments.
    segment_scans: Option<SegmentScans>,
    /// Whose saved values hold the states that entered the chunks, if any do.
    pub(super) states: Option<SavedStatesKey>,
}

/// The matrices that the scans over segments multiply by.
struct SegmentScans {
    /// Chunks of a segment; `None` while the matrices are not those of these parameters.
    chunks_per_segment: Option<usize>,
    /// Ā^(T·chunks_per_segment) − 1 for the pass, and its transpose for the adjoint pass.
    pass_and_adjoint: [Arc<DeviceBlock>; 2],
}

impl SavedPowers {
    /// The matrices of the scans over segments of `chunks_per_segment` chunks, if they were saved.
    pub(super) fn scans(&self, chunks_per_segment: usize) -> Option<&[Arc<DeviceBlock>; 2]> {
        let scans = self.segment_scans.as_ref()?;
        (scans.chunks_per_segment == Some(chunks_per_segment)).then_some(&scans.pass_and_adjoint)
    }
}

impl Cuda {
    /// Memory for the powers: that of the last ones, or new.
    pub(super) fn saved_powers(&self, c: &ChunkCall<'_>, last: Option<SavedPowers>) -> Result<SavedPowers> {
        if let Some(mut last) = last {
            // Its memory is of the same layer, so of the same size.
            (last.key, last.states) = (None, None);
            if let Some(scans) = &mut last.segment_scans {
                scans.chunks_per_segment = None;
            }
            return Ok(last);
        }
        let memory = |bytes| self.buffer(c.op, bytes);
        Ok(SavedPowers {
            key: None,
            discrete: Arc::new(Discrete::new(&c.layer.spec, memory)?),
            q: Arc::new(memory(8 * c.sizes.transition_len())?),
            segment_scans: None,
            states: None,
        })
    }

    /// Computes the matrices of the scans from `q`.
    pub(super) fn save_scans(&self, c: &ChunkCall<'_>, powers: &mut SavedPowers) -> Result<()> {
        let bytes = 4 * c.sizes.transition_len();
        let make = || self.buffer(c.op, bytes).map(Arc::new);
        let [ahead, back] = match powers.segment_scans.take() {
            Some(scans) => scans.pass_and_adjoint,
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
        powers.segment_scans = Some(SegmentScans {
            chunks_per_segment: Some(c.segment_split.chunks_per_segment),
            pass_and_adjoint: [ahead, back],
        });
        Ok(())
    }
}
