//! Between the order of a layer's activations and that of a task's rows (`step_blocks.rs`): inputs and outputs of a time step of all
//! heads lie side by side there, those of a head's time steps here.

use crate::{
    Level,
    linalg::{
        gemm::Tile,
        matvec_simd::{f32s, f32s_mut},
        transpose::transpose_map,
        transpose_eights::{Eight, Eights},
    },
    ssm::step_tiles::BLOCK,
};
use s4_backend::Scalar;

/// Heads of a task: its inputs and outputs of a time step are half a cache line.
pub(crate) const HEADS: usize = 8;

/// Moves inputs and outputs of one sequence and up to T time steps.
#[derive(Clone, Copy)]
pub(crate) struct Moves {
    /// Where there are vectors, and eight heads.
    eights: Option<Eights>,
    /// Heads, and the distance of the rows of two of them.
    count: usize,
    stride: usize,
}

impl Moves {
    pub(crate) fn new(level: Level, count: usize, stride: usize) -> Self {
        let eights = Eights::of(level).filter(|_| count == HEADS);
        Moves { eights, count, stride }
    }

    /// `to`, the inputs of the first head's row, and those of the others ← the first `len` time steps of `u`, which lie `heads` numbers apart;
    /// up to time step `most` (at most T) they become 0. What lies behind, up to T, is not kept.
    #[inline(always)]
    pub(crate) fn put_inputs<T: Scalar>(
        self,
        to: &mut [T],
        (u, heads): (&[T], usize),
        [len, most]: [usize; 2],
    ) {
        if let (Some(eights), Some(to), Some(u)) = (self.eights, f32s_mut(&mut *to), f32s(u)) {
            for first in (0..most).step_by(8) {
                let mut block: Eight = [[0.0; 8]; 8];
                for (k, row) in block.iter_mut().enumerate() {
                    if first + k < len {
                        row.copy_from_slice(&u[(first + k) * heads..][..8]);
                    }
                }
                for (head, row) in eights.transpose(&block).iter().enumerate() {
                    to[head * self.stride + first..][..8].copy_from_slice(row);
                }
            }
            return;
        }
        transpose_map(to, self.stride, u, heads, [len, self.count], |u| u);
        for to in to.chunks_mut(self.stride).take(self.count) {
            to[len..most].fill(T::zero());
        }
    }

    /// Rows `first`, … of `y`, `len` time steps of the task's heads ← the outputs of the first head's row, `from`, and those of the others.
    #[inline(always)]
    pub(crate) fn take_outputs<T: Scalar>(self, y: &mut Tile<'_, T>, first: usize, from: &[T], len: usize) {
        if let (Some(eights), Some(from)) = (self.eights, f32s(from)) {
            for begin in (0..len).step_by(8) {
                let mut block: Eight = [[0.0; 8]; 8];
                for (head, row) in block.iter_mut().enumerate() {
                    row.copy_from_slice(&from[head * self.stride + begin..][..8]);
                }
                for (k, row) in eights.transpose(&block).iter().enumerate().take(len - begin) {
                    if let Some(y) = f32s_mut(y.row(first + begin + k)) {
                        y.copy_from_slice(row);
                    }
                }
            }
            return;
        }
        let mut outputs = [T::zero(); BLOCK * HEADS];
        transpose_map(&mut outputs, HEADS, from, self.stride, [self.count, len], |y| y);
        for (k, outputs) in outputs.as_chunks::<HEADS>().0[..len].iter().enumerate() {
            y.row(first + k).copy_from_slice(&outputs[..self.count]);
        }
    }
}
