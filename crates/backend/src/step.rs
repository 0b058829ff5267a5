//! The recurrence in O(N) (paper Theorem 2).

use crate::{Error, Memory, Result, SsmParams, SsmSpec, checks, checks::ViewChecks};

/// One time step of every sequence: x ← Ā x + B̄ u, y = C x + D u.
#[allow(missing_docs)]
pub struct SsmStep<'a, B: Memory> {
    /// (batch, channels·H)
    pub y: B::Mut<'a>,
    /// (batch, H, 2, N/2), updated in place.
    pub state: B::Mut<'a>,
    /// (batch, H)
    pub u: B::Ref<'a>,
    /// (batch): for each sequence the time since its last step, in units of the interval that it was trained with.
    /// Multiplies Δ, as `rate` does; `None` for 1.
    pub interval: Option<B::Ref<'a>>,
    pub params: SsmParams<'a, B>,
    pub spec: SsmSpec,
    pub batch: usize,
    /// Factor of every step size Δ.
    pub rate: f64,
    /// Counter that changes whenever the parameters do, as in [`SsmCall`](crate::SsmCall).
    pub version: u64,
}

impl<B: Memory> SsmStep<'_, B> {
    /// Refuses sizes and views that do not fit, and layers without a state; `plan` is the layer that the plan was made
    /// for.
    pub fn check(&self, backend: &B, plan: &SsmSpec) -> Result<()> {
        let (spec, v) = (&self.spec, ViewChecks { backend, op: "ssm_step" });
        check_layer(v.op, spec)?;
        checks::plan_is_for_layer(v.op, plan, spec)?;
        v.sizes(&[("batch", self.batch)])?;
        checks::rate(v.op, self.rate)?;
        v.output("y", &self.y, self.batch * spec.outputs())?;
        v.output("the state", &self.state, spec.state_len(self.batch))?;
        v.input("u", self.u, self.batch * spec.heads)?;
        v.optional_input("intervals", self.interval, self.batch)?;
        self.params.check(&v, spec)
    }
}

/// Time steps of many sequences, each with as many as it has: the recurrence as [`SsmStep`] has it, from `state0` to
/// `state_end`.
#[allow(missing_docs)]
pub struct SsmSteps<'a, B: Memory> {
    /// (time steps, channels·H): those of the first sequence, then those of the second, ….
    pub y: B::Mut<'a>,
    /// (batch, H, 2, N/2), overwritten; `state0` where a sequence has no time step.
    pub state_end: B::Mut<'a>,
    /// (time steps, H), as `y`.
    pub u: B::Ref<'a>,
    /// (batch, H, 2, N/2)
    pub state0: B::Ref<'a>,
    /// (batch), on the host: time steps of each sequence, none or more.
    pub lens: &'a [usize],
    pub params: SsmParams<'a, B>,
    pub spec: SsmSpec,
    /// Factor of every step size Δ.
    pub rate: f64,
    /// Counter that changes whenever the parameters do, as in [`SsmCall`](crate::SsmCall).
    pub version: u64,
}

impl<B: Memory> SsmSteps<'_, B> {
    /// Refuses sizes and views that do not fit, and layers without a state.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (spec, v) = (&self.spec, ViewChecks { backend, op: "ssm_steps" });
        check_layer(v.op, spec)?;
        let steps = self.lens.iter().sum::<usize>();
        v.sizes(&[("batch", self.lens.len()), ("time steps", steps)])?;
        checks::rate(v.op, self.rate)?;
        v.output("y", &self.y, steps * spec.outputs())?;
        v.output("the end state", &self.state_end, spec.state_len(self.lens.len()))?;
        v.input("u", self.u, steps * spec.heads)?;
        v.input("the start state", self.state0, spec.state_len(self.lens.len()))?;
        self.params.check(&v, spec)
    }
}

/// Refuses layers without a recurrent state of N numbers.
pub fn check_layer(op: &'static str, spec: &SsmSpec) -> Result<()> {
    spec.check(op)?;
    if spec.has_state() {
        return Ok(());
    }
    let got = if spec.bidirectional { "a two-sided layer" } else { "a truncated kernel" };
    Err(Error::unsupported(op, "a causal layer with an untruncated kernel (others have no state)", got))
}

/// The SSM as a recurrence, one time step per call.
pub trait StepOps: Memory {
    /// Constants of the recurrence of one layer: Dg, E, P, R, B̄, C at one (version, rate).
    type StepPlan: Send + 'static;

    /// An empty plan.
    fn step_plan(&self, spec: &SsmSpec) -> Result<Self::StepPlan>;

    /// A plan for the same layer, of another thread's own, that may share constants with `plan`.
    fn step_plan_beside(&self, plan: &Self::StepPlan, spec: &SsmSpec) -> Result<Self::StepPlan> {
        let _ = plan;
        self.step_plan(spec)
    }

    /// See [`SsmStep`]. Intervals are finite and above 0 (`checks::intervals`, before they are uploaded).
    fn ssm_step(
        &self,
        args: SsmStep<'_, Self>,
        plan: &mut Self::StepPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// See [`SsmSteps`]. Here an [`StepOps::ssm_step`] for each time step of each sequence; a backend that has something
    /// quicker also says where ([`StepOps::takes_steps_together`]).
    fn ssm_steps(
        &self,
        args: SsmSteps<'_, Self>,
        plan: &mut Self::StepPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        steps_one_by_one(self, args, |args| self.ssm_step(args, plan, ws))
    }

    /// Whether [`StepOps::ssm_steps`] of sequences with these numbers of time steps is quicker than an
    /// [`StepOps::ssm_step`] for each time step, or than a forward of whole sequences.
    fn takes_steps_together(&self, spec: &SsmSpec, lens: &[usize]) -> bool {
        let _ = (spec, lens);
        false
    }

    /// The most time steps of a sequence with which [`StepOps::takes_steps_together`] is true, if the sequences are enough; `None` where it is
    /// always false.
    fn most_steps_together(&self, spec: &SsmSpec) -> Option<usize> {
        let _ = spec;
        None
    }
}

/// [`SsmSteps`] by an [`SsmStep`] for each time step of each sequence, which `step` takes.
pub fn steps_one_by_one<B: Memory>(
    be: &B,
    args: SsmSteps<'_, B>,
    mut step: impl FnMut(SsmStep<'_, B>) -> Result<()>,
) -> Result<()> {
    args.check(be)?;
    let SsmSteps { mut y, mut state_end, u, state0, lens, params, spec, rate, version } = args;
    be.copy(be.reborrow(&mut state_end), state0)?;
    let (heads, outputs, size) = (spec.heads, spec.outputs(), spec.state_len(1));
    let sequences = lens.iter().enumerate().flat_map(|(i, &len)| std::iter::repeat_n(i, len));
    for (row, sequence) in sequences.enumerate() {
        let y = be.split_mut(be.reborrow(&mut y), row * outputs).1;
        let state = be.split_mut(be.reborrow(&mut state_end), sequence * size).1;
        step(SsmStep {
            y: be.split_mut(y, outputs).0,
            state: be.split_mut(state, size).0,
            u: be.sub(be.shorten(u), row * heads..(row + 1) * heads),
            interval: None,
            params: params.shorten(be),
            spec,
            batch: 1,
            rate,
            version,
        })?;
    }
    Ok(())
}
