//! The operations of a model, its training and its streams as a trait object, so that `NativeModel` is one class for all
//! backends and number formats.

use crate::{
    buffer::{Data, Real},
    error::disposed_error,
    generate_call::OwnedGenerateCall,
    native_push::NativePush,
    objects::{CopiedBatch, Forward, OpenSlots, OwnedCall, TrainState, reals_or_integers},
    param_ops::{HoldsModule, ParamOps},
    process_exit::{StillThere, end_at_exit, wait_at_exit},
    table::NumberedTable,
};
use s4_backend::{Backend, CommCall, Result};
use s4_nn::{
    DataInspection, Evaluation, Feed, Generated, Generation, LayerInspection, Model, OwnedBatch, PushQueue,
    StepOptions, StepStats, Stepper, StreamSlots, TrainingSession, inspect_layers, model_to_official,
};
use std::path::Path;

/// The operations that `NativeModel` calls. A stream is named by the number that `stream_open` gave.
pub(crate) trait ModelOps: ParamOps {
    fn config(&self) -> String;
    fn has_state(&self) -> bool;
    fn output_shape(&self, batch: usize, len: usize) -> Vec<usize>;
    fn predict(&mut self, x: Data, batch: usize, len: usize, call: OwnedCall) -> Result<Forward>;
    fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Data>;
    fn save(&mut self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()>;
    fn save_bytes(&mut self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>>;
    fn to_official(&self, original: &Path, config: Option<&str>) -> Result<Vec<u8>>;
    fn evaluate(&mut self, batch: CopiedBatch, top_k: usize) -> Result<Evaluation>;

    fn train_begin(&mut self, config: &str, resume: bool) -> Result<()>;
    fn check_batch(&mut self, batch: CopiedBatch) -> Result<()>;
    fn train_step(&mut self, batch: Option<CopiedBatch>, items: u64) -> Result<()>;
    fn train_ahead(&mut self, batch: CopiedBatch) -> Result<()>;
    fn train_stats(&mut self) -> Result<StepStats>;
    fn train_end(&mut self, cut_short: bool) -> Result<()>;
    fn accumulate(&mut self, batch: CopiedBatch) -> Result<()>;
    fn update(&mut self, config: &str) -> Result<StepStats>;
    fn train_state(&self) -> TrainState;
    fn end_epoch(&mut self, metric: f64) -> Result<()>;
    fn reset_state(&mut self) -> Result<()>;
    fn swap_average(&mut self) -> Result<()>;

    fn peer_id(&self) -> Result<Vec<u8>>;
    fn run_state(&mut self) -> Result<String>;
    fn begin_shared_run(&mut self, run_state: &str) -> Result<()>;
    fn join_peers(&mut self, call: &CommCall) -> Result<()>;
    fn leave_peers(&mut self) -> Result<()>;
    fn train_step_without_batch(&mut self) -> Result<()>;

    fn stream_open(&mut self, batch: usize, rate: f64) -> Result<u32>;
    fn stream_push(&mut self, id: u32, x: Data, len: usize, interval: Option<Data>) -> Result<Data>;
    fn stream_save(&self, id: u32) -> Result<Vec<u8>>;
    fn stream_restore(&mut self, id: u32, bytes: &[u8]) -> Result<()>;
    fn stream_fork(&mut self, id: u32) -> Result<u32>;
    fn stream_reset(&mut self, id: u32) -> Result<()>;
    fn stream_position(&self, id: u32) -> Result<u64>;
    fn stream_close(&mut self, id: u32);

    fn slots_open(&mut self, slots: usize, rate: f64) -> Result<OpenSlots>;
    fn slots_push(&mut self, id: u32, queue: &PushQueue<NativePush>) -> Result<()>;
    fn slots_save(&mut self, id: u32, slot: usize) -> Result<Vec<u8>>;
    fn slots_restore(&mut self, id: u32, slot: usize, bytes: &[u8]) -> Result<()>;
    fn slots_position(&self, id: u32, slot: usize) -> Result<u64>;
    fn slots_close(&mut self, id: u32);

    fn generate_open(&mut self, call: OwnedGenerateCall) -> Result<u32>;
    fn generate_next(&mut self, id: u32, go_on: &mut dyn FnMut() -> bool) -> Result<Generated>;
    fn generate_close(&mut self, id: u32);
    fn score(
        &mut self,
        tokens: &[i32],
        inputs: Option<Data>,
        rate: f64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f64>>;

    fn inspect_layers(
        &self,
        frequencies: &[f64],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<LayerInspection>>;
    fn inspect_data(&mut self, x: Data, batch: usize, len: usize, call: OwnedCall) -> Result<DataInspection>;
}

/// A model on any backend.
pub(crate) type BoxedModel = Box<dyn ModelOps>;

/// A model on backend `B` with its training, its streams and its generations.
struct ModelBox<B: Backend> {
    session: TrainingSession<B>,
    streams: NumberedTable<Stepper<B>>,
    slots: NumberedTable<StreamSlots<B>>,
    generations: NumberedTable<Generation<B>>,
}

/// A model with its training, as a trait object.
pub(crate) fn boxed_model<B: Backend<Scalar: Real>>(session: TrainingSession<B>) -> BoxedModel {
    Box::new(ModelBox {
        session,
        streams: NumberedTable::new(),
        slots: NumberedTable::new(),
        generations: NumberedTable::new(),
    })
}

impl<B: Backend<Scalar: Real>> ModelBox<B> {
    /// The stream of this number; `ERR_S4_DISPOSED` where it has been closed.
    fn stream(&self, id: u32) -> Result<&Stepper<B>> {
        self.streams.get(id).ok_or_else(disposed_error)
    }
    /// The batch in the model's number format, with padding and values of weight 0 zeroed: callers may leave NaN there.
    fn without_padding(&self, batch: CopiedBatch) -> Result<OwnedBatch<B::Scalar>> {
        let mut batch: OwnedBatch<B::Scalar> = batch.real()?;
        batch.clear_uncounted(self.session.model().config().pooling.is_none());
        Ok(batch)
    }
    fn stream_mut(&mut self, id: u32) -> Result<&mut Stepper<B>> {
        self.streams.get_mut(id).ok_or_else(disposed_error)
    }
}

impl<B: Backend<Scalar: Real>> HoldsModule for ModelBox<B> {
    type Inner = Model<B>;
    fn inner(&self) -> &Model<B> {
        self.session.model()
    }
    fn inner_mut(&mut self) -> &mut Model<B> {
        self.session.model_mut()
    }
    fn zero_gradients(&mut self) -> Result<()> {
        self.session.zero_grad()
    }
}

impl<B: Backend<Scalar: Real>> ModelOps for ModelBox<B> {
    fn config(&self) -> String {
        self.session.model().config().to_json()
    }
    fn has_state(&self) -> bool {
        self.session.model().has_state()
    }
    fn output_shape(&self, batch: usize, len: usize) -> Vec<usize> {
        self.session.model().output_shape(batch, len)
    }
    fn predict(&mut self, x: Data, batch: usize, len: usize, call: OwnedCall) -> Result<Forward> {
        let (mut x, model) = (reals_or_integers::<B::Scalar>(x)?, self.session.model_mut());
        if let Some(lengths) = call.lengths() {
            x.clear_padding(lengths, len);
        }
        let result = call.with_options(len, |options| model.forward(x.input(), batch, len, options))?;
        Ok(Forward { y: Real::into_data(result.y), state: result.state_end.map(Real::into_data) })
    }
    fn kernel(&mut self, block: usize, len: usize, rate: f64) -> Result<Data> {
        Ok(Real::into_data(self.session.model_mut().kernel(block, len, rate)?))
    }
    fn save(&mut self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()> {
        self.session.save(path, optimizer, extra)
    }
    fn save_bytes(&mut self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>> {
        self.session.save_bytes(optimizer, extra)
    }
    fn to_official(&self, original: &Path, config: Option<&str>) -> Result<Vec<u8>> {
        model_to_official(self.session.model(), original, config)
    }
    fn evaluate(&mut self, batch: CopiedBatch, top_k: usize) -> Result<Evaluation> {
        let mut total = Evaluation::default();
        let batch = self.without_padding(batch)?;
        self.session.model_mut().evaluate(&batch.batch(), top_k, &mut total)?;
        Ok(total)
    }

    fn train_begin(&mut self, config: &str, resume: bool) -> Result<()> {
        self.session.begin_run(config, resume)
    }
    fn check_batch(&mut self, batch: CopiedBatch) -> Result<()> {
        let batch = self.without_padding(batch)?;
        self.session.check(&batch.batch())
    }
    fn train_step(&mut self, batch: Option<CopiedBatch>, items: u64) -> Result<()> {
        let batch = batch.map(|b| self.without_padding(b)).transpose()?;
        self.session.step(batch, items)
    }
    fn train_ahead(&mut self, batch: CopiedBatch) -> Result<()> {
        let batch = self.without_padding(batch)?;
        self.session.begin_ahead(batch)
    }
    fn train_stats(&mut self) -> Result<StepStats> {
        self.session.stats()
    }
    fn train_end(&mut self, cut_short: bool) -> Result<()> {
        self.session.end(cut_short)
    }
    fn accumulate(&mut self, batch: CopiedBatch) -> Result<()> {
        let batch = self.without_padding(batch)?;
        self.session.accumulate(&batch.batch())
    }
    fn update(&mut self, config: &str) -> Result<StepStats> {
        self.session.update(config)
    }
    fn train_state(&self) -> TrainState {
        TrainState::of(&self.session)
    }
    fn end_epoch(&mut self, metric: f64) -> Result<()> {
        self.session.end_epoch(metric)
    }
    fn reset_state(&mut self) -> Result<()> {
        self.session.reset_state()
    }
    fn swap_average(&mut self) -> Result<()> {
        self.session.swap_average()
    }

    fn peer_id(&self) -> Result<Vec<u8>> {
        Ok(self.session.model().backend().comm_id()?.to_vec())
    }
    fn run_state(&mut self) -> Result<String> {
        self.session.run_state()
    }
    fn begin_shared_run(&mut self, run_state: &str) -> Result<()> {
        self.session.begin_shared_run(run_state)
    }
    fn join_peers(&mut self, call: &CommCall) -> Result<()> {
        end_at_exit(call.stop.clone());
        self.session.join(call)?;
        // Ranks on the CPU have no library.
        if self.session.model().backend().device_id().starts_with("cuda") {
            wait_at_exit(StillThere::Nccl);
        }
        Ok(())
    }
    fn leave_peers(&mut self) -> Result<()> {
        self.session.leave()
    }
    fn train_step_without_batch(&mut self) -> Result<()> {
        self.session.step_without_batch()
    }
    fn stream_open(&mut self, batch: usize, rate: f64) -> Result<u32> {
        Ok(self.streams.insert(self.session.model().stream(batch, rate)?))
    }
    fn stream_push(&mut self, id: u32, x: Data, len: usize, interval: Option<Data>) -> Result<Data> {
        let (x, interval) = (reals_or_integers(x)?, interval.map(Data::real::<B::Scalar>).transpose()?);
        let stepper = self.streams.get_mut(id).ok_or_else(disposed_error)?;
        let options = StepOptions { interval: interval.as_deref() };
        Ok(Real::into_data(stepper.push_new(self.session.model_mut(), x.input(), len, &options)?))
    }
    fn stream_save(&self, id: u32) -> Result<Vec<u8>> {
        self.stream(id)?.save()
    }
    fn stream_restore(&mut self, id: u32, bytes: &[u8]) -> Result<()> {
        self.stream_mut(id)?.restore(bytes)
    }
    fn stream_fork(&mut self, id: u32) -> Result<u32> {
        let fork = self.stream(id)?.fork(self.session.model())?;
        Ok(self.streams.insert(fork))
    }
    fn stream_reset(&mut self, id: u32) -> Result<()> {
        self.stream_mut(id)?.reset()
    }
    fn stream_position(&self, id: u32) -> Result<u64> {
        Ok(self.stream(id)?.position())
    }
    fn stream_close(&mut self, id: u32) {
        self.streams.remove(id);
    }

    fn slots_open(&mut self, slots: usize, rate: f64) -> Result<OpenSlots> {
        let model = self.session.model();
        let slots = model.stream_slots(slots, rate)?;
        let [of_push, pushes] =
            slots.pushes_of_queue().unwrap_or([slots.slots(), 1]).map(|count| count as u32);
        let steps_of_push = slots.steps_of_push(model).map(|steps| steps as u32);
        Ok(OpenSlots { id: self.slots.insert(slots), of_push, pushes, steps_of_push })
    }
    fn slots_push(&mut self, id: u32, queue: &PushQueue<NativePush>) -> Result<()> {
        let slots = self.slots.get_mut(id).ok_or_else(disposed_error)?;
        slots.push_queue(self.session.model_mut(), queue);
        Ok(())
    }
    fn slots_save(&mut self, id: u32, slot: usize) -> Result<Vec<u8>> {
        let slots = self.slots.get_mut(id).ok_or_else(disposed_error)?;
        slots.save(self.session.model(), slot)
    }
    fn slots_restore(&mut self, id: u32, slot: usize, bytes: &[u8]) -> Result<()> {
        let slots = self.slots.get_mut(id).ok_or_else(disposed_error)?;
        slots.restore(self.session.model(), slot, bytes)
    }
    fn slots_position(&self, id: u32, slot: usize) -> Result<u64> {
        self.slots.get(id).ok_or_else(disposed_error)?.position(slot)
    }
    fn slots_close(&mut self, id: u32) {
        self.slots.remove(id);
    }

    fn generate_open(&mut self, call: OwnedGenerateCall) -> Result<u32> {
        let OwnedGenerateCall { prompts, stream, inputs, rate, options } = call;
        let model = self.session.model();
        let feed = Feed::new("SequenceModel.generate", model, inputs.map(Data::real).transpose()?)?;
        let from = stream.map(|id| self.stream(id)).transpose()?;
        let generation = Generation::new(model, feed, prompts, options, from, rate)?;
        Ok(self.generations.insert(generation))
    }
    fn generate_next(&mut self, id: u32, go_on: &mut dyn FnMut() -> bool) -> Result<Generated> {
        let generation = self.generations.get_mut(id).ok_or_else(disposed_error)?;
        generation.advance(self.session.model_mut(), go_on)
    }
    fn generate_close(&mut self, id: u32) {
        self.generations.remove(id);
    }
    fn score(
        &mut self,
        tokens: &[i32],
        inputs: Option<Data>,
        rate: f64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f64>> {
        let model = self.session.model_mut();
        let feed = Feed::new("SequenceModel.score", model, inputs.map(Data::real).transpose()?)?;
        model.score(&feed, tokens, rate, go_on)
    }

    fn inspect_layers(
        &self,
        frequencies: &[f64],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<LayerInspection>> {
        inspect_layers(self.session.model(), frequencies, go_on)
    }
    fn inspect_data(&mut self, x: Data, batch: usize, len: usize, call: OwnedCall) -> Result<DataInspection> {
        let (mut x, model) = (reals_or_integers::<B::Scalar>(x)?, self.session.model_mut());
        if let Some(lengths) = call.lengths() {
            x.clear_padding(lengths, len);
        }
        call.with_options::<B::Scalar, _>(len, |options| {
            model.inspect_data(x.input(), batch, len, options.call)
        })
    }
}
