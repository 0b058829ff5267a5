//! Layers, blocks and models behind one object-safe face, whatever the backend and the number format.

use crate::{
    buffer::{Data, Real, Room, View},
    layer::Counters,
};
use s4_backend::{Algorithm, Backend, Code, Error, Result, Scalar};
use s4_nn::{
    Adam, AdamConfig, Batch, Block, Evaluation, ForwardOptions, Input, Layer, Model, ParamInfo, StepOptions,
    StepStats, Stepper, TargetData, TrainConfig, Trainer,
};
use std::{collections::HashMap, path::Path};

/// How one call runs, owned.
pub(crate) struct Call {
    pub state: Option<Data>,
    pub lengths: Option<Vec<i32>>,
    pub rate: f64,
    pub algorithm: Algorithm,
    pub training: bool,
    pub want_state: bool,
    pub save: bool,
}

impl Call {
    /// Borrows it in the model's type; dropout is drawn at `draw`, seed and step.
    fn with<T: Real, R>(
        self,
        draw: (u64, u64),
        body: impl FnOnce(&ForwardOptions<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let state = self.state.map(Data::real::<T>).transpose()?;
        body(&ForwardOptions {
            state: state.as_deref(),
            lengths: self.lengths.as_deref(),
            rate: self.rate,
            algorithm: self.algorithm,
            training: self.training,
            want_state: self.want_state,
            save: self.save,
            draw,
        })
    }
}

/// What a forward gives.
pub(crate) struct Forward {
    pub y: Data,
    pub state: Option<Data>,
}

/// What a backward gives.
pub(crate) struct Backward {
    pub du: Option<Data>,
    pub dstate: Option<Data>,
}

/// One batch, owned.
pub(crate) struct OwnedBatch {
    pub input: Data,
    pub target: Data,
    pub batch: usize,
    pub len: usize,
    pub lengths: Option<Vec<i32>>,
    pub weights: Option<Data>,
    pub rate: f64,
    pub algorithm: Algorithm,
}

pub(crate) fn algorithm(name: Option<&str>) -> Result<Algorithm> {
    match name.unwrap_or("auto") {
        "auto" => Ok(Algorithm::Auto),
        "fft" => Ok(Algorithm::Fft),
        "chunk" => Ok(Algorithm::Chunk),
        other => Err(Error::value("algorithm", "'auto', 'fft' or 'chunk'", other)),
    }
}

/// Parameters and counters: what every handle has.
pub(crate) trait ParamOps: Send {
    fn infos(&self) -> Vec<ParamInfo>;
    fn parameter(&self, name: &str) -> Result<Data>;
    fn gradient(&self, name: &str) -> Result<Data>;
    fn set_parameter(&mut self, name: &str, value: Data) -> Result<()>;
    fn zero_grad(&mut self) -> Result<()>;
    fn counters(&self) -> Counters;
    fn dtype(&self) -> &'static str;
    fn device(&self) -> String;
    /// Bytes of parameters, gradients and moments, for V8.
    fn bytes(&self) -> usize;
}

macro_rules! param_ops {
    () => {
        fn infos(&self) -> Vec<ParamInfo> {
            self.inner.store().infos().to_vec()
        }
        fn parameter(&self, name: &str) -> Result<Data> {
            Ok(Real::give(self.inner.store().get(name)?))
        }
        fn gradient(&self, name: &str) -> Result<Data> {
            Ok(Real::give(self.inner.store().grad(name)?))
        }
        fn set_parameter(&mut self, name: &str, value: Data) -> Result<()> {
            self.inner.store_mut().set(name, &value.real::<B::Scalar>()?)
        }
        fn zero_grad(&mut self) -> Result<()> {
            self.inner.store_mut().zero_grad()
        }
        fn counters(&self) -> Counters {
            let be = self.inner.backend();
            Counters {
                allocations: be.allocations() as f64,
                host_waits: be.host_waits() as f64,
                device_memory: be.device_memory() as f64,
            }
        }
        fn dtype(&self) -> &'static str {
            B::Scalar::DTYPE.as_str()
        }
        fn device(&self) -> String {
            self.inner.backend().device_name()
        }
        fn bytes(&self) -> usize {
            // Values, gradients and two moments.
            4 * self.inner.store().count() * B::Scalar::DTYPE.bytes()
        }
    };
}

