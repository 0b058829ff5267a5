//! K̄ and its gradients, head by head.

use crate::{
    Cpu, Workspace,
    memory::cpu::expect_len,
    ssm::{
        discretize::{Discrete, HeadState},
        kernel_blocks::{Blocks, Scratch},
        params::{C64, Params64, accumulate, check_grads, head_grads, head_grads_len},
        rows::rows_by_head,
    },
};
use rayon::prelude::*;
use s4_backend::{Error, KernelOps, Result, Scalar, SsmGrads, SsmParams, SsmSpec};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Heads × samples × pairs from which a kernel is worth several threads.
const PARALLEL: usize = 1 << 15;

/// What one thread works in.
struct Worker<T> {
    at: HeadState,
    wide: Vec<f64>,
    real: Vec<T>,
}

/// One [`Worker`] a thread, out of the workspace's pools.
struct Workers<T>(Vec<Mutex<Worker<T>>>);

impl<T: Scalar> Workers<T> {
    fn take(
        threads: usize,
        spec: &SsmSpec,
        (wide, real): (usize, usize),
        backward: bool,
        ws: &mut Workspace<T>,
    ) -> Self {
        let worker = |_| {
            let discrete = Discrete::take(spec, &mut ws.f64);
            let ddiscrete = if backward { Discrete::take(spec, &mut ws.f64) } else { Discrete::default() };
            let at = HeadState { discrete, ddiscrete, ..HeadState::default() };
            Mutex::new(Worker { at, wide: ws.f64.take(wide), real: ws.real.take(real) })
        };
        Workers((0..threads).map(worker).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Worker<T>> {
        let i = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        self.0[i].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(self, ws: &mut Workspace<T>) {
        for worker in self.0 {
            let Worker { at, wide, real } = worker.into_inner().unwrap_or_else(PoisonError::into_inner);
            at.discrete.give(&mut ws.f64);
            at.ddiscrete.give(&mut ws.f64);
            ws.f64.give(wide);
            ws.real.give(real);
        }
    }
}

/// Checks of both directions.
pub(crate) fn check(op: &'static str, spec: &SsmSpec, len: usize, rate: f64, kernel: usize) -> Result<()> {
    spec.check(op)?;
    if len == 0 || len > 1 << 30 {
        return Err(Error::shape(op, "a kernel of 1 to 2^30 samples", len));
    }
    if !(rate.is_finite() && rate > 0.0) {
        return Err(Error::value(op, "a finite rate above 0", rate));
    }
    expect_len(op, spec.kernel_channels() * spec.heads * len, kernel)
}

impl<T: Scalar> KernelOps for Cpu<T> {
    fn kernel_forward(
        &self,
        kernel: &mut [T],
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "kernel_forward";
        check(OP, spec, len, rate, kernel.len())?;
        let wide = Params64::load(OP, params, spec, rate, ws)?;
        let blocks = Blocks::new(spec, len);
        let workers = Workers::take(self.threads(), spec, blocks.forward_scratch(), false, ws);
        let level = self.level();
        let mut rows = rows_by_head(kernel, len, spec.heads);
        let task = |(h, kernel): (usize, &mut [&mut [T]])| {
            let worker = &mut *workers.lock();
            let scratch = Scratch { wide: &mut worker.wide, real: &mut worker.real };
            blocks.forward(level, kernel, &mut worker.at, &wide.head(h), spec, scratch);
        };
        let per_head = spec.kernel_channels();
        if spec.heads * len * spec.pairs() < PARALLEL {
            rows.chunks_mut(per_head).enumerate().for_each(task);
        } else {
            self.install(|| rows.par_chunks_mut(per_head).enumerate().for_each(task));
        }
        workers.give(ws);
        wide.give(ws);
        Ok(())
    }

    fn kernel_backward(
        &self,
        mut grads: SsmGrads<'_, Self>,
        dkernel: &[T],
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "kernel_backward";
        check(OP, spec, len, rate, dkernel.len())?;
        check_grads(OP, &grads, spec)?;
        let wide = Params64::load(OP, params, spec, rate, ws)?;
        let blocks = Blocks::new(spec, len);
        let workers = Workers::take(self.threads(), spec, blocks.backward_scratch(), true, ws);
        let level = self.level();
        let stride = head_grads_len(spec);
        let mut flat = ws.c64.take_zeroed(spec.heads * stride);
        let task = |(h, flat): (usize, &mut [C64])| {
            let worker = &mut *workers.lock();
            let scratch = Scratch { wide: &mut worker.wide, real: &mut worker.real };
            let dkernel = (0..spec.kernel_channels()).map(|c| &dkernel[(c * spec.heads + h) * len..][..len]);
            let grad = &mut head_grads(flat, spec);
            blocks.backward(level, grad, dkernel, &mut worker.at, &wide.head(h), spec, scratch);
        };
        if spec.heads * len * spec.pairs() < PARALLEL {
            flat.chunks_mut(stride).enumerate().for_each(task);
        } else {
            self.install(|| flat.par_chunks_mut(stride).enumerate().for_each(task));
        }
        accumulate(&mut grads, &mut flat, params, spec, rate);
        ws.c64.give(flat);
        workers.give(ws);
        wide.give(ws);
        Ok(())
    }
}
