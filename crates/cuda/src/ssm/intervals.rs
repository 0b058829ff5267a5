//! Whole sequences whose time steps have intervals of their own (`kernels/ssm/intervals.cu`).

use super::discretize::{GradientSpans, Layer, ParameterGradients, with_params};
use crate::{
    device::Cuda,
    driver::{Arg, args},
    memory::Buf,
};
use s4_backend::{Error, Result, SsmBackward, SsmCall, SsmForward, SsmSpec};

/// Time steps between saved states, as `STEPS` in `kernels/ssm/intervals.cuh`.
const STEPS: usize = 32;

/// Directions of a layer: 2 of a bidirectional one.
fn directions(spec: &SsmSpec) -> usize {
    1 + usize::from(spec.bidirectional)
}

/// Elements that forward saves: the state before every [`STEPS`] time steps, of either direction.
pub(super) fn saved_len(spec: &SsmSpec, batch: usize, len: usize) -> usize {
    batch * directions(spec) * spec.heads * len.div_ceil(STEPS) * spec.state
}

/// Pairs that each lane of a warp has.
fn pairs_per_lane(spec: &SsmSpec) -> usize {
    spec.pairs().div_ceil(32)
}

/// Refuses sizes beyond those that the kernels count.
fn check_sizes(op: &'static str, call: &SsmCall<'_, Cuda>) -> Result<()> {
    if call.batch <= 65_535 && call.len < 1 << 30 {
        return Ok(());
    }
    let got = format!("{} of {} time steps", call.batch, call.len);
    Err(Error::unsupported(
        op,
        "at most 65,535 sequences with intervals, of less than 2^30 time steps, on CUDA",
        got,
    ))
}

impl Cuda {
    /// [`SsmForward`] of a call with intervals.
    pub(super) fn forward_with_intervals(&self, args: &SsmForward<'_, Self>, intervals: &Buf) -> Result<()> {
        const OP: &str = "ssm_forward";
        check_sizes(OP, &args.call)?;
        let SsmForward { y, state_end, saved, u, state0, params, call } = args;
        let spec = &call.spec;
        let layer = Layer { params: *params, spec: *spec, rate: call.options.rate };
        let kernel = if pairs_per_lane(spec) == 1 { "intervals_forward_1" } else { "intervals_forward_2" };
        for anticausal in 0..directions(spec) {
            let arguments = with_params(
                args![
                    y,
                    state_end.as_ref(),
                    saved.as_ref(),
                    *u,
                    *state0,
                    self.whole(intervals),
                    call.options.lengths,
                    params.c,
                    params.d,
                    spec.channels,
                    call.len,
                    directions(spec),
                    anticausal
                ],
                &layer,
            );
            self.launch(("intervals", kernel), (spec.heads, call.batch, 1), (32, 1), 0, &arguments)?;
        }
        Ok(())
    }

    /// [`SsmBackward`] of a call with intervals.
    pub(super) fn backward_with_intervals(
        &self,
        args: &SsmBackward<'_, Self>,
        intervals: &Buf,
    ) -> Result<()> {
        const OP: &str = "ssm_backward";
        check_sizes(OP, &args.call)?;
        let SsmBackward { du, dstate0, grads, dy, dstate_end, u, saved, params, call, .. } = args;
        let (spec, batch, rate) = (&call.spec, call.batch, call.options.rate);
        let (heads, pairs, rank, channels) = (spec.heads, spec.pairs(), spec.rank, spec.channels);
        let layer = Layer { params: *params, spec: *spec, rate };
        let grads = GradientSpans::from(grads);
        let count = batch * directions(spec);
        let parts = self.scratch64(OP, heads * count * (5 + 2 * rank) * pairs)?;
        let dc = self.scratch64(OP, 2 * count * channels * heads * pairs)?;
        let dd = self.scratch64(OP, batch * channels * heads)?;
        self.zero(dc.span())?;
        let lane_pairs = pairs_per_lane(spec);
        let kernel = if lane_pairs == 1 { "intervals_backward_1" } else { "intervals_backward_2" };
        let shared = 16 * 32 * lane_pairs * (STEPS + rank);
        for anticausal in 0..directions(spec) {
            let arguments = with_params(
                args![
                    du.as_ref(),
                    dstate0.as_ref(),
                    &parts,
                    &dc,
                    &dd,
                    *dy,
                    *dstate_end,
                    *saved,
                    *u,
                    self.whole(intervals),
                    call.options.lengths,
                    params.c,
                    params.d,
                    channels,
                    call.len,
                    directions(spec),
                    anticausal
                ],
                &layer,
            );
            self.launch(("intervals", kernel), (heads, batch, 1), (32, 1), shared, &arguments)?;
        }
        let sums = ParameterGradients::new(self, OP, spec)?;
        let arguments =
            with_params(args![sums.dt(), sums.re(), sums.im(), sums.b(), sums.p(), &parts, count], &layer);
        self.launch(("intervals", "intervals_sum"), (heads, 1, 1), (32, 1), 0, &arguments)?;
        self.add_parameter_gradients(grads, &sums, spec)?;
        let outputs = directions(spec) * channels * heads * pairs;
        self.launch_elementwise(
            ("intervals", "intervals_add_c"),
            outputs,
            args![grads.c, &dc, batch, outputs],
        )?;
        let outputs = channels * heads;
        self.launch_elementwise(
            ("intervals", "intervals_add_d"),
            outputs,
            args![grads.d, &dd, batch, outputs],
        )
    }

    /// A whole buffer as an argument.
    fn whole(&self, buf: &Buf) -> Arg {
        use s4_backend::Memory;
        Arg::from(self.view(buf, 0..self.len(buf)))
    }
}
