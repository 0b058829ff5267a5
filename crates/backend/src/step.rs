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

    /// See [`SsmStep`]. Intervals are finite and above 0 (`checks::intervals`, before they are uploaded).
    fn ssm_step(
        &self,
        args: SsmStep<'_, Self>,
        plan: &mut Self::StepPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
