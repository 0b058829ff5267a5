//! The SSM on whole sequences as one operation, from parameters and inputs u to outputs y, by any algorithm.

use crate::{
    Algorithm, CallOptions, ConvShape, Discretization, Error, Memory, Result, SsmGrads, SsmParams, SsmSpec,
    checks, checks::ViewChecks,
};

/// One application of an SSM layer: the layer, the sizes of the call and its options.
pub struct SsmCall<'a, B: Memory> {
    /// Description of the layer.
    pub spec: SsmSpec,
    /// Number of sequences.
    pub batch: usize,
    /// L: time steps of the longest sequence.
    pub len: usize,
    /// Lengths of the sequences, intervals of their time steps, rate, algorithm.
    pub options: CallOptions<'a, B::Ints, B::Buf>,
    /// Counter that changes whenever the parameters do. A plan keeps constants that were computed from the parameters
    /// for as long as the version, the rate and whatever else they depend on stay the same.
    pub version: u64,
}

impl<B: Memory> Clone for SsmCall<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for SsmCall<'_, B> {}

impl<B: Memory> SsmCall<'_, B> {
    /// Samples of the kernel: `spec.truncate`, and at most the length of the sequences.
    pub fn kernel_len(&self) -> usize {
        self.spec.truncate.map_or(self.len, |m| m.min(self.len))
    }

    /// Whether the kernel is shorter than the sequences.
    pub fn is_truncated(&self) -> bool {
        self.kernel_len() < self.len
    }

    /// Sizes of the convolution by which `Fft` and `Cauchy` apply the kernel.
    pub fn conv_shape(&self) -> ConvShape {
        ConvShape {
            batch: self.batch,
            heads: self.spec.heads,
            channels: self.spec.channels,
            len: self.len,
            kernel_len: self.kernel_len(),
            bidirectional: self.spec.bidirectional,
        }
    }

    /// Refuses sizes, lengths, intervals and rates out of range, and algorithms that cannot run this layer.
    fn check(&self, v: &ViewChecks<'_, B>) -> Result<()> {
        self.spec.check(v.op)?;
        v.sizes(&[("batch", self.batch), ("len", self.len)])?;
        checks::rate(v.op, self.options.rate)?;
        v.lengths(self.options.lengths, self.batch, self.len)?;
        if let Some(intervals) = self.options.intervals {
            check_intervals_layer(v.op, &self.spec)?;
            if self.len > MOST_UNEVEN_STEPS {
                return Err(Error::unsupported(v.op, "at most 2^30 time steps with intervals", self.len));
            }
            let (expected, got) = (self.batch * self.len, v.backend.len(intervals));
            if got < expected {
                return Err(Error::shape(v.op, format!("{expected} intervals"), got));
            }
        }
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

    /// Refuses calls that give or ask for a state (`uses_state`) of layers that have none.
    fn check_states(&self, op: &'static str, uses_state: bool) -> Result<()> {
        if !uses_state || self.spec.has_state() {
            return Ok(());
        }
        Err(Error::unsupported(op, "no state with a two-sided layer or a truncated kernel", "a state"))
    }
}

/// Most time steps of a sequence with intervals: backends count them in 32 bits.
const MOST_UNEVEN_STEPS: usize = 1 << 30;

/// Refuses intervals for layers that have no recurrence: a truncated kernel counts samples, which then have no common
/// interval.
pub fn check_intervals_layer(op: &'static str, spec: &SsmSpec) -> Result<()> {
    match spec.truncate {
        None => Ok(()),
        Some(_) => Err(Error::unsupported(op, "a kernel that is not truncated, with intervals", "truncate")),
    }
}

/// y_t = C x_t + D u_t with x_t = Ā x_{t−1} + B̄ u_t (paper eq. 3), and the end state.
pub struct SsmForward<'a, B: Memory> {
    /// (batch, channels·H, len)
    pub y: B::Mut<'a>,
    /// (batch, H, 2, N/2): the state after each sequence's last time step, where it is wanted.
    pub state_end: Option<B::Mut<'a>>,
    /// `ssm_saved_len` elements that forward writes and `ssm_backward` reads; `None` in inference. Begins at a multiple
    /// of 16 bytes, as whole buffers do.
    pub saved: Option<B::Mut<'a>>,
    /// (batch, H, len)
    pub u: B::Ref<'a>,
    /// (batch, H, 2, N/2): the state before the first time step; `None` for zero.
    pub state0: Option<B::Ref<'a>>,
    /// The layer's parameters.
    pub params: SsmParams<'a, B>,
    /// The layer, the sizes and the options.
    pub call: SsmCall<'a, B>,
}

