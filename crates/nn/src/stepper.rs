//! The whole network as an RNN: O(1) memory, chunks of any length.
//!
//! Few samples go through the recurrence one by one; many go through the chunked forward from the carried state.
//! Both give the same numbers. Norms use running statistics. A pooled model gives at each step what it would give
//! if the sequence ended there.

use crate::{
    batch::Input,
    call::Pass,
    check,
    config::Encoder,
    encoder::EncoderInput,
    growable::{GrowableBuffer, GrowableInts},
    journal::Journal,
    model::Model,
    running_pool::RunningPool,
    s4::S4Step,
    states::RecurrentStates,
};
use num_traits::Zero;
use s4_backend::{Activation, Backend, CallOptions, Code, Error, Pooling, Result, checks, host_memory};

/// Per push options.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a, T> {
    /// (batch) for all of the push, or (batch, len): ratio of each step to the training interval.
    pub interval: Option<&'a [T]>,
}

impl<T> Default for StepOptions<'_, T> {
    fn default() -> Self {
        StepOptions { interval: None }
    }
}

/// From this many samples a push goes through the chunked forward.
const CHUNK_FROM: usize = 32;

/// A stream's state on the device; the weights stay in the model, which each push names.
pub struct Stepper<B: Backend> {
    pub(crate) be: B,
    pub(crate) batch: usize,
    rate: f64,
    pub(crate) position: u64,
    pub(crate) states: RecurrentStates<B>,
    /// Of chunked pushes: where the next states are written. Of others: the states that `journal` began from.
    other: Option<RecurrentStates<B>>,
    /// The pool and the position that `journal` began from.
    pool_before: GrowableBuffer<B>,
    position_before: u64,
    /// Pushes of single samples since.
    pub(crate) journal: Journal<B::Scalar>,
    /// Whether numbers of the states that are not finite may leave every output finite.
    hides: bool,
    plans: Vec<B::StepPlan>,
    pub(crate) pool: RunningPool<B>,
    input: GrowableBuffer<B>,
    tokens: GrowableInts<B>,
    host_tokens: Vec<i32>,
    host_input: Vec<B::Scalar>,
    interval: GrowableBuffer<B>,
    host_interval: Vec<B::Scalar>,
    /// Features going into a stage and out of it, exchanged after every stage.
    features: [GrowableBuffer<B>; 2],
    out: GrowableBuffer<B>,
    host_out: Vec<B::Scalar>,
    /// A block's state on the host, of networks that hide what is not finite.
    host_state: Vec<B::Scalar>,
    /// The network's step as the backend recorded it.
    graph: B::Graph,
    /// How often `states` and `other` have changed places: a recorded step belongs to one of the two.
    exchanges: u64,
    /// What it streams: a push into another model is refused.
    pub(crate) sizes: Sizes,
}

/// What a stream must agree on with its model, and a saved state with its stream.
#[derive(PartialEq)]
pub(crate) struct Sizes {
    layers: usize,
    pub(crate) features: usize,
    pub(crate) state: usize,
    outputs: usize,
    pub(crate) pooling: Option<Pooling>,
}

impl Sizes {
    fn of<B: Backend>(model: &Model<B>) -> Self {
        let c = &model.config;
        Sizes {
            layers: c.layers,
            features: c.features(),
            state: c.block.layer.state,
            outputs: c.decoder_outputs(),
            pooling: c.pooling,
        }
    }
}

impl<B: Backend> Model<B> {
    /// The same weights as an RNN over `batch` rows. `ERR_S4_UNSUPPORTED` for two-sided or truncated layers.
    pub fn stream(&self, batch: usize, rate: f64) -> Result<Stepper<B>> {
        Stepper::new(self, batch, rate)
    }
}

