//! The SSM of one layer on the device: its parameters' places, its plan, forward beside backward, the kernel, a step.

use crate::{
    call::Pass,
    config::LayerConfig,
    init,
    param::{Flats, Group, ParamBuilder, Slot},
};
use s4_backend::{
    Backend, KernelForward, Result, SsmBackward, SsmCall, SsmForward, SsmGrads, SsmParams, SsmSpec, SsmStep,
};

/// Arrays of one forward: `y` (batch, channels·H, len), `u` (batch, H, len), states (batch, H, 2, N/2).
pub(crate) struct S4Forward<'a, B: Backend> {
    pub y: B::Mut<'a>,
    pub state_end: Option<B::Mut<'a>>,
    /// What backward needs, [`S4Core::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    pub u: B::Ref<'a>,
    pub state0: Option<B::Ref<'a>>,
}

/// Arrays of its backward: gradients of sum(y·dy) + sum(state_end·dstate_end).
pub(crate) struct S4Backward<'a, B: Backend> {
    pub du: Option<B::Mut<'a>>,
    pub dstate0: Option<B::Mut<'a>>,
    pub grads: &'a mut Flats<B>,
    pub dy: B::Ref<'a>,
    pub dstate_end: Option<B::Ref<'a>>,
    pub u: B::Ref<'a>,
    pub state0: Option<B::Ref<'a>>,
    pub saved: B::Ref<'a>,
}

/// Arrays of one step of the recurrence: `state` moves on in place.
pub(crate) struct S4Step<'a, B: Backend> {
    /// (batch, channels·H)
    pub y: B::Mut<'a>,
    pub state: B::Mut<'a>,
    /// (batch, H)
    pub u: B::Ref<'a>,
    /// (batch): ratio of this step to the training interval.
    pub interval: Option<B::Ref<'a>>,
    /// A stream's own; the layer's without one.
    pub plan: Option<&'a mut B::StepPlan>,
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
        let (h, s, pairs) = (spec.heads, spec.n_ssm, spec.pairs());
        let v = init::ssm(config, stream)?;
        let mut add = |name: &str, shape: &[usize], group, values| {
            params.add(format!("{prefix}{name}"), shape, group, values)
        };
        let slots = Slots {
            inv_dt: add(
                "kernel.inv_dt",
                &[h, if spec.dt_per_state { pairs } else { 1 }],
                Group::Ssm,
                v.inv_dt,
            ),
            a_real: add("kernel.A_real", &[s, pairs], Group::Ssm, v.a_real),
            a_imag: add("kernel.A_imag", &[s, pairs], Group::Ssm, v.a_imag),
            b: add("kernel.B", &[1, s, pairs, 2], Group::Ssm, v.b),
            c: add("kernel.C", &[spec.kernel_channels(), h, pairs, 2], Group::Main, v.c),
            p: match spec.rank {
                0 => Slot { group: Group::Ssm, offset: 0, len: 0 },
                r => add("kernel.P", &[r, s, pairs, 2], Group::Ssm, v.p),
            },
            d: add("D", &[spec.channels, h], Group::Main, v.d),
        };
        Ok(S4Core { plan: be.ssm_plan(&spec)?, step_plan: None, spec, slots })
    }

    /// The contract's description.
    pub fn spec(&self) -> &SsmSpec {
        &self.spec
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

    fn call<'a>(&self, pass: &Pass<'a, B>) -> SsmCall<'a, B> {
        SsmCall {
            spec: self.spec,
            batch: pass.batch,
            len: pass.len,
            options: pass.options,
            version: pass.version,
        }
    }

    /// Elements that forward saves for backward.
    pub(crate) fn saved_len(&self, pass: &Pass<'_, B>) -> usize {
        pass.be.ssm_saved_len(&self.call(pass))
    }

    /// y = K̄∗u + D·u from the given state.
    pub(crate) fn forward<'a>(
        &mut self,
        pass: &Pass<'a, B>,
        arrays: S4Forward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let S4Forward { y, state_end, saved, u, state0 } = arrays;
        let (params, call) = (self.params(pass.be, pass.values), self.call(pass));
        let args = SsmForward { y, state_end, saved, u, state0, params, call };
        pass.be.ssm_forward(args, &mut self.plan, ws)
    }

    /// Parameter gradients accumulate, the others overwrite.
    pub(crate) fn backward<'a>(
        &mut self,
        pass: &Pass<'a, B>,
        arrays: S4Backward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let S4Backward { du, dstate0, grads, dy, dstate_end, u, state0, saved } = arrays;
        let (params, call) = (self.params(pass.be, pass.values), self.call(pass));
        let grads = self.grads(pass.be, grads);
        let args = SsmBackward { du, dstate0, grads, dy, dstate_end, u, state0, saved, params, call };
        pass.be.ssm_backward(args, &mut self.plan, ws)
    }

    /// A plan of its own, for a stream.
    pub(crate) fn new_step_plan(&self, be: &B) -> Result<B::StepPlan> {
        be.step_plan(&self.spec)
    }

    /// One sample a row.
    pub(crate) fn step<'a>(
        &mut self,
        pass: &Pass<'a, B>,
        arrays: S4Step<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let Pass { be, batch, version, .. } = *pass;
        let S4Step { y, state, u, interval, plan } = arrays;
        let (params, spec) = (self.params(be, pass.values), self.spec);
        let plan = match (plan, &mut self.step_plan) {
            (Some(plan), _) | (None, Some(plan)) => plan,
            (None, own) => own.insert(be.step_plan(&self.spec)?),
        };
        let rate = pass.options.rate;
        be.ssm_step(SsmStep { y, state, u, interval, params, spec, batch, rate, version }, plan, ws)
    }

    /// K̄: (kernel channels, H, `pass.len`).
    pub(crate) fn kernel<'a>(
        &self,
        pass: &Pass<'a, B>,
        kernel: B::Mut<'a>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let (params, rate) = (self.params(pass.be, pass.values), pass.options.rate);
        pass.be.kernel_forward(KernelForward { kernel, params, spec: self.spec, len: pass.len, rate }, ws)
    }
}
