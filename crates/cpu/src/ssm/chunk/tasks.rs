//! How work is cut into parts, and where each part finds its sequences and its scratch.
//!
//! A task is one head for a group of the sequences; it goes through them in blocks of some sequences by some chunks
//! ([`TaskSplit`]), so that everything a block touches stays in the second-level cache. Sizes alone decide, never the number of threads.

use crate::Cpu;
use rayon::prelude::*;
use s4_backend::Scalar;
use std::{ops::Range, sync::Mutex};

/// Rows of X, one for each (sequence, chunk), that a block has at most.
const BLOCK: usize = 512;
/// Sequences that go through the scan together.
const ROWS: usize = 32;
/// Tasks that a call should have at least, where its sequences allow it.
const TASKS: usize = 16;

/// How the work of one call is cut into tasks, and a task into blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskSplit {
    pub(crate) batch: usize,
    pub(crate) len: usize,
    /// T
    pub(crate) chunk: usize,
    /// ⌈L/T⌉
    pub(crate) chunks: usize,
    /// Sequences of a block.
    pub(crate) sequences: usize,
    /// Chunks of a block.
    pub(crate) block: usize,
    /// Sequences of a task.
    pub(crate) group: usize,
}

impl TaskSplit {
    pub(crate) fn new(batch: usize, len: usize, heads: usize, chunk: usize) -> Self {
        let group = batch.div_ceil(TASKS.div_ceil(heads).min(batch.max(1)));
        let sequences = group.min(ROWS);
        let chunks = len.div_ceil(chunk);
        TaskSplit {
            batch,
            len,
            chunk,
            chunks,
            sequences,
            block: (BLOCK / sequences).clamp(1, chunks.max(1)),
            group,
        }
    }

    /// Sequence groups of a head.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (batch, group) = (self.batch, self.group);
        (0..batch).step_by(group).map(move |b| b..(b + group).min(batch))
    }

    pub(crate) fn groups_per_head(&self) -> usize {
        self.batch.div_ceil(self.group)
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
            let (own, rest) = std::mem::take(&mut scratch).split_at_mut(size);
            let (own64, rest64) = std::mem::take(&mut scratch64).split_at_mut(size64);
            (scratch, scratch64) = (rest, rest64);
            Mutex::new((own, own64))
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
    pub(crate) own: Option<&'a [i32]>,
}

impl Lengths<'_> {
    pub(crate) fn of(&self, sequence: usize) -> usize {
        self.own.map_or(self.len, |own| own[sequence] as usize)
    }
}
