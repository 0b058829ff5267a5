//! A model as a recurrent network: it is pushed inputs of any length and carries its state from push to push, in memory
//! that does not grow with the sequence.
//!
//! A push of few time steps goes through the recurrence, one time step after the other, or of many sequences together
//! (`steps_together.rs`); a push of many goes through the same forward as whole sequences, from the carried state. All give
//! the same outputs. A batch norm uses its running
//! statistics. A model with pooling gives at each time step what it would give for a sequence that ends there.

use crate::{
    batch::Input,
    check,
    config::{Encoder, ModelConfig},
    encoder::EncoderInput,
    growable_buffer::{GrowableBuffer, GrowableInts},
    hidden_non_finite::may_hide_nonfinite_states,
    journal::Journal,
    model::Model,
    pass_options::PassContext,
    recurrent_states::RecurrentStates,
    running_pool::RunningPool,
    s4::S4Step,
    steps_buffers::StepsBuffers,
    undo::or_undo,
};
use s4_backend::{Backend, CallOptions, Pooling, Result, checks, host_memory};

/// Options of one push.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a, T> {
    /// Ratio of the time steps to those of training: (batch) for the whole push, or (batch, len) for each time step.
    pub interval: Option<&'a [T]>,
}

impl<T> Default for StepOptions<'_, T> {
    fn default() -> Self {
        StepOptions { interval: None }
    }
}

/// A push of at least this many time steps goes through the forward of whole sequences.
pub(crate) const MIN_LEN_OF_FORWARD: usize = 32;

/// A stream: its state and its buffers on the device. The parameters stay in the model, which every push is given.
pub struct Stepper<B: Backend> {
    /// The backend that it computes on.
    pub(crate) be: B,
    /// Number of sequences.
    pub(crate) batch: usize,
    /// Ratio of sampling rates, by which every step size is multiplied.
    pub(crate) rate: f64,
    /// Number of time steps so far.
    pub(crate) position: u64,
    /// States after the last time step.
    pub(crate) states: RecurrentStates<B>,
    /// Second set of states: a push by forward writes the next states here; pushes by recurrence keep here the copy that `journal`
    /// replays from.
    pub(crate) next_or_kept_states: Option<RecurrentStates<B>>,
    /// The pool and the position that `journal` began from.
    pub(crate) kept_pool: GrowableBuffer<B>,
    pub(crate) kept_position: u64,
    /// Pushes of single samples since.
    pub(crate) journal: Journal<B::Scalar>,
    /// Whether a push has failed and could not be undone: the states are then of no moment of the stream.
    pub(crate) torn: bool,
    /// Whether numbers of the states that are not finite may leave every output finite.
    pub(crate) may_hide_nonfinite_states: bool,
    /// The backend's plan for the time steps of each block.
    pub(crate) plans: Vec<B::StepPlan>,
    /// The pool of the features so far.
    pub(crate) pool: RunningPool<B>,
    /// Input values of a time step on the device.
    pub(crate) input: GrowableBuffer<B>,
    /// Input tokens of a time step on the device.
    pub(crate) tokens: GrowableInts<B>,
    /// Input tokens of a time step, gathered on the host.
    host_tokens: Vec<i32>,
    /// Input values of a time step, gathered on the host.
    host_input: Vec<B::Scalar>,
    /// Intervals of a time step on the device.
    interval: GrowableBuffer<B>,
    /// Intervals of a time step, gathered on the host.
    host_interval: Vec<B::Scalar>,
    /// Input and output of the part of the network that runs; exchanged after every part.
    pub(crate) features: [GrowableBuffer<B>; 2],
    /// Outputs of a time step on the device.
    pub(crate) output: GrowableBuffer<B>,
    /// Outputs of a time step on the host, before they go to their places in the caller's array.
    host_output: Vec<B::Scalar>,
    /// A block's state on the host, of networks that hide what is not finite.
    pub(crate) host_state: Vec<B::Scalar>,
    /// One time step of the network as the backend has recorded it, to be replayed.
    recorded_step: B::Graph,
    /// How often `states` and `next_or_kept_states` have changed places: a recorded step belongs to one of the two.
    pub(crate) state_exchanges: u64,
    /// Buffers of pushes whose time steps go together.
    pub(crate) together: StepsBuffers<B>,
    /// Sizes of the model that it was made of; a push into another model is refused.
    pub(crate) sizes: StreamSizes,
}

