//! y = K̄∗u + D·u by FFT (paper eq. 4), any length, causal or two-sided.
//!
//! Two sequences of one head go through one transform as real and imaginary part: K̄ is real, so its spectrum
//! multiplies both and nothing is unpacked. A sequence that goes alone takes the right-angle form: twisted by
//! w^t = e^{iπt/2m}, a circular product of m ≥ L points puts what wraps around into the imaginary part
//! (w^{±m} = ±i), so m points do for one sequence what 2L points do for two.

mod backward;
mod forward;
mod plan;

use crate::{
    Cpu, Workspace,
    memory::{
        cpu::MIN_ELEMENTS_PER_TASK,
        tasks::{ThreadScratch, all_threads_scratch_len},
    },
    ssm::rows::rows_by_head,
};
use backward::dot;
use plan::{ConvInputs, ConvPlan, SequenceArray};
use rayon::prelude::*;
use s4_backend::{ConvBackward, ConvForward, ConvShape, Result, Scalar};

impl<T: Scalar> Cpu<T> {
    /// See [`ConvForward`].
    ///
    /// # Errors
    /// The errors of [`ConvForward::check`].
    pub fn conv_by_fft(&self, args: ConvForward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let ConvForward { y, u, kernel, d, shape } = args;
        let plan = ConvPlan::new(self, &shape);
        let ConvShape { batch, heads, channels, len, .. } = shape;
        let scratch_len = plan.points() * (channels + 2) + plan.fft_scratch();
        let mut scratch = ws.complex.take(all_threads_scratch_len(self, scratch_len));
        let thread_scratch = ThreadScratch::new(&mut scratch, scratch_len);
        let inputs = ConvInputs { u: SequenceArray { data: u, features: heads, len }, kernel, d };
        let mut y_by_head = rows_by_head(y, len, heads);
        let task = |(h, y): (usize, &mut [&mut [T]])| {
            plan.forward_head(h, y, inputs, &mut thread_scratch.lock());
        };
        let per_head = batch * channels;
        if batch * heads * len < 2 * MIN_ELEMENTS_PER_TASK {
            y_by_head.chunks_mut(per_head).enumerate().for_each(task);
        } else {
            self.install(|| y_by_head.par_chunks_mut(per_head).enumerate().for_each(task));
        }
        drop(thread_scratch);
        ws.complex.give(scratch);
        Ok(())
    }

    /// The transpose of `conv_forward`; see [`ConvBackward`].
    ///
    /// # Errors
    /// The errors of [`ConvBackward::check`].
    pub fn conv_backward(&self, args: ConvBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let ConvBackward { du, dkernel, dd, dy, u, kernel, d, shape } = args;
        let plan = ConvPlan::new(self, &shape);
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = shape;
        let scratch_len = plan.points() * (2 * channels + 3) + plan.fft_scratch();
        let mut scratch = ws.complex.take(all_threads_scratch_len(self, scratch_len));
        let thread_scratch = ThreadScratch::new(&mut scratch, scratch_len);
        let (u, dy) = (
            SequenceArray { data: u, features: heads, len },
            SequenceArray { data: dy, features: channels * heads, len },
        );
        let inputs = ConvInputs { u, kernel, d };
        let mut du_by_head = du.map_or_else(Vec::new, |du| rows_by_head(du, len, heads));
        let mut dkernel_by_head = rows_by_head(dkernel, kernel_len, heads);
        // A head without du still needs an (empty) part of it: zip against as many chunks as heads.
        let per_head = du_by_head.len() / heads;
        self.install(|| {
            let dk = dkernel_by_head.par_chunks_mut(shape.kernel_channels()).enumerate();
            let task = |h: usize, du: &mut [&mut [T]], dk: &mut [&mut [T]]| {
                plan.backward_head(h, du, dk, dy, inputs, &mut thread_scratch.lock());
            };
            if per_head == 0 {
                dk.for_each(|(h, dk)| task(h, &mut [], dk));
            } else {
                dk.zip(du_by_head.par_chunks_mut(per_head)).for_each(|((h, dk), du)| task(h, du, dk));
            }
            if let Some(dd) = dd {
                let level = self.level();
                dd.par_iter_mut().enumerate().for_each(|(feature, dd)| {
                    let sequences =
                        (0..batch).map(|b| (dy.sequence(b, feature), u.sequence(b, feature % heads)));
                    let sum: f64 = level.run(
                        #[inline(always)]
                        || sequences.map(|(dy, u)| dot(dy, u)).sum(),
                    );
                    *dd += T::from_f64(sum);
                });
            }
        });
        drop(thread_scratch);
        ws.complex.give(scratch);
        Ok(())
    }
}
