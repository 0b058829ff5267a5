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
    pub(crate) at: HeadState,
    pub(crate) wide: Vec<f64>,
    pub(crate) real: Vec<T>,
    pub(crate) complex: Vec<C64>,
}

/// Elements of scratch per thread, and whether it holds gradients.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    pub(crate) wide: usize,
    pub(crate) real: usize,
    pub(crate) complex: usize,
    pub(crate) backward: bool,
}

/// One [`Worker`] per thread.
pub(crate) struct Workers<T>(Vec<Mutex<Worker<T>>>);

impl<T: Scalar> Workers<T> {
    pub(crate) fn take(threads: usize, spec: &SsmSpec, need: Need, ws: &mut Workspace<T>) -> Self {
        let Need { wide, real, complex, backward } = need;
        let worker = |_| {
            let discrete = Discrete::take(spec, &mut ws.f64);
            let ddiscrete = if backward { Discrete::take(spec, &mut ws.f64) } else { Discrete::default() };
            let at = HeadState { discrete, ddiscrete, ..HeadState::default() };
            let (wide, real, complex) = (ws.f64.take(wide), ws.real.take(real), ws.c64.take(complex));
            Mutex::new(Worker { at, wide, real, complex })
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
            let Worker { at, wide, real, complex } =
                worker.into_inner().unwrap_or_else(PoisonError::into_inner);
            at.discrete.give(&mut ws.f64);
            at.ddiscrete.give(&mut ws.f64);
            ws.f64.give(wide);
            ws.real.give(real);
            ws.c64.give(complex);
        }
    }
}