/// What a stream must agree on with its model, and a saved state with its stream.
#[derive(PartialEq)]
pub(crate) struct StreamSizes {
    pub(crate) layers: usize,
    pub(crate) features: usize,
    pub(crate) state: usize,
    outputs: usize,
    pub(crate) pooling: Option<Pooling>,
}

impl StreamSizes {
    /// The sizes of a model.
    pub(crate) fn of(c: &ModelConfig) -> Self {
        StreamSizes {
            layers: c.layers,
            features: c.features(),
            state: c.block.layer.state,
            outputs: c.decoder_outputs(),
            pooling: c.pooling,
        }
    }
}

impl<B: Backend> Model<B> {
    /// The model as a recurrent network over `batch` sequences, from zero states. `ERR_S4_UNSUPPORTED` where its layers are
    /// two-sided or truncated.
    pub fn stream(&self, batch: usize, rate: f64) -> Result<Stepper<B>> {
        Stepper::new(self, batch, rate)
    }
}

impl<B: Backend> Stepper<B> {
    /// A stream of `model` over `batch` sequences, from zero states.
    pub(crate) fn new(model: &Model<B>, batch: usize, rate: f64) -> Result<Self> {
        let op = "SequenceModel.stream";
        model.require_state(op)?;
        checks::rate(op, rate)?;
        let (c, be) = (&model.config, model.be.clone());
        let spec = c.block.layer.spec();
        // The largest arrays: the states of all blocks, and the inputs, features and outputs of a time step.
        let states = check::elements(op, "states", &[batch, c.layers, spec.heads, spec.state])?;
        let widest = c.input.max(c.decoder_outputs()).max(2 * spec.outputs()).max(spec.heads);
        check::elements(op, "a time step", &[batch, widest])?;
        if be.device_id() == "cpu" {
            host_memory::check(op, "the states", (states * size_of::<B::Scalar>()) as u128)?;
        }
        let plans = model.net.blocks.iter().map(|b| b.s4.new_step_plan(&be)).collect::<Result<_>>()?;
        let buffer = || GrowableBuffer::new(&be);
        Ok(Stepper {
            batch,
            rate,
            position: 0,
            states: RecurrentStates::new(&be, c, batch)?,
            next_or_kept_states: None,
            kept_pool: buffer()?,
            kept_position: 0,
            journal: Journal::new(),
            torn: false,
            may_hide_nonfinite_states: may_hide_nonfinite_states(
                c.block.activation,
                c.block.final_activation,
                c.pooling,
            ),
            plans,
            pool: RunningPool::new(&be, c.pooling, batch * spec.heads)?,
            input: buffer()?,
            tokens: GrowableInts::new(&be)?,
            host_tokens: Vec::new(),
            host_input: Vec::new(),
            interval: buffer()?,
            host_interval: Vec::new(),
            features: [buffer()?, buffer()?],
            output: buffer()?,
            host_output: Vec::new(),
            host_state: Vec::new(),
            recorded_step: B::Graph::default(),
            state_exchanges: 0,
            together: StepsBuffers::new(&be)?,
            sizes: StreamSizes::of(&model.config),
            be,
        })
    }
    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// Number of time steps so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `x`: (batch, len, input) or tokens (batch, len); `output`: (batch, len, decoder outputs), every element written.
    /// `ERR_S4_NONFINITE` for an input, an output or a resulting state that is not finite. A push that fails leaves the
    /// stream as it was before; where it cannot be brought back there, everything but [`Stepper::reset`] and
    /// [`Stepper::restore`] is `ERR_S4_UNSUPPORTED` from then on.
    pub fn push(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        output: &mut [B::Scalar],
    ) -> Result<()> {
        let op = OP;
        self.refuse_torn(op)?;
        self.check_push(op, model, x, len)?;
        check::shaped(op, "output", output, &[self.batch, len, self.sizes.outputs])?;
        if let Some(interval) = opts.interval {
            let n = if interval.len() == self.batch { self.batch } else { self.batch * len };
            check::intervals(op, interval, n)?;
        }
        if self.push_if_together(model, x, len, opts, output)? {
            return Ok(());
        }
        match self.goes_by_recurrence(len, opts) {
            true => self.push_by_recurrence(model, x, len, opts, output),
            false => self.push_by_forward(model, x, len, output),
        }
    }

    /// Whether a push of `len` time steps goes through the recurrence. A mean, maximum or sum over time so far needs every
    /// time step, and so do intervals.
    pub(crate) fn goes_by_recurrence(&self, len: usize, opts: &StepOptions<'_, B::Scalar>) -> bool {
        opts.interval.is_some() || !self.pool.carries_nothing() || len < MIN_LEN_OF_FORWARD
    }

