//! A deep sequence model: the network with its parameters, called with host arrays.

use crate::{
    batch::Input,
    call_arrays::{CallArrays, HostOptions},
    check,
    config::{Encoder, ModelConfig},
    growable_buffer::GrowableBuffer,
    input_check::check_input,
    loss::LossBuffers,
    network::{Network, NetworkBackward},
    norm::check_time_steps,
    padded::{padded_input, padded_len, padded_lengths, stretched, trim},
    param::{ParamBuilder, ParamStore},
    pass_options::{Forward, ForwardOptions, PassContext, SavedForward},
    recurrent_states::RecurrentStates,
    transposed_copies::{MatrixSizes, download_transposed, upload_transposed},
};
use num_traits::One;
use s4_backend::{Backend, Code, Error, LOSS_SUMS, Result, check_layer, checks, host_memory};

/// A deep S4 model with its parameters. Host arrays go in and out; the network between them works on the device.
pub struct Model<B: Backend> {
    /// The backend that it computes on.
    pub(crate) be: B,
    /// The configuration that it was made from.
    pub(crate) config: ModelConfig,
    /// All parameters with their gradients.
    pub(crate) store: ParamStore<B>,
    /// The network on the device.
    pub(crate) net: Network<B>,
    /// Device copy of a host array before it is transposed, or of a result after.
    pub(crate) staging: GrowableBuffer<B>,
    /// Lengths and intervals of the last call that gave any.
    pub(crate) call_arrays: CallArrays<B>,
    /// Recurrent states of calls with host arrays, made by the first that needs them.
    call_states: Option<CallStates<B>>,
    /// What the loss of an evaluation adds to.
    pub(crate) eval_stats: B::Buf,
    /// Buffers for the targets of an evaluation, made by the first.
    pub(crate) loss_buffers: Option<LossBuffers<B>>,
    /// The last forward that saved its values, while a backward may follow it.
    saved_forward: Option<SavedForward>,
    /// Number of training forwards so far, by which each draws dropout masks of its own.
    training_forwards: u64,
}

/// Recurrent states of forwards and backwards with host arrays.
struct CallStates<B: Backend> {
    /// The states that a forward starts from.
    start: RecurrentStates<B>,
    /// The states that a forward ends with, or in a backward their gradient.
    end: RecurrentStates<B>,
    /// Gradient of the states that a forward starts from.
    dstart: RecurrentStates<B>,
}

/// Gradients of a model's input and start states, which [`Model::backward`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelGrads<T> {
    /// Gradient of the input values (batch, len, input); none where the input is tokens.
    pub dx: Option<Vec<T>>,
    /// Gradient of the states that the forward started from, (layers, batch, H, N/2, 2), where it was given any.
    pub dstate0: Option<Vec<T>>,
}

