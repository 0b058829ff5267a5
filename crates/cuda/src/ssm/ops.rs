//! The backend contract's operations of the SSM on whole sequences: by chunk passes, by a kernel and FFT convolution, or
//! with intervals by a recurrence a step.

use super::{
    backward::ChunkBackward,
    bidirectional_pass::InputNorm,
    chunk_rows::{ChunkRowSizes, ChunkRows},
    chunk_states::{ChunkStates, SavedStatesKey},
    conv::{Convolution, ConvolutionBackward},
    discretize::Layer,
    forward::ChunkForward,
    intervals,
    matrices::KernelRange,
    plan::{Prepared, PreparedKey, SsmPlan},
    sizes::Sizes,
};
use crate::{
    device::Cuda,
    driver::Span,
    memory::{Ref, Workspace},
    precision::Precision,
};
use s4_backend::{
    Algorithm, Code, Error, Result, SsmBackward, SsmCall, SsmForward, SsmInputNorm, SsmOps, SsmPass,
    SsmPrepare, SsmSpec,
};

impl Cuda {
    /// The algorithm that runs a call. Only chunk passes carry states, so a call that has them runs by chunks even
    /// where `Fft` or `Cauchy` was asked for: all compute the same. By `Cauchy` y of a call that no state enters is still
    /// Algorithm 1's.
    pub fn chosen_algorithm(&self, call: &SsmCall<'_, Self>) -> Algorithm {
        match call.options.algorithm {
            Algorithm::Auto if call.is_truncated() => Algorithm::Fft,
            Algorithm::Auto => Algorithm::Chunk,
            asked => asked,
        }
    }

    /// Whether a call runs by a kernel and its convolution.
    fn convolves(&self, call: &SsmCall<'_, Self>, states: bool) -> bool {
        !states && matches!(self.chosen_algorithm(call), Algorithm::Fft | Algorithm::Cauchy)
    }

    fn forward_by_chunks(
        &self,
        args: &SsmForward<'_, Self>,
        norm: Option<InputNorm>,
        plan: &mut SsmPlan,
    ) -> Result<()> {
        const OP: &str = "ssm_forward";
        let states = args.state0.is_some() || args.state_end.is_some();
        let call = &args.call;
        let c = self.chunk_call(OP, call, args.params)?;
        let mut arrays = ChunkForward {
            y: args.y.span(),
            state_end: args.state_end.as_ref().map(|s| s.span()),
            saved: None,
            states: ChunkStates::default(),
            u: args.u.span(),
            norm,
            state0: args.state0.map(|s| s.span()),
        };
        let aligned = [arrays.y, arrays.u].into_iter().all(Span::is_aligned);
        let bidirectional_pass = c.bidirectional_pass && !states && aligned;
        if norm.is_some() && !bidirectional_pass {
            return Err(Error::unsupported(OP, "a call that norms its input", "another"));
        }
        let (version, rate) = (call.version, call.options.rate.to_bits());
        let prepared = plan.prepared.take();
        if let Some(saved) = &args.saved {
            // Backward follows, and then the parameters change: most matrices are not worth keeping.
            (plan.key, plan.constants) = (None, None);
            let key = PreparedKey::of(&c, (version, rate), bidirectional_pass);
            let (mut once, mut powers) = match prepared {
                Some((k, Prepared::Forward(once, powers))) if k == key => (once, powers),
                Some((_, Prepared::Forward(_, powers))) => {
                    self.training_constants(&c, bidirectional_pass, Some(powers))?
                }
                _ => self.training_constants(&c, bidirectional_pass, plan.powers.take())?,
            };
            arrays.saved = saved_span(OP, saved.span())?;
            let kept = arrays.saved.filter(|_| bidirectional_pass && self.states_in_f16());
            if let Some(saved) = kept {
                arrays.states = c.saved_states(saved);
                arrays.states.largest.map_or(Ok(()), |largest| self.zero(largest))?;
            }
            self.chunk_forward(&arrays, &c, &mut once)?;
            (powers.key, powers.states) =
                (Some((version, rate)), kept.map(|saved| SavedStatesKey::of(call, saved)));
            plan.powers = Some(powers);
            return Ok(());
        }
        let key = Some((version, rate, bidirectional_pass));
        if plan.key != key || plan.constants.as_ref().is_none_or(|kept| !kept.are_for(c.segment_split)) {
            plan.constants = None;
            let q = self.transition_buffer(OP, c.sizes)?;
            plan.constants = Some(self.constants(&c, bidirectional_pass, q)?);
            plan.key = key;
        }
        let constants = plan.constants.as_mut().expect("made above");
        self.chunk_forward(&arrays, &c, constants)
    }

