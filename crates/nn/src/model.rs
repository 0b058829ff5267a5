//! The deep sequence model with host arrays.

use crate::{
    Encoder, Forward, ForwardOptions, ModelConfig, ParamStore, Stepper, check,
    layer::{put, take},
    net::{Net, States},
    param::ParamBuilder,
    s4::Call,
    tensor::{Grow, GrowInts},
};
use num_traits::Zero;
use s4_backend::{Algorithm, Backend, Error, Result, random::DropKey};

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, T> {
    /// (batch, len, input)
    Values(&'a [T]),
    /// (batch, len), with encoder `embedding`.
    Tokens(&'a [i32]),
}

/// What the last saved forward ran with.
#[derive(Clone, Copy)]
struct Saved {
    batch: usize,
    len: usize,
    rate: f64,
    algorithm: Algorithm,
    version: u64,
    lengths: bool,
    training: bool,
    key: DropKey,
    state0: bool,
}

/// A deep S4 model with its parameters.
pub struct Model<B: Backend> {
    pub(crate) be: B,
    pub(crate) config: ModelConfig,
    pub(crate) store: ParamStore<B>,
    pub(crate) net: Net<B>,
    pub(crate) stage: Grow<B>,
    pub(crate) lengths: GrowInts<B>,
    /// States of host calls: given, and gradient or end.
    states: Option<[States<B>; 3]>,
    /// [loss, correct] of an evaluation.
    pub(crate) eval_stats: B::Buf,
    pub(crate) loss: Option<crate::loss::LossBuffers<B>>,
    last: Option<Saved>,
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
        let (stage, lengths) = (Grow::new(&be)?, GrowInts::new(&be)?);
        Ok(Model { be, config, store, net, stage, lengths, states: None, eval_stats, loss: None, last: None })
    }
    /// What it is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
    /// Device.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// All parameters.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// For `set` and `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry states (causal, not truncated).
    pub fn has_state(&self) -> bool {
        self.net.blocks.iter().all(|b| b.s4.has_state())
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
        check::rate(op, rate)?;
        let spec = core.s4.spec();
        let n = check::elements(op, "kernel", &[spec.kernel_channels(), spec.heads, len])?;
        self.stage.ensure(&self.be, n)?;
        let (out, ws) = (self.stage.get_mut(&self.be, n), &mut self.net.scratch.ws);
        core.s4.kernel(&self.be, out, &self.store.values, len, rate, ws)?;
        let mut host = vec![B::Scalar::zero(); n];
        self.be.download(&mut host, self.stage.get(&self.be, n))?;
        Ok(host)
    }

    /// Refuses a wrong input before any work.
    pub(crate) fn check_input(
        &self,
        op: &'static str,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        lengths: Option<&[i32]>,
        rate: f64,
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
                return Err(Error::new(
                    s4_backend::Code::Dtype,
                    op,
                    "real numbers (encoder is no embedding)",
                    "tokens",
                ));
            }
            (Input::Values(_), ..) => {
                return Err(Error::new(
                    s4_backend::Code::Dtype,
                    op,
                    "integer tokens (encoder is an embedding)",
                    "real numbers",
                ));
            }
        }
        check::rate(op, rate)?;
        lengths.map_or(Ok(()), |l| check::lengths(op, l, batch, len))
    }

    /// Uploads a checked input.
    pub(crate) fn put_input(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        lengths: Option<&[i32]>,
    ) -> Result<()> {
        // What a backward would go back through is gone, whether or not the rest arrives.
        self.last = None;
        match x {
            Input::Values(x) => {
                put(&self.be, &mut self.stage, &mut self.net.input, x, batch, len, self.config.input)?
            }
            Input::Tokens(x) => {
                self.net.tokens.put(&self.be, x)?;
            }
        }
        if let Some(lengths) = lengths {
            self.lengths.put(&self.be, lengths)?;
        }
        Ok(())
    }

    /// States of host calls for `batch` rows.
    fn host_states(&mut self, batch: usize) -> Result<&mut [States<B>; 3]> {
        if self.states.as_ref().is_none_or(|s| s[0].batch != batch) {
            let new = || States::new(&self.be, &self.config, batch);
            self.states = Some([new()?, new()?, new()?]);
        }
        self.states.as_mut().ok_or_else(|| Error::new(s4_backend::Code::Internal, "states", "states", "none"))
    }

    pub(crate) fn need_state(&self, op: &'static str) -> Result<()> {
        self.net.blocks.first().map_or(Ok(()), |b| b.s4.need_state(op))
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
        self.check_input(op, x, batch, len, opts.lengths, opts.rate)?;
        let spec = self.config.block.layer.spec();
        let pairs = spec.pairs();
        let want_state = opts.want_state && self.has_state();
        if let Some(state) = opts.state {
            self.need_state(op)?;
            check::shaped(op, "state", state, &[self.config.layers, batch, spec.heads, pairs, 2])?;
            check::finite(op, "state", state)?;
        }
        self.put_input(x, batch, len, opts.lengths)?;
        let be = self.be.clone();
        if opts.state.is_some() || want_state {
            self.host_states(batch)?;
        }
        if let (Some(state), Some([start, ..])) = (opts.state, &mut self.states) {
            start.put(&be, &mut self.stage, state, pairs)?;
        }
        let save = opts.save || opts.training;
        let saved = Saved {
            batch,
            len,
            rate: opts.rate,
            algorithm: opts.algorithm,
            version: self.store.version(),
            lengths: opts.lengths.is_some(),
            training: opts.training,
            key: DropKey { seed: opts.draw.0, step: opts.draw.1, site: 0 },
            state0: opts.state.is_some(),
        };
        let (start, end) = match &mut self.states {
            Some([start, end, _]) => (opts.state.map(|_| &*start), want_state.then_some(end)),
            None => (None, None),
        };
        self.net.forward(&be, &self.store.values, start, end, save, &saved.call(&self.lengths))?;
        if opts.training {
            self.net.commit(&be, None)?;
        }
        let mut y = vec![B::Scalar::zero(); self.net.rows(batch, len) * self.net.outputs()];
        be.download(&mut y, self.net.output(&be, batch, len))?;
        let state = match (&self.states, want_state) {
            (Some([_, end, _]), true) => Some(end.take(&be, &mut self.stage, pairs)?),
            _ => None,
        };
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
        let Some(last) = self.last else {
            return Err(Error::value(op, "a forward with `save` before", "none"));
        };
        if last.version != self.store.version() {
            return Err(Error::value(op, "the parameters of the forward before", "parameters changed since"));
        }
        let (batch, len) = (last.batch, last.len);
        let spec = self.config.block.layer.spec();
        let pairs = spec.pairs();
        check::shaped(op, "doutput", doutput, &self.output_shape(batch, len))?;
        check::finite_on(&self.be, op, "doutput", doutput)?;
        let be = self.be.clone();
        if let Some(dstate) = dstate {
            self.need_state(op)?;
            check::shaped(op, "dstate", dstate, &[self.config.layers, batch, spec.heads, pairs, 2])?;
            check::finite(op, "dstate", dstate)?;
            self.host_states(batch)?;
            if let Some([_, end, _]) = &mut self.states {
                end.put(&be, &mut self.stage, dstate, pairs)?;
            }
        }
        self.net.set_gradient(&be, doutput)?;
        let want_dx = self.config.encoder != Encoder::Embedding;
        let (start, end, dstart) = match &mut self.states {
            Some([start, end, d]) => {
                (last.state0.then_some(&*start), dstate.map(|_| &*end), last.state0.then_some(d))
            }
            None => (None, None, None),
        };
        let ParamStore { values, grads, .. } = &mut self.store;
        let call = last.call(&self.lengths);
        self.net.backward(&be, values, grads, start, end, dstart, want_dx, false, &call)?;
        let inputs = self.net.inputs();
        let dx = match want_dx {
            true => Some(take(&be, &mut self.stage, self.net.dx(&be, batch, len), batch, inputs, len)?),
            false => None,
        };
        let dstate = match (&self.states, last.state0) {
            (Some([_, _, d]), true) => Some(d.take(&be, &mut self.stage, pairs)?),
            _ => None,
        };
        Ok(ModelGrads { dx, dstate })
    }

    /// The same weights as an RNN over `batch` rows. `ERR_S4_UNSUPPORTED` for two-sided or truncated layers.
    pub fn stream(&mut self, batch: usize, rate: f64) -> Result<Stepper<B>> {
        Stepper::new(self, batch, rate)
    }
}

impl Saved {
    fn call<'a, B: Backend>(&self, lengths: &'a GrowInts<B>) -> Call<'a, B> {
        Call {
            batch: self.batch,
            len: self.len,
            rate: self.rate,
            algorithm: self.algorithm,
            version: self.version,
            lengths: self.lengths.then_some(lengths.get()),
            training: self.training,
            key: self.key,
        }
    }
}