/// A layer or a block.
pub(crate) trait LayerOps: ParamOps {
    fn config(&self) -> String;
    fn outputs(&self) -> usize;
    fn has_state(&self) -> bool;
    fn forward(&mut self, u: Data, batch: usize, len: usize, call: Call) -> Result<Forward>;
    /// From and into the caller's arrays; gives the state.
    fn forward_into(
        &mut self,
        y: Room<'_>,
        u: View<'_>,
        batch: usize,
        len: usize,
        call: Call,
    ) -> Result<Option<Data>>;
    fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward>;
    /// From and into the caller's arrays; gives the state's gradient.
    fn backward_into(&mut self, du: Room<'_>, dy: View<'_>, dstate: Option<Data>) -> Result<Option<Data>>;
    fn step(
        &mut self,
        u: Data,
        state: Data,
        interval: Option<Data>,
        batch: usize,
        rate: f64,
    ) -> Result<Forward>;
    fn kernel(&mut self, len: usize, rate: f64) -> Result<Data>;
    fn initial_state(&self, batch: usize) -> Result<Data>;
    fn adam_open(&mut self, config: &str) -> Result<u32>;
    fn adam_update(&mut self, id: u32, scale: f64) -> Result<f64>;
    fn adam_close(&mut self, id: u32);
}

/// A layer or block with the optimisers opened on it.
pub(crate) struct LayerBox<B: Backend, L> {
    inner: L,
    adams: HashMap<u32, Adam<B>>,
    next: u32,
    /// Training forwards so far: each draws dropout masks of its own.
    trained: u64,
}

impl<B: Backend, L> LayerBox<B, L> {
    pub(crate) fn new(inner: L) -> Self {
        LayerBox { inner, adams: HashMap::new(), next: 0, trained: 0 }
    }
}

pub(crate) fn parse<C: serde::de::DeserializeOwned>(op: &'static str, json: &str) -> Result<C> {
    serde_json::from_str(json).map_err(|e| Error::value(op, "known options with values of their types", e))
}

