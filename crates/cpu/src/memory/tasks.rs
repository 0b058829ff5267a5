//! Running independent parts on the pool, and scratch memory for the thread that runs one.

use crate::memory::cpu::{Cpu, MIN_ELEMENTS_PER_TASK};
use rayon::prelude::*;
use s4_backend::Scalar;
use std::sync::{Mutex, MutexGuard, PoisonError};

impl<T: Scalar> Cpu<T> {
    /// Runs f(0) … f(count−1), each once, on the pool; in order on this thread where the pool has one
    /// thread or `work` (elements touched) is too little to hand over.
    pub(crate) fn tasks(&self, count: usize, work: usize, f: impl Fn(usize) + Send + Sync) {
        if self.threads() == 1 || count <= 1 || work < 2 * MIN_ELEMENTS_PER_TASK {
            (0..count).for_each(f);
        } else {
            self.inner.pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(f));
        }
    }
}

/// Elements of scratch for all threads of `be`.
pub(crate) fn all_threads_scratch_len<T: Scalar>(be: &Cpu<T>, scratch_len: usize) -> usize {
    be.threads() * scratch_len.max(1)
}

/// One scratch slice per thread, so that it stays in that core's cache from task to task.
pub(crate) struct ThreadScratch<'a, T>(Vec<Mutex<&'a mut [T]>>);

impl<'a, T> ThreadScratch<'a, T> {
    /// Cuts `buf` in slices of `scratch_len` elements: [`all_threads_scratch_len`] gives its length.
    pub(crate) fn new(buf: &'a mut [T], scratch_len: usize) -> Self {
        ThreadScratch(buf.chunks_exact_mut(scratch_len.max(1)).map(Mutex::new).collect())
    }

    /// This thread's slice. Its contents are garbage.
    pub(crate) fn lock(&self) -> MutexGuard<'_, &'a mut [T]> {
        let i = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        self.0[i].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts that a reduction over `tiles` is cut in; sizes decide, never threads.
pub(crate) fn parts(tiles: usize) -> usize {
    tiles.clamp(1, 16)
}
