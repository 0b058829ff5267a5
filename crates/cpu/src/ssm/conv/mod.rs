//! y = K̄∗u + D·u by FFT (paper eq. 4), any length, causal or two-sided.
//!
//! Two rows of one head go through one transform as real and imaginary part: K̄ is real, so its spectrum
//! multiplies both and nothing is unpacked. A row that goes alone takes the right-angle form: twisted by
//! w^t = e^{iπt/2m}, a circular product of m ≥ L points puts what wraps around into the imaginary part
//! (w^{±m} = ±i), so m points do for one row what 2L points do for two.

mod backward;
mod forward;
mod plan;

use crate::{
    Cpu, Workspace,
    memory::{
        cpu::{GRAIN, expect_len},
        tasks::{Slots, slots_len},
    },
    ssm::rows::rows_by_head,
};
use backward::dot;
use plan::{ConvPlan, Rows};
use rayon::prelude::*;
use s4_backend::{ConvOps, ConvShape, Result, Scalar};

impl<T: Scalar> ConvOps for Cpu<T> {
    fn conv_forward(
        &self,
        y: &mut [T],
        u: &[T],
        kernel: &[T],
        d: Option<&[T]>,
        shape: &ConvShape,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "conv_forward";
        let plan = ConvPlan::new(self, OP, shape)?;
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = *shape;
        expect_len(OP, batch * channels * heads * len, y.len())?;
        expect_len(OP, batch * heads * len, u.len())?;
        expect_len(OP, plan.kernel_channels() * heads * kernel_len, kernel.len())?;
        expect_len(OP, d.map_or(0, |_| channels * heads), d.map_or(0, <[T]>::len))?;
        let each = plan.points() * (channels + 2) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let u = Rows { data: u, features: heads, len };
        let mut rows = rows_by_head(y, len, heads);
        let task = |(h, y): (usize, &mut [&mut [T]])| {
            plan.forward_head(h, y, u, kernel, d, &mut slots.lock());
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

    fn conv_backward(
        &self,
        du: Option<&mut [T]>,
        dkernel: &mut [T],
        dd: Option<&mut [T]>,
        dy: &[T],
        u: &[T],
        kernel: &[T],
        d: Option<&[T]>,
        shape: &ConvShape,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "conv_backward";
        let plan = ConvPlan::new(self, OP, shape)?;
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = *shape;
        expect_len(OP, batch * channels * heads * len, dy.len())?;
        expect_len(OP, batch * heads * len, u.len())?;
        expect_len(OP, plan.kernel_channels() * heads * kernel_len, kernel.len())?;
        expect_len(OP, kernel.len(), dkernel.len())?;
        expect_len(OP, d.map_or(0, |_| channels * heads), d.map_or(0, <[T]>::len))?;
        expect_len(OP, d.map_or(0, <[T]>::len), dd.as_ref().map_or(0, |dd| dd.len()))?;
        if let Some(du) = &du {
            expect_len(OP, u.len(), du.len())?;
        }
        let each = plan.points() * (2 * channels + 3) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let (u, dy) =
            (Rows { data: u, features: heads, len }, Rows { data: dy, features: channels * heads, len });
        let mut du_rows = du.map_or_else(Vec::new, |du| rows_by_head(du, len, heads));
        let mut dk_rows = rows_by_head(dkernel, kernel_len, heads);
        // A head without du still needs an (empty) part of it: zip against as many chunks as heads.
        let per_head = du_rows.len() / heads;
        self.install(|| {
            let dk = dk_rows.par_chunks_mut(plan.kernel_channels()).enumerate();
            let task = |h: usize, du: &mut [&mut [T]], dk: &mut [&mut [T]]| {
                plan.backward_head(h, du, dk, dy, u, kernel, d, &mut slots.lock());
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