macro_rules! layer_ops {
    ($kind:ident, $($seed:ident).+) => {
        impl<B: Backend> LayerBox<B, $kind<B>>
        where
            B::Scalar: Real,
        {
            /// One forward with the masks that are its turn.
            fn run<R>(
                &mut self,
                call: Call,
                body: impl FnOnce(&mut $kind<B>, &ForwardOptions<'_, B::Scalar>) -> Result<R>,
            ) -> Result<R> {
                let (training, draw) = (call.training, (self.inner.config().$($seed).+, self.trained));
                let out = call.with(draw, |options| body(&mut self.inner, options))?;
                self.trained += u64::from(training);
                Ok(out)
            }
        }

        impl<B: Backend> ParamOps for LayerBox<B, $kind<B>>
        where
            B::Scalar: Real,
        {
            param_ops!();
        }

        impl<B: Backend> LayerOps for LayerBox<B, $kind<B>>
        where
            B::Scalar: Real,
        {
            fn config(&self) -> String {
                self.inner.config().to_json()
            }
            fn outputs(&self) -> usize {
                self.inner.outputs()
            }
            fn has_state(&self) -> bool {
                self.inner.has_state()
            }
            fn forward(&mut self, u: Data, batch: usize, len: usize, call: Call) -> Result<Forward> {
                let u = u.real::<B::Scalar>()?;
                let out = self.run(call, |inner, options| inner.forward(&u, batch, len, options))?;
                Ok(Forward { y: Real::give(out.y), state: out.state.map(Real::give) })
            }
            fn forward_into(
                &mut self,
                y: Room<'_>,
                u: View<'_>,
                batch: usize,
                len: usize,
                call: Call,
            ) -> Result<Option<Data>> {
                let (y, u) = (y.real::<B::Scalar>()?, u.real::<B::Scalar>()?);
                let state = self.run(call, |inner, options| inner.forward_into(y, u, batch, len, options))?;
                Ok(state.map(Real::give))
            }
            fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward> {
                let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
                let out = self.inner.backward(&dy.real::<B::Scalar>()?, dstate.as_deref())?;
                Ok(Backward { du: Some(Real::give(out.du)), dstate: out.dstate.map(Real::give) })
            }
            fn backward_into(
                &mut self,
                du: Room<'_>,
                dy: View<'_>,
                dstate: Option<Data>,
            ) -> Result<Option<Data>> {
                let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
                let (du, dy) = (du.real::<B::Scalar>()?, dy.real::<B::Scalar>()?);
                Ok(self.inner.backward_into(du, dy, dstate.as_deref())?.map(Real::give))
            }
            fn step(
                &mut self,
                u: Data,
                state: Data,
                interval: Option<Data>,
                batch: usize,
                rate: f64,
            ) -> Result<Forward> {
                let mut state = state.real::<B::Scalar>()?;
                let interval = interval.map(Data::real::<B::Scalar>).transpose()?;
                let y =
                    self.inner.step(&u.real::<B::Scalar>()?, &mut state, interval.as_deref(), batch, rate)?;
                Ok(Forward { y: Real::give(y), state: Some(Real::give(state)) })
            }
            fn kernel(&mut self, len: usize, rate: f64) -> Result<Data> {
                Ok(Real::give(self.inner.kernel(len, rate)?))
            }
            fn initial_state(&self, batch: usize) -> Result<Data> {
                Ok(Real::give(self.inner.initial_state(batch)?))
            }
            fn adam_open(&mut self, config: &str) -> Result<u32> {
                let config: AdamConfig = parse("AdamW", config)?;
                let adam = Adam::new(self.inner.backend().clone(), self.inner.store(), config)?;
                self.next += 1;
                self.adams.insert(self.next, adam);
                Ok(self.next)
            }
            fn adam_update(&mut self, id: u32, scale: f64) -> Result<f64> {
                let Some(adam) = self.adams.get_mut(&id) else {
                    return Err(Error::value("AdamW.step", "an open optimiser", id));
                };
                adam.update(self.inner.store_mut(), scale)
            }
            fn adam_close(&mut self, id: u32) {
                self.adams.remove(&id);
            }
        }
    };
}
layer_ops!(Layer, seed);
layer_ops!(Block, layer.seed);

/// A whole model with its trainer and streams.
pub(crate) trait ModelOps: ParamOps {
    fn config(&self) -> String;
    fn has_state(&self) -> bool;
    fn output_shape(&self, batch: usize, len: usize) -> Vec<usize>;
    fn predict(&mut self, x: Data, batch: usize, len: usize, call: Call) -> Result<Forward>;
    fn backward(&mut self, doutput: Data, dstate: Option<Data>) -> Result<Backward>;
    fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Data>;
    fn save(&self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()>;
    fn save_bytes(&self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>>;
    fn train_begin(&mut self, config: &str, resume: bool) -> Result<()>;
    fn train_step(&mut self, batch: Option<OwnedBatch>) -> Result<()>;
    fn train_ahead(&mut self, batch: OwnedBatch) -> Result<()>;
    fn train_stats(&mut self) -> Result<StepStats>;
    fn train_end(&mut self) -> Result<()>;
    fn accumulate(&mut self, batch: OwnedBatch) -> Result<()>;
    fn update(&mut self) -> Result<StepStats>;
    fn observe(&mut self, metric: f64) -> Result<()>;
    fn reset_state(&mut self) -> Result<()>;
    fn swap_average(&mut self) -> Result<()>;
    fn evaluate(&mut self, batch: OwnedBatch) -> Result<Evaluation>;
    fn stream_open(&mut self, batch: usize, rate: f64) -> Result<u32>;
    fn stream_push(&mut self, id: u32, x: Data, len: usize, interval: Option<Data>) -> Result<Data>;
    fn stream_save(&self, id: u32) -> Result<Vec<u8>>;
    fn stream_restore(&mut self, id: u32, bytes: &[u8]) -> Result<()>;
    fn stream_fork(&mut self, id: u32) -> Result<u32>;
    fn stream_reset(&mut self, id: u32) -> Result<()>;
    fn stream_position(&self, id: u32) -> Result<u64>;
    fn stream_close(&mut self, id: u32);
}

pub(crate) struct ModelBox<B: Backend> {
    inner: Model<B>,
    trainer: Option<Trainer<B>>,
    /// The batch of the update whose figures are not read yet, and the one whose gradients are under way behind it.
    batches: [Option<HeldBatch<B::Scalar>>; 2],
    streams: HashMap<u32, Stepper<B>>,
    next: u32,
}

impl<B: Backend> ModelBox<B> {
    pub(crate) fn new(inner: Model<B>, trainer: Option<Trainer<B>>) -> Self {
        ModelBox { inner, trainer, batches: [None, None], streams: HashMap::new(), next: 0 }
    }

    fn trainer(&mut self) -> Result<(&mut Model<B>, &mut Trainer<B>)> {
        match &mut self.trainer {
            Some(trainer) => Ok((&mut self.inner, trainer)),
            None => Err(Error::value("SequenceModel.train", "training that has begun", "none")),
        }
    }

    fn stream(&self, id: u32) -> Result<&Stepper<B>> {
        self.streams.get(&id).ok_or_else(crate::error::disposed)
    }

    fn keep(&mut self, stepper: Stepper<B>) -> u32 {
        self.next += 1;
        self.streams.insert(self.next, stepper);
        self.next
    }
}

/// Tokens or values as the array says.
enum Held<T> {
    Values(Vec<T>),
    Ints(Vec<i32>),
}
impl<T: Real> Held<T> {
    fn of(data: Data) -> Result<Self> {
        match data {
            Data::I32(x) => Ok(Held::Ints(x)),
            other => Ok(Held::Values(other.real()?)),
        }
    }
    fn input(&self) -> Input<'_, T> {
        match self {
            Held::Values(x) => Input::Values(x),
            Held::Ints(x) => Input::Tokens(x),
        }
    }
    fn target(&self) -> TargetData<'_, T> {
        match self {
            Held::Values(x) => TargetData::Values(x),
            Held::Ints(x) => TargetData::Labels(x),
        }
    }
}

/// A batch in the model's type.
struct HeldBatch<T> {
    input: Held<T>,
    target: Held<T>,
    weights: Option<Vec<T>>,
    batch: usize,
    len: usize,
    lengths: Option<Vec<i32>>,
    rate: f64,
    algorithm: Algorithm,
}

impl<T: Real> HeldBatch<T> {
    fn of(owned: OwnedBatch) -> Result<Self> {
        let OwnedBatch { input, target, batch, len, lengths, weights, rate, algorithm } = owned;
        let weights = weights.map(Data::real::<T>).transpose()?;
        let (input, target) = (Held::of(input)?, Held::of(target)?);
        Ok(HeldBatch { input, target, weights, batch, len, lengths, rate, algorithm })
    }
    fn batch(&self) -> Batch<'_, T> {
        Batch {
            input: self.input.input(),
            target: self.target.target(),
            batch: self.batch,
            len: self.len,
            lengths: self.lengths.as_deref(),
            weights: self.weights.as_deref(),
            rate: self.rate,
            algorithm: self.algorithm,
        }
    }
}