impl<B: Backend> Stepper<B> {
    /// Zero states for `batch` rows of `model`.
    fn new(model: &Model<B>, batch: usize, rate: f64) -> Result<Self> {
        let op = "SequenceModel.stream";
        model.need_state(op)?;
        checks::rate(op, rate)?;
        let (c, be) = (&model.config, model.be.clone());
        let spec = c.block.layer.spec();
        check::elements(
            op,
            "batch",
            &[batch, c.layers, spec.heads, spec.state, c.input.max(c.decoder_outputs())],
        )?;
        let plans = model.net.blocks.iter().map(|b| b.s4.new_step_plan(&be)).collect::<Result<_>>()?;
        let buffer = || GrowableBuffer::new(&be);
        Ok(Stepper {
            batch,
            rate,
            position: 0,
            states: RecurrentStates::new(&be, c, batch)?,
            other: None,
            pool_before: buffer()?,
            position_before: 0,
            journal: Journal::new(),
            hides: hides(c.block.activation, c.block.final_activation, c.pooling),
            plans,
            pool: RunningPool::new(&be, c.pooling, batch * spec.heads)?,
            input: buffer()?,
            tokens: GrowableInts::new(&be)?,
            host_tokens: Vec::new(),
            host_input: Vec::new(),
            interval: buffer()?,
            host_interval: Vec::new(),
            features: [buffer()?, buffer()?],
            out: buffer()?,
            host_out: Vec::new(),
            host_state: Vec::new(),
            graph: B::Graph::default(),
            exchanges: 0,
            sizes: Sizes::of(model),
            be,
        })
    }
    /// Rows.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// Samples seen.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `x`: (batch, len, input) or tokens (batch, len); `out`: (batch, len, decoder outputs), every element written.
    /// `ERR_S4_NONFINITE` for an input, an output or a resulting state that is not finite. A push that fails leaves the
    /// stream as it was before.
    pub fn push(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        out: &mut [B::Scalar],
    ) -> Result<()> {
        let op = OP;
        self.check_push(op, model, x, len)?;
        check::shaped(op, "output", out, &[self.batch, len, self.sizes.outputs])?;
        if let Some(interval) = opts.interval {
            let n = if interval.len() == self.batch { self.batch } else { self.batch * len };
            check::intervals(op, interval, n)?;
        }
        // A running mean, maximum or sum needs every step; so do intervals.
        let stepwise = opts.interval.is_some() || !self.pool.is_last() || len < CHUNK_FROM;
        if !stepwise {
            return self.chunk(model, x, len, out);
        }
        self.keep(model)?;
        let done = (0..len).try_for_each(|t| self.step(model, x, (t, len), opts, Some(&mut *out)));
        match done.and_then(|()| self.check_finite(out)) {
            Ok(()) => {
                self.journal.add((x, len, opts.interval));
                Ok(())
            }
            Err(error) => {
                // The replay asks for nothing that was not there before; only a device that is lost refuses it, and
                // that refuses every later call too.
                drop(self.go_back(model));
                Err(error)
            }
        }
    }

    /// Copies the states where the last copy serves no longer.
    fn keep(&mut self, model: &Model<B>) -> Result<()> {
        let (be, version) = (self.be.clone(), model.store.version());
        if self.journal.serves(version) {
            return Ok(());
        }
        self.journal.end();
        if self.other.is_none() {
            self.other = Some(RecurrentStates::new(&be, &model.config, self.batch)?);
        }
        if let Some(kept) = &mut self.other {
            kept.copy_from(&be, &self.states)?;
        }
        let n = self.pool.len();
        self.pool_before.ensure(&be, n)?;
        be.copy(self.pool_before.get_mut(&be, n), self.pool.carried.get(&be, n))?;
        self.position_before = self.position;
        self.journal.begin(version);
        Ok(())
    }

    /// To the states before the push that failed: those that were copied, and every push since once more.
    fn go_back(&mut self, model: &mut Model<B>) -> Result<()> {
        let be = self.be.clone();
        if let Some(kept) = &self.other {
            self.states.copy_from(&be, kept)?;
        }
        let n = self.pool.len();
        be.copy(self.pool.carried.get_mut(&be, n), self.pool_before.get(&be, n))?;
        self.position = self.position_before;
        let journal = std::mem::replace(&mut self.journal, Journal::new());
        let done = journal.pushes().try_for_each(|(x, len, interval)| {
            let opts = StepOptions { interval };
            (0..len).try_for_each(|t| self.step(model, x, (t, len), &opts, None))
        });
        self.journal = journal;
        done
    }

