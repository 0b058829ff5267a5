//! How work is cut into parts, and where each part finds its sequences and its scratch.
//!
//! A task is one head for some of the sequences; it goes through them in groups, and through the chunks of a group in blocks
//! ([`TaskSplit`]), so that everything a block touches stays in the second-level cache. Sizes alone decide, never the number of threads.

use crate::Cpu;
use rayon::prelude::*;
use s4_backend::Scalar;
use std::{ops::Range, sync::Mutex};

/// Rows of X, one for each (sequence, chunk), that a block has at most.
const MAX_ROWS_PER_BLOCK: usize = 512;
/// Sequences that go through the chunks together, at most.
const MAX_SEQUENCES_PER_GROUP: usize = 32;
/// Tasks that a call should have at least, where its sequences allow it.
const MIN_TASKS: usize = 16;

/// How the work of one call is cut into tasks, and a task into blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskSplit {
    pub(crate) batch: usize,
    pub(crate) len: usize,
    /// T
    pub(crate) chunk: usize,
    /// ⌈L/T⌉
    pub(crate) chunks: usize,
    /// Sequences that go through the chunks together, and whose chunks make a block.
    pub(crate) sequences_per_group: usize,
    /// Consecutive chunks of each sequence of a group that make a block.
    pub(crate) chunks_per_block: usize,
    pub(crate) sequences_per_task: usize,
}

impl TaskSplit {
    pub(crate) fn new(batch: usize, len: usize, heads: usize, chunk: usize) -> Self {
        let sequences_per_task = batch.div_ceil(MIN_TASKS.div_ceil(heads).min(batch.max(1)));
        let sequences_per_group = sequences_per_task.min(MAX_SEQUENCES_PER_GROUP);
        let chunks = len.div_ceil(chunk);
        TaskSplit {
            batch,
            len,
            chunk,
            chunks,
            sequences_per_group,
            chunks_per_block: (MAX_ROWS_PER_BLOCK / sequences_per_group).clamp(1, chunks.max(1)),
            sequences_per_task,
        }
    }

    /// The sequences of each task of a head.
    pub(crate) fn task_sequences(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (batch, sequences_per_task) = (self.batch, self.sequences_per_task);
        (0..batch).step_by(sequences_per_task).map(move |b| b..(b + sequences_per_task).min(batch))
    }

    pub(crate) fn tasks_per_head(&self) -> usize {
        self.batch.div_ceil(self.sequences_per_task)
    }
}

/// Runs every job, with scratch of `size` scalars and `size64` doubles from the pools handed over.
pub(crate) fn for_each<T: Scalar, J: Send>(
    be: &Cpu<T>,
    jobs: Vec<J>,
    (scratch, size): (&mut [T], usize),
    (scratch64, size64): (&mut [f64], usize),
    f: impl Fn(J, &mut [T], &mut [f64]) + Sync,
) {
    if be.threads() == 1 {
        for job in jobs {
            f(job, &mut scratch[..size], &mut scratch64[..size64]);
        }
        return;
    }
    // Thread i of the pool uses slot i; jobs do not call rayon, so a lock never waits.
    let (mut scratch, mut scratch64) = (scratch, scratch64);
    let slots: Vec<_> = (0..be.threads())
        .map(|_| {
            let (thread_scratch, rest) = std::mem::take(&mut scratch).split_at_mut(size);
            let (thread_scratch64, rest64) = std::mem::take(&mut scratch64).split_at_mut(size64);
            (scratch, scratch64) = (rest, rest64);
            Mutex::new((thread_scratch, thread_scratch64))
        })
        .collect();
    be.install(|| {
        jobs.into_par_iter().for_each(|job| {
            let slot = rayon::current_thread_index().unwrap_or(0) % slots.len();
            let mut guard = slots[slot].lock().unwrap_or_else(|e| e.into_inner());
            let (scratch, scratch64) = &mut *guard;
            f(job, &mut scratch[..size], &mut scratch64[..size64])
        })
    });
}

/// `x` (T) ← the inputs of one chunk of a sequence `u` of `length` time steps, or of the sequence in reversed time;
/// zero beyond its length.
#[inline(always)]
pub(crate) fn gather<T: Scalar>(x: &mut [T], u: &[T], length: usize, chunk: usize, reversed: bool) {
    let size = x.len();
    let from = chunk * size;
    let have = length.saturating_sub(from).min(size);
    if reversed {
        let end = length - from.min(length);
        for (x, u) in x[..have].iter_mut().zip(u[..end].iter().rev()) {
            *x = *u;
        }
    } else if have > 0 {
        x[..have].copy_from_slice(&u[from..][..have]);
    }
    x[have..].fill(T::zero());
}

/// The transpose of [`gather`]: writes `x` (T) to its place in `y`, or adds it (`accumulate`).
#[inline(always)]
pub(crate) fn scatter<T: Scalar>(
    y: &mut [T],
    x: &[T],
    length: usize,
    chunk: usize,
    reversed: bool,
    accumulate: bool,
) {
    let size = x.len();
    let from = chunk * size;
    let have = length.saturating_sub(from).min(size);
    if reversed {
        let end = length - from.min(length);
        for (y, x) in y[end - have..end].iter_mut().rev().zip(x) {
            *y = if accumulate { *y + *x } else { *x };
        }
    } else if accumulate {
        if have > 0 {
            for (y, x) in y[from..][..have].iter_mut().zip(x) {
                *y += *x;
            }
        }
    } else if have > 0 {
        y[from..][..have].copy_from_slice(&x[..have]);
    }
}

/// The lengths of the sequences of a batch: all `len`, or one each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths<'a> {
    pub(crate) len: usize,
    pub(crate) sequence_lengths: Option<&'a [i32]>,
}

impl Lengths<'_> {
    pub(crate) fn of(&self, sequence: usize) -> usize {
        self.sequence_lengths.map_or(self.len, |lengths| lengths[sequence] as usize)
    }
}