    /// Takes a push through the recurrence, one time step after the other.
    pub(crate) fn push_by_recurrence(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        output: &mut [B::Scalar],
    ) -> Result<()> {
        self.keep(model)?;
        let steps = |(stream, model): &mut (&mut Self, &mut Model<B>)| {
            stream.take_time_steps(model, x, len, opts, output)
        };
        or_undo(&mut (&mut *self, model), steps, |(stream, model)| stream.go_back(model))?;
        self.journal.add((x, len, opts.interval));
        Ok(())
    }

    /// The time steps of a push, one after the other.
    pub(crate) fn take_time_steps(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        output: &mut [B::Scalar],
    ) -> Result<()> {
        (0..len).try_for_each(|t| self.push_time_step(model, x, (t, len), opts, Some(&mut *output)))?;
        let host_state = self.may_hide_nonfinite_states.then_some(&mut self.host_state);
        Self::check_finite(&self.be, output, &self.states, host_state)
    }

    /// As [`Stepper::push`], into a new array, which is allocated only after the input has been checked.
    pub fn push_new(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
    ) -> Result<Vec<B::Scalar>> {
        let op = OP;
        self.check_push(op, model, x, len)?;
        let n = check::elements(op, "output", &[self.batch, len, self.sizes.outputs])?;
        let mut output = host_memory::zeros("s4-node", "a result", n)?;
        self.push(model, x, len, opts, &mut output)?;
        Ok(output)
    }

    /// Sample t of a push of `len`, with its output where that is wanted.
    pub(crate) fn push_time_step(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        (t, len): (usize, usize),
        opts: &StepOptions<'_, B::Scalar>,
        output: Option<&mut [B::Scalar]>,
    ) -> Result<()> {
        let be = self.be.clone();
        let (batch, c) = (self.batch, &model.config);
        let (inputs, outputs, heads) = (c.input, c.decoder_outputs(), c.features());
        let (n, m) = (batch * heads, batch * outputs);
        match x {
            Input::Values(x) => {
                let x = time_step_of(&mut self.host_input, x, (batch, len, inputs), t)?;
                self.input.ensure(&be, batch * inputs)?;
                be.upload(self.input.get_mut(&be, batch * inputs), x)?;
            }
            Input::Tokens(x) => {
                let x = time_step_of(&mut self.host_tokens, x, (batch, len, 1), t)?;
                self.tokens.upload(&be, x)?;
            }
        }
        if let Some(interval) = opts.interval {
            let per_push = interval.len() == batch;
            let (l, t) = if per_push { (1, 0) } else { (len, t) };
            let intervals = time_step_of(&mut self.host_interval, interval, (batch, l, 1), t)?;
            self.interval.ensure(&be, batch)?;
            be.upload(self.interval.get_mut(&be, batch), intervals)?;
        }
        self.features.iter_mut().try_for_each(|x| x.ensure(&be, n))?;
        self.output.ensure(&be, m)?;
        // The work is the same at every time step, so that a recording of it can be replayed, unless the pool depends on
        // the number of time steps or intervals need constants of their own.
        let is_repeated = opts.interval.is_none() && self.pool.carries_nothing();
        if is_repeated {
            let mut recorded_step = std::mem::take(&mut self.recorded_step);
            let key = [model.store.version(), self.state_exchanges % 2];
            let replayed = be.replay(&mut recorded_step, key, &mut || self.enqueue_time_step(model, false));
            self.recorded_step = recorded_step;
            replayed?;
        } else {
            self.enqueue_time_step(model, opts.interval.is_some())?;
        }
        self.position += 1;
        let Some(output) = output else { return Ok(()) };
        if len == 1 {
            return be.download(output, self.output.get(&be, m));
        }
        host_memory::resize(OP, "the outputs of a time step", &mut self.host_output, m)?;
        be.download(&mut self.host_output, self.output.get(&be, m))?;
        for (sequence, y) in self.host_output.chunks_exact(outputs).enumerate() {
            output[(sequence * len + t) * outputs..][..outputs].copy_from_slice(y);
        }
        Ok(())
    }