    /// Refuses outputs, and states behind them, that are not finite.
    fn check_finite(&mut self, out: &[B::Scalar]) -> Result<()> {
        if !self.be.all_finite(out) {
            return Err(not_finite("finite outputs", "NaN or infinity"));
        }
        if !self.hides {
            return Ok(());
        }
        let n = self.be.ref_len(self.states.view(&self.be, 0));
        self.host_state.resize(n, Zero::zero());
        for i in 0..self.states.blocks.len() {
            self.be.download(&mut self.host_state, self.states.view(&self.be, i))?;
            if !self.be.all_finite(&self.host_state) {
                return Err(not_finite("a finite state", format!("NaN or infinity in block {i}")));
            }
        }
        Ok(())
    }

    /// As [`Stepper::push`], into a new array, which is made once the input has proved right.
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
        let mut out = host_memory::zeros("s4-node", "a result", n)?;
        self.push(model, x, len, opts, &mut out)?;
        Ok(out)
    }

    fn check_push(
        &self,
        op: &'static str,
        model: &Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
    ) -> Result<()> {
        if Sizes::of(model) != self.sizes {
            return Err(Error::value(op, "the model that the stream was made of", "another"));
        }
        if let Input::Values(x) = x
            && !self.be.all_finite(x)
        {
            return Err(not_finite("finite numbers in input", "NaN or infinity"));
        }
        let call = CallOptions { rate: self.rate, ..Default::default() };
        model.check_input(op, (x, self.batch, len), call)
    }

    /// Sample t of a push of `len`, with its output where that is wanted.
    fn step(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        (t, len): (usize, usize),
        opts: &StepOptions<'_, B::Scalar>,
        out: Option<&mut [B::Scalar]>,
    ) -> Result<()> {
        let be = self.be.clone();
        let (batch, c) = (self.batch, &model.config);
        let (inputs, outputs, heads) = (c.input, c.decoder_outputs(), c.features());
        let (n, m) = (batch * heads, batch * outputs);
        match x {
            Input::Values(x) => {
                let x = column(&mut self.host_input, x, (batch, len, inputs), t);
                self.input.ensure(&be, batch * inputs)?;
                be.upload(self.input.get_mut(&be, batch * inputs), x)?;
            }
            Input::Tokens(x) => {
                let x = column(&mut self.host_tokens, x, (batch, len, 1), t);
                self.tokens.upload(&be, x)?;
            }
        }
        if let Some(interval) = opts.interval {
            let per_push = interval.len() == batch;
            let (l, t) = if per_push { (1, 0) } else { (len, t) };
            let row = column(&mut self.host_interval, interval, (batch, l, 1), t);
            self.interval.ensure(&be, batch)?;
            be.upload(self.interval.get_mut(&be, batch), row)?;
        }
        self.features.iter_mut().try_for_each(|x| x.ensure(&be, n))?;
        self.out.ensure(&be, m)?;
        // The same work at every sample, unless a running pool counts or intervals make constants of their own.
        let repeats = opts.interval.is_none() && self.pool.is_last();
        if repeats {
            let mut graph = std::mem::take(&mut self.graph);
            let key = [model.store.version(), self.exchanges % 2];
            let done = be.replay(&mut graph, key, &mut || self.network(model, false));
            self.graph = graph;
            done?;
        } else {
            self.network(model, opts.interval.is_some())?;
        }
        self.position += 1;
        let Some(out) = out else { return Ok(()) };
        if len == 1 {
            return be.download(out, self.out.get(&be, m));
        }
        self.host_out.resize(m, Zero::zero());
        be.download(&mut self.host_out, self.out.get(&be, m))?;
        for (row, y) in self.host_out.chunks_exact(outputs).enumerate() {
            out[(row * len + t) * outputs..][..outputs].copy_from_slice(y);
        }
        Ok(())
    }

    /// Enqueues one sample through the network, from `input` or `tokens` to `out`, with the uploaded intervals if said so.
    fn network(&mut self, model: &mut Model<B>, intervals: bool) -> Result<()> {
        let be = self.be.clone();
        let (batch, c) = (self.batch, &model.config);
        let (n, m) = (batch * c.features(), batch * c.decoder_outputs());
        let [a, b] = &mut self.features;
        let (mut x, mut y) = (a, b);
        let net = &mut model.net;
        let pass = Pass::at_rate(&be, &model.store, (batch, 1), self.rate);
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
        }
        let ws = &mut net.scratch.ws;
        if net.head.norm_step(&pass, y.get_mut(&be, n), x.get(&be, n), ws)? {
            std::mem::swap(&mut x, &mut y);
        }
        let pooled = self.pool.step(&be, y, x, self.position)?;
        let features = if pooled { y.get(&be, n) } else { x.get(&be, n) };
        net.head.decode_step(&pass, self.out.get_mut(&be, m), features, ws)
    }

    /// A whole push through the chunked forward.
    fn chunk(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        out: &mut [B::Scalar],
    ) -> Result<()> {
        let be = self.be.clone();
        let batch = self.batch;
        model.upload_input(x, batch, len, None)?;
        self.journal.end();
        if self.other.is_none() {
            self.other = Some(RecurrentStates::new(&be, &model.config, batch)?);
        }
        // Which algorithm is the backend's choice; `auto` weighs the states too.
        let pass = Pass::at_rate(&be, &model.store, (batch, len), self.rate);
        model.net.forward_every_step(&pass, &self.states, self.other.as_mut())?;
        be.download(out, model.net.head.output_of_every_step(&be, batch, len))?;
        self.exchange();
        let done = self.check_finite(out);
        match done {
            Ok(()) => self.position += len as u64,
            Err(_) => self.exchange(),
        }
        done
    }

    /// The states of a chunked push for those before it, and back.
    fn exchange(&mut self) {
        if let Some(other) = &mut self.other {
            std::mem::swap(&mut self.states, other);
            self.exchanges += 1;
        }
    }

    /// An independent stream from here.
    pub fn fork(&self, model: &Model<B>) -> Result<Self> {
        let mut other = Stepper::new(model, self.batch, self.rate)?;
        other.states.copy_from(&self.be, &self.states)?;
        let n = self.pool.len();
        self.be.copy(other.pool.carried.get_mut(&self.be, n), self.pool.carried.get(&self.be, n))?;
        other.position = self.position;
        Ok(other)
    }

    /// Back to zero.
    pub fn reset(&mut self) -> Result<()> {
        self.position = 0;
        self.journal.end();
        self.states.zero(&self.be)
    }
}

const OP: &str = "ModelStream.push";

fn not_finite(expected: &str, got: impl std::fmt::Display) -> Error {
    Error::new(Code::NonFinite, OP, expected, got)
}

/// Whether a number that is not finite may be lost on its way from a state to the output: these activations map an infinity
/// to a finite number, and these pools leave out what is not the first, not the largest, or −∞.
fn hides(activation: Activation, last: Activation, pooling: Option<Pooling>) -> bool {
    let shows = |f| matches!(f, Activation::Identity | Activation::Gelu | Activation::Silu);
    let passes = matches!(pooling, None | Some(Pooling::Last | Pooling::Mean | Pooling::Sum));
    !(shows(activation) && shows(last) && passes)
}

/// Sample t of each row, (batch, width) of (batch, len, width), gathered in `place`; a push of one sample is it already.
fn column<'a, T: Copy>(
    place: &'a mut Vec<T>,
    x: &'a [T],
    (batch, len, width): (usize, usize, usize),
    t: usize,
) -> &'a [T] {
    if len == 1 {
        return x;
    }
    place.clear();
    place.extend((0..batch).flat_map(|row| x[(row * len + t) * width..][..width].iter().copied()));
    place
}
