//! The transpose of Algorithm 1 (`kernels/ssm/cauchy_backward.cu`, `cauchy_gradients.cu`): from dK̄ over the nodes to the
//! pairs' records, and from there to the parameters, directly and through the squarings of Ā.

use super::{
    cauchy::{CauchyCall, Group, THREADS},
    discretize::{GradientSpans, Layer, ParameterGradients, with_params},
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::{Span, args},
    memory::{DeviceBlock, Workspace},
};
use s4_backend::{KernelBackward, Result};

/// What a group's gradients go to.
struct Targets<'a> {
    grads: GradientSpans,
    /// Gradients of the parameters but C by the records alone.
    direct: &'a ParameterGradients,
    /// (H, (2 + 2R)·P): gradients of (D₀, B̄, u, v).
    discrete: &'a DeviceBlock,
}

impl Cuda {
    /// The transpose of [`Cuda::kernel_by_cauchy`]: see [`KernelBackward`].
    ///
    /// # Errors
    /// The errors of [`KernelBackward::check`], and `ERR_S4_UNSUPPORTED` for zero-order hold.
    pub fn kernel_by_cauchy_backward(
        &self,
        args: KernelBackward<'_, Self>,
        _ws: &mut Workspace,
    ) -> Result<()> {
        args.check(self)?;
        let KernelBackward { grads, dkernel, params, spec, len, rate } = args;
        let layer = Layer { params, spec, rate };
        self.cauchy_kernel_backward("kernel_by_cauchy_backward", (&grads).into(), dkernel.span(), layer, len)
    }

    /// Gradients of [`Cuda::cauchy_kernel`], which are added to `grads`.
    pub(super) fn cauchy_kernel_backward(
        &self,
        op: &'static str,
        grads: GradientSpans,
        dkernel: Span,
        layer: Layer<'_>,
        len: usize,
    ) -> Result<()> {
        let c = CauchyCall::new(op, layer, len)?;
        let Sizes { heads, pairs, rank, kc, .. } = c.sizes;
        let d = self.discretize(op, &layer)?;
        let form = c.form();
        // Threads of a warp have a pair each; where there are more than 32, half of the warps.
        let shares = THREADS / 32 / pairs.div_ceil(32);
        let tiles = (c.points() + 1).div_ceil(form.tile());
        let blocks = (4 * self.processors()).div_ceil(heads * kc).clamp(1, tiles);
        let parts = blocks * shares;
        let partial_bytes = 8 * kc * parts * form.fields() * pairs;
        let powers = if rank > 0 { (c.log + 3) * c.matrix_bytes() } else { 0 };
        let group = c.group(powers + partial_bytes);
        let direct = ParameterGradients::new(self, op, &layer.spec)?;
        let discrete = self.block(op, 16 * heads * (2 + 2 * rank) * pairs)?;
        let to = Targets { grads, direct: &direct, discrete: &discrete };
        for first in (0..heads).step_by(group) {
            let g = self.cauchy_group(&c, &d, (first, group.min(heads - first)), true)?;
            let z = self.block(op, 16 * c.points() * kc * g.heads)?;
            self.cauchy_transform(&c, &z, dkernel, (&g, true))?;
            let partial = self.block(op, partial_bytes * g.heads)?;
            self.launch(
                ("cauchy_backward", form.sums_backward),
                (blocks, g.heads * kc, 1),
                (THREADS as u32, 1),
                form.shared(pairs) + form.tile_bytes(),
                args![&partial, &z, &g.records, pairs, c.log, c.transform.n1, c.transform.n2],
            )?;
            drop(z);
            let dc_tilde = self.block(op, 16 * g.heads * kc * pairs)?;
            let of = to.direct;
            let arguments = args![
                of.dt(),
                of.re(),
                of.im(),
                of.b(),
                of.p(),
                &dc_tilde,
                &partial,
                &g.records,
                kc,
                parts,
                first
            ];
            self.launch(
                ("cauchy_gradients", "cauchy_parameter_gradients"),
                (g.heads, 1, 1),
                (64, 1),
                0,
                &with_params(arguments, &layer),
            )?;
            self.cauchy_c_tilde_backward(&c, &to, &g, &dc_tilde)?;
        }
        let sums = self.discrete_gradients(op, &discrete, 1, &layer)?;
        let (sums_span, direct_span) = (sums.all(), direct.all());
        let n = sums_span.bytes() / 8;
        self.launch_elementwise(("cauchy_gradients", "cauchy_add"), n, args![sums_span, direct_span, n])?;
        self.add_parameter_gradients(grads, &sums, &layer.spec)
    }

    /// From the gradient of C̃ = C(I − Ā^L′) to those of C and of Ā's parts.
    fn cauchy_c_tilde_backward(
        &self,
        c: &CauchyCall<'_>,
        to: &Targets<'_>,
        g: &Group,
        dc_tilde: &DeviceBlock,
    ) -> Result<()> {
        let Sizes { heads: all, pairs, rank, kc, np } = c.sizes;
        let params_c = c.layer.params.c.span();
        let Some((last, before)) = g.powers.split_last() else {
            let arguments =
                args![to.discrete, to.grads.c, dc_tilde, params_c, g.d0, all, g.first, pairs, kc, c.log];
            let kernel = ("cauchy_gradients", "cauchy_diagonal_gradient");
            return self.launch(kernel, (g.heads, 1, 1), (64, 1), 0, arguments);
        };
        let arguments = args![to.grads.c, dc_tilde, last, all, g.first, pairs, np];
        self.launch(("cauchy_gradients", "cauchy_c_gradient"), (g.heads, kc, 1), (256, 1), 0, arguments)?;
        let total = g.heads * np * np;
        let (mut da, mut next) = (self.scratch64(c.op, total)?, self.scratch64(c.op, total)?);
        let arguments = args![&da, dc_tilde, params_c, all, g.first, pairs, kc, np, total];
        self.launch_elementwise(("cauchy_gradients", "cauchy_power_gradient"), total, arguments)?;
        for power in before.iter().rev() {
            let kernel = ("cauchy_gradients", "cauchy_square_gradient");
            self.launch(kernel, (g.heads, c.tiles(), 1), (256, 1), 0, args![&next, &da, power, np])?;
            std::mem::swap(&mut da, &mut next);
        }
        let arguments = args![to.discrete, &da, g.u, g.v, g.first, pairs, rank, np];
        self.launch(("cauchy_gradients", "cauchy_a_bar_gradient"), (g.heads, 1, 1), (256, 1), 0, arguments)
    }
}
