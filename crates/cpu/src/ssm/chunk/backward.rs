//! Chunks backward, from the last to the first: [ dx | ds ] = [ dy | ds′ ] Φ, dΦ += [ dy | ds′ ]ᵀ [ x | s ].

use super::{
    forward::PhiBlocks,
    scan::{scan, scan_diagonal, scan_scratch},
    states::{self, EndChunkInput, RecurrenceGradients},
    tasks::{Lengths, TaskSplit, gather, scatter},
};
use crate::{
    Level,
    linalg::register_tiles::{NonzeroPart, Product, TransposedProduct, product, transposed_product},
    ssm::{chains::Dims, discretize::Discrete},
};
use s4_backend::Scalar;
use std::ops::Range;

/// One head and some of its sequences.
pub(crate) struct BackwardJob<'a, T> {
    pub(crate) head: usize,
    pub(crate) sequences: Range<usize>,
    /// Gradients of the sequences' inputs, len elements for each sequence; no slices at all where they are not wanted.
    pub(crate) du: Vec<&'a mut [T]>,
    /// Gradients of the sequences' initial states, N elements for each sequence, added to; no slices at all where they are
    /// not wanted.
    pub(crate) dstate0: Vec<&'a mut [T]>,
    /// (sequences, chunks, N): the states that the forward pass saved.
    pub(crate) saved: &'a [T],
    /// dΦ of these sequences, accumulated: [dToep | dW] (T, inputs) for each channel, dVᵀ (T, N), dQ (N, N).
    pub(crate) dphi: &'a mut [T],
    /// [`RecurrenceGradients`], accumulated.
    pub(crate) recurrence_grads: &'a mut [f64],
}

/// Sequences of a job that go through the chunks together.
struct SequenceGroup<'b, 'a, T> {
    head: usize,
    sequences: Range<usize>,
    du: &'b mut [&'a mut [T]],
    dstate0: &'b mut [&'a mut [T]],
    saved: &'b [T],
    dphi: &'b mut [T],
    recurrence_grads: &'b mut RecurrenceGradients<'a>,
}

/// Chunks c0 … c0 + chunks − 1, which may be the last of the sequence.
#[derive(Clone, Copy)]
struct ChunkRange {
    c0: usize,
    chunks: usize,
    is_last_range: bool,
}

/// What all jobs of one pass share.
pub(crate) struct BackwardPass<'a, T> {
    pub(crate) level: Level,
    pub(crate) dims: Dims,
    pub(crate) task_split: TaskSplit,
    pub(crate) phi_blocks: PhiBlocks,
    pub(crate) reversed: bool,
    /// Whether to add to du; an end state's gradient needs it.
    pub(crate) accumulate: bool,
    /// Whether nothing was added to dΦ so far: what stands there is garbage.
    pub(crate) overwrite_dphi: bool,
    /// (batch, channels·H, len)
    pub(crate) dy: &'a [T],
    /// (batch, H, N)
    pub(crate) dstate_end: Option<&'a [T]>,
    /// (batch, H, len)
    pub(crate) u: &'a [T],
    pub(crate) lengths: Lengths<'a>,
}

