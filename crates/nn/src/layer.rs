//! A layer or a block with host arrays: (batch, len, features) outside, (batch, features, len) inside;
//! states (batch, H, N/2, 2) outside, (batch, H, 2, N/2) inside.

use crate::{
    BlockConfig, LayerConfig, ParamStore,
    block::{BlockCore, Scratch, Tape},
    check,
    param::{Flats, ParamBuilder},
    s4::{Call, S4Core},
    tensor::{Grow, GrowInts},
};
use num_traits::Zero;
use s4_backend::{Algorithm, Backend, Error, Result, SeqShape, random::DropKey};

/// How one call runs. Lengths: one a row, 1..=len.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions<'a, T> {
    /// State before the first sample, (batch, H, N/2, 2); for a model: its blocks' states one after another
    /// (layers, batch, H, N/2, 2).
    pub state: Option<&'a [T]>,
    /// Length of each row; outputs beyond it are 0.
    pub lengths: Option<&'a [i32]>,
    /// Multiplies every Δ.
    pub rate: f64,
    /// How the SSM is applied.
    pub algorithm: Algorithm,
    /// Dropout and batch statistics on, and values saved for backward.
    pub training: bool,
    /// Give the end state (layers that have one).
    pub want_state: bool,
    /// Save what backward needs (implied by `training`).
    pub save: bool,
    /// Where dropout is drawn: seed and step of the run.
    pub draw: (u64, u64),
}

impl<T> Default for ForwardOptions<'_, T> {
    fn default() -> Self {
        ForwardOptions {
            state: None,
            lengths: None,
            rate: 1.0,
            algorithm: Algorithm::Auto,
            training: false,
            want_state: false,
            save: false,
            draw: (0, 0),
        }
    }
}

/// What a forward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<T> {
    /// (batch, len, outputs): channels·H of a layer, H of a block.
    pub y: Vec<T>,
    /// (batch, H, N/2, 2), when asked for and the layer has one.
    pub state: Option<Vec<T>>,
}

/// What a backward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct InputGrads<T> {
    /// (batch, len, H)
    pub du: Vec<T>,
    /// Gradient of the state that forward started from, when it was given one.
    pub dstate: Option<Vec<T>>,
}

/// What is inside: an SSM alone, or a block.
pub trait Core<B: Backend>: Send + 'static {
    /// Its options.
    type Config: Clone + Send;
    #[doc(hidden)]
    const NAME: [&'static str; 5];
    #[doc(hidden)]
    fn s4(&mut self) -> &mut S4Core<B>;
    #[doc(hidden)]
    fn s4_ref(&self) -> &S4Core<B>;
    #[doc(hidden)]
    fn block(&mut self) -> Option<&mut BlockCore<B>>;
    #[doc(hidden)]
    fn block_ref(&self) -> Option<&BlockCore<B>>;
}

