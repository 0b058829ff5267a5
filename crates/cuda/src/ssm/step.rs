//! The recurrence in O(N) (`kernels/step.cu`).

use crate::{
    Cuda,
    discrete::{check_params, with_params},
    launch::args,
    memory::{Block, same_len},
};
use s4_backend::*;

/// f32 constants of one layer at one (version, rate).
pub struct StepPlan {
    key: Option<(u64, u64)>,
    constants: Option<Block>,
}

impl StepOps for Cuda {
    type StepPlan = StepPlan;

    fn step_plan(&self, spec: &SsmSpec) -> Result<StepPlan> {
        spec.check("step_plan")?;
        Ok(StepPlan { key: None, constants: None })
    }

    fn ssm_step(
        &self,
        y: Self::Mut<'_>,
        state: Self::Mut<'_>,
        u: Self::Ref<'_>,
        interval: Option<Self::Ref<'_>>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        batch: usize,
        rate: f64,
        version: u64,
        plan: &mut Self::StepPlan,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "ssm_step";
        if spec.bidirectional || spec.truncate.is_some() {
            return Err(Error::unsupported(
                OP,
                "a causal layer without truncation",
                "a two-sided or truncated one",
            ));
        }
        check_params(OP, params, spec)?;
        let (heads, pairs, rank, channels) = (spec.heads, spec.pairs(), spec.rank, spec.channels);
        same_len(OP, batch * spec.outputs(), y.len())?;
        same_len(OP, spec.state_len(batch), state.len())?;
        same_len(OP, batch * heads, u.len())?;
        if let Some(interval) = interval {
            same_len(OP, batch, interval.len())?;
            let all =
                with_params(args![&y, &state, u, interval, params.c, params.d, channels], params, spec, rate);
            let shared = 3 * 16 * pairs;
            return self.launch(("step", "step_interval"), (heads, batch, 1), (32, 1), shared, &all);
        }
        let key = Some((version, rate.to_bits()));
        let constants = match &mut plan.constants {
            Some(c) if plan.key == key => c,
            slot => {
                let width = (2 + 2 * rank) * pairs;
                let d = self.discretise(OP, params, spec, rate)?;
                let c = match slot.take() {
                    Some(c) => c,
                    None => self.block(OP, 8 * heads * width)?,
                };
                let all = args![&c, d.d0(), d.u(), d.z(), d.bb(), heads, pairs, rank];
                self.each(("step", "step_constants"), heads * width, all)?;
                plan.key = key;
                slot.insert(c)
            }
        };
        if pairs <= 32 && rank <= 1 && channels == 1 {
            let (kernel, warps, rows) =
                if batch < 8 { ("step_rows_1", batch.min(4), 1) } else { ("step_rows_4", 4, 4) };
            // Enough blocks to fill the chip, then more rows a block.
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
