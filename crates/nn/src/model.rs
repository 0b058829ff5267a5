//! The deep sequence model with host arrays.

use crate::{
    batch::Input,
    call::{Forward, ForwardOptions, Pass, Saved},
    check,
    config::{Encoder, ModelConfig},
    growable::{GrowableBuffer, GrowableInts},
    loss::LossBuffers,
    net::{Net, NetBackward},
    param::{ParamBuilder, ParamStore},
    states::RecurrentStates,
    transfer::{Matrices, download_transposed, upload_transposed},
};
use s4_backend::{Backend, CallOptions, Code, Error, Result, check_layer, checks, host_memory};

/// A deep S4 model with its parameters.
pub struct Model<B: Backend> {
    pub(crate) be: B,
    pub(crate) config: ModelConfig,
    pub(crate) store: ParamStore<B>,
    pub(crate) net: Net<B>,
    pub(crate) staging: GrowableBuffer<B>,
    pub(crate) lengths: GrowableInts<B>,
    /// States of host calls: the given ones, the end or its gradient, the gradient of the given ones.
    states: Option<[RecurrentStates<B>; 3]>,
    /// [loss, correct] of an evaluation.
    pub(crate) eval_stats: B::Buf,
    pub(crate) loss: Option<LossBuffers<B>>,
    last: Option<Saved>,
    /// Training forwards so far: each draws dropout masks of its own.
    trained: u64,
}

/// Gradients that [`Model::backward`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelGrads<T> {
    /// (batch, len, input); none for tokens.
    pub dx: Option<Vec<T>>,
    /// (layers, batch, H, N/2, 2), when forward was given states.
    pub dstate: Option<Vec<T>>,
}

