//! Chunks forward: [ y | s′ ] = [ x | s ] Φᵀ.

use super::{
    scan::{scan, scan_diagonal, scan_scratch},
    states::{self, EndChunkInput},
    tasks::{Lengths, TaskSplit, gather, scatter},
};
use crate::{
    Level,
    linalg::register_tiles::{NonzeroPart, Product, product},
    ssm::{chains::Dims, discretize::Discrete},
};
use s4_backend::Scalar;
use std::ops::Range;

/// Which blocks of Φ take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PhiBlocks {
    /// Toep: x to y.
    pub(crate) toep: bool,
    /// V: x to the state.
    pub(crate) v: bool,
    /// W: the state to y.
    pub(crate) w: bool,
}

/// One head and some of its sequences.
pub(crate) struct ForwardJob<'a, T> {
    pub(crate) head: usize,
    pub(crate) sequences: Range<usize>,
    /// Outputs, len elements for each channel of each sequence; no slices at all where y is not wanted.
    pub(crate) y: Vec<&'a mut [T]>,
    /// End states, N elements for each sequence; no slices at all where they are not wanted.
    pub(crate) state_end: Vec<&'a mut [T]>,
    /// (sequences, chunks, N) in the order of blocks: the state entering each chunk.
    pub(crate) saved: Option<&'a mut [T]>,
}

/// Sequences of a job that go through the chunks together.
struct SequenceGroup<'b, 'a, T> {
    head: usize,
    sequences: Range<usize>,
    y: &'b mut [&'a mut [T]],
    state_end: &'b mut [&'a mut [T]],
    saved: Option<&'b mut [T]>,
}

/// What all jobs of one pass share.
pub(crate) struct ForwardPass<'a, T> {
    pub(crate) level: Level,
    pub(crate) dims: Dims,
    pub(crate) task_split: TaskSplit,
    pub(crate) phi_blocks: PhiBlocks,
    /// Whether this is the second pass of a two-sided layer.
    pub(crate) reversed: bool,
    /// Whether to add to y instead of overwriting it.
    pub(crate) accumulate: bool,
    /// (batch, H, len)
    pub(crate) u: &'a [T],
    /// (batch, H, N)
    pub(crate) state0: Option<&'a [T]>,
    pub(crate) lengths: Lengths<'a>,
}

