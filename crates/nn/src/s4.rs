//! The SSM of one layer on the device: its parameters' places, its plan, forward beside backward, the kernel, a step.

use crate::{
    LayerConfig, init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{Algorithm, Backend, Error, Result, SsmCall, SsmGrads, SsmParams, SsmSpec, random::DropKey};

/// What holds for every block of one pass through a network.
pub(crate) struct Call<'a, B: Backend> {
    pub batch: usize,
    pub len: usize,
    pub rate: f64,
    pub algorithm: Algorithm,
    /// Of the parameters.
    pub version: u64,
    pub lengths: Option<&'a B::Ints>,
    /// Dropout and batch statistics on.
    pub training: bool,
    /// Of the dropout; blocks add their own sites.
    pub key: DropKey,
}

impl<B: Backend> Clone for Call<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Call<'_, B> {}

impl<B: Backend> Call<'_, B> {
    /// One sample in inference.
    pub fn step(batch: usize, rate: f64, version: u64) -> Self {
        Call {
            batch,
            len: 1,
            rate,
            algorithm: Algorithm::Auto,
            version,
            lengths: None,
            training: false,
            key: DropKey { seed: 0, step: 0, site: 0 },
        }
    }
}

/// Places of (Δ, Λ, B, C, P, D) in the flat buffers.
struct Slots {
    inv_dt: Slot,
    a_real: Slot,
    a_imag: Slot,
    b: Slot,
    c: Slot,
    p: Slot,
    d: Slot,
}

/// One SSM.
pub struct S4Core<B: Backend> {
    spec: SsmSpec,
    slots: Slots,
    plan: B::SsmPlan,
    /// Made by the first step.
    step_plan: Option<B::StepPlan>,
}

impl<B: Backend> S4Core<B> {
    /// Adds its parameters under `prefix` (`"blocks.0.layer."`), drawn from streams of `seed` that start at `stream`.
    pub(crate) fn new(
        be: &B,
        config: &LayerConfig,
        prefix: &str,
        stream: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        let spec = config.spec();
        let (h, s, half) = (spec.heads, spec.n_ssm, spec.pairs());
        let v = init::ssm(config, stream)?;
        let mut add = |name: &str, shape: &[usize], group, values| {
            params.add(format!("{prefix}{name}"), shape, group, values)
        };
        let slots = Slots {
            inv_dt: add(
                "kernel.inv_dt",
                &[h, if spec.dt_per_state { half } else { 1 }],
                Group::Ssm,
                v.inv_dt,
            ),
            a_real: add("kernel.A_real", &[s, half], Group::Ssm, v.a_real),
            a_imag: add("kernel.A_imag", &[s, half], Group::Ssm, v.a_imag),
            b: add("kernel.B", &[1, s, half, 2], Group::Ssm, v.b),
            c: add("kernel.C", &[spec.kernel_channels(), h, half, 2], Group::Main, v.c),
            p: match spec.rank {
                0 => Slot { group: Group::Ssm, offset: 0, len: 0 },
                r => add("kernel.P", &[r, s, half, 2], Group::Ssm, v.p),
            },
            d: add("D", &[spec.channels, h], Group::Main, v.d),
        };
        Ok(S4Core { plan: be.ssm_plan(&spec)?, step_plan: None, spec, slots })
    }

    /// What it is.
    pub fn spec(&self) -> &SsmSpec {
        &self.spec
    }

    /// Causal with an untruncated kernel: the only layers that carry a state.
    pub fn has_state(&self) -> bool {
        !self.spec.bidirectional && self.spec.truncate.is_none()
    }

    /// `ERR_S4_UNSUPPORTED` for layers without a state.
    pub fn need_state(&self, op: &'static str) -> Result<()> {
        if self.has_state() {
            return Ok(());
        }
        let got = if self.spec.bidirectional { "a two-sided layer" } else { "a truncated kernel" };
        Err(Error::unsupported(op, "a causal layer with an untruncated kernel (others have no state)", got))
    }

