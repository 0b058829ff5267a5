//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::*;

impl<T: Scalar> StepOps for Cpu<T> {
    type StepPlan = ();
    fn step_plan(&self, spec: &SsmSpec) -> Result<Self::StepPlan> {
        todo!()
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
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }
}
