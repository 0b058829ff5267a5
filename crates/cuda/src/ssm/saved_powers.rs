//! What a training step's forward pass leaves for its backward pass: the powers of Ā that cost more to make again than to
//! keep. The other matrices are made again: they are ten times as large.

use crate::{Cuda, cache::Life, chunk::Sizes, memory::Block, ssm::Call};
use s4_backend::Result;
use std::sync::Arc;

/// Lives as long as its plan and is written by every forward pass, so that a steady step asks for no memory.
pub(crate) struct Turn {
    /// Version and rate of the parameters whose powers these are; `None` while they are made.
    pub(crate) key: Option<(u64, u64)>,
    /// (H, NP, NP), f64: Ā^T.
    pub(crate) q: Arc<Block>,
    /// Ā^(T·each) − 1 for the scans of the pass and of its adjoint, where sequences are cut; `each` is 0 while they are not
    /// these parameters'.
    segment: Option<(usize, [Arc<Block>; 2])>,
}

impl Turn {
    /// The matrices of the scans over segments of `each` chunks, if they are here.
    pub(crate) fn scans(&self, each: usize) -> Option<&[Arc<Block>; 2]> {
        self.segment.as_ref().filter(|(own, _)| *own == each).map(|(_, both)| both)
    }
}

impl Cuda {
    /// A turn to write: the last one's memory, or new.
    pub(crate) fn turn(&self, op: &'static str, s: Sizes, last: Option<Turn>) -> Result<Turn> {
        let bytes = 8 * s.heads * s.np * s.np;
        if let Some(mut last) = last {
            // Its memory is of the same layer, so of the same size.
            last.key = None;
            if let Some((each, _)) = &mut last.segment {
                *each = 0;
            }
            return Ok(last);
        }
        Ok(Turn { key: None, q: Arc::new(self.memory(op, bytes, Life::Buffer)?), segment: None })
    }

    /// Makes the matrices of the scans, out of `q`.
    pub(crate) fn turn_scans(&self, c: &Call<'_>, turn: &mut Turn) -> Result<()> {
        let bytes = 4 * c.sizes.heads * c.sizes.np * c.sizes.np;
        let make = || self.memory(c.op, bytes, Life::Buffer).map(Arc::new);
        let [ahead, back] = match turn.segment.take() {
            Some((_, both)) => both,
            None => [make()?, make()?],
        };
        self.segment_matrices(c.op, &turn.q, c.sizes, c.cut.each, &ahead, Some(&back))?;
        turn.segment = Some((c.cut.each, [ahead, back]));
        Ok(())
    }
}
