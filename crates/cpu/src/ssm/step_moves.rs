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
    ssm::step_sizes::BLOCK,
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
                    // Of a length that the compiler knows, so that it is no call.
                    if let Some(y) = f32s_mut(y.row(first + begin + k)).and_then(|y| y.first_chunk_mut()) {
                        *y = *row;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Cpu,
        linalg::{gemm::Tiles, simd::simd},
    };
    use s4_backend::random::Rng;

    #[test]
    fn vectors_move_what_the_plain_form_moves() {
        let (be, mut rng) = (Cpu::<f32>::new(1).unwrap(), Rng::new(11, 0));
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let (heads, stride) = (11, 40);
        let best = Level::detect();
        for level in [Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best) {
            for count in [8, 3] {
                let fast = Moves::new(level, count, stride);
                assert_eq!(fast.eights.is_some(), count == 8);
                let plain = Moves { eights: None, ..fast };
                for len in 1..=BLOCK {
                    for most in len..=BLOCK {
                        let (u, before) = (draw(BLOCK * heads), draw(8 * stride));
                        let moved = |moves: Moves| {
                            let mut to = before.clone();
                            simd!(level, _FMA => moves.put_inputs(&mut to, (&u, heads), [len, most]));
                            to
                        };
                        for (a, b) in moved(fast).chunks(stride).zip(moved(plain).chunks(stride)).take(count)
                        {
                            assert_eq!(a[..most], b[..most], "{level:?}, {count} heads, {len} of {most}");
                            assert_eq!(a[BLOCK..], b[BLOCK..], "behind the block");
                        }
                    }
                    let from = draw(8 * stride);
                    let moved = |moves: Moves| {
                        let mut y = vec![0.5f32; (BLOCK + 2) * count];
                        Tiles::new(&mut y, 1, BLOCK + 2, count, count).for_each(&be, |mut y| {
                            simd!(level, _FMA => moves.take_outputs(&mut y, 1, &from, len));
                        });
                        y
                    };
                    assert_eq!(moved(fast), moved(plain), "{level:?}, {count} heads, {len} steps");
                    assert_eq!(moved(fast)[count * (1 + len)..], vec![0.5; count * (BLOCK + 1 - len)][..]);
                }
            }
        }
    }
}