impl<B: Backend> ParamOps for ModelBox<B>
where
    B::Scalar: Real,
{
    param_ops!();
}

impl<B: Backend> ModelOps for ModelBox<B>
where
    B::Scalar: Real,
{
    fn config(&self) -> String {
        self.inner.config().to_json()
    }
    fn has_state(&self) -> bool {
        self.inner.has_state()
    }
    fn output_shape(&self, batch: usize, len: usize) -> Vec<usize> {
        self.inner.output_shape(batch, len)
    }
    fn predict(&mut self, x: Data, batch: usize, len: usize, call: Call) -> Result<Forward> {
        let x = Held::<B::Scalar>::of(x)?;
        let inner = &mut self.inner;
        let out =
            call.with::<B::Scalar, _>((0, 0), |options| inner.forward(x.input(), batch, len, options))?;
        Ok(Forward { y: Real::give(out.y), state: out.state.map(Real::give) })
    }
    fn backward(&mut self, doutput: Data, dstate: Option<Data>) -> Result<Backward> {
        let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
        let out = self.inner.backward(&doutput.real::<B::Scalar>()?, dstate.as_deref())?;
        Ok(Backward { du: out.dx.map(Real::give), dstate: out.dstate.map(Real::give) })
    }
    fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Data> {
        Ok(Real::give(self.inner.kernel(block, len, rate)?))
    }
    fn save(&self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()> {
        s4_nn::save(path, &self.inner, self.trainer.as_ref().filter(|_| optimizer), extra)
    }
    fn save_bytes(&self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>> {
        s4_nn::save_bytes(&self.inner, self.trainer.as_ref().filter(|_| optimizer), extra)
    }
    fn train_begin(&mut self, config: &str, resume: bool) -> Result<()> {
        if resume && let Some(trainer) = &mut self.trainer {
            // What is given replaces, the rest stays as it was.
            let mut all = serde_json::to_value(trainer.config()).unwrap_or_default();
            let given: serde_json::Map<String, serde_json::Value> = parse("SequenceModel.train", config)?;
            for (name, value) in given {
                all[name] = value;
            }
            return trainer.reconfigure(&self.inner, parse("SequenceModel.train", &all.to_string())?);
        }
        let config: TrainConfig = parse("SequenceModel.train", config)?;
        self.batches = [None, None];
        self.trainer = Some(Trainer::new(&self.inner, config)?);
        Ok(())
    }
    fn train_step(&mut self, batch: Option<OwnedBatch>) -> Result<()> {
        let ready = self.batches[1].take();
        let (batch, begun) = match (batch, ready) {
            (Some(batch), _) => (HeldBatch::of(batch)?, false),
            (None, Some(batch)) => (batch, true),
            (None, None) => return Err(Error::value("SequenceModel.train", "a batch", "none")),
        };
        let (model, trainer) = self.trainer()?;
        if !begun {
            trainer.accumulate(model, &batch.batch())?;
        }
        trainer.update(model)?;
        self.batches[0] = Some(batch);
        Ok(())
    }
    fn train_ahead(&mut self, batch: OwnedBatch) -> Result<()> {
        let batch = HeldBatch::of(batch)?;
        let (model, trainer) = self.trainer()?;
        trainer.accumulate(model, &batch.batch())?;
        self.batches[1] = Some(batch);
        Ok(())
    }
    fn train_stats(&mut self) -> Result<StepStats> {
        let [batch, ahead] = &mut self.batches;
        let batch = batch.take();
        let Some(trainer) = &mut self.trainer else {
            return Err(Error::value("SequenceModel.train", "training that has begun", "none"));
        };
        match (trainer.read_stats(&self.inner), batch) {
            // The activations may be another batch's by now.
            (Err(error), Some(batch)) if error.code == Code::NonFinite => {
                *ahead = None;
                Err(trainer.explain(&mut self.inner, &batch.batch(), error)?)
            }
            (result, _) => result,
        }
    }
    fn train_end(&mut self) -> Result<()> {
        self.batches = [None, None];
        let (model, trainer) = self.trainer()?;
        trainer.discard(model)
    }
    fn accumulate(&mut self, batch: OwnedBatch) -> Result<()> {
        let batch = HeldBatch::of(batch)?;
        let (model, trainer) = self.trainer()?;
        trainer.accumulate(model, &batch.batch())
    }
    fn update(&mut self) -> Result<StepStats> {
        let (model, trainer) = self.trainer()?;
        trainer.update(model)?;
        trainer.read_stats(model)
    }
    fn observe(&mut self, metric: f64) -> Result<()> {
        self.trainer()?.1.observe(metric);
        Ok(())
    }
    fn reset_state(&mut self) -> Result<()> {
        self.trainer()?.1.reset_state()
    }
    fn swap_average(&mut self) -> Result<()> {
        let (model, trainer) = self.trainer()?;
        trainer.swap_average(model)
    }
    fn evaluate(&mut self, batch: OwnedBatch) -> Result<Evaluation> {
        let mut total = Evaluation::default();
        self.inner.evaluate(&HeldBatch::of(batch)?.batch(), &mut total)?;
        Ok(total)
    }
    fn stream_open(&mut self, batch: usize, rate: f64) -> Result<u32> {
        let stepper = self.inner.stream(batch, rate)?;
        Ok(self.keep(stepper))
    }
    fn stream_push(&mut self, id: u32, x: Data, len: usize, interval: Option<Data>) -> Result<Data> {
        let x = Held::<B::Scalar>::of(x)?;
        let interval = interval.map(Data::real::<B::Scalar>).transpose()?;
        let Some(stepper) = self.streams.get_mut(&id) else { return Err(crate::error::disposed()) };
        let width = self.inner.config().decoder_outputs();
        let Some(size) =
            stepper.batch().checked_mul(len).and_then(|n| n.checked_mul(width)).filter(|&n| n < 1 << 40)
        else {
            return Err(Error::shape("Stream.push", "a push of at most 2^40 values", len));
        };
        // The input must hold as many samples as it says before room for the output is made.
        let given = match &x {
            Held::Values(v) => v.len(),
            Held::Ints(v) => v.len(),
        };
        if given < stepper.batch() * len {
            return Err(Error::shape("Stream.push", format!("{} samples", stepper.batch() * len), given));
        }
        let mut out = vec![<B::Scalar as num_traits::Zero>::zero(); size];
        stepper.push(
            &mut self.inner,
            x.input(),
            len,
            &StepOptions { interval: interval.as_deref() },
            &mut out,
        )?;
        Ok(Real::give(out))
    }
    fn stream_save(&self, id: u32) -> Result<Vec<u8>> {
        self.stream(id)?.save()
    }
    fn stream_restore(&mut self, id: u32, bytes: &[u8]) -> Result<()> {
        self.streams.get_mut(&id).ok_or_else(crate::error::disposed)?.restore(bytes)
    }
    fn stream_fork(&mut self, id: u32) -> Result<u32> {
        let fork = self.stream(id)?.fork(&self.inner)?;
        Ok(self.keep(fork))
    }
    fn stream_reset(&mut self, id: u32) -> Result<()> {
        self.streams.get_mut(&id).ok_or_else(crate::error::disposed)?.reset()
    }
    fn stream_position(&self, id: u32) -> Result<u64> {
        Ok(self.stream(id)?.position())
    }
    fn stream_close(&mut self, id: u32) {
        self.streams.remove(&id);
    }
}
