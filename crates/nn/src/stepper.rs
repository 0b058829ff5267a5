//! The whole network as an RNN: O(1) memory, chunks of any length.
//!
//! Few samples go through the recurrence one by one; many go through the chunked forward from the carried state.
//! Both give the same numbers. Norms use running statistics. A pooled model gives at each step what it would give
//! if the sequence ended there.

use crate::{
    Encoder, Input, Model, check,
    net::States,
    s4::Call,
    tensor::{Grow, GrowInts},
};
use num_traits::{One, Zero};
use s4_backend::{Algorithm, Backend, Code, Error, Pooling, Result, Scalar, SeqShape};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

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
    be: B,
    batch: usize,
    rate: f64,
    position: u64,
    states: States<B>,
    /// Of chunked pushes: where the next states are written.
    next: Option<States<B>>,
    plans: Vec<B::StepPlan>,
    /// Running pool (batch, H), and what it is made with.
    pool: Grow<B>,
    two: [Grow<B>; 2],
    input: Grow<B>,
    tokens: GrowInts<B>,
    host_tokens: Vec<i32>,
    host_input: Vec<B::Scalar>,
    interval: Grow<B>,
    host_interval: Vec<B::Scalar>,
    x: [Grow<B>; 2],
    out: Grow<B>,
    host_out: Vec<B::Scalar>,
    /// The network's step as the backend recorded it, and how often `states` and `next` have changed places.
    graph: B::Graph,
    turns: u64,
    /// What it streams: a push into another model is refused.
    shape: (usize, usize, usize, usize),
}

