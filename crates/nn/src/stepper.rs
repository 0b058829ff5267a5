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
    model::Model,
    running_pool::RunningPool,
    s4::S4Step,
    states::RecurrentStates,
};
use num_traits::Zero;
use s4_backend::{Backend, CallOptions, Error, Result, checks, host_memory};

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
    /// Of chunked pushes: where the next states are written.
    next: Option<RecurrentStates<B>>,
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
    /// The network's step as the backend recorded it.
    graph: B::Graph,
    /// How often `states` and `next` have changed places: a recorded step belongs to one of the two.
    exchanges: u64,
    /// What it streams: a push into another model is refused.
    sizes: Sizes,
}

/// What a stream must agree on with its model.
#[derive(PartialEq)]
struct Sizes {
    layers: usize,
    features: usize,
    state: usize,
    outputs: usize,
}

impl Sizes {
    fn of<B: Backend>(model: &Model<B>) -> Self {
        let c = &model.config;
        Sizes {
            layers: c.layers,
            features: c.features(),
            state: c.block.layer.state,
            outputs: c.decoder_outputs(),
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
            next: None,
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
    pub fn push(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        out: &mut [B::Scalar],
    ) -> Result<()> {
        let op = "Stream.push";
        self.check_push(op, model, x, len)?;
        check::shaped(op, "output", out, &[self.batch, len, self.sizes.outputs])?;
        if let Some(interval) = opts.interval {
            let n = if interval.len() == self.batch { self.batch } else { self.batch * len };
            check::intervals(op, interval, n)?;
        }
        // A running mean, maximum or sum needs every step; so do intervals.
        let stepwise = opts.interval.is_some() || !self.pool.is_last() || len < CHUNK_FROM;
        match stepwise {
            true => (0..len).try_for_each(|t| self.step(model, x, t, len, opts, out)),
            false => self.chunk(model, x, len, out),
        }
    }

    /// As [`Stepper::push`], into a new array, which is made once the input has proved right.
    pub fn push_new(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
    ) -> Result<Vec<B::Scalar>> {
        let op = "Stream.push";
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
        let call = CallOptions { rate: self.rate, ..Default::default() };
        model.check_input(op, (x, self.batch, len), call)
    }

    /// Sample t of a push.
    fn step(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        t: usize,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        out: &mut [B::Scalar],
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
        if self.next.is_none() {
            self.next = Some(RecurrentStates::new(&be, &model.config, batch)?);
        }
        // Which algorithm is the backend's choice; `auto` weighs the states too.
        let pass = Pass::at_rate(&be, &model.store, (batch, len), self.rate);
        model.net.forward_every_step(&pass, &self.states, self.next.as_mut())?;
        if let Some(next) = &mut self.next {
            std::mem::swap(&mut self.states, next);
            self.exchanges += 1;
        }
        self.position += len as u64;
        be.download(out, model.net.head.output_of_every_step(&be, batch, len))
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
        self.states.zero(&self.be)
    }
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