    /// K̄ that `fft` and `cauchy` convolve with.
    fn kernel_of_convolution(
        &self,
        op: &'static str,
        kernel: Span,
        layer: Layer<'_>,
        (len, algorithm): (usize, Algorithm),
    ) -> Result<()> {
        match algorithm {
            Algorithm::Cauchy => self.cauchy_kernel(op, kernel, layer, len),
            _ => self.impulse_kernel(op, kernel, layer, len),
        }
    }

    fn fft_forward(&self, args: &SsmForward<'_, Self>) -> Result<()> {
        const OP: &str = "ssm_forward";
        let (params, call) = (args.params, &args.call);
        let shape = call.conv_shape();
        let kernel = self.scratch(OP, shape.kernel_channels() * shape.heads * shape.kernel_len)?;
        let layer = Layer { params, spec: call.spec, rate: call.options.rate };
        self.kernel_of_convolution(OP, kernel.span(), layer, (shape.kernel_len, call.options.algorithm))?;
        let conv = Convolution {
            y: args.y.span(),
            u: args.u.span(),
            kernel: kernel.span(),
            d: Some(params.d.span()),
            lengths: call.options.lengths,
            shape: &shape,
        };
        self.convolve(OP, &conv)
    }

    fn fft_backward(&self, args: &SsmBackward<'_, Self>) -> Result<()> {
        const OP: &str = "ssm_backward";
        let (params, call) = (args.params, &args.call);
        let shape = call.conv_shape();
        let kernel_elements = shape.kernel_channels() * shape.heads * shape.kernel_len;
        let (kernel, dkernel) = (self.scratch(OP, kernel_elements)?, self.scratch(OP, kernel_elements)?);
        let layer = Layer { params, spec: call.spec, rate: call.options.rate };
        self.kernel_of_convolution(OP, kernel.span(), layer, (shape.kernel_len, call.options.algorithm))?;
        self.zero(dkernel.span())?;
        let conv = Convolution {
            y: args.dy.span(),
            u: args.u.span(),
            kernel: kernel.span(),
            d: Some(params.d.span()),
            lengths: call.options.lengths,
            shape: &shape,
        };
        let gradients = ConvolutionBackward {
            du: args.du.as_ref().map(|d| d.span()),
            dkernel: dkernel.span(),
            dd: Some(args.grads.d.span()),
        };
        self.convolve_backward(OP, &gradients, &conv)?;
        let (grads, dkernel) = ((&args.grads).into(), dkernel.span());
        match call.options.algorithm {
            Algorithm::Cauchy => self.cauchy_kernel_backward(OP, grads, dkernel, layer, shape.kernel_len),
            _ => self.impulse_kernel_backward(OP, grads, dkernel, layer, shape.kernel_len),
        }
    }
}

impl SsmOps for Cuda {
    type SsmPlan = SsmPlan;

    fn ssm_plan(&self, spec: &SsmSpec) -> Result<SsmPlan> {
        spec.check("ssm_plan")?;
        Sizes::new("ssm_plan", spec)?;
        Ok(SsmPlan { spec: *spec, key: None, constants: None, powers: None, prepared: None })
    }

