//! One time step of the recurrence in O(N) (`kernels/ssm/step.cu`), paper Theorem 2.

use super::discretize::{Layer, with_params};
use crate::{
    device::Cuda,
    driver::args,
    memory::{DeviceBlock, Workspace},
};
use s4_backend::{Result, SsmSpec, SsmStep, StepOps};

/// The f32 constants of one layer at one (version, rate) of its parameters.
pub struct StepPlan {
    spec: SsmSpec,
    key: Option<(u64, u64)>,
    constants: Option<DeviceBlock>,
}

impl StepOps for Cuda {
    type StepPlan = StepPlan;

    fn step_plan(&self, spec: &SsmSpec) -> Result<StepPlan> {
        spec.check("step_plan")?;
        Ok(StepPlan { spec: *spec, key: None, constants: None })
    }

    fn ssm_step(&self, args: SsmStep<'_, Self>, plan: &mut StepPlan, _ws: &mut Workspace) -> Result<()> {
        const OP: &str = "ssm_step";
        args.check(self, &plan.spec)?;
        let SsmStep { y, state, u, interval, params, spec, batch, rate, version } = args;
        let (heads, pairs, rank, channels) = (spec.heads, spec.pairs(), spec.rank, spec.channels);
        let layer = Layer { params, spec, rate };
        if let Some(interval) = interval {
            let arguments = with_params(args![&y, &state, u, interval, params.c, params.d, channels], &layer);
            let shared = 3 * 16 * pairs;
            return self.launch(("step", "step_interval"), (heads, batch, 1), (32, 1), shared, &arguments);
        }
        let key = Some((version, rate.to_bits()));
        let constants = match &mut plan.constants {
            Some(c) if plan.key == key => c,
            slot => {
                let width = (2 + 2 * rank) * pairs;
                let d = self.discretize(OP, &layer)?;
                let c = match slot.take() {
                    Some(c) => c,
                    None => self.block(OP, 8 * heads * width)?,
                };
                let arguments = args![&c, d.d0(), d.u(), d.v(), d.b_bar(), heads, pairs, rank];
                self.launch_elementwise(("step", "step_constants"), heads * width, arguments)?;
                plan.key = key;
                slot.insert(c)
            }
        };
        if pairs <= 32 && rank <= 1 && channels == 1 {
            let (kernel, warps, rows) =
                if batch < 8 { ("step_sequences_1", batch.min(4), 1) } else { ("step_sequences_4", 4, 4) };
            // Enough blocks to fill the chip, then more sequences per block.
            let shares = batch.div_ceil(warps * rows).min((16 * self.processors()).div_ceil(heads));
            return self.launch(
                ("step", kernel),
                (heads, shares, 1),
                (32 * warps as u32, 1),
                0,
                args![&y, &state, u, &*constants, params.c, params.d, heads, pairs, rank, batch],
            );
        }
        self.launch(
            ("step", "step"),
            (heads, batch, 1),
            (32, 1),
            8 * pairs,
            args![&y, &state, u, &*constants, params.c, params.d, heads, pairs, rank, channels],
        )
    }
}