    fn params<'a>(&self, be: &B, values: &'a Flats<B>) -> SsmParams<'a, B> {
        let s = &self.slots;
        SsmParams {
            inv_dt: values.view(be, s.inv_dt),
            a_real: values.view(be, s.a_real),
            a_imag: values.view(be, s.a_imag),
            b: values.view(be, s.b),
            c: values.view(be, s.c),
            p: values.view(be, s.p),
            d: values.view(be, s.d),
        }
    }

    fn grads<'a>(&self, be: &B, grads: &'a mut Flats<B>) -> SsmGrads<'a, B> {
        let s = &self.slots;
        let [inv_dt, a_real, a_imag, b, c, p, d] =
            grads.views_mut(be, [s.inv_dt, s.a_real, s.a_imag, s.b, s.c, s.p, s.d]);
        SsmGrads { inv_dt, a_real, a_imag, b, c, p, d }
    }

    fn call(&self, call: &Call<'_, B>) -> SsmCall {
        SsmCall {
            spec: self.spec,
            batch: call.batch,
            len: call.len,
            rate: call.rate,
            algorithm: call.algorithm,
            version: call.version,
        }
    }

    /// Elements that forward saves for backward.
    pub(crate) fn saved_len(&self, be: &B, call: &Call<'_, B>) -> usize {
        be.ssm_saved_len(&self.call(call))
    }

    /// `y`: (batch, channels·H, len) of `u`: (batch, H, len); states (batch, H, 2, N/2).
    pub(crate) fn forward(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        state_end: Option<B::Mut<'_>>,
        saved: Option<B::Mut<'_>>,
        u: B::Ref<'_>,
        state0: Option<B::Ref<'_>>,
        values: &Flats<B>,
        call: &Call<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let (params, shape) = (self.params(be, values), self.call(call));
        be.ssm_forward(y, state_end, saved, u, state0, call.lengths, &params, &shape, &mut self.plan, ws)
    }

    /// Gradients of sum(y·dy) + sum(state_end·dstate_end).
    pub(crate) fn backward(
        &mut self,
        be: &B,
        du: Option<B::Mut<'_>>,
        dstate0: Option<B::Mut<'_>>,
        grads: &mut Flats<B>,
        dy: B::Ref<'_>,
        dstate_end: Option<B::Ref<'_>>,
        u: B::Ref<'_>,
        state0: Option<B::Ref<'_>>,
        saved: B::Ref<'_>,
        values: &Flats<B>,
        call: &Call<'_, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let (params, grads, shape) = (self.params(be, values), self.grads(be, grads), self.call(call));
        let plan = &mut self.plan;
        be.ssm_backward(
            du,
            dstate0,
            grads,
            dy,
            dstate_end,
            u,
            state0,
            saved,
            call.lengths,
            &params,
            &shape,
            plan,
            ws,
        )
    }

    /// A plan of its own, for a stream.
    pub(crate) fn new_step_plan(&self, be: &B) -> Result<B::StepPlan> {
        be.step_plan(&self.spec)
    }

    /// One sample: `y` (batch, channels·H), `state` in place; with the layer's own plan, or a stream's.
    pub(crate) fn step(
        &mut self,
        be: &B,
        y: B::Mut<'_>,
        state: B::Mut<'_>,
        u: B::Ref<'_>,
        interval: Option<B::Ref<'_>>,
        values: &Flats<B>,
        batch: usize,
        rate: f64,
        version: u64,
        plan: Option<&mut B::StepPlan>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let params = self.params(be, values);
        let plan = match (plan, &mut self.step_plan) {
            (Some(plan), _) | (None, Some(plan)) => plan,
            (None, own) => own.insert(be.step_plan(&self.spec)?),
        };
        be.ssm_step(y, state, u, interval, &params, &self.spec, batch, rate, version, plan, ws)
    }

    /// K̄: (kernel channels, H, len).
    pub(crate) fn kernel(
        &self,
        be: &B,
        kernel: B::Mut<'_>,
        values: &Flats<B>,
        len: usize,
        rate: f64,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        be.kernel_forward(kernel, &self.params(be, values), &self.spec, len, rate, ws)
    }
}
