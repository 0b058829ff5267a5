//! The recurrence in O(N) (paper Theorem 3).

use crate::{Memory, Result, SsmParams, SsmSpec};

/// One sample at a time.
pub trait StepOps: Memory {
    /// Constants of the recurrence of one layer: D_g, E, P, R, B̄, C at one (version, rate).
    type StepPlan: Send + 'static;

    /// An empty plan.
    fn step_plan(&self, spec: &SsmSpec) -> Result<Self::StepPlan>;

    /// `y`: (batch, channels·H); `state`: (batch, H, 2, N/2), updated in place; `u`: (batch, H).
    /// `interval`: (batch), the ratio of this step to the training interval row by row, on top of `rate`;
    /// `None` for 1. Two-sided and truncated layers are refused.
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
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