impl<B: Backend> Core<B> for S4Core<B> {
    type Config = LayerConfig;
    const NAME: [&'static str; 5] =
        ["S4Layer.forward", "S4Layer.backward", "S4Layer.step", "S4Layer.kernel", "S4Layer.initialState"];
    fn s4(&mut self) -> &mut S4Core<B> {
        self
    }
    fn s4_ref(&self) -> &S4Core<B> {
        self
    }
    fn block(&mut self) -> Option<&mut BlockCore<B>> {
        None
    }
    fn block_ref(&self) -> Option<&BlockCore<B>> {
        None
    }
}

impl<B: Backend> Core<B> for BlockCore<B> {
    type Config = BlockConfig;
    const NAME: [&'static str; 5] =
        ["S4Block.forward", "S4Block.backward", "S4Block.step", "S4Block.kernel", "S4Block.initialState"];
    fn s4(&mut self) -> &mut S4Core<B> {
        &mut self.s4
    }
    fn s4_ref(&self) -> &S4Core<B> {
        &self.s4
    }
    fn block(&mut self) -> Option<&mut BlockCore<B>> {
        Some(self)
    }
    fn block_ref(&self) -> Option<&BlockCore<B>> {
        Some(self)
    }
}

/// What the last saved forward ran with.
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

/// Device buffers of one layer's calls, reused.
struct Buffers<B: Backend> {
    /// Host layout on the device.
    stage: Grow<B>,
    x: Grow<B>,
    y: Grow<B>,
    dx: Grow<B>,
    state0: Grow<B>,
    state1: Grow<B>,
    state2: Grow<B>,
    interval: Grow<B>,
    lengths: GrowInts<B>,
    tape: Tape<B>,
    saved: Grow<B>,
    scratch: Scratch<B>,
}

/// A layer or a block with its own parameters and host arrays.
pub struct Host<B: Backend, C: Core<B>> {
    be: B,
    config: C::Config,
    store: ParamStore<B>,
    core: C,
    buf: Buffers<B>,
    last: Option<Saved>,
}

/// One S4 or S4D layer: y = K̄∗u + D·u. Parameters `kernel.{inv_dt,A_real,A_imag,B,C,P}` and `D`.
pub type Layer<B> = Host<B, S4Core<B>>;

/// One block: norm, S4, activation, dropout, linear, GLU, dropout, residual. Parameters `norm.{weight,bias}`,
/// `layer.kernel.*`, `layer.D`, `output_linear.0.{weight,bias}`.
pub type Block<B> = Host<B, BlockCore<B>>;

impl<B: Backend> Host<B, S4Core<B>> {
    /// A layer initialised from `config.seed`.
    pub fn new(be: B, config: LayerConfig) -> Result<Self> {
        config.check("S4Layer")?;
        let mut params = ParamBuilder::default();
        let core = S4Core::new(&be, &config, "", 16, &mut params)?;
        Self::with(be, config, core, params)
    }
}

impl<B: Backend> Host<B, BlockCore<B>> {
    /// A block initialised from `config.layer.seed`.
    pub fn new(be: B, config: BlockConfig) -> Result<Self> {
        config.check("S4Block")?;
        let mut params = ParamBuilder::default();
        let core = BlockCore::new(&be, &config, "", 0, &mut params)?;
        Self::with(be, config, core, params)
    }
}

impl<B: Backend, C: Core<B>> Host<B, C> {
    fn with(be: B, config: C::Config, core: C, params: ParamBuilder) -> Result<Self> {
        let buf = Buffers {
            stage: Grow::new(&be)?,
            x: Grow::new(&be)?,
            y: Grow::new(&be)?,
            dx: Grow::new(&be)?,
            state0: Grow::new(&be)?,
            state1: Grow::new(&be)?,
            state2: Grow::new(&be)?,
            interval: Grow::new(&be)?,
            lengths: GrowInts::new(&be)?,
            tape: Tape::new(&be)?,
            saved: Grow::new(&be)?,
            scratch: Scratch::new(&be)?,
        };
        Ok(Host { store: params.build(&be)?, be, config, core, buf, last: None })
    }

    /// What it is.
    pub fn config(&self) -> &C::Config {
        &self.config
    }
    /// Device.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// Parameters and gradients.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// For `set` and `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry a state (causal, not truncated).
    pub fn has_state(&self) -> bool {
        self.core.s4_ref().has_state()
    }
    /// Features of the output.
    pub fn outputs(&self) -> usize {
        match self.core.block_ref() {
            Some(block) => block.heads(),
            None => self.core.s4_ref().spec().outputs(),
        }
    }

    /// `u`: (batch, len, H). With `opts.save` (or `training`) backward may follow.
    pub fn forward(
        &mut self,
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        // Before room is made for the output.
        check::shaped(C::NAME[0], "u", u, &[batch, len, self.core.s4_ref().spec().heads])?;
        let mut y = vec![B::Scalar::zero(); check::elements(C::NAME[0], "y", &[batch, len, self.outputs()])?];
        let state = self.forward_into(&mut y, u, batch, len, opts)?;
        Ok(Forward { y, state })
    }

