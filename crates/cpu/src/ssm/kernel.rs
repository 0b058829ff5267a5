//! K̄ by blocks of powers and its gradients, head by head.

use crate::{
    Cpu, Workspace,
    ssm::{
        kernel_blocks::{KernelCut, Scratch},
        params::{C64, Params64, accumulate, head_grads, head_grads_len},
        rows::rows_by_head,
        workers::{ScratchSizes, Workers},
    },
};
use rayon::prelude::*;
use s4_backend::{KernelBackward, KernelForward, Result, Scalar};

/// Heads × time steps × pairs from which a kernel is worth several threads.
const PARALLEL: usize = 1 << 15;

impl<T: Scalar> Cpu<T> {
    /// See [`KernelForward`].
    ///
    /// # Errors
    /// The errors of [`KernelForward::check`].
    pub fn kernel_by_blocks(&self, args: KernelForward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let KernelForward { kernel, params, spec, len, rate } = args;
        let loaded = Params64::load(&params, &spec, rate, ws);
        let blocks = KernelCut::new(&spec, len);
        let workers = {
            let (f64_scratch, real) = blocks.forward_scratch();
            let scratch_sizes = ScratchSizes { f64_scratch, real, complex: 0, backward: false };
            Workers::take(self.threads(), &spec, scratch_sizes, ws)
        };
        let level = self.level();
        let mut rows = rows_by_head(kernel, len, spec.heads);
        let task = |(h, kernel): (usize, &mut [&mut [T]])| {
            let worker = &mut *workers.lock();
            let scratch = Scratch { f64_scratch: &mut worker.f64_scratch, real: &mut worker.real };
            blocks.forward(level, kernel, &mut worker.head_state, &loaded.head(h), scratch);
        };
        let per_head = spec.kernel_channels();
        if spec.heads * len * spec.pairs() < PARALLEL {
            rows.chunks_mut(per_head).enumerate().for_each(task);
        } else {
            self.install(|| rows.par_chunks_mut(per_head).enumerate().for_each(task));
        }
        workers.give(ws);
        loaded.give(ws);
        Ok(())
    }

    /// The transpose of `kernel_forward`; see [`KernelBackward`].
    ///
    /// # Errors
    /// The errors of [`KernelBackward::check`].
    pub fn kernel_backward(&self, args: KernelBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let KernelBackward { mut grads, dkernel, params, spec, len, rate } = args;
        let loaded = Params64::load(&params, &spec, rate, ws);
        let blocks = KernelCut::new(&spec, len);
        let workers = {
            let (f64_scratch, real) = blocks.backward_scratch();
            let scratch_sizes = ScratchSizes { f64_scratch, real, complex: 0, backward: true };
            Workers::take(self.threads(), &spec, scratch_sizes, ws)
        };
        let level = self.level();
        let stride = head_grads_len(&spec);
        let mut flat = ws.c64.take_zeroed(spec.heads * stride);
        let task = |(h, flat): (usize, &mut [C64])| {
            let worker = &mut *workers.lock();
            let scratch = Scratch { f64_scratch: &mut worker.f64_scratch, real: &mut worker.real };
            let dkernel = (0..spec.kernel_channels()).map(|c| &dkernel[(c * spec.heads + h) * len..][..len]);
            let grad = &mut head_grads(flat, &spec);
            blocks.backward(level, grad, dkernel, &mut worker.head_state, &loaded.head(h), scratch);
        };
        if spec.heads * len * spec.pairs() < PARALLEL {
            flat.chunks_mut(stride).enumerate().for_each(task);
        } else {
            self.install(|| flat.par_chunks_mut(stride).enumerate().for_each(task));
        }
        accumulate(&mut grads, &mut flat, &params, &spec, rate);
        ws.c64.give(flat);
        workers.give(ws);
        loaded.give(ws);
        Ok(())
    }
}
