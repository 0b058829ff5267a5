//! Where the numbers of a block of time steps stand (`step_tiles.rs`): a head's constants, and a sequence's state and row.

use crate::{Level, linalg::matvec_simd::f32s};
use s4_backend::{Scalar, SsmSpec};

/// T: time steps of a block.
pub(crate) const BLOCK: usize = 16;

/// Sizes of a head's constants and of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSizes {
    /// N/2, and as many as whole vectors have.
    pub(super) pairs: usize,
    pub(super) padded: usize,
    /// 1 + R: numbers of a time step, (y, w_1, …) and (u, w_1, …).
    pub(crate) slots: usize,
    /// Numbers of a vector.
    pub(super) lanes: usize,
}

impl BlockSizes {
    /// The sizes of a layer.
    pub(crate) fn of(spec: &SsmSpec, level: Level) -> Self {
        let lanes = if level == Level::Avx512 { 16 } else { 8 };
        let pairs = spec.pairs();
        BlockSizes { pairs, padded: pairs.next_multiple_of(lanes), slots: 1 + spec.rank, lanes }
    }

    /// Numbers of a padded state.
    pub(crate) fn state(&self) -> usize {
        2 * self.padded
    }
    /// Where number i of a state stands in a padded one.
    pub(crate) fn state_at(&self, i: usize) -> usize {
        if i < self.pairs { i } else { self.padded + i - self.pairs }
    }
    /// Whether a state is as long as a padded one.
    pub(crate) fn is_whole(&self) -> bool {
        self.pairs == self.padded
    }
    /// Where the outputs stand in a row, behind the inputs and before the coefficients.
    pub(crate) fn output(&self) -> usize {
        BLOCK
    }
    /// Where the numbers of a slot stand in a row that are added to the state: the inputs, or the coefficients.
    pub(super) fn slot(&self, slot: usize) -> usize {
        if slot == 0 { 0 } else { (1 + slot) * BLOCK }
    }
    /// Length of a row.
    pub(crate) fn row(&self) -> usize {
        self.output() + self.slots * BLOCK
    }

    /// Time steps that stand side by side in [`HeadConstants::to_outputs`]: with a rank of 1 a vector has half of each slot, so that less of it
    /// is wasted where there are fewer time steps than T.
    pub(super) fn side_by_side(&self) -> usize {
        if self.slots == 2 { self.lanes / 2 } else { self.lanes }
    }
    /// Columns of `to_outputs`.
    pub(super) fn columns(&self) -> usize {
        self.slots * BLOCK
    }
    /// Where `to_outputs` has what slot `slot` of time step k reads of number i of [x₀ | u].
    pub(crate) fn to_output_at(&self, i: usize, (k, slot): (usize, usize)) -> usize {
        let side = self.side_by_side();
        i * self.columns() + (k / side * self.slots + slot) * side + k % side
    }
    /// Where `to_state` has what slot `slot` of time step j adds to number i of a padded state.
    pub(crate) fn to_state_at(&self, (j, slot): (usize, usize), i: usize) -> usize {
        let (part, pair) = (i / self.padded, i % self.padded);
        let (vector, lane) = (pair / self.lanes, pair % self.lanes);
        (((vector * self.slots + slot) * BLOCK + j) * 2 + part) * self.lanes + lane
    }
    /// Lengths of a head's constants.
    pub(crate) fn to_outputs(&self) -> usize {
        self.to_outputs_of(BLOCK)
    }
    /// As many of `to_outputs` as `len` time steps need.
    pub(crate) fn to_outputs_of(&self, len: usize) -> usize {
        (self.state() + len) * self.columns()
    }
    /// Numbers of `to_state` that `len` time steps of a slot have for a vector of pairs.
    pub(crate) fn to_state_part(&self, len: usize) -> usize {
        len * 2 * self.lanes
    }
    pub(crate) fn to_state(&self) -> usize {
        self.slots * BLOCK * self.state()
    }
    pub(crate) fn constants(&self) -> usize {
        self.to_outputs() + self.to_state() + BLOCK * self.state()
    }

    /// Writes a state to a padded one.
    #[inline(always)]
    pub(crate) fn put_state<T: Scalar>(&self, padded: &mut [T], state: &[T]) {
        let (re, im) = padded[..self.state()].split_at_mut(self.padded);
        for (to, from) in [re, im].into_iter().zip(state.chunks_exact(self.pairs)) {
            to[..self.pairs].copy_from_slice(from);
            to[self.pairs..].fill(T::zero());
        }
    }
    /// Reads a state from a padded one.
    #[inline(always)]
    pub(crate) fn take_state<T: Scalar>(&self, state: &mut [T], padded: &[T]) {
        for (to, from) in state.chunks_exact_mut(self.pairs).zip(padded.chunks_exact(self.padded)) {
            to.copy_from_slice(&from[..self.pairs]);
        }
    }
}

/// The constants of one head.
pub(crate) struct HeadConstants<'a, T> {
    /// (state + T, T·slots): from [x₀ | u] to (y, w_1, …) of each time step; columns as [`BlockSizes::to_output_at`] has them.
    pub(crate) to_outputs: &'a [T],
    /// From (u, w_1, …) of each time step to the state's increment, as [`BlockSizes::to_state_at`] has them.
    pub(crate) to_state: &'a [T],
    /// (T, state): D₀^k − 1 for k = 1, 2, ….
    pub(crate) powers: &'a [T],
}

impl<'a, T: Scalar> HeadConstants<'a, T> {
    /// As f32, where they are.
    pub(super) fn f32s(&self) -> Option<HeadConstants<'a, f32>> {
        let HeadConstants { to_outputs, to_state, powers } = *self;
        Some(HeadConstants {
            to_outputs: f32s(to_outputs)?,
            to_state: f32s(to_state)?,
            powers: f32s(powers)?,
        })
    }
}
