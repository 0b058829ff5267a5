//! The SSM as one operation, parameters and u to y, by any algorithm.

use crate::{
    Algorithm, CallOptions, ConvShape, Discretization, Error, Memory, Result, SsmGrads, SsmParams, SsmSpec,
    checks, checks::Views,
};

/// One application: what, on which sizes, how.
pub struct SsmCall<'a, B: Memory> {
    /// The layer.
    pub spec: SsmSpec,
    /// Sequences.
    pub batch: usize,
    /// L.
    pub len: usize,
    /// Lengths, rate, algorithm.
    pub options: CallOptions<'a, B::Ints>,
    /// Counter that changes whenever the parameters do; constants are kept in the plan while
    /// (version, rate, what else they depend on) stand still.
    pub version: u64,
}

impl<B: Memory> Clone for SsmCall<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for SsmCall<'_, B> {}

impl<B: Memory> SsmCall<'_, B> {
    /// Time steps of the kernel: `truncate` of them, and never more than the call has.
    pub fn kernel_len(&self) -> usize {
        self.spec.truncate.map_or(self.len, |m| m.min(self.len))
    }

    /// Whether the kernel is shorter than the sequence.
    pub fn is_truncated(&self) -> bool {
        self.kernel_len() < self.len
    }

    /// The convolution of the algorithms that make a kernel.
    pub fn conv_shape(&self) -> ConvShape {
        ConvShape {
            batch: self.batch,
            heads: self.spec.heads,
            channels: self.spec.channels,
            len: self.len,
            kernel_len: self.kernel_len(),
            two_sided: self.spec.bidirectional,
        }
    }

    /// Sizes, lengths, rate, and whether the layer can be run by the algorithm asked for.
    fn check(&self, v: &Views<'_, B>) -> Result<()> {
        self.spec.check(v.op)?;
        v.sizes(&[("batch", self.batch), ("len", self.len)])?;
        checks::rate(v.op, self.options.rate)?;
        v.lengths(self.options.lengths, self.batch, self.len)?;
        match self.options.algorithm {
            Algorithm::Chunk if self.is_truncated() => Err(Error::unsupported(
                v.op,
                "algorithm 'fft', 'cauchy' or 'auto' with a truncated kernel",
                "'chunk'",
            )),
            Algorithm::Cauchy if self.spec.discretization != Discretization::Bilinear => {
                Err(Error::unsupported(
                    v.op,
                    "algorithm 'cauchy' with bilinear discretization (the generating function of Algorithm 1)",
                    format!("'{}'", self.spec.discretization),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Refuses states (`any`: one is given or wanted) for layers that have none.
    fn check_states(&self, op: &'static str, any: bool) -> Result<()> {
        if !any || self.spec.has_state() {
            return Ok(());
        }
        Err(Error::unsupported(op, "no state with a two-sided layer or a truncated kernel", "a state"))
    }
}

/// y_t = C x_t + D u_t with x_t = Ā x_{t−1} + B̄ u_t (paper eq. 3), and the end state.
pub struct SsmForward<'a, B: Memory> {
    /// (batch, channels·H, len)
    pub y: B::Mut<'a>,
    /// (batch, H, 2, N/2), or not wanted.
    pub state_end: Option<B::Mut<'a>>,
    /// Filled for `ssm_backward`; `None` in inference. Begins at a multiple of 16 bytes, as whole buffers do.
    pub saved: Option<B::Mut<'a>>,
    /// (batch, H, len)
    pub u: B::Ref<'a>,
    /// The state before the first time step, or zero.
    pub state0: Option<B::Ref<'a>>,
    /// The layer's parameters.
    pub params: SsmParams<'a, B>,
    /// The layer, the sizes and the options.
    pub call: SsmCall<'a, B>,
}

impl<B: Memory> SsmForward<'_, B> {
    /// Refuses sizes, values and views that do not fit; `plan` is the layer that the plan was made for, `saved_len`
    /// the backend's own.
    pub fn check(&self, be: &B, plan: &SsmSpec, saved_len: usize) -> Result<()> {
        let (call, v) = (&self.call, Views { be, op: "ssm_forward" });
        call.check(&v)?;
        checks::plan_of(v.op, plan, &call.spec)?;
        call.check_states(v.op, self.state_end.is_some() || self.state0.is_some())?;
        let (rows, state) = (call.batch * call.len, call.spec.state_len(call.batch));
        v.output("y", &self.y, rows * call.spec.outputs())?;
        v.optional_output("the end state", self.state_end.as_ref(), state)?;
        v.optional_output("saved values", self.saved.as_ref(), saved_len)?;
        v.input("u", self.u, rows * call.spec.heads)?;
        v.optional_input("the first state", self.state0, state)?;
        self.params.check(&v, &call.spec)
    }
}

/// The gradients of sum(y·dy) + sum(state_end·dstate_end). `du` and `dstate0` overwrite, `grads` accumulate (all of
/// them, `grads.d` too).
pub struct SsmBackward<'a, B: Memory> {
    /// As `u`.
    pub du: Option<B::Mut<'a>>,
    /// As `state0`.
    pub dstate0: Option<B::Mut<'a>>,
    /// Where the parameters' gradients accumulate.
    pub grads: SsmGrads<'a, B>,
    /// As `y`.
    pub dy: B::Ref<'a>,
    /// As `state_end`.
    pub dstate_end: Option<B::Ref<'a>>,
    /// The forward's input.
    pub u: B::Ref<'a>,
    /// The forward's first state.
    pub state0: Option<B::Ref<'a>>,
    /// What the forward saved.
    pub saved: B::Ref<'a>,
    /// The layer's parameters, as they were in forward.
    pub params: SsmParams<'a, B>,
    /// As in forward.
    pub call: SsmCall<'a, B>,
}

impl<B: Memory> SsmBackward<'_, B> {
    /// As [`SsmForward::check`].
    pub fn check(&self, be: &B, plan: &SsmSpec, saved_len: usize) -> Result<()> {
        let (call, v) = (&self.call, Views { be, op: "ssm_backward" });
        call.check(&v)?;
        checks::plan_of(v.op, plan, &call.spec)?;
        let any = self.dstate0.is_some() || self.dstate_end.is_some() || self.state0.is_some();
        call.check_states(v.op, any)?;
        let (rows, state) = (call.batch * call.len, call.spec.state_len(call.batch));
        v.optional_output("du", self.du.as_ref(), rows * call.spec.heads)?;
        v.optional_output("the gradient of the first state", self.dstate0.as_ref(), state)?;
        v.input("dy", self.dy, rows * call.spec.outputs())?;
        v.optional_input("the gradient of the end state", self.dstate_end, state)?;
        v.input("u", self.u, rows * call.spec.heads)?;
        v.optional_input("the first state", self.state0, state)?;
        v.input("saved values", self.saved, saved_len)?;
        self.params.check(&v, &call.spec)?;
        self.grads.check(&v, &call.spec)
    }
}

/// The SSM on whole sequences.
///
/// Sequences may have lengths of their own (`call.options.lengths`): a sequence then gives what it would give alone,
/// its end state is the state after its own last time step, y beyond it is 0, dy beyond it counts as 0, and du beyond it is 0.
/// Two-sided and truncated layers take and give no state.
pub trait SsmOps: Memory {
    /// Constants of one layer, kept between calls: kernel or its spectrum, chunk constants.
    type SsmPlan: Send + 'static;

    /// An empty plan.
    fn ssm_plan(&self, spec: &SsmSpec) -> Result<Self::SsmPlan>;

    /// Elements of the `saved` buffer between forward and backward for this call; may be 0.
    fn ssm_saved_len(&self, call: &SsmCall<'_, Self>) -> usize;

    /// y, the end state and the saved values overwrite.
    fn ssm_forward(
        &self,
        args: SsmForward<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// See [`SsmBackward`].
    fn ssm_backward(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
