//! What each thread works in while heads go over the pool, out of the workspace's pools.

use crate::{
    Workspace,
    ssm::{
        discretize::{Discrete, HeadState},
        params::C64,
    },
};
use s4_backend::{Scalar, SsmSpec};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What one thread works in; contents are arbitrary.
pub(crate) struct Worker<T> {
    pub(crate) head_state: HeadState,
    pub(crate) f64_scratch: Vec<f64>,
    pub(crate) real: Vec<T>,
    pub(crate) complex: Vec<C64>,
}

/// Elements of scratch per thread, and whether it holds gradients.
#[derive(Clone, Copy)]
pub(crate) struct ScratchSizes {
    pub(crate) f64_scratch: usize,
    pub(crate) real: usize,
    pub(crate) complex: usize,
    pub(crate) backward: bool,
}

/// One [`Worker`] per thread.
pub(crate) struct Workers<T>(Vec<Mutex<Worker<T>>>);

impl<T: Scalar> Workers<T> {
    pub(crate) fn take(threads: usize, spec: &SsmSpec, sizes: ScratchSizes, ws: &mut Workspace<T>) -> Self {
        let ScratchSizes { f64_scratch, real, complex, backward } = sizes;
        let worker = |_| {
            let discrete = Discrete::take(spec, &mut ws.f64);
            let ddiscrete = if backward { Discrete::take(spec, &mut ws.f64) } else { Discrete::default() };
            let head_state = HeadState { discrete, ddiscrete, ..HeadState::default() };
            let (f64_scratch, real, complex) =
                (ws.f64.take(f64_scratch), ws.real.take(real), ws.c64.take(complex));
            Mutex::new(Worker { head_state, f64_scratch, real, complex })
        };
        Workers((0..threads).map(worker).collect())
    }

    /// This thread's worker.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Worker<T>> {
        let i = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        self.0[i].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the storage.
    pub(crate) fn give(self, ws: &mut Workspace<T>) {
        for worker in self.0 {
            let Worker { head_state, f64_scratch, real, complex } =
                worker.into_inner().unwrap_or_else(PoisonError::into_inner);
            head_state.discrete.give(&mut ws.f64);
            head_state.ddiscrete.give(&mut ws.f64);
            ws.f64.give(f64_scratch);
            ws.real.give(real);
            ws.c64.give(complex);
        }
    }
}
