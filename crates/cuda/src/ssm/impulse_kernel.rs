//! K̄ and its gradient. On the GPU both are the chunk pass on an impulse: no length-L sum over the state.

use crate::{Cuda, discrete::check_params, memory::same_len};
use s4_backend::*;

impl KernelOps for Cuda {
    fn kernel_forward(
        &self,
        kernel: Self::Mut<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "kernel_forward";
        check_params(OP, params, spec)?;
        same_len(OP, spec.kernel_channels() * spec.heads * len, kernel.len())?;
        self.impulse_kernel(OP, kernel.span(), params, spec, len, rate)
    }

    fn kernel_backward(
        &self,
        grads: SsmGrads<'_, Self>,
        dkernel: Self::Ref<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "kernel_backward";
        check_params(OP, params, spec)?;
        same_len(OP, spec.kernel_channels() * spec.heads * len, dkernel.len())?;
        self.impulse_kernel_backward(OP, &grads, dkernel.span(), params, spec, len, rate)
    }
}