impl<B: Memory> SsmForward<'_, B> {
    /// Refuses sizes, options and views that do not fit; `plan` is the layer that the plan was made for, `saved_len`
    /// how many elements this backend saves for backward.
    pub fn check(&self, backend: &B, plan: &SsmSpec, saved_len: usize) -> Result<()> {
        let (call, v) = (&self.call, ViewChecks { backend, op: "ssm_forward" });
        call.check(&v)?;
        checks::plan_is_for_layer(v.op, plan, &call.spec)?;
        call.check_states(v.op, self.state_end.is_some() || self.state0.is_some())?;
        let (time_steps, state_len) = (call.batch * call.len, call.spec.state_len(call.batch));
        v.output("y", &self.y, time_steps * call.spec.outputs())?;
        v.optional_output("the end state", self.state_end.as_ref(), state_len)?;
        v.optional_output("saved values", self.saved.as_ref(), saved_len)?;
        v.input("u", self.u, time_steps * call.spec.heads)?;
        v.optional_input("the first state", self.state0, state_len)?;
        self.params.check(&v, &call.spec)
    }
}

/// A batch norm of an SSM's input, γ(u − μ)·rstd + β in each head, 0 beyond lengths.
pub struct SsmInputNorm<'a, B: Memory> {
    /// (2, H): mean and rstd.
    pub stats: B::Ref<'a>,
    /// (H)
    pub gamma: B::Ref<'a>,
    /// (H)
    pub beta: B::Ref<'a>,
}

impl<'a, B: Memory> SsmInputNorm<'a, B> {
    /// The same views for a shorter time.
    pub fn shorten<'b>(&self, backend: &B) -> SsmInputNorm<'b, B>
    where
        'a: 'b,
    {
        let [stats, gamma, beta] = [self.stats, self.gamma, self.beta].map(|view| backend.shorten(view));
        SsmInputNorm { stats, gamma, beta }
    }

    /// Refuses views that do not fit the call.
    pub fn check(&self, backend: &B, call: &SsmCall<'_, B>) -> Result<()> {
        let (v, heads) = (ViewChecks { backend, op: "ssm_forward" }, call.spec.heads);
        v.input("statistics", self.stats, 2 * heads)?;
        v.input("gamma", self.gamma, heads)?;
        v.input("beta", self.beta, heads)
    }
}

/// The gradients of sum(y·dy) + sum(state_end·dstate_end). `du` and `dstate0` are overwritten; all of `grads`, also
/// `grads.d`, accumulate.
pub struct SsmBackward<'a, B: Memory> {
    /// (batch, H, len)
    pub du: Option<B::Mut<'a>>,
    /// (batch, H, 2, N/2)
    pub dstate0: Option<B::Mut<'a>>,
    /// Where the parameters' gradients accumulate.
    pub grads: SsmGrads<'a, B>,
    /// (batch, channels·H, len)
    pub dy: B::Ref<'a>,
    /// (batch, H, 2, N/2)
    pub dstate_end: Option<B::Ref<'a>>,
    /// (batch, H, len): the input of forward. Not read where [`SsmOps::ssm_reads_input`] says so.
    pub u: B::Ref<'a>,
    /// (batch, H, 2, N/2): the state that forward began with.
    pub state0: Option<B::Ref<'a>>,
    /// The values that forward saved.
    pub saved: B::Ref<'a>,
    /// The layer's parameters, as they were in forward.
    pub params: SsmParams<'a, B>,
    /// The call of forward.
    pub call: SsmCall<'a, B>,
}

impl<B: Memory> SsmBackward<'_, B> {
    /// Refuses sizes, options and views that do not fit; the arguments are those of [`SsmForward::check`].
    pub fn check(&self, backend: &B, plan: &SsmSpec, saved_len: usize) -> Result<()> {
        let (call, v) = (&self.call, ViewChecks { backend, op: "ssm_backward" });
        call.check(&v)?;
        checks::plan_is_for_layer(v.op, plan, &call.spec)?;
        let uses_state = self.dstate0.is_some() || self.dstate_end.is_some() || self.state0.is_some();
        call.check_states(v.op, uses_state)?;
        let (time_steps, state_len) = (call.batch * call.len, call.spec.state_len(call.batch));
        v.optional_output("du", self.du.as_ref(), time_steps * call.spec.heads)?;
        v.optional_output("the gradient of the first state", self.dstate0.as_ref(), state_len)?;
        v.input("dy", self.dy, time_steps * call.spec.outputs())?;
        v.optional_input("the gradient of the end state", self.dstate_end, state_len)?;
        v.input("u", self.u, time_steps * call.spec.heads)?;
        v.optional_input("the first state", self.state0, state_len)?;
        v.input("saved values", self.saved, saved_len)?;
        self.params.check(&v, &call.spec)?;
        self.grads.check(&v, &call.spec)
    }
}

/// Which of a call's passes is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SsmPass {
    Forward,
    Backward,
}

/// What is known of a pass of training before its sequences are: without states, and with saved values.
pub struct SsmPrepare<'a, B: Memory> {
    /// The layer's parameters, as they will be in the pass.
    pub params: SsmParams<'a, B>,
    /// The layer, the sizes and the options.
    pub call: SsmCall<'a, B>,
    /// The pass.
    pub pass: SsmPass,
}