impl<B: Backend> Stepper<B> {
    /// Zero states for `batch` rows of `model`.
    pub(crate) fn new(model: &Model<B>, batch: usize, rate: f64) -> Result<Self> {
        let op = "SequenceModel.stream";
        model.need_state(op)?;
        check::rate(op, rate)?;
        let (c, be) = (&model.config, model.be.clone());
        let spec = c.block.layer.spec();
        check::elements(
            op,
            "batch",
            &[batch, c.layers, spec.heads, spec.state, c.input.max(c.decoder_outputs())],
        )?;
        let plans = model.net.blocks.iter().map(|b| b.s4.new_step_plan(&be)).collect::<Result<_>>()?;
        let grow = || Grow::new(&be);
        let mut pool = grow()?;
        pool.ensure(&be, batch * spec.heads)?;
        Ok(Stepper {
            batch,
            rate,
            position: 0,
            states: States::new(&be, c, batch)?,
            next: None,
            plans,
            pool,
            two: [grow()?, grow()?],
            input: grow()?,
            tokens: GrowInts::new(&be)?,
            host_tokens: Vec::new(),
            host_input: Vec::new(),
            interval: grow()?,
            host_interval: Vec::new(),
            x: [grow()?, grow()?],
            out: grow()?,
            host_out: Vec::new(),
            graph: B::Graph::default(),
            turns: 0,
            shape: shape_of(model),
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
        if shape_of(model) != self.shape {
            return Err(Error::value(op, "the model that the stream was made of", "another"));
        }
        model.check_input(op, x, self.batch, len, None, self.rate)?;
        let outputs = model.config.decoder_outputs();
        check::shaped(op, "output", out, &[self.batch, len, outputs])?;
        if let Some(interval) = opts.interval {
            let n = if interval.len() == self.batch { self.batch } else { self.batch * len };
            check::intervals(op, interval, n)?;
        }
        // A running mean, maximum or sum needs every step; so do intervals.
        let stepwise = opts.interval.is_some()
            || !matches!(model.config.pooling, None | Some(Pooling::Last))
            || len < CHUNK_FROM;
        match stepwise {
            true => (0..len).try_for_each(|t| self.step(model, x, t, len, opts, out)),
            false => self.chunk(model, x, len, out),
        }
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
                let x = column(&mut self.host_input, x, batch, len, t, inputs);
                self.input.ensure(&be, batch * inputs)?;
                be.upload(self.input.get_mut(&be, batch * inputs), x)?;
            }
            Input::Tokens(x) => {
                let x = column(&mut self.host_tokens, x, batch, len, t, 1);
                self.tokens.put(&be, x)?;
            }
        }
        if let Some(interval) = opts.interval {
            let per_push = interval.len() == batch;
            let (l, t) = if per_push { (1, 0) } else { (len, t) };
            let row = column(&mut self.host_interval, interval, batch, l, t, 1);
            self.interval.ensure(&be, batch)?;
            be.upload(self.interval.get_mut(&be, batch), row)?;
        }
        self.x.iter_mut().try_for_each(|x| x.ensure(&be, n))?;
        self.out.ensure(&be, m)?;
        // The same work at every sample, unless a running pool counts or intervals make constants of their own.
        let repeats = opts.interval.is_none() && matches!(c.pooling, None | Some(Pooling::Last));
        if repeats {
            let mut graph = std::mem::take(&mut self.graph);
            let key = [model.store.version(), self.turns % 2];
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
        let [a, b] = &mut self.x;
        let (mut a, mut b) = (a, b);
        let (values, net) = (&model.store.values, &mut model.net);
        let call = Call::step(batch, self.rate, model.store.version());
        let size = if c.encoder == Encoder::Embedding { 0 } else { batch * c.input };
        net.encode_step(&be, a.get_mut(&be, n), self.input.get(&be, size), self.tokens.get(), values, batch)?;
        let interval = intervals.then(|| self.interval.get(&be, batch));
        for (i, block) in net.blocks.iter_mut().enumerate() {
            let (y, state, plan) = (b.get_mut(&be, n), self.states.view_mut(&be, i), &mut self.plans[i]);
            block.step(
                &be,
                y,
                state,
                a.get(&be, n),
                interval,
                values,
                &call,
                Some(plan),
                &mut net.scratch,
            )?;
            std::mem::swap(&mut a, &mut b);
        }
        if net.norm_step(&be, b.get_mut(&be, n), a.get(&be, n), values, &call)? {
            std::mem::swap(&mut a, &mut b);
        }
        let pooled = pool_step(&be, &mut self.pool, &mut self.two, b, a, c.pooling, self.position, n)?;
        let features = if pooled { b.get(&be, n) } else { a.get(&be, n) };
        net.decode_step(&be, self.out.get_mut(&be, m), features, values, batch)
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
        model.put_input(x, batch, len, None)?;
        if self.next.is_none() {
            self.next = Some(States::new(&be, &model.config, batch)?);
        }
        let call = Call { len, ..Call::step(batch, self.rate, model.store.version()) };
        let values = &model.store.values;
        // The algorithm of the call is the backend's choice; `Auto` weighs the states too.
        let call = Call { algorithm: Algorithm::Auto, ..call };
        model.net.forward_every_step(&be, values, &self.states, self.next.as_mut(), &call)?;
        if let Some(next) = &mut self.next {
            std::mem::swap(&mut self.states, next);
            self.turns += 1;
        }
        self.position += len as u64;
        be.download(out, model.net.output_rows(&be, batch, len))
    }

    /// Everything needed to go on from here, as bytes (safetensors).
    pub fn save(&self) -> Result<Vec<u8>> {
        let be = &self.be;
        let mut tensors: Vec<(String, Vec<B::Scalar>)> = Vec::new();
        for i in 0..self.states.blocks.len() {
            let mut host = vec![B::Scalar::zero(); be.ref_len(self.states.view(be, i))];
            be.download(&mut host, self.states.view(be, i))?;
            tensors.push((format!("state.{i}"), host));
        }
        let mut pool = vec![B::Scalar::zero(); self.batch * self.shape.1];
        let n = pool.len();
        be.download(&mut pool, self.pool.get(be, n))?;
        tensors.push(("pool".into(), pool));
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, x)| (name.clone(), vec![x.len()], crate::bytes::to_bytes(x)))
            .collect();
        let views = data
            .iter()
            .map(|(name, shape, bytes)| {
                let view = TensorView::new(crate::bytes::dtype::<B::Scalar>(), shape.clone(), bytes);
                Ok((name.as_str(), view.map_err(bad_state)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let meta = [
            ("format".to_string(), "s4-node stream".to_string()),
            ("batch".into(), self.batch.to_string()),
            ("position".into(), self.position.to_string()),
        ];
        safetensors::serialize(views, Some(meta.into())).map_err(bad_state)
    }

    /// Goes back to what [`Stepper::save`] gave. `ERR_S4_CHECKPOINT` when it does not fit, and nothing changes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad_state)?;
        let file = SafeTensors::deserialize(bytes).map_err(bad_state)?;
        let meta = header.metadata().clone().unwrap_or_default();
        if meta.get("batch") != Some(&self.batch.to_string()) {
            return Err(bad_state(format!(
                "a stream of {:?} rows for one of {}",
                meta.get("batch"),
                self.batch
            )));
        }
        let position: u64 =
            meta.get("position").and_then(|p| p.parse().ok()).ok_or_else(|| bad_state("no position"))?;
        let names = (0..self.states.blocks.len()).map(|i| format!("state.{i}")).chain(["pool".to_string()]);
        let mut all = Vec::new();
        for name in names {
            let view = file.tensor(&name).map_err(bad_state)?;
            let want = match name.as_str() {
                "pool" => self.batch * self.shape.1,
                _ => self.be.ref_len(self.states.view(&self.be, 0)),
            };
            let values = match view.dtype() {
                Dtype::F32 | Dtype::F64 => crate::bytes::from_bytes::<B::Scalar>(view.dtype(), view.data()),
                other => return Err(bad_state(format!("{name} of type {other:?}"))),
            };
            if values.len() != want || check::finite("", "", &values).is_err() {
                return Err(bad_state(format!("{name}: {} elements for {want}, or NaN", values.len())));
            }
            all.push(values);
        }
        for (i, values) in all.iter().enumerate() {
            let dst = match i < self.states.blocks.len() {
                true => self.states.view_mut(&self.be, i),
                false => self.pool.get_mut(&self.be, values.len()),
            };
            self.be.upload(dst, values)?;
        }
        self.position = position;
        Ok(())
    }

    /// An independent stream from here.
    pub fn fork(&self, model: &Model<B>) -> Result<Self> {
        let mut other = Stepper::new(model, self.batch, self.rate)?;
        other.states.copy_from(&self.be, &self.states)?;
        let n = self.batch * self.shape.1;
        self.be.copy(other.pool.get_mut(&self.be, n), self.pool.get(&self.be, n))?;
        other.position = self.position;
        Ok(other)
    }

    /// Back to zero.
    pub fn reset(&mut self) -> Result<()> {
        self.position = 0;
        self.states.zero(&self.be)
    }
}

/// What a stream must agree on with its model.
fn shape_of<B: Backend>(model: &Model<B>) -> (usize, usize, usize, usize) {
    let c = &model.config;
    (c.layers, c.features(), c.block.layer.state, c.decoder_outputs())
}

fn bad_state(got: impl std::fmt::Display) -> Error {
    Error::new(Code::Checkpoint, "Stream.restore", "a saved state of this stream", got)
}

/// Sample t of each row, (batch, width) of (batch, len, width); a push of one sample is it already.
fn column<'a, T: Copy>(
    room: &'a mut Vec<T>,
    x: &'a [T],
    batch: usize,
    len: usize,
    t: usize,
    width: usize,
) -> &'a [T] {
    if len == 1 {
        return x;
    }
    room.clear();
    room.extend((0..batch).flat_map(|row| x[(row * len + t) * width..][..width].iter().copied()));
    room
}

