//! A layer or a block by itself, called with host arrays. Callers have features last, (batch, len, features), and complex
//! states as pairs, (batch, H, N/2, 2); on the device time is last, (batch, features, len), and the real parts of a state
//! precede its imaginary parts, (batch, H, 2, N/2).

use crate::{
    block::{BlockBackward, BlockCore, BlockForward, SavedBlock},
    call_arrays::CallArrays,
    check,
    config::{BlockConfig, LayerConfig},
    growable_buffer::GrowableBuffer,
    module_core::ModuleCore,
    norm::check_time_steps,
    param::{ParamBuilder, ParamStore},
    pass_options::{Forward, ForwardOptions, PassContext, SavedForward},
    residual::SharedScratch,
    s4::{S4Backward, S4Core, S4Forward, S4Step},
    transposed_copies::{MatrixSizes, download_transposed, download_transposed_into, upload_transposed},
};
use s4_backend::{
    Backend, Code, Error, Result, Scalar, SeqShape, SsmSpec, ZeroBeyondLengths, check_layer, checks,
    host_memory,
};

/// Gradients of the input and the start state of a layer or a block.
#[derive(Clone, Debug, PartialEq)]
pub struct InputGrads<T> {
    /// Gradient of the input, (batch, len, H).
    pub du: Vec<T>,
    /// Gradient of the state that the forward started from, (batch, H, N/2, 2), where it was given one.
    pub dstate0: Option<Vec<T>>,
}

/// Device buffers that the calls of one layer or block reuse.
struct CallBuffers<B: Backend> {
    /// Device copy of a host array, before or after its transposition.
    staging: GrowableBuffer<B>,
    /// Input of the last forward.
    x: GrowableBuffer<B>,
    /// Output of the last forward; in a backward, its gradient.
    y: GrowableBuffer<B>,
    /// Gradient of the input; in a time step, the input.
    dx: GrowableBuffer<B>,
    /// The state that the last saved forward started from.
    state0: GrowableBuffer<B>,
    /// The state that the last forward ended with, or its gradient.
    state_end: GrowableBuffer<B>,
    /// Gradient of the state that the forward started from; in a step, the state.
    dstate0: GrowableBuffer<B>,
    /// Intervals of a time step.
    interval: GrowableBuffer<B>,
    /// Lengths and intervals of the last forward that gave any.
    call_arrays: CallArrays<B>,
    /// What a block's forward has saved.
    saved_block: SavedBlock<B>,
    /// What a layer's forward has saved.
    saved_layer: GrowableBuffer<B>,
    scratch: SharedScratch<B>,
}

/// A layer or a block (`C`) with its own parameters, called with host arrays.
pub struct Module<B: Backend, C: ModuleCore<B>> {
    be: B,
    config: C::Config,
    store: ParamStore<B>,
    core: C,
    buffers: CallBuffers<B>,
    /// The last forward that saved its values, while a backward may follow it.
    saved_forward: Option<SavedForward>,
    /// Number of training forwards so far, by which each draws dropout masks of its own.
    training_forwards: u64,
}

/// One S4 or S4D layer: y = K̄∗u + D·u. Parameters `kernel.{inv_dt,A_real,A_imag,B,C,P}` and `D`.
pub type Layer<B> = Module<B, S4Core<B>>;

/// One block: norm, S4, activation, dropout, linear, GLU, dropout, residual. Parameters `norm.{weight,bias}`,
/// `layer.kernel.*`, `layer.D`, `output_linear.0.{weight,bias}`.
pub type Block<B> = Module<B, BlockCore<B>>;

impl<B: Backend> Module<B, S4Core<B>> {
    /// A new layer. Its initial values are drawn from `config.seed`.
    pub fn new(be: B, config: LayerConfig) -> Result<Self> {
        config.check("S4Layer")?;
        let mut params = ParamBuilder::default();
        let core = S4Core::new(&be, &config, "", 16, &mut params)?;
        Self::from_parts(be, config, core, params)
    }
}

impl<B: Backend> Module<B, BlockCore<B>> {
    /// A new block. Its initial values are drawn from `config.layer.seed`.
    pub fn new(be: B, config: BlockConfig) -> Result<Self> {
        config.check("S4Block")?;
        let mut params = ParamBuilder::default();
        let core = BlockCore::new(&be, &config, "", 0, &mut params)?;
        Self::from_parts(be, config, core, params)
    }
}