    /// As [`Host::forward`], into the caller's own `y` (batch, len, outputs); gives the state alone.
    pub fn forward_into(
        &mut self,
        y_out: &mut [B::Scalar],
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Option<Vec<B::Scalar>>> {
        let op = C::NAME[0];
        let spec = *self.core.s4_ref().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        let n = check::shaped(op, "u", u, &[batch, len, h])?;
        check::elements(op, "y", &[batch, len, spec.outputs().max(outputs), 2])?;
        check::shaped(op, "y", y_out, &[batch, len, outputs])?;
        check::finite_on(&self.be, op, "u", u)?;
        check::rate(op, opts.rate)?;
        if let Some(lengths) = opts.lengths {
            check::lengths(op, lengths, batch, len)?;
        }
        if let Some(state) = opts.state {
            self.core.s4_ref().need_state(op)?;
            check::shaped(op, "state", state, &[batch, h, spec.pairs(), 2])?;
            check::finite(op, "state", state)?;
        }
        let want_state = opts.want_state && self.has_state();
        let (ns, m) = (spec.state_len(batch), batch * len * outputs);
        let be = self.be.clone();
        let b = &mut self.buf;
        // Until it has succeeded there is nothing to go back through: what the last call kept is overwritten.
        self.last = None;
        put(&be, &mut b.stage, &mut b.x, u, batch, len, h)?;
        if let Some(state) = opts.state {
            put(&be, &mut b.stage, &mut b.state0, state, batch * h, spec.pairs(), 2)?;
        }
        if let Some(lengths) = opts.lengths {
            b.lengths.put(&be, lengths)?;
        }
        let key = DropKey { seed: opts.draw.0, step: opts.draw.1, site: 0 };
        let save = opts.save || opts.training;
        let saved = Saved {
            batch,
            len,
            rate: opts.rate,
            algorithm: opts.algorithm,
            version: self.store.version(),
            lengths: opts.lengths.is_some(),
            training: opts.training,
            key,
            state0: opts.state.is_some(),
        };
        let call = saved.call(&b.lengths);
        b.y.ensure(&be, m)?;
        b.state1.ensure(&be, ns)?;
        let state_end = want_state.then(|| b.state1.get_mut(&be, ns));
        let state0 = opts.state.map(|_| b.state0.get(&be, ns));
        let (x, y, values) = (b.x.get(&be, n), b.y.get_mut(&be, m), &self.store.values);
        match self.core.block() {
            Some(block) => {
                let tape = save.then_some(&mut b.tape);
                block.forward(&be, y, state_end, x, state0, tape, values, &call, &mut b.scratch)?;
                if let Some(norm) = &mut block.norm {
                    norm.commit(&be, None)?;
                }
            }
            None => {
                let core = self.core.s4();
                let saved_len = if save { core.saved_len(&be, &call) } else { 0 };
                b.saved.ensure(&be, saved_len)?;
                let keep = save.then(|| b.saved.get_mut(&be, saved_len));
                core.forward(&be, y, state_end, keep, x, state0, values, &call, &mut b.scratch.ws)?;
            }
        }
        if opts.lengths.is_some() {
            be.mask(b.y.get_mut(&be, m), b.lengths.get(), &SeqShape { batch, heads: outputs, len })?;
        }
        take_into(&be, &mut b.stage, y_out, b.y.get(&be, m), batch, outputs, len)?;
        let state = match want_state {
            true => Some(take(&be, &mut b.stage, b.state1.get(&be, ns), batch * h, 2, spec.pairs())?),
            false => None,
        };
        if save {
            self.last = Some(saved);
        }
        Ok(state)
    }

    /// Gradients of sum(y·dy) + sum(state·dstate) of the last saved forward; parameters' accumulate.
    pub fn backward(
        &mut self,
        dy: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<InputGrads<B::Scalar>> {
        let n = self.last.as_ref().map_or(0, |last| last.batch * last.len * self.core.s4_ref().spec().heads);
        let mut du = vec![B::Scalar::zero(); n];
        let dstate = self.backward_into(&mut du, dy, dstate)?;
        Ok(InputGrads { du, dstate })
    }

    /// As [`Host::backward`], into the caller's own `du` (batch, len, H); gives the state's gradient alone.
    pub fn backward_into(
        &mut self,
        du: &mut [B::Scalar],
        dy: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<Option<Vec<B::Scalar>>> {
        let op = C::NAME[1];
        let spec = *self.core.s4_ref().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        let Some(last) = &self.last else {
            return Err(Error::value(op, "a forward with `save` before", "none"));
        };
        if last.version != self.store.version() {
            return Err(Error::value(op, "the parameters of the forward before", "parameters changed since"));
        }
        let (batch, len) = (last.batch, last.len);
        let m = check::shaped(op, "dy", dy, &[batch, len, outputs])?;
        check::shaped(op, "du", du, &[batch, len, h])?;
        check::finite_on(&self.be, op, "dy", dy)?;
        if let Some(dstate) = dstate {
            self.core.s4_ref().need_state(op)?;
            check::shaped(op, "dstate", dstate, &[batch, h, spec.pairs(), 2])?;
            check::finite(op, "dstate", dstate)?;
        }
        let (n, ns) = (batch * len * h, spec.state_len(batch));
        let be = self.be.clone();
        let b = &mut self.buf;
        put(&be, &mut b.stage, &mut b.y, dy, batch, len, outputs)?;
        if last.lengths {
            be.mask(b.y.get_mut(&be, m), b.lengths.get(), &SeqShape { batch, heads: outputs, len })?;
        }
        if let Some(dstate) = dstate {
            put(&be, &mut b.stage, &mut b.state1, dstate, batch * h, spec.pairs(), 2)?;
        }
        b.dx.ensure(&be, n)?;
        b.state2.ensure(&be, ns)?;
        let call = last.call(&b.lengths);
        let dstate0 = last.state0.then(|| b.state2.get_mut(&be, ns));
        let state0 = last.state0.then(|| b.state0.get(&be, ns));
        let dstate_end = dstate.map(|_| b.state1.get(&be, ns));
        let (x, dx, dy) = (b.x.get(&be, n), b.dx.get_mut(&be, n), b.y.get(&be, m));
        let ParamStore { values, grads, .. } = &mut self.store;
        match self.core.block() {
            Some(block) => block.backward(
                &be,
                dx,
                dstate0,
                grads,
                dy,
                dstate_end,
                x,
                state0,
                &mut b.tape,
                false,
                values,
                &call,
                &mut b.scratch,
            )?,
            None => {
                let core = self.core.s4();
                let saved = b.saved.get(&be, core.saved_len(&be, &call));
                let ws = &mut b.scratch.ws;
                core.backward(
                    &be,
                    Some(dx),
                    dstate0,
                    grads,
                    dy,
                    dstate_end,
                    x,
                    state0,
                    saved,
                    values,
                    &call,
                    ws,
                )?
            }
        }
        take_into(&be, &mut b.stage, du, b.dx.get(&be, n), batch, h, len)?;
        match last.state0 {
            true => take(&be, &mut b.stage, b.state2.get(&be, ns), batch * h, 2, spec.pairs()).map(Some),
            false => Ok(None),
        }
    }

    /// One sample a row: `u` (batch, H) → (batch, outputs); `state` (batch, H, N/2, 2) moves on; norms use running
    /// statistics. `interval`: (batch), the ratio of this step to the training interval.
    pub fn step(
        &mut self,
        u: &[B::Scalar],
        state: &mut [B::Scalar],
        interval: Option<&[B::Scalar]>,
        batch: usize,
        rate: f64,
    ) -> Result<Vec<B::Scalar>> {
        let op = C::NAME[2];
        let spec = *self.core.s4_ref().spec();
        let (h, outputs) = (spec.heads, self.outputs());
        self.core.s4_ref().need_state(op)?;
        let n = check::shaped(op, "u", u, &[batch, h])?;
        let ns = check::shaped(op, "state", state, &[batch, h, spec.pairs(), 2])?;
        check::finite_on(&self.be, op, "u", u)?;
        check::finite(op, "state", state)?;
        check::rate(op, rate)?;
        if let Some(interval) = interval {
            check::intervals(op, interval, batch)?;
        }
        let be = self.be.clone();
        let b = &mut self.buf;
        let m = batch * outputs;
        // Forward's buffers are left alone: a backward may still come.
        b.dx.ensure(&be, n)?;
        be.upload(b.dx.get_mut(&be, n), u)?;
        put(&be, &mut b.stage, &mut b.state2, state, batch * h, spec.pairs(), 2)?;
        if let Some(interval) = interval {
            b.interval.ensure(&be, batch)?;
            be.upload(b.interval.get_mut(&be, batch), interval)?;
        }
        b.stage.ensure(&be, m)?;
        let interval = interval.map(|_| b.interval.get(&be, batch));
        let (y, s, x) = (b.stage.get_mut(&be, m), b.state2.get_mut(&be, ns), b.dx.get(&be, n));
        let (values, version) = (&self.store.values, self.store.version());
        match self.core.block() {
            Some(block) => {
                let call = Call::step(batch, rate, version);
                block.step(&be, y, s, x, interval, values, &call, None, &mut b.scratch)?;
            }
            None => {
                let ws = &mut b.scratch.ws;
                self.core.s4().step(&be, y, s, x, interval, values, batch, rate, version, None, ws)?;
            }
        }
        let mut out = vec![B::Scalar::zero(); m];
        be.download(&mut out, b.stage.get(&be, m))?;
        let next = take(&be, &mut b.stage, b.state2.get(&be, ns), batch * h, 2, spec.pairs())?;
        state.copy_from_slice(&next);
        Ok(out)
    }

    /// K̄: (kernel channels, H, len), of the untruncated layer.
    pub fn kernel(&mut self, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        let op = C::NAME[3];
        let spec = *self.core.s4_ref().spec();
        let n = check::elements(op, "kernel", &[spec.kernel_channels(), spec.heads, len])?;
        check::rate(op, rate)?;
        let be = &self.be;
        let b = &mut self.buf;
        b.stage.ensure(be, n)?;
        let values: &Flats<B> = &self.store.values;
        self.core.s4_ref().kernel(be, b.stage.get_mut(be, n), values, len, rate, &mut b.scratch.ws)?;
        let mut out = vec![B::Scalar::zero(); n];
        be.download(&mut out, b.stage.get(be, n))?;
        Ok(out)
    }

    /// Zeros (batch, H, N/2, 2).
    pub fn initial_state(&self, batch: usize) -> Result<Vec<B::Scalar>> {
        let spec = self.core.s4_ref().spec();
        self.core.s4_ref().need_state(C::NAME[4])?;
        let n = check::elements(C::NAME[4], "state", &[batch, spec.heads, spec.pairs(), 2])?;
        Ok(vec![B::Scalar::zero(); n])
    }

    /// Running mean and variance of a block's batch norm, (2, H).
    pub fn running(&self) -> Result<Option<Vec<B::Scalar>>> {
        match self.core.block_ref().and_then(|block| block.norm.as_ref()) {
            Some(norm) => norm.running(&self.be),
            None => Ok(None),
        }
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

/// Host (batch, rows, cols) → device (batch, cols, rows).
pub(crate) fn put<B: Backend>(
    be: &B,
    stage: &mut Grow<B>,
    dst: &mut Grow<B>,
    src: &[B::Scalar],
    batch: usize,
    rows: usize,
    cols: usize,
) -> Result<()> {
    let n = src.len();
    dst.ensure(be, n)?;
    if rows == 1 || cols == 1 {
        return be.upload(dst.get_mut(be, n), src);
    }
    if let Some(src) = be.host_ref(src) {
        return be.transpose(dst.get_mut(be, n), src, batch, rows, cols);
    }
    stage.ensure(be, n)?;
    be.upload(stage.get_mut(be, n), src)?;
    be.transpose(dst.get_mut(be, n), stage.get(be, n), batch, rows, cols)
}

/// Device (batch, rows, cols) → host (batch, cols, rows).
pub(crate) fn take<B: Backend>(
    be: &B,
    stage: &mut Grow<B>,
    src: B::Ref<'_>,
    batch: usize,
    rows: usize,
    cols: usize,
) -> Result<Vec<B::Scalar>> {
    let mut out = vec![B::Scalar::zero(); batch * rows * cols];
    take_into(be, stage, &mut out, src, batch, rows, cols)?;
    Ok(out)
}

/// As [`take`], into an array that is there.
fn take_into<B: Backend>(
    be: &B,
    stage: &mut Grow<B>,
    out: &mut [B::Scalar],
    src: B::Ref<'_>,
    batch: usize,
    rows: usize,
    cols: usize,
) -> Result<()> {
    if rows == 1 || cols == 1 {
        return be.download(out, src);
    }
    if let Some(out) = be.host_mut(out) {
        return be.transpose(out, src, batch, rows, cols);
    }
    let n = out.len();
    stage.ensure(be, n)?;
    be.transpose(stage.get_mut(be, n), src, batch, rows, cols)?;
    be.download(out, stage.get(be, n))
}
