//! The SSM of one layer on the device: its parameters, and the calls of the backend for forward, backward, kernel and time
//! step.

use crate::{
    config::LayerConfig,
    initial_values,
    param::{Group, GroupBuffers, ParamBuilder, ParamSlot},
    pass_options::PassContext,
};
use s4_backend::{
    Backend, KernelForward, Result, SsmBackward, SsmCall, SsmForward, SsmGrads, SsmInputNorm, SsmParams,
    SsmPass, SsmPrepare, SsmSpec, SsmStep, SsmSteps,
};

/// Arrays of one forward of the SSM: output `y` (batch, channels·H, len), input `u` (batch, H, len), states
/// (batch, H, 2, N/2).
pub(crate) struct S4Forward<'a, B: Backend> {
    /// Output.
    pub y: B::Mut<'a>,
    /// Where to write the state after the last time step, if it is wanted.
    pub state_end: Option<B::Mut<'a>>,
    /// Where to save what backward needs, [`S4Core::saved_len`] elements.
    pub saved: Option<B::Mut<'a>>,
    /// Input.
    pub u: B::Ref<'a>,
    /// A norm of `u`, where [`S4Core::norms_input`] allows one.
    pub norm: Option<SsmInputNorm<'a, B>>,
    /// State before the first time step; zero without.
    pub state0: Option<B::Ref<'a>>,
}

/// Arrays of one backward of the SSM, which gives the gradients of sum(y·dy) + sum(state_end·dstate_end).
pub(crate) struct S4Backward<'a, B: Backend> {
    /// Gradient of the input, overwritten.
    pub du: Option<B::Mut<'a>>,
    /// Gradient of the start state, overwritten.
    pub dstate0: Option<B::Mut<'a>>,
    /// Gradients of the parameters, which are added to.
    pub grads: &'a mut GroupBuffers<B>,
    /// Gradient of the output.
    pub dy: B::Ref<'a>,
    /// Whether that is given as chunk_rows, where [`S4Core::takes_chunk_rows`] allows it.
    pub chunk_rows: bool,
    /// Gradient of the state after the last time step.
    pub dstate_end: Option<B::Ref<'a>>,
    /// Input of the forward; where [`S4Core::reads_input`] says so, anything.
    pub u: B::Ref<'a>,
    /// State that the forward started from.
    pub state0: Option<B::Ref<'a>>,
    /// What the forward has saved.
    pub saved: B::Ref<'a>,
}

/// Arrays of one time step of the recurrence. `state` is overwritten with the state after it.
pub(crate) struct S4Step<'a, B: Backend> {
    /// Output (batch, channels·H).
    pub y: B::Mut<'a>,
    /// State before the time step, and after the call the state after it, (batch, H, 2, N/2).
    pub state: B::Mut<'a>,
    /// Input (batch, H).
    pub u: B::Ref<'a>,
    /// Ratio of this time step to that of training, (batch).
    pub interval: Option<B::Ref<'a>>,
    /// The plan of a stream; without it the layer's own plan is used.
    pub plan: Option<&'a mut B::StepPlan>,
}

/// Arrays of time steps of many sequences, each with as many as it has, as in [`SsmSteps`].
pub(crate) struct S4Steps<'a, B: Backend> {
    /// Output (time steps, channels·H).
    pub y: B::Mut<'a>,
    /// States after the time steps, (batch, H, 2, N/2).
    pub state_end: B::Mut<'a>,
    /// Input (time steps, H).
    pub u: B::Ref<'a>,
    /// States before them.
    pub state0: B::Ref<'a>,
    /// Time steps of each sequence.
    pub lens: &'a [usize],
    /// The plan of the streams.
    pub plan: &'a mut B::StepPlan,
}

/// Where the SSM's parameters lie in the buffers of their groups.
struct SsmSlots {
    inv_dt: ParamSlot,
    a_real: ParamSlot,
    a_imag: ParamSlot,
    b: ParamSlot,
    c: ParamSlot,
    p: ParamSlot,
    d: ParamSlot,
}