    /// The states that enter the segments, where sequences are cut, and those that enter the chunks and the input, where they are f16; backward
    /// recomputes all else that it needs.
    fn ssm_saved_len(&self, call: &SsmCall<'_, Self>) -> usize {
        match self.chosen_algorithm(call) {
            _ if call.options.intervals.is_some() => intervals::saved_len(&call.spec, call.batch, call.len),
            Algorithm::Chunk => self.chunk_saved_len(&call.spec, call.batch, call.len),
            _ => 0,
        }
    }

    fn ssm_reads_input(
        &self,
        call: &SsmCall<'_, Self>,
        saved: Ref<'_>,
        states: bool,
        plan: &SsmPlan,
    ) -> bool {
        let by_chunks = !states && call.options.intervals.is_none() && !self.convolves(call, states);
        !by_chunks || !plan.keeps_states(call, saved.span())
    }

    fn ssm_prepare(&self, args: SsmPrepare<'_, Self>, plan: &mut SsmPlan) -> Result<()> {
        args.check(self, &plan.spec)?;
        plan.prepared = None;
        let call = &args.call;
        let beside = self.beside(call.batch * call.spec.heads * call.len);
        let by_chunks = call.options.intervals.is_none() && self.chosen_algorithm(call) == Algorithm::Chunk;
        if !beside.launches_beside() || !by_chunks {
            return Ok(());
        }
        let c = self.chunk_call("ssm_prepare", call, args.params)?;
        let parameters = (call.version, call.options.rate.to_bits());
        let key = PreparedKey::of(&c, parameters, c.bidirectional_pass);
        let prepared = match args.pass {
            SsmPass::Forward => beside
                .training_constants(&c, c.bidirectional_pass, plan.powers.take())
                .map(|(once, powers)| Prepared::Forward(once, powers)),
            // As large as an activation: with 'highest' the memory is needed for products, unless the work is gathered and so small.
            SsmPass::Backward if self.precision() == Precision::Highest && !self.spends_memory() => {
                return Ok(());
            }
            SsmPass::Backward => {
                let powers = plan.powers.as_ref().filter(|p| p.key == Some(parameters));
                beside.backward_constants(&c, powers, c.bidirectional_pass).map(Prepared::Backward)
            }
        };
        plan.prepared = match prepared {
            Ok(prepared) => Some((key, prepared)),
            // The pass may find the memory that is in use now.
            Err(e) if e.code == Code::Memory => None,
            Err(e) => return Err(e),
        };
        Ok(())
    }

    fn ssm_forward(&self, args: SsmForward<'_, Self>, plan: &mut SsmPlan, _ws: &mut Workspace) -> Result<()> {
        args.check(self, &plan.spec, self.ssm_saved_len(&args.call))?;
        if let Some(intervals) = args.call.options.intervals {
            return self.forward_with_intervals(&args, intervals);
        }
        let states = args.state0.is_some() || args.state_end.is_some();
        if self.convolves(&args.call, states) {
            return self.fft_forward(&args);
        }
        self.forward_by_chunks(&args, None, plan)?;
        match args.call.options.algorithm {
            // Algorithm 1 has no states: of the chunks' results the end state stays, and y is written anew, unless a state enters.
            Algorithm::Cauchy if args.state0.is_none() => self.fft_forward(&args),
            _ => Ok(()),
        }
    }

    fn ssm_norms_input(&self, call: &SsmCall<'_, Self>, states: bool) -> bool {
        let by_chunks = !states && call.options.intervals.is_none();
        by_chunks
            && self.chosen_algorithm(call) == Algorithm::Chunk
            && self.passes_in_both_directions("ssm_forward", &call.spec, (call.batch, call.len))
    }

    fn ssm_forward_of_norm(
        &self,
        args: SsmForward<'_, Self>,
        norm: SsmInputNorm<'_, Self>,
        plan: &mut SsmPlan,
        _ws: &mut Workspace,
    ) -> Result<()> {
        args.check(self, &plan.spec, self.ssm_saved_len(&args.call))?;
        norm.check(self, &args.call)?;
        let states = args.state0.is_some() || args.state_end.is_some();
        if !self.ssm_norms_input(&args.call, states) {
            return Err(Error::unsupported("ssm_forward", "a call that norms its input", "another"));
        }
        let SsmInputNorm { stats, gamma, beta } = norm;
        let norm = InputNorm { stats: stats.span(), gamma: gamma.span(), beta: beta.span() };
        self.forward_by_chunks(&args, Some(norm), plan)
    }