/// Moves the running pool on by the features `x`; `y` is the pool of all so far. False: `x` itself is it.
fn pool_step<B: Backend>(
    be: &B,
    pool: &mut Grow<B>,
    two: &mut [Grow<B>; 2],
    y: &mut Grow<B>,
    x: &Grow<B>,
    pooling: Option<Pooling>,
    position: u64,
    n: usize,
) -> Result<bool> {
    let one = B::Scalar::one();
    let first = position == 0;
    match pooling {
        None | Some(Pooling::Last) => return Ok(false),
        _ if first => be.copy(pool.get_mut(be, n), x.get(be, n))?,
        Some(Pooling::First) => {}
        Some(Pooling::Sum | Pooling::Mean) => be.axpy(pool.get_mut(be, n), one, x.get(be, n))?,
        Some(Pooling::Max) => {
            // The larger of two rows: (2, n) as n features of two samples.
            let [rows, pairs] = two;
            rows.ensure(be, 2 * n)?;
            pairs.ensure(be, 2 * n)?;
            let (a, b) = be.split_mut(rows.get_mut(be, 2 * n), n);
            be.copy(a, pool.get(be, n))?;
            be.copy(b, x.get(be, n))?;
            be.transpose(pairs.get_mut(be, 2 * n), rows.get(be, 2 * n), 1, 2, n)?;
            let shape = SeqShape { batch: 1, heads: n, len: 2 };
            be.pool_forward(pool.get_mut(be, n), pairs.get(be, 2 * n), None, Pooling::Max, &shape)?;
        }
    }
    let mut y = y.get_mut(be, n);
    if pooling == Some(Pooling::Mean) {
        be.fill(be.reborrow(&mut y), B::Scalar::zero())?;
        be.axpy(y, B::Scalar::from_f64(1.0 / (position + 1) as f64), pool.get(be, n))?;
    } else {
        be.copy(y, pool.get(be, n))?;
    }
    Ok(true)
}
