//! Updates of flat parameter buffers (`kernels/optim.cu`), guarded on the device.

use crate::{Cuda, launch::args, memory::same_len};
use s4_backend::*;

fn check_guard(op: &'static str, guard: usize) -> Result<()> {
    if guard >= 2 { Ok(()) } else { Err(Error::shape(op, "a guard of [loss, squared norm]", guard)) }
}

impl OptimOps for Cuda {
    fn sum_squares(&self, acc: Self::Mut<'_>, x: Self::Ref<'_>, _ws: &mut Self::Workspace) -> Result<()> {
        if acc.len() == 0 {
            return Err(Error::shape("sum_squares", "1 element", 0));
        }
        let parts = x.len().div_ceil(8192);
        let cells = self.scratch64("sum_squares", parts)?;
        self.launch(("optim", "squares"), (parts, 1, 1), (256, 1), 0, args![&cells, x, x.len()])?;
        self.launch(("optim", "squares_total"), (1, 1, 1), (1024, 1), 0, args![&acc, &cells, parts])
    }

    fn adamw(
        &self,
        value: Self::Mut<'_>,
        m: Self::Mut<'_>,
        v: Self::Mut<'_>,
        grad: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        hyper: &AdamW,
        clip: &Clip,
    ) -> Result<()> {
        for n in [m.len(), v.len(), grad.len()] {
            same_len("adamw", value.len(), n)?;
        }
        check_guard("adamw", guard.len())?;
        let t = hyper.step.min(i32::MAX as u64) as i32;
        let rate = (hyper.lr / (1.0 - hyper.beta1.powi(t))) as f32;
        let correct = (1.0 / (1.0 - hyper.beta2.powi(t))) as f32;
        let keep = (1.0 - hyper.lr * hyper.weight_decay) as f32;
        let (b1, b2) = (hyper.beta1 as f32, hyper.beta2 as f32);
        let (c1, c2) = ((1.0 - hyper.beta1) as f32, (1.0 - hyper.beta2) as f32);
        let n = value.len();
        self.each(
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

    fn ema(
        &self,
        average: Self::Mut<'_>,
        value: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        decay: f64,
    ) -> Result<()> {
        same_len("ema", average.len(), value.len())?;
        check_guard("ema", guard.len())?;
        let n = value.len();
        self.each(("optim", "ema"), n, args![&average, value, guard, n, decay as f32, (1.0 - decay) as f32])
    }
}
