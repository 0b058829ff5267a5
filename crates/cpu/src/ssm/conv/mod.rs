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
        cpu::GRAIN,
        tasks::{Slots, slots_len},
    },
    ssm::rows::rows_by_head,
};
use backward::dot;
use plan::{ConvPlan, Inputs, Rows};
use rayon::prelude::*;
use s4_backend::{ConvBackward, ConvForward, ConvOps, ConvShape, Result, Scalar};

impl<T: Scalar> ConvOps for Cpu<T> {
    fn conv_forward(&self, args: ConvForward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let ConvForward { y, u, kernel, d, shape } = args;
        let plan = ConvPlan::new(self, &shape);
        let ConvShape { batch, heads, channels, len, .. } = shape;
        let each = plan.points() * (channels + 2) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let inputs = Inputs { u: Rows { data: u, features: heads, len }, kernel, d };
        let mut rows = rows_by_head(y, len, heads);
        let task = |(h, y): (usize, &mut [&mut [T]])| {
            plan.forward_head(h, y, inputs, &mut slots.lock());
        };
        let per_head = batch * channels;
        if batch * heads * len < 2 * GRAIN {
            rows.chunks_mut(per_head).enumerate().for_each(task);
        } else {
            self.install(|| rows.par_chunks_mut(per_head).enumerate().for_each(task));
        }
        drop(slots);
        ws.complex.give(scratch);
        Ok(())
    }
}

impl<T: Scalar> Cpu<T> {
    /// The transpose of `conv_forward`; see [`ConvBackward`].
    ///
    /// # Errors
    /// Those of [`ConvBackward::check`].
    pub fn conv_backward(&self, args: ConvBackward<'_, Self>, ws: &mut Workspace<T>) -> Result<()> {
        args.check(self)?;
        let ConvBackward { du, dkernel, dd, dy, u, kernel, d, shape } = args;
        let plan = ConvPlan::new(self, &shape);
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = shape;
        let each = plan.points() * (2 * channels + 3) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let (u, dy) =
            (Rows { data: u, features: heads, len }, Rows { data: dy, features: channels * heads, len });
        let inputs = Inputs { u, kernel, d };
        let mut du_rows = du.map_or_else(Vec::new, |du| rows_by_head(du, len, heads));
        let mut dk_rows = rows_by_head(dkernel, kernel_len, heads);
        // A head without du still needs an (empty) part of it: zip against as many chunks as heads.
        let per_head = du_rows.len() / heads;
        self.install(|| {
            let dk = dk_rows.par_chunks_mut(shape.kernel_channels()).enumerate();
            let task = |h: usize, du: &mut [&mut [T]], dk: &mut [&mut [T]]| {
                plan.backward_head(h, du, dk, dy, inputs, &mut slots.lock());
            };
            if per_head == 0 {
                dk.for_each(|(h, dk)| task(h, &mut [], dk));
            } else {
                dk.zip(du_rows.par_chunks_mut(per_head)).for_each(|((h, dk), du)| task(h, du, dk));
            }
            if let Some(dd) = dd {
                let level = self.level();
                dd.par_iter_mut().enumerate().for_each(|(feature, dd)| {
                    let rows = (0..batch).map(|b| (dy.get(b, feature), u.get(b, feature % heads)));
                    let sum: f64 = level.run(
                        #[inline(always)]
                        || rows.map(|(dy, u)| dot(dy, u)).sum(),
                    );
                    *dd += T::from_f64(sum);
                });
            }
        });
        drop(slots);
        ws.complex.give(scratch);
        Ok(())
    }
}