impl<B: Backend, C: ModuleCore<B>> Module<B, C> {
    /// Puts parameters, empty buffers and the layer or block itself together.
    fn from_parts(be: B, config: C::Config, core: C, params: ParamBuilder) -> Result<Self> {
        let buffers = CallBuffers {
            staging: GrowableBuffer::new(&be)?,
            x: GrowableBuffer::new(&be)?,
            y: GrowableBuffer::new(&be)?,
            dx: GrowableBuffer::new(&be)?,
            state0: GrowableBuffer::new(&be)?,
            state_end: GrowableBuffer::new(&be)?,
            dstate0: GrowableBuffer::new(&be)?,
            interval: GrowableBuffer::new(&be)?,
            call_arrays: CallArrays::new(&be)?,
            saved_block: SavedBlock::new(&be)?,
            saved_layer: GrowableBuffer::new(&be)?,
            scratch: SharedScratch::new(&be)?,
        };
        Ok(Module {
            store: params.build(&be)?,
            be,
            config,
            core,
            buffers,
            saved_forward: None,
            training_forwards: 0,
        })
    }

    /// The options that it was made from.
    pub fn config(&self) -> &C::Config {
        &self.config
    }
    /// The options as JSON, those with default values included.
    pub fn config_json(&self) -> String {
        C::config_json(&self.config)
    }
    /// The backend it computes on.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// All parameters with their gradients.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// All parameters with their gradients, to be changed.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Sizes and kinds of its SSM.
    pub fn spec(&self) -> &SsmSpec {
        self.core.s4().spec()
    }
    /// Whether it has a recurrent state: it must be causal and its kernel not truncated.
    pub fn has_state(&self) -> bool {
        self.core.s4().spec().has_state()
    }
    /// Number of features of the output.
    pub fn outputs(&self) -> usize {
        match self.core.block() {
            Some(block) => block.heads(),
            None => self.core.s4().spec().outputs(),
        }
    }

    /// The output for whole sequences `u` (batch, len, H). With `opts.save`, or in training, a backward may follow.
    pub fn forward(
        &mut self,
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        // The sizes are checked first, so that wrong ones do not ask for a huge output.
        check::shaped(C::NAMES.forward, "u", u, &[batch, len, self.core.s4().spec().heads])?;
        let mut y = host_memory::zeros(
            "s4-node",
            "a result",
            check::elements(C::NAMES.forward, "y", &[batch, len, self.outputs()])?,
        )?;
        let state_end = self.forward_into(&mut y, u, batch, len, opts)?;
        Ok(Forward { y, state_end })
    }