    /// Enqueues one time step of the network, from `input` or `tokens` to `output`. `intervals`: whether the uploaded
    /// intervals hold.
    pub(crate) fn enqueue_time_step(&mut self, model: &mut Model<B>, intervals: bool) -> Result<()> {
        let be = self.be.clone();
        let (batch, c) = (self.batch, &model.config);
        let (n, m) = (batch * c.features(), batch * c.decoder_outputs());
        let [a, b] = &mut self.features;
        let (mut x, mut y) = (a, b);
        let net = &mut model.net;
        let pass = PassContext::at_rate(&be, &model.store, (batch, 1), self.rate);
        let size = if c.encoder == Encoder::Embedding { 0 } else { batch * c.input };
        let input = EncoderInput { values: self.input.get(&be, size), tokens: self.tokens.get() };
        net.encode_step(&pass, x.get_mut(&be, n), input)?;
        for (i, block) in net.blocks.iter_mut().enumerate() {
            let arrays = S4Step {
                y: y.get_mut(&be, n),
                state: self.states.view_mut(&be, i),
                u: x.get(&be, n),
                interval: intervals.then(|| self.interval.get(&be, batch)),
                plan: Some(&mut self.plans[i]),
            };
            block.step(&pass, arrays, &mut net.scratch)?;
            std::mem::swap(&mut x, &mut y);
            if let Some(feed_forward) = net.feed_forwards.get_mut(i) {
                let (to, from) = (y.get_mut(&be, n), x.get(&be, n));
                feed_forward.forward(&pass, to, from, None, &mut net.scratch)?;
                std::mem::swap(&mut x, &mut y);
            }
        }
        let ws = &mut net.scratch.ws;
        if net.output_stage.norm_step(&pass, y.get_mut(&be, n), x.get(&be, n), ws)? {
            std::mem::swap(&mut x, &mut y);
        }
        let pooled = self.pool.step(&be, y, x, self.position)?;
        let features = if pooled { y.get(&be, n) } else { x.get(&be, n) };
        net.output_stage.decode_step(&pass, self.output.get_mut(&be, m), features, ws)
    }

    /// Takes a whole push through the forward of whole sequences.
    pub(crate) fn push_by_forward(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        output: &mut [B::Scalar],
    ) -> Result<()> {
        let be = self.be.clone();
        let batch = self.batch;
        model.upload_input(x, batch, len, &CallOptions::default())?;
        self.journal.end();
        if self.next_or_kept_states.is_none() {
            self.next_or_kept_states = Some(RecurrentStates::new(&be, &model.config, batch)?);
        }
        // The pass has the algorithm `auto`: the backend chooses by the sizes, and by the states that go in and out.
        let pass = PassContext::at_rate(&be, &model.store, (batch, len), self.rate);
        model.net.forward_every_step(&pass, &self.states, self.next_or_kept_states.as_mut())?;
        be.download(output, model.net.output_stage.output_of_every_step(&be, batch, len))?;
        if let Some(next_states) = &mut self.next_or_kept_states {
            let host_state = self.may_hide_nonfinite_states.then_some(&mut self.host_state);
            Self::check_finite(&be, output, next_states, host_state)?;
            std::mem::swap(&mut self.states, next_states);
            self.state_exchanges += 1;
        }
        self.position += len as u64;
        Ok(())
    }

    /// An independent stream that starts from this one's state.
    pub fn fork(&self, model: &Model<B>) -> Result<Self> {
        self.refuse_torn("ModelStream.fork")?;
        let mut fork = Stepper::new(model, self.batch, self.rate)?;
        fork.states.copy_from(&self.be, &self.states)?;
        let n = self.pool.len();
        self.be.copy(fork.pool.carried.get_mut(&self.be, n), self.pool.carried.get(&self.be, n))?;
        fork.position = self.position;
        Ok(fork)
    }

    /// Goes back to zero states.
    pub fn reset(&mut self) -> Result<()> {
        self.torn = true;
        self.position = 0;
        self.journal.end();
        self.states.zero(&self.be)?;
        self.torn = false;
        Ok(())
    }
}

pub(crate) const OP: &str = "ModelStream.push";

/// Time step t of every sequence: (batch, width) out of x (batch, len, width), gathered in `gathered`. Where len is 1 it is x
/// itself.
fn time_step_of<'a, T: Copy + Default>(
    gathered: &'a mut Vec<T>,
    x: &'a [T],
    (batch, len, width): (usize, usize, usize),
    t: usize,
) -> Result<&'a [T]> {
    if len == 1 {
        return Ok(x);
    }
    host_memory::resize(OP, "a time step", gathered, batch * width)?;
    for (sequence, step) in gathered.chunks_exact_mut(width).enumerate() {
        step.copy_from_slice(&x[(sequence * len + t) * width..][..width]);
    }
    Ok(gathered)
}
