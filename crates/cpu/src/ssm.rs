//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::*;

impl<T: Scalar> SsmOps for Cpu<T> {
    type SsmPlan = ();
    fn ssm_plan(&self, spec: &SsmSpec) -> Result<Self::SsmPlan> {
        todo!()
    }

    fn ssm_algorithm(&self, call: &SsmCall) -> Result<Algorithm> {
        todo!()
    }

    fn ssm_saved_len(&self, call: &SsmCall) -> usize {
        todo!()
    }

    fn ssm_forward(
        &self,
        y: Self::Mut<'_>,
        state_end: Option<Self::Mut<'_>>,
        saved: Option<Self::Mut<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn ssm_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dstate0: Option<Self::Mut<'_>>,
        grads: SsmGrads<'_, Self>,
        dy: Self::Ref<'_>,
        dstate_end: Option<Self::Ref<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        saved: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }
}