impl<T: Scalar> ForwardPass<'_, T> {
    /// Scalars of scratch for one job.
    pub(crate) fn scratch(&self) -> usize {
        let chunk_rows = self.task_split.sequences_per_group * self.task_split.chunks_per_block;
        2 * chunk_rows * self.task_split.chunk
            + (chunk_rows + self.task_split.sequences_per_group) * self.dims.state
            + scan_scratch(self.dims.state)
    }

    /// Doubles of scratch for one job.
    pub(crate) fn scratch64(&self) -> usize {
        2 * self.dims.state
    }

    /// One sequence of u.
    fn u(&self, head: usize, sequence: usize) -> &[T] {
        &self.u[(sequence * self.dims.heads + head) * self.task_split.len..][..self.task_split.len]
    }

    /// All sequences of a job, group after group. `phi_t`: Φᵀ of this head and pass.
    pub(crate) fn run(
        &self,
        job: ForwardJob<'_, T>,
        phi_t: &[T],
        a: &Discrete,
        scratch: &mut [T],
        scratch64: &mut [f64],
    ) {
        let (d, task_split) = (&self.dims, &self.task_split);
        let ForwardJob { head, sequences, mut y, mut state_end, mut saved } = job;
        for first in sequences.clone().step_by(task_split.sequences_per_group) {
            let group_sequences = first..(first + task_split.sequences_per_group).min(sequences.end);
            let at = first - sequences.start;
            let group_y = match y.is_empty() {
                true => &mut [],
                false => &mut y[at * d.channels..][..group_sequences.len() * d.channels],
            };
            let group_state_end = match state_end.is_empty() {
                true => &mut [],
                false => &mut state_end[at..][..group_sequences.len()],
            };
            let saved_per_sequence = task_split.chunks * d.state;
            let group_saved = saved
                .as_mut()
                .map(|s| &mut s[at * saved_per_sequence..][..group_sequences.len() * saved_per_sequence]);
            let group = SequenceGroup {
                head,
                sequences: group_sequences,
                y: group_y,
                state_end: group_state_end,
                saved: group_saved,
            };
            self.run_group(group, phi_t, a, scratch, scratch64);
        }
    }

    /// Takes the sequences of one group through all chunks: writes their y, end states and saved states.
    fn run_group(
        &self,
        group: SequenceGroup<'_, '_, T>,
        phi_t: &[T],
        a: &Discrete,
        scratch: &mut [T],
        scratch64: &mut [f64],
    ) {
        let SequenceGroup { head, sequences, y, state_end, mut saved } = group;
        let (d, task_split, state, chunk) =
            (&self.dims, &self.task_split, self.dims.state, self.task_split.chunk);
        let count = sequences.len();
        let (x, rest) =
            scratch.split_at_mut(task_split.sequences_per_group * task_split.chunks_per_block * chunk);
        let (out, rest) =
            rest.split_at_mut(task_split.sequences_per_group * task_split.chunks_per_block * chunk);
        let (s, scan_scratch) =
            rest.split_at_mut(task_split.sequences_per_group * (task_split.chunks_per_block + 1) * state);
        let zero = T::zero();
        let (to_y, to_state) = phi_t.split_at(d.to_state());
        let (v_t, q_t) = to_state.split_at(chunk * state);
        for (r, s) in s[..count * state].chunks_exact_mut(state).enumerate() {
            match self.state0 {
                Some(state0) => {
                    s.copy_from_slice(&state0[((sequences.start + r) * d.heads + head) * state..][..state])
                }
                None => s.fill(zero),
            }
        }
        for c0 in (0..task_split.chunks).step_by(task_split.chunks_per_block) {
            let chunks = task_split.chunks_per_block.min(task_split.chunks - c0);
            let m = chunks * count;
            let needs_x = self.phi_blocks.toep || self.phi_blocks.v;
            // One sequence whose chunks lie whole in u and y: nothing to copy.
            let chunks_end = (c0 + chunks) * chunk;
            let in_place = count == 1 && !self.reversed && chunks_end <= self.lengths.of(sequences.start);
            let x = if in_place {
                &self.u(head, sequences.start)[c0 * chunk..chunks_end]
            } else if needs_x {
                for (i, x) in x[..m * chunk].chunks_exact_mut(chunk).enumerate() {
                    let sequence = sequences.start + i % count;
                    gather(
                        x,
                        self.u(head, sequence),
                        self.lengths.of(sequence),
                        c0 + i / count,
                        self.reversed,
                    );
                }
                &*x
            } else {
                &[]
            };
            // s′ = x Vᵀ, all chunks at once; then s′ += s Qᵀ, one after the other.
            let next = &mut s[count * state..][..m * state];
            if self.phi_blocks.v {
                let p = Product {
                    size: [m, state, chunk],
                    a: x,
                    lda: chunk,
                    b: v_t,
                    ldb: state,
                    c: next,
                    ldc: state,
                    accumulate: false,
                    nonzero_part: NonzeroPart::Full,
                };
                product(self.level, p);
            } else {
                next.fill(zero);
            }
            if d.rank == 0 {
                for c in 0..chunks {
                    let (before, after) = s.split_at_mut((c + 1) * count * state);
                    scan_diagonal(
                        self.level,
                        &mut after[..count * state],
                        &before[c * count * state..],
                        q_t,
                        state,
                    );
                }
            } else {
                scan(self.level, s, q_t, [chunks, count, state], false, scan_scratch);
            }
            if let Some(saved) = saved.as_mut() {
                saved[c0 * count * state..][..m * state].copy_from_slice(&s[..m * state]);
            }
            for (r, state_end) in state_end.iter_mut().enumerate() {
                let length = self.lengths.of(sequences.start + r);
                let last = length / chunk;
                // A sequence that fills its last chunk ends in the state after it.
                if last >= c0
                    && (last < c0 + chunks || (last == task_split.chunks && c0 + chunks == task_split.chunks))
                {
                    let start = &s[((last - c0) * count + r) * state..][..state];
                    let x = &self.u(head, sequences.start + r)[last * chunk..length];
                    let end_chunk = EndChunkInput { start, x };
                    self.level.run(
                        #[inline(always)]
                        || states::finish(state_end, end_chunk, a, scratch64),
                    );
                }
            }
            for channel in 0..if y.is_empty() { 0 } else { d.channels } {
                let (to, accumulate) = match in_place {
                    true => (&mut y[channel][c0 * chunk..chunks_end], self.accumulate),
                    false => (&mut *out, false),
                };
                let (toep_t, w_t) =
                    to_y[channel * d.inputs() * chunk..][..d.inputs() * chunk].split_at(chunk * chunk);
                if self.phi_blocks.toep {
                    let p = Product {
                        size: [m, chunk, chunk],
                        a: x,
                        lda: chunk,
                        b: toep_t,
                        ldb: chunk,
                        c: to,
                        ldc: chunk,
                        accumulate,
                        nonzero_part: NonzeroPart::Upper,
                    };
                    product(self.level, p);
                }
                if self.phi_blocks.w {
                    let p = Product {
                        size: [m, chunk, state],
                        a: s,
                        lda: state,
                        b: w_t,
                        ldb: chunk,
                        c: to,
                        ldc: chunk,
                        accumulate: accumulate || self.phi_blocks.toep,
                        nonzero_part: NonzeroPart::Full,
                    };
                    product(self.level, p);
                }
                let copied = if in_place { 0 } else { m * chunk };
                for (i, out) in out[..copied].chunks_exact(chunk).enumerate() {
                    let r = i % count;
                    let length = self.lengths.of(sequences.start + r);
                    let y = &mut y[r * d.channels + channel];
                    scatter(y, out, length, c0 + i / count, self.reversed, self.accumulate);
                }
            }
            s.copy_within(m * state..(m + count) * state, 0);
        }
        if !self.accumulate {
            for (i, y) in y.iter_mut().enumerate() {
                y[self.lengths.of(sequences.start + i / d.channels)..].fill(zero);
            }
        }
    }
}
