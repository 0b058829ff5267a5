//! placeholder
#![allow(unused_variables, clippy::todo)]
use crate::Cpu;
use s4_backend::*;

impl<T: Scalar> KernelOps for Cpu<T> {
    fn kernel_forward(
        &self,
        kernel: Self::Mut<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }

    fn kernel_backward(
        &self,
        grads: SsmGrads<'_, Self>,
        dkernel: Self::Ref<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        todo!()
    }
}