impl<B: Backend> Model<B> {
    /// A model initialised from the configuration's seed.
    pub fn new(be: B, config: ModelConfig) -> Result<Self> {
        config.check("SequenceModel")?;
        let mut params = ParamBuilder::default();
        let net = Net::new(&be, &config, &mut params)?;
        let (store, eval_stats) = (params.build(&be)?, be.alloc(2)?);
        let (staging, lengths) = (GrowableBuffer::new(&be)?, GrowableInts::new(&be)?);
        Ok(Model {
            be,
            config,
            store,
            net,
            staging,
            lengths,
            states: None,
            eval_stats,
            loss: None,
            last: None,
            trained: 0,
        })
    }
    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
    /// The backend it computes on.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// All parameters.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// All parameters, to be changed: `set`, `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry states (causal, not truncated).
    pub fn has_state(&self) -> bool {
        self.config.block.layer.spec().has_state()
    }
    /// Elements of the whole network's state, (layers, batch, H, N/2, 2).
    pub fn state_len(&self, batch: usize) -> usize {
        self.config.layers * self.config.block.layer.spec().state_len(batch)
    }
    /// Shape of the output: (batch, len, decoder outputs), or (batch, decoder outputs) when pooled.
    pub fn output_shape(&self, batch: usize, len: usize) -> Vec<usize> {
        match self.config.pooling {
            Some(_) => vec![batch, self.config.decoder_outputs()],
            None => vec![batch, len, self.config.decoder_outputs()],
        }
    }
    /// K̄ of block `block`: (kernel channels, H, len).
    pub fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        let op = "SequenceModel.kernel";
        let Some(core) = self.net.blocks.get(block) else {
            return Err(Error::value(op, format!("a block below {}", self.config.layers), block));
        };
        checks::rate(op, rate)?;
        let spec = core.s4.spec();
        let n = check::elements(op, "kernel", &[spec.kernel_channels(), spec.heads, len])?;
        self.staging.ensure(&self.be, n)?;
        let pass = Pass::at_rate(&self.be, &self.store, (1, len), rate);
        core.s4.kernel(&pass, self.staging.get_mut(&self.be, n), &mut self.net.scratch.ws)?;
        let mut host = host_memory::zeros("s4-node", "a result", n)?;
        self.be.download(&mut host, self.staging.get(&self.be, n))?;
        Ok(host)
    }

    /// Refuses a wrong input before any work.
    pub(crate) fn check_input(
        &self,
        op: &'static str,
        (x, batch, len): (Input<'_, B::Scalar>, usize, usize),
        call: CallOptions<'_, [i32]>,
    ) -> Result<()> {
        let c = &self.config;
        let widest = c.input.max(2 * c.block.layer.spec().outputs()).max(c.decoder_outputs());
        check::elements(op, "input", &[batch, len, widest])?;
        match (x, c.encoder, c.vocabulary) {
            (Input::Tokens(x), Encoder::Embedding, vocabulary) => {
                check::shaped(op, "tokens", x, &[batch, len])?;
                check::indices(op, "tokens", x, vocabulary.unwrap_or(1), false)?;
            }
            (Input::Values(x), Encoder::Linear | Encoder::None, _) => {
                check::shaped(op, "input", x, &[batch, len, c.input])?;
                check::finite_on(&self.be, op, "input", x)?;
            }
            (Input::Tokens(_), ..) => {
                return Err(Error::new(Code::Dtype, op, "real numbers (encoder is no embedding)", "tokens"));
            }
            (Input::Values(_), ..) => {
                return Err(Error::new(
                    Code::Dtype,
                    op,
                    "integer tokens (encoder is an embedding)",
                    "real numbers",
                ));
            }
        }
        checks::rate(op, call.rate)?;
        call.lengths.map_or(Ok(()), |l| check::lengths(op, l, batch, len))
    }

    /// Uploads a checked input.
    pub(crate) fn upload_input(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        lengths: Option<&[i32]>,
    ) -> Result<()> {
        // From here on the values of the last forward are overwritten: no backward may follow it.
        self.last = None;
        match x {
            Input::Values(x) => {
                let sizes = Matrices::new(batch, len, self.config.input);
                upload_transposed(&self.be, &mut self.staging, &mut self.net.input, x, sizes)?;
            }
            Input::Tokens(x) => {
                self.net.tokens.upload(&self.be, x)?;
            }
        }
        if let Some(lengths) = lengths {
            self.lengths.upload(&self.be, lengths)?;
        }
        Ok(())
    }

    /// States of host calls for `batch` rows.
    fn host_states(&mut self, batch: usize) -> Result<&mut [RecurrentStates<B>; 3]> {
        if self.states.as_ref().is_none_or(|s| s[0].batch != batch) {
            let new = || RecurrentStates::new(&self.be, &self.config, batch);
            self.states = Some([new()?, new()?, new()?]);
        }
        self.states.as_mut().ok_or_else(|| Error::new(Code::Internal, "states", "states", "none"))
    }

    pub(crate) fn need_state(&self, op: &'static str) -> Result<()> {
        check_layer(op, &self.config.block.layer.spec())
    }

    /// The output, and with `opts.want_state` the states after each row's last sample.
    pub fn forward(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        let op = "SequenceModel.forward";
        self.check_input(op, (x, batch, len), opts.call)?;
        let spec = self.config.block.layer.spec();
        let want_state = opts.want_state && self.has_state();
        if let Some(state) = opts.state {
            self.need_state(op)?;
            check::shaped(op, "state", state, &[self.config.layers, batch, spec.heads, spec.pairs(), 2])?;
            check::finite(op, "state", state)?;
        }
        self.upload_input(x, batch, len, opts.call.lengths)?;
        let be = self.be.clone();
        if opts.state.is_some() || want_state {
            self.host_states(batch)?;
        }
        if let (Some(state), Some([start, ..])) = (opts.state, &mut self.states) {
            start.upload(&be, &mut self.staging, state)?;
        }
        let training = opts.call.training;
        let save = opts.save || training;
        let dropout_at = (self.config.block.layer.seed, self.trained);
        let saved = Saved::new(batch, len, self.store.version(), opts, dropout_at);
        let (start, end) = match &mut self.states {
            Some([start, end, _]) => (opts.state.map(|_| &*start), want_state.then_some(end)),
            None => (None, None),
        };
        let pass = saved.pass(&be, &self.store.values, &self.lengths);
        self.net.forward(&pass, start, end, save)?;
        if training {
            self.net.commit(&be, None)?;
        }
        let mut y = host_memory::zeros(
            "s4-node",
            "a result",
            self.net.head.rows(batch, len) * self.net.head.outputs(),
        )?;
        be.download(&mut y, self.net.head.output(&be, batch, len))?;
        let state = match (&self.states, want_state) {
            (Some([_, end, _]), true) => Some(end.download(&be, &mut self.staging)?),
            _ => None,
        };
        self.trained += u64::from(training);
        if save {
            self.last = Some(saved);
        }
        Ok(Forward { y, state })
    }

    /// After a forward with `opts.save`: gradients of sum(output·doutput) + sum(state·dstate); parameters' accumulate.
    pub fn backward(
        &mut self,
        doutput: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<ModelGrads<B::Scalar>> {
        let op = "SequenceModel.backward";
        let last = Saved::last(op, self.last, self.store.version())?;
        let (batch, len) = (last.batch, last.len);
        let spec = self.config.block.layer.spec();
        check::shaped(op, "doutput", doutput, &self.output_shape(batch, len))?;
        check::finite_on(&self.be, op, "doutput", doutput)?;
        let be = self.be.clone();
        if let Some(dstate) = dstate {
            self.need_state(op)?;
            check::shaped(op, "dstate", dstate, &[self.config.layers, batch, spec.heads, spec.pairs(), 2])?;
            check::finite(op, "dstate", dstate)?;
            self.host_states(batch)?;
            if let Some([_, end, _]) = &mut self.states {
                end.upload(&be, &mut self.staging, dstate)?;
            }
        }
        self.net.head.set_gradient(&be, doutput)?;
        let want_dx = self.config.encoder != Encoder::Embedding;
        let (state0, dstate_end, dstate0) = match &mut self.states {
            Some([start, end, dstart]) => {
                let given = last.state0;
                (given.then_some(&*start), dstate.map(|_| &*end), given.then_some(dstart))
            }
            None => (None, None, None),
        };
        let ParamStore { values, grads, .. } = &mut self.store;
        let pass = last.pass(&be, values, &self.lengths);
        let arrays = NetBackward { grads, state0, dstate_end, dstate0, want_dx, consume_saved: false };
        self.net.backward(&pass, arrays)?;
        let dx = match want_dx {
            true => {
                let sizes = Matrices::new(batch, self.net.inputs(), len);
                Some(download_transposed(&be, &mut self.staging, self.net.dx(&be, batch, len), sizes)?)
            }
            false => None,
        };
        let dstate = match (&self.states, last.state0) {
            (Some([_, _, dstart]), true) => Some(dstart.download(&be, &mut self.staging)?),
            _ => None,
        };
        Ok(ModelGrads { dx, dstate })
    }
}
