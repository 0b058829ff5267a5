//! The convolution kernel K̄ and its gradient, by the chunk pass on an impulse without D; no sum over the state of
//! length L is needed.

use super::{
    backward::ChunkBackward,
    chunk_pass::{Entering, Pass},
    discretize::{GradientSpans, Layer},
    matrices::{FragmentsOf, KernelRange},
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::{DeviceBlock, Workspace},
};
use s4_backend::{KernelBackward, KernelForward, KernelOps, Result};

impl Cuda {
    /// K̄ as the response of the recurrence to u = (1, 0, 0, …).
    pub(super) fn impulse_kernel(
        &self,
        op: &'static str,
        kernel: Span,
        layer: Layer<'_>,
        len: usize,
    ) -> Result<()> {
        let c = self.chunk_call_without_lengths(op, layer, (1, len))?;
        let discrete = self.discretize(op, &layer)?;
        let q = self.transition_buffer(op, c.sizes)?;
        let m = self.matrices(op, &discrete, layer.params.c.span(), c.sizes, q)?;
        let kernels = KernelRange { first: 0, count: c.sizes.kc, anticausal: false };
        let fragments = self.pack(op, &m, None, c.sizes, FragmentsOf { kernels, adjoint: false })?;
        let [segment, _] = self.scan_matrices(&c, &m.q, false)?;
        let u = self.impulse(op, layer.spec.heads, len)?;
        let pass = Pass {
            y: Some(kernel),
            x: u.span(),
            fragments: &fragments,
            state0: None,
            entering: Entering::Computed,
            end: None,
            states: None,
            state_at_end_chunk: None,
            dstate_at_end_chunk: None,
            lengths: None,
            batch: 1,
            len,
            ins: 1,
            outs: c.sizes.kc,
            last_to_first: false,
            lower: true,
            accumulate: false,
        };
        self.pass(op, &pass, c.sizes, c.segment_split, segment.as_deref())
    }

    /// Gradients of [`Cuda::impulse_kernel`].
    pub(super) fn impulse_kernel_backward(
        &self,
        op: &'static str,
        grads: GradientSpans,
        dkernel: Span,
        layer: Layer<'_>,
        len: usize,
    ) -> Result<()> {
        let c = self.chunk_call_without_lengths(op, layer, (1, len))?;
        let u = self.impulse(op, layer.spec.heads, len)?;
        let every_kernel = KernelRange { first: 0, count: c.sizes.kc, anticausal: false };
        let a = ChunkBackward {
            du: None,
            dstate0: None,
            grads,
            dy: dkernel,
            dy_rows: None,
            dstate_end: None,
            saved: None,
            states: None,
            u: u.span(),
            state0: None,
            kernel_ranges: &[every_kernel],
            with_d: false,
            powers: None,
        };
        self.chunk_backward(&a, &c, None)
    }

    fn impulse(&self, op: &'static str, heads: usize, len: usize) -> Result<DeviceBlock> {
        let u = self.scratch(op, heads * len)?;
        self.launch_elementwise(("states", "impulse"), heads * len, args![&u, heads, len])?;
        Ok(u)
    }

    /// See [`KernelBackward`].
    pub fn kernel_backward(&self, args: KernelBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        let KernelBackward { grads, dkernel, params, spec, len, rate } = args;
        let layer = Layer { params, spec, rate };
        self.impulse_kernel_backward("kernel_backward", (&grads).into(), dkernel.span(), layer, len)
    }
}

impl KernelOps for Cuda {
    fn kernel_forward(&self, args: KernelForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        let KernelForward { kernel, params, spec, len, rate } = args;
        let layer = Layer { params, spec, rate };
        self.impulse_kernel("kernel_forward", kernel.span(), layer, len)
    }
}