    /// As [`Module::forward`], but writes the output into the caller's `y_out` (batch, len, outputs) and gives only the
    /// state after the last time step.
    pub fn forward_into(
        &mut self,
        y_out: &mut [B::Scalar],
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Option<Vec<B::Scalar>>> {
        let op = C::NAMES.forward;
        let spec = *self.core.s4().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        let n = check::shaped(op, "u", u, &[batch, len, h])?;
        check::elements(op, "y", &[batch, len, spec.outputs().max(outputs), 2])?;
        check::shaped(op, "y", y_out, &[batch, len, outputs])?;
        check::finite_on(&self.be, op, "u", u)?;
        checks::rate(op, opts.call.rate)?;
        if let Some(lengths) = opts.call.lengths {
            check::lengths(op, lengths, batch, len)?;
        }
        check::call_intervals(&self.be, op, opts.call.intervals, (batch, len), &spec)?;
        if let Some(state0) = opts.state0 {
            check_layer(op, self.core.s4().spec())?;
            check::shaped(op, "state", state0, &[batch, h, spec.pairs(), 2])?;
            check::finite(op, "state", state0)?;
        }
        let training = opts.call.training;
        if let (true, Some(norm)) =
            (training, self.core.block_mut().and_then(|block| block.residual.norm.as_mut()))
        {
            check_time_steps(op, norm.kind(), check::time_steps(batch, len, opts.call.lengths))?;
            // Of a forward that failed within its work.
            norm.drop_statistics();
        }
        let want_state_end = opts.want_state_end && self.has_state();
        let (ns, m) = (spec.state_len(batch), batch * len * outputs);
        let be = self.be.clone();
        let b = &mut self.buffers;
        // The saved values of the last forward are overwritten from here on, and so no backward may follow unless this
        // forward succeeds.
        self.saved_forward = None;
        upload_transposed(&be, &mut b.staging, &mut b.x, u, MatrixSizes::new(batch, len, h))?;
        if let Some(state0) = opts.state0 {
            let sizes = MatrixSizes::new(batch * h, spec.pairs(), 2);
            upload_transposed(&be, &mut b.staging, &mut b.state0, state0, sizes)?;
        }
        b.call_arrays.upload(&be, &opts.call)?;
        let save = opts.save || training;
        let dropout_at = (C::seed(&self.config), self.training_forwards);
        let saved = SavedForward::new(batch, len, self.store.version(), opts, dropout_at);
        let pass = saved.pass(&be, &self.store.values, &b.call_arrays);
        b.y.ensure(&be, m)?;
        b.state_end.ensure(&be, ns)?;
        let state_end = want_state_end.then(|| b.state_end.get_mut(&be, ns));
        let state0 = opts.state0.map(|_| b.state0.get(&be, ns));
        let (x, y) = (b.x.get(&be, n), b.y.get_mut(&be, m));
        match self.core.block_mut() {
            Some(block) => {
                let saved = save.then_some(&mut b.saved_block);
                let arrays = BlockForward { y, state_end, saved, x, state0 };
                block.forward(&pass, arrays, &mut b.scratch)?;
                if let Some(norm) = &mut block.residual.norm {
                    norm.accept_statistics(&be, None)?;
                }
            }
            None => {
                let core = self.core.s4_mut();
                let saved_len = if save { core.saved_len(&pass) } else { 0 };
                b.saved_layer.ensure(&be, saved_len)?;
                let saved = save.then(|| b.saved_layer.get_mut(&be, saved_len));
                let arrays = S4Forward { y, state_end, saved, u: x, norm: None, state0 };
                core.forward(&pass, arrays, &mut b.scratch.ws)?;
            }
        }
        if let Some(lengths) = pass.options.lengths {
            let (x, shape) = (b.y.get_mut(&be, m), SeqShape { batch, heads: outputs, len });
            be.zero_beyond_lengths(ZeroBeyondLengths { x, lengths, shape })?;
        }
        let (y, sizes) = (b.y.get(&be, m), MatrixSizes::new(batch, outputs, len));
        download_transposed_into(&be, &mut b.staging, y_out, y, sizes)?;
        let state_end = match want_state_end {
            true => {
                let sizes = MatrixSizes::new(batch * h, 2, spec.pairs());
                Some(download_transposed(&be, &mut b.staging, b.state_end.get(&be, ns), sizes)?)
            }
            false => None,
        };
        self.training_forwards += u64::from(training);
        if save {
            self.saved_forward = Some(saved);
        }
        Ok(state_end)
    }

    /// Gradients of sum(y·dy) + sum(end state·dstate_end) for the last forward that saved its values. The gradients of
    /// parameters are added to what the store holds.
    pub fn backward(
        &mut self,
        dy: &[B::Scalar],
        dstate_end: Option<&[B::Scalar]>,
    ) -> Result<InputGrads<B::Scalar>> {
        let n =
            self.saved_forward.as_ref().map_or(0, |last| last.batch * last.len * self.core.s4().spec().heads);
        let mut du = host_memory::zeros("s4-node", "a result", n)?;
        let dstate0 = self.backward_into(&mut du, dy, dstate_end)?;
        Ok(InputGrads { du, dstate0 })
    }

    /// As [`Module::backward`], but writes the input's gradient into the caller's `du` (batch, len, H) and gives only the
    /// start state's.
    pub fn backward_into(
        &mut self,
        du: &mut [B::Scalar],
        dy: &[B::Scalar],
        dstate_end: Option<&[B::Scalar]>,
    ) -> Result<Option<Vec<B::Scalar>>> {
        let op = C::NAMES.backward;
        let spec = *self.core.s4().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        let last = SavedForward::last(op, self.saved_forward, self.store.version())?;
        let (batch, len) = (last.batch, last.len);
        let m = check::shaped(op, "dy", dy, &[batch, len, outputs])?;
        check::shaped(op, "du", du, &[batch, len, h])?;
        check::finite_on(&self.be, op, "dy", dy)?;
        if let Some(dstate_end) = dstate_end {
            check_layer(op, self.core.s4().spec())?;
            check::shaped(op, "dstate", dstate_end, &[batch, h, spec.pairs(), 2])?;
            check::finite(op, "dstate", dstate_end)?;
        }
        let (n, ns) = (batch * len * h, spec.state_len(batch));
        let be = self.be.clone();
        let b = &mut self.buffers;
        upload_transposed(&be, &mut b.staging, &mut b.y, dy, MatrixSizes::new(batch, len, outputs))?;
        let ParamStore { values, grads, .. } = &mut self.store;
        let pass = last.pass(&be, values, &b.call_arrays);
        if let Some(lengths) = pass.options.lengths {
            let (x, shape) = (b.y.get_mut(&be, m), SeqShape { batch, heads: outputs, len });
            be.zero_beyond_lengths(ZeroBeyondLengths { x, lengths, shape })?;
        }
        if let Some(dstate_end) = dstate_end {
            let sizes = MatrixSizes::new(batch * h, spec.pairs(), 2);
            upload_transposed(&be, &mut b.staging, &mut b.state_end, dstate_end, sizes)?;
        }
        b.dx.ensure(&be, n)?;
        b.dstate0.ensure(&be, ns)?;
        let dstate0 = last.has_state0.then(|| b.dstate0.get_mut(&be, ns));
        let state0 = last.has_state0.then(|| b.state0.get(&be, ns));
        let dstate_end = dstate_end.map(|_| b.state_end.get(&be, ns));
        let (x, dx, dy) = (b.x.get(&be, n), b.dx.get_mut(&be, n), b.y.get(&be, m));
        match self.core.block_mut() {
            Some(block) => {
                let arrays = BlockBackward {
                    dx,
                    dstate0,
                    grads,
                    dy,
                    dstate_end,
                    x,
                    state0,
                    saved: &mut b.saved_block,
                    consume_saved: false,
                };
                block.backward(&pass, arrays, &mut b.scratch)?;
            }
            None => {
                let core = self.core.s4_mut();
                let arrays = S4Backward {
                    du: Some(dx),
                    dstate0,
                    grads,
                    dy,
                    chunk_rows: false,
                    dstate_end,
                    u: x,
                    state0,
                    saved: b.saved_layer.get(&be, core.saved_len(&pass)),
                };
                core.backward(&pass, arrays, &mut b.scratch.ws)?;
            }
        }
        let (dx, sizes) = (b.dx.get(&be, n), MatrixSizes::new(batch, h, len));
        download_transposed_into(&be, &mut b.staging, du, dx, sizes)?;
        if !last.has_state0 {
            return Ok(None);
        }
        let sizes = MatrixSizes::new(batch * h, 2, spec.pairs());
        download_transposed(&be, &mut b.staging, b.dstate0.get(&be, ns), sizes).map(Some)
    }

    /// One sample a row: `u` (batch, H) → (batch, outputs); `state` (batch, H, N/2, 2) is the caller's: read, and
    /// overwritten with the next one; norms use running statistics. `interval`: (batch), the ratio of this step to the training interval. `ERR_S4_NONFINITE` for an output or
    /// a next state that is not finite; `state` is then as it was.
    pub fn step(
        &mut self,
        u: &[B::Scalar],
        state: &mut [B::Scalar],
        interval: Option<&[B::Scalar]>,
        batch: usize,
        rate: f64,
    ) -> Result<Vec<B::Scalar>> {
        let op = C::NAMES.step;
        let spec = *self.core.s4().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        check_layer(op, self.core.s4().spec())?;
        let n = check::shaped(op, "u", u, &[batch, h])?;
        let ns = check::shaped(op, "state", state, &[batch, h, spec.pairs(), 2])?;
        check::finite_on(&self.be, op, "u", u)?;
        check::finite(op, "state", state)?;
        checks::rate(op, rate)?;
        if let Some(interval) = interval {
            check::intervals(op, interval, batch)?;
        }
        let be = self.be.clone();
        let b = &mut self.buffers;
        let m = batch * outputs;
        // The buffers of a forward are left alone, because a backward of it may still follow.
        b.dx.ensure(&be, n)?;
        be.upload(b.dx.get_mut(&be, n), u)?;
        let sizes = MatrixSizes::new(batch * h, spec.pairs(), 2);
        upload_transposed(&be, &mut b.staging, &mut b.dstate0, state, sizes)?;
        if let Some(interval) = interval {
            b.interval.ensure(&be, batch)?;
            be.upload(b.interval.get_mut(&be, batch), interval)?;
        }
        b.staging.ensure(&be, m)?;
        let pass = PassContext::at_rate(&be, &self.store, (batch, 1), rate);
        let arrays = S4Step {
            y: b.staging.get_mut(&be, m),
            state: b.dstate0.get_mut(&be, ns),
            u: b.dx.get(&be, n),
            interval: interval.map(|_| b.interval.get(&be, batch)),
            plan: None,
        };
        match self.core.block_mut() {
            Some(block) => block.step(&pass, arrays, &mut b.scratch)?,
            None => self.core.s4_mut().step(&pass, arrays, &mut b.scratch.ws)?,
        }
        let mut y = host_memory::zeros("s4-node", "a result", m)?;
        be.download(&mut y, b.staging.get(&be, m))?;
        let sizes = MatrixSizes::new(batch * h, 2, spec.pairs());
        let next_state = download_transposed(&be, &mut b.staging, b.dstate0.get(&be, ns), sizes)?;
        for (what, x) in [("y", &y), ("state", &next_state)] {
            if !be.all_finite(x) {
                return Err(Error::new(Code::NonFinite, op, format!("a finite {what}"), "NaN or infinity"));
            }
        }
        state.copy_from_slice(&next_state);
        Ok(y)
    }

    /// The first `len` values of the convolution kernel K̄, (kernel channels, H, len), as if it were not truncated.
    pub fn kernel(&mut self, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        let op = C::NAMES.kernel;
        let spec = *self.core.s4().spec();
        let n = check::elements(op, "kernel", &[spec.kernel_channels(), spec.heads, len])?;
        checks::rate(op, rate)?;
        let (be, b) = (&self.be, &mut self.buffers);
        b.staging.ensure(be, n)?;
        let pass = PassContext::at_rate(be, &self.store, (1, len), rate);
        self.core.s4().kernel(&pass, b.staging.get_mut(be, n), &mut b.scratch.ws)?;
        let mut kernel = host_memory::zeros("s4-node", "a result", n)?;
        be.download(&mut kernel, b.staging.get(be, n))?;
        Ok(kernel)
    }

    /// A zero state for `batch` sequences, (batch, H, N/2, 2).
    pub fn initial_state(&self, batch: usize) -> Result<Vec<B::Scalar>> {
        let spec = self.core.s4().spec();
        check_layer(C::NAMES.initial_state, spec)?;
        let n = check::elements(C::NAMES.initial_state, "state", &[batch, spec.heads, spec.pairs(), 2])?;
        host_memory::zeros("initialState", "a state", n)
    }

    /// Running means and variances of a block's batch norm, (2, H); `None` without one.
    pub fn running_statistics(&self) -> Result<Option<Vec<B::Scalar>>> {
        match self.core.block().and_then(|block| block.residual.norm.as_ref()) {
            Some(norm) => norm.running_statistics(&self.be),
            None => Ok(None),
        }
    }

    /// Replaces the running means and variances of a block's batch norm, (2, H). `ERR_S4_CHECKPOINT` where there is none, where they are
    /// of another size, and for variances below 0; nothing changes then.
    pub fn set_running_statistics(&mut self, values: &[B::Scalar]) -> Result<()> {
        let heads = self.core.s4().spec().heads;
        let wrong = |expected: &str, got: String| Err(Error::new(Code::Checkpoint, "S4Block", expected, got));
        let be = self.be.clone();
        let Some(norm) = self.core.block_mut().and_then(|block| block.residual.norm.as_mut()) else {
            return wrong("running statistics for a batch norm", "a block without one".into());
        };
        if norm.running_statistics(&be)?.is_none() || values.len() != 2 * heads {
            return wrong("running means and variances of a batch norm", format!("{} numbers", values.len()));
        }
        check::finite("S4Block", "running statistics", values)?;
        if values[heads..].iter().any(|&variance| variance < B::Scalar::from_f64(0.0)) {
            return wrong("variances of 0 or more", "a negative one".into());
        }
        norm.set_running_statistics(&be, values)
    }
}