/// The SSM of one layer: its description, the places of its parameters, and the backend's plans for it.
pub struct S4Core<B: Backend> {
    spec: SsmSpec,
    slots: SsmSlots,
    plan: B::SsmPlan,
    /// The backend's plan for single time steps, made by the first of them.
    step_plan: Option<B::StepPlan>,
}

impl<B: Backend> S4Core<B> {
    /// The SSM of a layer. Adds parameters whose names begin with `prefix` (`"blocks.0.layer."`) to `params`, with initial
    /// values drawn from random streams from `stream` on.
    pub(crate) fn new(
        be: &B,
        config: &LayerConfig,
        prefix: &str,
        stream: u32,
        params: &mut ParamBuilder,
    ) -> Result<Self> {
        let spec = config.spec();
        let (h, s, pairs) = (spec.heads, spec.n_ssm, spec.pairs());
        let v = initial_values::ssm(config, stream)?;
        let mut add = |name: &str, shape: &[usize], group, values| {
            params.add(format!("{prefix}{name}"), shape, group, values)
        };
        let slots = SsmSlots {
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
                0 => ParamSlot { group: Group::Ssm, offset: 0, len: 0 },
                r => add("kernel.P", &[r, s, pairs, 2], Group::Ssm, v.p),
            },
            d: add("D", &[spec.channels, h], Group::Main, v.d),
        };
        Ok(S4Core { plan: be.ssm_plan(&spec)?, step_plan: None, spec, slots })
    }

    /// Sizes and kinds of the SSM, as the backend is told of them.
    pub fn spec(&self) -> &SsmSpec {
        &self.spec
    }

    /// Views of the SSM's parameters.
    fn params<'a>(&self, be: &B, values: &'a GroupBuffers<B>) -> SsmParams<'a, B> {
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

    /// Views of the gradients of the SSM's parameters, to be added to.
    fn grads<'a>(&self, be: &B, grads: &'a mut GroupBuffers<B>) -> SsmGrads<'a, B> {
        let s = &self.slots;
        let [inv_dt, a_real, a_imag, b, c, p, d] =
            grads.views_mut(be, [s.inv_dt, s.a_real, s.a_imag, s.b, s.c, s.p, s.d]);
        SsmGrads { inv_dt, a_real, a_imag, b, c, p, d }
    }

    /// Sizes and options of the SSM's part of a pass, as the backend is told of them.
    fn ssm_call<'a>(&self, pass: &PassContext<'a, B>) -> SsmCall<'a, B> {
        SsmCall {
            spec: self.spec,
            batch: pass.batch,
            len: pass.len,
            options: pass.options,
            version: pass.version,
        }
    }

    /// Number of elements that a forward saves for its backward.
    pub(crate) fn saved_len(&self, pass: &PassContext<'_, B>) -> usize {
        pass.be.ssm_saved_len(&self.ssm_call(pass))
    }

    /// Begins what a pass to come needs of the parameters alone, beside what is enqueued before that pass. It saves values or has saved
    /// them, and has no states.
    pub(crate) fn prepare<'a>(&mut self, pass: &PassContext<'a, B>, which: SsmPass) -> Result<()> {
        let (params, call) = (self.params(pass.be, pass.values), self.ssm_call(pass));
        pass.be.ssm_prepare(SsmPrepare { params, call, pass: which }, &mut self.plan)
    }

    /// y = K̄∗u + D·u, from the given start state or from zero.
    pub(crate) fn forward<'a>(
        &mut self,
        pass: &PassContext<'a, B>,
        arrays: S4Forward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let S4Forward { y, state_end, saved, u, norm, state0 } = arrays;
        let (params, call) = (self.params(pass.be, pass.values), self.ssm_call(pass));
        let args = SsmForward { y, state_end, saved, u, state0, params, call };
        match norm {
            Some(norm) => pass.be.ssm_forward_of_norm(args, norm, &mut self.plan, ws),
            None => pass.be.ssm_forward(args, &mut self.plan, ws),
        }
    }

    /// Whether a backward, without states, can take the gradient of the output as rows.
    pub(crate) fn takes_chunk_rows(&self, pass: &PassContext<'_, B>) -> bool {
        pass.be.ssm_takes_chunk_rows(&self.ssm_call(pass))
    }

    /// Whether a forward can take a batch norm of its input upon itself. `states`: whether there are states.
    pub(crate) fn norms_input(&self, pass: &PassContext<'_, B>, states: bool) -> bool {
        pass.be.ssm_norms_input(&self.ssm_call(pass), states)
    }

    /// Whether a backward reads the input, or only what its forward has left in `saved`. `states`: whether there are states or gradients
    /// of states.
    pub(crate) fn reads_input(&self, pass: &PassContext<'_, B>, saved: B::Ref<'_>, states: bool) -> bool {
        pass.be.ssm_reads_input(&self.ssm_call(pass), saved, states, &self.plan)
    }

    /// Adds to the gradients of the parameters, and overwrites the other gradients.
    pub(crate) fn backward<'a>(
        &mut self,
        pass: &PassContext<'a, B>,
        arrays: S4Backward<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let S4Backward { du, dstate0, grads, dy, chunk_rows, dstate_end, u, state0, saved } = arrays;
        let (params, call) = (self.params(pass.be, pass.values), self.ssm_call(pass));
        let grads = self.grads(pass.be, grads);
        let args = SsmBackward { du, dstate0, grads, dy, dstate_end, u, state0, saved, params, call };
        match chunk_rows {
            true => pass.be.ssm_backward_of_chunk_rows(args, &mut self.plan, ws),
            false => pass.be.ssm_backward(args, &mut self.plan, ws),
        }
    }

    /// A plan for the time steps of one stream: it keeps constants of that stream's rate and intervals.
    pub(crate) fn new_step_plan(&self, be: &B) -> Result<B::StepPlan> {
        be.step_plan(&self.spec)
    }

    /// One time step of every sequence by the recurrence.
    pub(crate) fn step<'a>(
        &mut self,
        pass: &PassContext<'a, B>,
        arrays: S4Step<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, batch, version, .. } = *pass;
        let S4Step { y, state, u, interval, plan } = arrays;
        let (params, spec) = (self.params(be, pass.values), self.spec);
        let plan = match (plan, &mut self.step_plan) {
            (Some(plan), _) | (None, Some(plan)) => plan,
            (None, own) => own.insert(be.step_plan(&self.spec)?),
        };
        let rate = pass.options.rate;
        be.ssm_step(SsmStep { y, state, u, interval, params, spec, batch, rate, version }, plan, ws)
    }

    /// Time steps of many sequences by the recurrence.
    pub(crate) fn steps<'a>(
        &mut self,
        pass: &PassContext<'a, B>,
        arrays: S4Steps<'a, B>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let PassContext { be, version, .. } = *pass;
        let S4Steps { y, state_end, u, state0, lens, plan } = arrays;
        let (params, spec, rate) = (self.params(be, pass.values), self.spec, pass.options.rate);
        be.ssm_steps(SsmSteps { y, state_end, u, state0, lens, params, spec, rate, version }, plan, ws)
    }

    /// The first `pass.len` values of the convolution kernel K̄, (kernel channels, H, `pass.len`).
    pub(crate) fn kernel<'a>(
        &self,
        pass: &PassContext<'a, B>,
        kernel: B::Mut<'a>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        let (params, rate) = (self.params(pass.be, pass.values), pass.options.rate);
        pass.be.kernel_forward(KernelForward { kernel, params, spec: self.spec, len: pass.len, rate }, ws)
    }
}