impl<B: Backend> Model<B> {
    /// A new model. Its initial values are drawn from the configuration's seed.
    pub fn new(be: B, config: ModelConfig) -> Result<Self> {
        config.check("SequenceModel")?;
        let mut params = ParamBuilder::default();
        let net = Network::new(&be, &config, &mut params)?;
        let (store, eval_stats) = (params.build(&be)?, be.alloc(LOSS_SUMS)?);
        let (staging, call_arrays) = (GrowableBuffer::new(&be)?, CallArrays::new(&be)?);
        Ok(Model {
            be,
            config,
            store,
            net,
            staging,
            call_arrays,
            call_states: None,
            eval_stats,
            loss_buffers: None,
            saved_forward: None,
            training_forwards: 0,
        })
    }
    /// The configuration that it was made from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
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
    /// Whether its layers have a recurrent state: they must be causal and their kernels not truncated.
    pub fn has_state(&self) -> bool {
        self.config.block.layer.spec().has_state()
    }
    /// Number of elements of the states of all blocks, (layers, batch, H, N/2, 2).
    pub fn state_len(&self, batch: usize) -> usize {
        self.config.layers * self.config.block.layer.spec().state_len(batch)
    }
    /// Shape of the output: (batch, len, decoder outputs), or (batch, decoder outputs) with pooling.
    pub fn output_shape(&self, batch: usize, len: usize) -> Vec<usize> {
        match self.config.pooling {
            Some(_) => vec![batch, self.config.decoder_outputs()],
            None => vec![batch, len, self.config.decoder_outputs()],
        }
    }
    /// The convolution kernel K̄ of block number `block` from 0, (kernel channels, H, len).
    pub fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        let op = "SequenceModel.kernel";
        let Some(core) = self.net.blocks.get(block) else {
            return Err(Error::value(op, format!("a block below {}", self.config.layers), block));
        };
        checks::rate(op, rate)?;
        let spec = core.s4.spec();
        let n = check::elements(op, "kernel", &[spec.kernel_channels(), spec.heads, len])?;
        self.staging.ensure(&self.be, n)?;
        let pass = PassContext::at_rate(&self.be, &self.store, (1, len), rate);
        core.s4.kernel(&pass, self.staging.get_mut(&self.be, n), &mut self.net.scratch.ws)?;
        let mut values = host_memory::zeros("s4-node", "a result", n)?;
        self.be.download(&mut values, self.staging.get(&self.be, n))?;
        Ok(values)
    }

    /// Refuses a wrong input, length, interval or rate, before any work.
    pub(crate) fn check_input(
        &self,
        op: &'static str,
        (x, batch, len): (Input<'_, B::Scalar>, usize, usize),
        call: HostOptions<'_, B::Scalar>,
    ) -> Result<()> {
        check_input(op, (&self.be, &self.config), (x, batch, len), call)
    }

    /// Uploads an input that [`Model::check_input`] has accepted.
    pub(crate) fn upload_input(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        call: &HostOptions<'_, B::Scalar>,
    ) -> Result<()> {
        // The saved values of the last forward are overwritten from here on, and so no backward may follow it.
        self.saved_forward = None;
        match x {
            Input::Values(x) => {
                let sizes = MatrixSizes::new(batch, len, self.config.input);
                upload_transposed(&self.be, &mut self.staging, &mut self.net.input, x, sizes)?;
            }
            Input::Tokens(x) => {
                self.net.tokens.upload(&self.be, x)?;
            }
        }
        self.call_arrays.upload(&self.be, call)
    }

    /// The recurrent states of calls with host arrays, made anew for another number of sequences.
    fn host_states(&mut self, batch: usize) -> Result<&mut CallStates<B>> {
        if self.call_states.as_ref().is_none_or(|s| s.start.batch != batch) {
            let new = || RecurrentStates::new(&self.be, &self.config, batch);
            self.call_states = Some(CallStates { start: new()?, end: new()?, dstart: new()? });
        }
        self.call_states.as_mut().ok_or_else(|| Error::new(Code::Internal, "states", "states", "none"))
    }

    /// `ERR_S4_UNSUPPORTED` where the layers have no recurrent state.
    pub(crate) fn require_state(&self, op: &'static str) -> Result<()> {
        check_layer(op, &self.config.block.layer.spec())
    }

    /// The output, and with `opts.want_state_end` the states after the last time step of each sequence.
    pub fn forward(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        let op = "SequenceModel.forward";
        self.check_input(op, (x, batch, len), opts.call)?;
        if opts.call.training {
            let time_steps = check::time_steps(batch, len, opts.call.lengths);
            check_time_steps(op, self.config.block.norm, time_steps)?;
        }
        let spec = self.config.block.layer.spec();
        let want_state_end = opts.want_state_end && self.has_state();
        if !(opts.call.training || opts.save || opts.state0.is_some() || want_state_end)
            && let Some(to) = padded_len(&self.be, &self.config, len, false)
        {
            return self.forward_padded(x, batch, (len, to), opts);
        }
        if let Some(state0) = opts.state0 {
            self.require_state(op)?;
            check::shaped(op, "state", state0, &[self.config.layers, batch, spec.heads, spec.pairs(), 2])?;
            check::finite(op, "state", state0)?;
        }
        self.upload_input(x, batch, len, &opts.call)?;
        let be = self.be.clone();
        if opts.state0.is_some() || want_state_end {
            self.host_states(batch)?;
        }
        if let (Some(state0), Some(states)) = (opts.state0, &mut self.call_states) {
            states.start.upload(&be, &mut self.staging, state0)?;
        }
        let training = opts.call.training;
        let save = opts.save || training;
        let dropout_at = (self.config.block.layer.seed, self.training_forwards);
        let saved = SavedForward::new(batch, len, self.store.version(), opts, dropout_at);
        let (start, end) = match &mut self.call_states {
            Some(CallStates { start, end, .. }) => {
                (opts.state0.map(|_| &*start), want_state_end.then_some(end))
            }
            None => (None, None),
        };
        let pass = saved.pass(&be, &self.store.values, &self.call_arrays);
        self.net.forward(&pass, start, end, save)?;
        if training {
            self.net.accept_statistics(&be, None)?;
        }
        let mut y = host_memory::zeros(
            "s4-node",
            "a result",
            self.net.output_stage.rows(batch, len) * self.net.output_stage.outputs(),
        )?;
        be.download(&mut y, self.net.output_stage.output(&be, batch, len))?;
        let state_end = match (&self.call_states, want_state_end) {
            (Some(states), true) => Some(states.end.download(&be, &mut self.staging)?),
            _ => None,
        };
        self.training_forwards += u64::from(training);
        if save {
            self.saved_forward = Some(saved);
        }
        Ok(Forward { y, state_end })
    }

    /// [`Model::forward`] of inference with `to` time steps in the place of `len`.
    fn forward_padded(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        lens: (usize, usize),
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        let (len, to) = lens;
        let x = padded_input(x, batch, lens)?;
        let lengths = padded_lengths(opts.call.lengths, batch, len)?;
        let intervals = opts.call.intervals.map(|x| stretched(x, batch, lens, One::one())).transpose()?;
        let call = opts.call.with_arrays(Some(lengths.as_slice()), intervals.as_deref());
        let mut result = self.forward(x.input(), batch, to, &ForwardOptions { call, ..*opts })?;
        if self.config.pooling.is_none() {
            trim(&mut result.y, batch, lens);
        }
        Ok(result)
    }

    /// Gradients of sum(output·doutput) + sum(end state·dstate_end) for the last forward, which must have saved its values.
    /// The gradients of parameters are added to what the store holds.
    pub fn backward(
        &mut self,
        doutput: &[B::Scalar],
        dstate_end: Option<&[B::Scalar]>,
    ) -> Result<ModelGrads<B::Scalar>> {
        let op = "SequenceModel.backward";
        let last = SavedForward::last(op, self.saved_forward, self.store.version())?;
        let (batch, len) = (last.batch, last.len);
        let spec = self.config.block.layer.spec();
        check::shaped(op, "doutput", doutput, &self.output_shape(batch, len))?;
        check::finite_on(&self.be, op, "doutput", doutput)?;
        let be = self.be.clone();
        if let Some(dstate_end) = dstate_end {
            self.require_state(op)?;
            check::shaped(
                op,
                "dstate",
                dstate_end,
                &[self.config.layers, batch, spec.heads, spec.pairs(), 2],
            )?;
            check::finite(op, "dstate", dstate_end)?;
            self.host_states(batch)?;
            if let Some(states) = &mut self.call_states {
                states.end.upload(&be, &mut self.staging, dstate_end)?;
            }
        }
        self.net.output_stage.set_gradient(&be, doutput)?;
        let want_dx = self.config.encoder != Encoder::Embedding;
        let (state0, dstate_end, dstate0) = match &mut self.call_states {
            Some(CallStates { start, end, dstart }) => {
                let given = last.has_state0;
                (given.then_some(&*start), dstate_end.map(|_| &*end), given.then_some(dstart))
            }
            None => (None, None, None),
        };
        let ParamStore { values, grads, .. } = &mut self.store;
        let pass = last.pass(&be, values, &self.call_arrays);
        let arrays = NetworkBackward { grads, state0, dstate_end, dstate0, want_dx, consume_saved: false };
        self.net.backward(&pass, arrays)?;
        let dx = match want_dx {
            true => {
                let sizes = MatrixSizes::new(batch, self.net.inputs(), len);
                Some(download_transposed(&be, &mut self.staging, self.net.dx(&be, batch, len), sizes)?)
            }
            false => None,
        };
        let dstate0 = match (&self.call_states, last.has_state0) {
            (Some(states), true) => Some(states.dstart.download(&be, &mut self.staging)?),
            _ => None,
        };
        Ok(ModelGrads { dx, dstate0 })
    }
}