impl<T: Scalar> BackwardPass<'_, T> {
    /// Scalars of scratch for one job.
    pub(crate) fn scratch(&self) -> usize {
        let (d, chunk_rows) =
            (&self.dims, self.task_split.sequences_per_group * self.task_split.chunks_per_block);
        chunk_rows * self.task_split.chunk * (2 + d.channels)
            + (chunk_rows + self.task_split.sequences_per_group) * d.state
            + scan_scratch(d.state)
    }

    /// Doubles of scratch for one job.
    pub(crate) fn scratch64(&self) -> usize {
        states::finish_backward_scratch(self.dims.state, self.task_split.chunk)
    }

    fn u(&self, head: usize, sequence: usize) -> &[T] {
        &self.u[(sequence * self.dims.heads + head) * self.task_split.len..][..self.task_split.len]
    }

    fn dy(&self, head: usize, sequence: usize, channel: usize) -> &[T] {
        let feature = (sequence * self.dims.channels + channel) * self.dims.heads + head;
        &self.dy[feature * self.task_split.len..][..self.task_split.len]
    }

    /// All sequences of a job. `phi`: Φ of this head and pass.
    pub(crate) fn run(
        &self,
        job: BackwardJob<'_, T>,
        phi: &[T],
        a: &Discrete,
        scratch: &mut [T],
        scratch64: &mut [f64],
    ) {
        let (d, task_split) = (&self.dims, &self.task_split);
        let BackwardJob { head, sequences, mut du, mut dstate0, saved, dphi, recurrence_grads } = job;
        if self.overwrite_dphi {
            dphi.fill(T::zero());
        }
        let mut recurrence_grads = RecurrenceGradients::new(recurrence_grads, d.state, d.rank);
        for first in sequences.clone().step_by(task_split.sequences_per_group) {
            let group_sequences = first..(first + task_split.sequences_per_group).min(sequences.end);
            let at = first - sequences.start;
            let group_du = if du.is_empty() { &mut [] } else { &mut du[at..][..group_sequences.len()] };
            let group_dstate0 =
                if dstate0.is_empty() { &mut [] } else { &mut dstate0[at..][..group_sequences.len()] };
            let saved_per_sequence = task_split.chunks * d.state;
            let group_saved = &saved[at * saved_per_sequence..][..group_sequences.len() * saved_per_sequence];
            let group = SequenceGroup {
                head,
                sequences: group_sequences,
                du: group_du,
                dstate0: group_dstate0,
                saved: group_saved,
                dphi,
                recurrence_grads: &mut recurrence_grads,
            };
            self.run_group(group, phi, a, scratch, scratch64);
        }
    }

    fn run_group(
        &self,
        mut group: SequenceGroup<'_, '_, T>,
        phi: &[T],
        a: &Discrete,
        scratch: &mut [T],
        scratch64: &mut [f64],
    ) {
        let (head, sequences, saved) = (group.head, group.sequences.clone(), group.saved);
        let (d, task_split, state, chunk) =
            (&self.dims, &self.task_split, self.dims.state, self.task_split.chunk);
        let count = sequences.len();
        let x_len = task_split.sequences_per_group * task_split.chunks_per_block * chunk;
        let (x, rest) = scratch.split_at_mut(x_len);
        let (dx, rest) = rest.split_at_mut(x_len);
        let (dy, rest) = rest.split_at_mut(x_len * d.channels);
        let (ds, scan_scratch) =
            rest.split_at_mut(task_split.sequences_per_group * (task_split.chunks_per_block + 1) * state);
        let (dy_row_len, phi_row_len) = (d.channels * chunk, d.inputs());
        let zero = T::zero();
        let (from_x, from_state) = phi.split_at(d.from_state());
        let (toep, v) = from_x.split_at(dy_row_len * chunk);
        let (w, q) = from_state.split_at(dy_row_len * state);
        let blocks = task_split.chunks.div_ceil(task_split.chunks_per_block);
        // ds holds the gradient of the state entering chunk c0 + i in its i-th part.
        ds[..count * state].fill(zero);
        let mut first = true;
        for c0 in (0..blocks).rev().map(|i| i * task_split.chunks_per_block) {
            let chunks = task_split.chunks_per_block.min(task_split.chunks - c0);
            let m = chunks * count;
            // What the block after this one left in front is the gradient of the state after this one.
            ds.copy_within(0..count * state, m * state);
            // One sequence whose chunks lie whole in u, dy and du: nothing to copy, for a single channel.
            let chunks_end = (c0 + chunks) * chunk;
            let in_place = count == 1
                && d.channels == 1
                && !self.reversed
                && chunks_end <= self.lengths.of(sequences.start);
            let (x, dy) = if in_place {
                let time_steps = c0 * chunk..chunks_end;
                (
                    &self.u(head, sequences.start)[time_steps.clone()],
                    &self.dy(head, sequences.start, 0)[time_steps],
                )
            } else {
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
                for (i, dy) in dy[..m * dy_row_len].chunks_exact_mut(chunk).enumerate() {
                    let (i, channel) = (i / d.channels, i % d.channels);
                    let sequence = sequences.start + i % count;
                    let from = self.dy(head, sequence, channel);
                    gather(dy, from, self.lengths.of(sequence), c0 + i / count, self.reversed);
                }
                (&*x, &*dy)
            };
            // ds = dy W, all chunks at once; then ds += ds′ Q, from the last to the first.
            if self.phi_blocks.w {
                let p = Product {
                    size: [m, state, dy_row_len],
                    a: dy,
                    lda: dy_row_len,
                    b: w,
                    ldb: state,
                    c: &mut ds[..m * state],
                    ldc: state,
                    accumulate: false,
                    nonzero_part: NonzeroPart::Full,
                };
                product(self.level, p);
            } else {
                ds[..m * state].fill(zero);
            }
            self.add_dstate_end(
                &mut group,
                ds,
                ChunkRange { c0, chunks, is_last_range: first },
                a,
                scratch64,
            );
            first = false;
            let (du, dphi) = (&mut *group.du, &mut *group.dphi);
            if d.rank == 0 {
                for c in (0..chunks).rev() {
                    let (before, after) = ds.split_at_mut((c + 1) * count * state);
                    let before = &mut before[c * count * state..];
                    scan_diagonal(self.level, before, &after[..count * state], q, state);
                }
            } else {
                scan(self.level, ds, q, [chunks, count, state], true, scan_scratch);
            }
            let after = &ds[count * state..][..m * state];
            let s = &saved[c0 * count * state..][..m * state];
            if !du.is_empty() && (self.phi_blocks.toep || self.phi_blocks.v) {
                let (to, accumulate) = match in_place {
                    true => (&mut du[0][c0 * chunk..chunks_end], self.accumulate),
                    false => (&mut *dx, false),
                };
                for channel in 0..if self.phi_blocks.toep { d.channels } else { 0 } {
                    let p = Product {
                        size: [m, chunk, chunk],
                        a: &dy[channel * chunk..],
                        lda: dy_row_len,
                        b: &toep[channel * chunk * chunk..],
                        ldb: chunk,
                        c: to,
                        ldc: chunk,
                        accumulate: accumulate || channel > 0,
                        nonzero_part: NonzeroPart::Lower,
                    };
                    product(self.level, p);
                }
                if self.phi_blocks.v {
                    let p = Product {
                        size: [m, chunk, state],
                        a: after,
                        lda: state,
                        b: v,
                        ldb: chunk,
                        c: to,
                        ldc: chunk,
                        accumulate: accumulate || self.phi_blocks.toep,
                        nonzero_part: NonzeroPart::Full,
                    };
                    product(self.level, p);
                }
                let copied = if in_place { 0 } else { m * chunk };
                for (i, dx) in dx[..copied].chunks_exact(chunk).enumerate() {
                    let length = self.lengths.of(sequences.start + i % count);
                    scatter(du[i % count], dx, length, c0 + i / count, self.reversed, self.accumulate);
                }
            }
            // dToep += dyᵀ x, dW += dyᵀ s, dVᵀ += xᵀ ds′, dQ += ds′ᵀ s
            let (x, s, after) = ((x, chunk), (s, state), (after, state));
            let mut add = |size: [usize; 2], a: (&[T], usize), b: (&[T], usize), at, ldc, nonzero_part| {
                let size = [size[0], size[1], m];
                let c = &mut dphi[at..];
                transposed_product(
                    self.level,
                    TransposedProduct { size, a: a.0, lda: a.1, b: b.0, ldb: b.1, c, ldc, nonzero_part },
                );
            };
            for channel in 0..d.channels {
                let (dy, at) = ((&dy[channel * chunk..], dy_row_len), channel * chunk * phi_row_len);
                if self.phi_blocks.toep {
                    add([chunk, chunk], dy, x, at, phi_row_len, NonzeroPart::Lower);
                }
                if self.phi_blocks.w {
                    add([chunk, state], dy, s, at + chunk, phi_row_len, NonzeroPart::Full);
                }
            }
            if self.phi_blocks.v {
                add([chunk, state], x, after, d.to_state(), state, NonzeroPart::Full);
            }
            add([state, state], after, s, d.to_state() + chunk * state, state, NonzeroPart::Full);
        }
        if !self.accumulate {
            for (r, du) in group.du.iter_mut().enumerate() {
                du[self.lengths.of(sequences.start + r)..].fill(zero);
            }
        }
        for (dstate0, ds) in group.dstate0.iter_mut().zip(ds.chunks_exact(state)) {
            for (to, ds) in dstate0.iter_mut().zip(ds) {
                *to += *ds;
            }
        }
    }

    /// Adds the gradient of each sequence's end state where the sequence ends, led back through its last r < T time steps.
    fn add_dstate_end(
        &self,
        group: &mut SequenceGroup<'_, '_, T>,
        ds: &mut [T],
        range: ChunkRange,
        a: &Discrete,
        scratch64: &mut [f64],
    ) {
        let Some(dstate_end) = self.dstate_end else { return };
        let SequenceGroup { head, ref sequences, ref mut du, saved, ref mut recurrence_grads, .. } = *group;
        let ChunkRange { c0, chunks, is_last_range } = range;
        let (d, state, chunk) = (&self.dims, self.dims.state, self.task_split.chunk);
        for r in 0..sequences.len() {
            let sequence = sequences.start + r;
            let length = self.lengths.of(sequence);
            let end_chunk_index = length / chunk;
            if end_chunk_index < c0
                || end_chunk_index > c0 + chunks
                || (end_chunk_index == c0 + chunks && !is_last_range)
            {
                continue;
            }
            let dend = &dstate_end[(sequence * d.heads + head) * state..][..state];
            let ds = &mut ds[((end_chunk_index - c0) * sequences.len() + r) * state..][..state];
            if length % chunk == 0 {
                for (ds, dend) in ds.iter_mut().zip(dend) {
                    *ds += *dend;
                }
                continue;
            }
            let start = &saved[(end_chunk_index * sequences.len() + r) * state..][..state];
            let end_chunk =
                EndChunkInput { start, x: &self.u(head, sequence)[end_chunk_index * chunk..length] };
            let mut du = du.get_mut(r);
            self.level.run(
                #[inline(always)]
                || {
                    let add = |k: usize, g: T| {
                        if let Some(du) = du.as_mut() {
                            du[end_chunk_index * chunk + k] += g;
                        }
                    };
                    states::finish_backward(ds, add, recurrence_grads, dend, end_chunk, a, scratch64)
                },
            );
        }
    }
}