impl<B: Memory> SsmPrepare<'_, B> {
    /// Refuses sizes, options and views that do not fit; `plan` is the layer that the plan was made for.
    pub fn check(&self, backend: &B, plan: &SsmSpec) -> Result<()> {
        let v = ViewChecks { backend, op: "ssm_prepare" };
        self.call.check(&v)?;
        checks::plan_is_for_layer(v.op, plan, &self.call.spec)?;
        self.params.check(&v, &self.call.spec)
    }
}

/// The SSM on whole sequences.
///
/// Where sequences have lengths of their own (`call.options.lengths`), each gives what it would give alone: its end
/// state is the state after its own last time step, and beyond that y and du are set to 0 and dy is read as 0.
/// Bidirectional and truncated layers have no state.
///
/// Where time steps have intervals i of their own (`call.options.intervals`), u_t is held for the time i_t before step t:
/// x_t = Ā(i_t) x_{t−1} + B̄(i_t) u_t with Ā and B̄ of Δ·i_t, as `ssm_step` has it, whatever the algorithm. The backward
/// direction of a bidirectional layer goes back over the same held input: z_t = Ā(i_{t+1}) z_{t+1} + B̄(i_{t+1}) u_{t+1},
/// of which y_t has C z_t. Truncated layers are refused: their kernel counts samples.
pub trait SsmOps: Memory {
    /// Constants of one layer that are kept between calls: the kernel or its spectrum, the matrices of a chunk.
    type SsmPlan: Send + 'static;

    /// An empty plan.
    fn ssm_plan(&self, spec: &SsmSpec) -> Result<Self::SsmPlan>;

    /// Elements that forward of this call saves for backward; may be 0.
    fn ssm_saved_len(&self, call: &SsmCall<'_, Self>) -> usize;

    /// Refuses calls with intervals for layers that this backend cannot run with them.
    fn check_intervals(&self, op: &'static str, spec: &SsmSpec) -> Result<()> {
        check_intervals_layer(op, spec)
    }

    /// Whether `ssm_backward` reads u. `false`: forward has left what backward needs of u in `saved`, and u may hold anything, if dy and du
    /// begin at multiples of 16 bytes, as whole buffers do. `states`: whether the call has states or gradients of states.
    fn ssm_reads_input(
        &self,
        call: &SsmCall<'_, Self>,
        saved: Self::Ref<'_>,
        states: bool,
        plan: &Self::SsmPlan,
    ) -> bool {
        let _ = (call, saved, states, plan);
        true
    }

    /// Begins what the pass to come needs of the parameters alone, where the device can do that beside other work. Nothing need follow it,
    /// and the pass gives the same results with it and without; a pass that is recorded for replays is not prepared. To prepare a forward gives up what the plan keeps for the backward of the
    /// one before, which then computes it again.
    fn ssm_prepare(&self, args: SsmPrepare<'_, Self>, plan: &mut Self::SsmPlan) -> Result<()> {
        args.check(self, &args.call.spec)?;
        let _ = plan;
        Ok(())
    }

    /// Overwrites y, the end state and the saved values.
    fn ssm_forward(
        &self,
        args: SsmForward<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Whether forward of this call can take a batch norm of its input upon itself ([`SsmOps::ssm_forward_of_norm`]), as far as sizes and
    /// options decide; y and u must begin at multiples of 16 bytes, as whole buffers do. `states`: whether the call has states.
    fn ssm_norms_input(&self, call: &SsmCall<'_, Self>, states: bool) -> bool {
        let _ = (call, states);
        false
    }

    /// [`SsmOps::ssm_forward`] of norm(u), which is not written to memory.
    fn ssm_forward_of_norm(
        &self,
        args: SsmForward<'_, Self>,
        norm: SsmInputNorm<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        let _ = (args, norm, plan, ws);
        Err(Error::unsupported("ssm_forward", "a call that norms its input", "another"))
    }

    /// Whether backward of this call, without states, can take the gradient of y as rows ([`SsmOps::ssm_backward_of_chunk_rows`]), as far as sizes
    /// and options decide; its arrays must begin at multiples of 16 bytes.
    fn ssm_takes_chunk_rows(&self, call: &SsmCall<'_, Self>) -> bool {
        let _ = call;
        false
    }

    /// [`SsmOps::ssm_backward`] where dy has been written as rows by a mix ([`crate::DenseOps::mix_backward_to_chunk_rows`]): an array of as many elements, in a form of
    /// the backend's own, which is used up.
    fn ssm_backward_of_chunk_rows(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()> {
        let _ = (args, plan, ws);
        Err(Error::unsupported("ssm_backward", "a call that takes rows", "another"))
    }

    /// See [`SsmBackward`].
    fn ssm_backward(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
