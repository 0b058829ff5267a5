//! Updates of flat parameter buffers (`kernels/dense/optim.cu`), guarded on the device.

use crate::{
    device::Cuda,
    driver::args,
    memory::{Mut, Ref, Workspace},
};
use s4_backend::{AdamWUpdate, EmaUpdate, OptimOps, Result, check_scale, check_sum_squares};

impl OptimOps for Cuda {
    fn sum_squares(&self, acc: Mut<'_>, x: Ref<'_>, _ws: &mut Workspace) -> Result<()> {
        check_sum_squares(self, &acc)?;
        let parts = x.len().div_ceil(8192);
        let cells = self.scratch64("sum_squares", parts)?;
        self.launch(("optim", "squares"), (parts, 1, 1), (256, 1), 0, args![&cells, x, x.len()])?;
        self.launch(("optim", "squares_total"), (1, 1, 1), (1024, 1), 0, args![&acc, &cells, parts])
    }

    fn adamw(&self, args: AdamWUpdate<'_, Self>) -> Result<()> {
        args.check(self)?;
        let AdamWUpdate { value, m, v, grad, guard, hyper, clip } = args;
        let t = hyper.step.min(i32::MAX as u64) as i32;
        let rate = (hyper.lr / (1.0 - hyper.beta1.powi(t))) as f32;
        let correct = (1.0 / (1.0 - hyper.beta2.powi(t))) as f32;
        let keep = (1.0 - hyper.lr * hyper.weight_decay) as f32;
        let (b1, b2) = (hyper.beta1 as f32, hyper.beta2 as f32);
        let (c1, c2) = ((1.0 - hyper.beta1) as f32, (1.0 - hyper.beta2) as f32);
        let n = value.len();
        self.launch_elementwise(
            ("optim", "adamw"),
            n,
            args![
                &value,
                &m,
                &v,
                grad,
                guard,
                n,
                b1,
                c1,
                b2,
                c2,
                rate,
                correct,
                keep,
                hyper.eps as f32,
                clip.max_norm
            ],
        )
    }

    fn scale(&self, x: Mut<'_>, factor: f64, divisor: Option<Ref<'_>>) -> Result<()> {
        check_scale(self, divisor)?;
        let n = x.len();
        match divisor {
            Some(divisor) => {
                self.launch_elementwise(("optim", "scale_by_ratio"), n, args![&x, divisor, n, factor])
            }
            None => self.launch_elementwise(("optim", "scale"), n, args![&x, n, factor as f32]),
        }
    }

    fn ema(&self, args: EmaUpdate<'_, Self>) -> Result<()> {
        args.check(self)?;
        let EmaUpdate { average, value, guard, decay } = args;
        let n = value.len();
        self.launch_elementwise(
            ("optim", "ema"),
            n,
            args![&average, value, guard, n, decay as f32, (1.0 - decay) as f32],
        )
    }
}