    fn ssm_backward(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut SsmPlan,
        _ws: &mut Workspace,
    ) -> Result<()> {
        args.check(self, &plan.spec, self.ssm_saved_len(&args.call))?;
        if let Some(intervals) = args.call.options.intervals {
            return self.backward_with_intervals(&args, intervals);
        }
        let states = args.state0.is_some() || args.dstate_end.is_some() || args.dstate0.is_some();
        if self.convolves(&args.call, states) {
            return self.fft_backward(&args);
        }
        self.backward_by_chunks(&args, None, plan)
    }

    fn ssm_takes_chunk_rows(&self, call: &SsmCall<'_, Self>) -> bool {
        self.precision().products() == 1
            && self.ssm_norms_input(call, false)
            && ChunkRowSizes::of((call.spec.heads, call.batch), call.len).fits()
    }

    fn ssm_backward_of_chunk_rows(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut SsmPlan,
        _ws: &mut Workspace,
    ) -> Result<()> {
        const OP: &str = "ssm_backward";
        args.check(self, &plan.spec, self.ssm_saved_len(&args.call))?;
        let (call, dy) = (&args.call, args.dy.span());
        if !self.ssm_takes_chunk_rows(call) || !dy.is_aligned() {
            return Err(Error::unsupported(OP, "a call that takes rows", "another"));
        }
        let rows = ChunkRowSizes::of((call.spec.heads, call.batch), call.len).parts(dy);
        self.backward_by_chunks(&args, Some(rows), plan)
    }
}

impl Cuda {
    /// dy_rows: dy, where it is given as rows.
    fn backward_by_chunks(
        &self,
        args: &SsmBackward<'_, Self>,
        dy_rows: Option<ChunkRows>,
        plan: &mut SsmPlan,
    ) -> Result<()> {
        const OP: &str = "ssm_backward";
        let call = &args.call;
        let c = self.chunk_call(OP, call, args.params)?;
        let kernel_ranges = KernelRange::causal_and_anticausal(call.spec.channels);
        let parameters = (call.version, call.options.rate.to_bits());
        let prepared_key = PreparedKey::of(&c, parameters, c.bidirectional_pass);
        let constants = match plan.prepared.take() {
            Some((key, Prepared::Backward(constants))) if key == prepared_key => Some(constants),
            _ => None,
        };
        let powers = plan.powers.as_ref().filter(|p| p.key == Some(parameters));
        let saved = saved_span(OP, args.saved.span())?;
        let kept = saved.filter(|&saved| plan.keeps_states(call, saved));
        let arrays = ChunkBackward {
            du: args.du.as_ref().map(|d| d.span()),
            dstate0: args.dstate0.as_ref().map(|s| s.span()),
            grads: (&args.grads).into(),
            dy: args.dy.span(),
            dy_rows,
            dstate_end: args.dstate_end.map(|s| s.span()),
            saved,
            states: kept.map(|saved| c.saved_states(saved)),
            u: args.u.span(),
            state0: args.state0.map(|s| s.span()),
            kernel_ranges: &kernel_ranges[..1 + call.spec.bidirectional as usize],
            with_d: true,
            powers,
        };
        self.chunk_backward(&arrays, &c, constants)
    }
}

/// The saved values, where there are any; kernels read and write them two floats at a time and more.
fn saved_span(op: &'static str, saved: Span) -> Result<Option<Span>> {
    if saved.is_aligned() {
        return Ok(Some(saved).filter(|s| s.bytes() > 0));
    }
    Err(Error::value(op, "saved values at a multiple of 16 bytes, as whole buffers are", "another address"))
}
