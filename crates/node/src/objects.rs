//! The plain objects that JavaScript passes in and is given, and what they become in Rust.

use crate::{
    buffer::{Data, DataIn, Real, copied},
    error::to_js,
    process_exit::is_exiting,
    worker::CancelFlag,
};
use napi::bindgen_prelude::Int32Array;
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_nn::{Algorithm, Evaluation, ForwardOptions, OwnedArray, OwnedBatch, ParamInfo, fill_padding};
use std::sync::atomic::Ordering;

/// Options of one forward.
#[napi(object, object_to_js = false)]
pub struct CallOptions {
    /// State before the first time step; zero without.
    #[napi(ts_type = "Floats")]
    pub state: Option<DataIn>,
    /// Length of each sequence, where they are not all as long as the array.
    pub lengths: Option<Int32Array>,
    /// Interval of each time step, (batch, len); 1 without.
    #[napi(ts_type = "Floats")]
    pub intervals: Option<DataIn>,
    /// What every step size Δ is multiplied by; default 1.
    pub rate: Option<f64>,
    /// Name of the algorithm that computes the SSM; default `auto`.
    pub algorithm: Option<String>,
    /// Whether the forward is of training: dropout, statistics of the batch in a batch norm, and values saved for a
    /// backward.
    pub training: Option<bool>,
    /// Whether to give the state after the last time step.
    pub want_state: Option<bool>,
    /// Whether to save what a backward needs.
    pub save: Option<bool>,
}

/// One batch of training or evaluation.
#[napi(object, object_to_js = false)]
pub struct BatchInput {
    /// Input values (batch, len, input), or tokens (batch, len).
    pub input: DataIn,
    /// Real targets, or labels.
    pub target: DataIn,
    /// Number of sequences.
    pub batch: u32,
    /// Time steps of each sequence, padding included.
    pub len: u32,
    /// Length of each sequence, where they are not all as long as the array.
    pub lengths: Option<Int32Array>,
    /// Interval of each time step, (batch, len); 1 without.
    #[napi(ts_type = "Floats")]
    pub intervals: Option<DataIn>,
    /// Weight of each target in the loss: one for each sequence where the model pools over time, else for each time step.
    #[napi(ts_type = "Floats")]
    pub weights: Option<DataIn>,
    /// What every step size Δ is multiplied by; default 1.
    pub rate: Option<f64>,
    /// Name of the algorithm that computes the SSM; default `auto`.
    pub algorithm: Option<String>,
}

/// Rate, algorithm and training of a call, where they are given, as options without arrays.
fn call_options(
    rate: Option<f64>,
    algorithm: Option<&str>,
    training: Option<bool>,
) -> Result<s4_nn::HostOptions<'static, f64>> {
    let mut call = s4_nn::CallOptions::default();
    if let Some(name) = algorithm {
        call.algorithm = Algorithm::from_name(name)
            .ok_or_else(|| Error::value("algorithm", format!("one of {}", Algorithm::names()), name))?;
    }
    call.rate = rate.unwrap_or(call.rate);
    call.training = training.unwrap_or(call.training);
    Ok(call)
}

/// [`CallOptions`] with copies of its arrays, which another thread may read.
pub(crate) struct OwnedCall {
    state: Option<Data>,
    lengths: Option<Vec<i32>>,
    intervals: Option<Data>,
    call: s4_nn::HostOptions<'static, f64>,
    want_state: bool,
    save: bool,
}

impl CallOptions {
    /// Copies the options and their arrays.
    pub(crate) fn copy(&self) -> Result<OwnedCall> {
        Ok(OwnedCall {
            state: self.state.as_ref().map(Data::copy).transpose()?,
            lengths: self.lengths.as_ref().map(|x| copied(x)).transpose()?,
            intervals: self.intervals.as_ref().map(Data::copy).transpose()?,
            call: call_options(self.rate, self.algorithm.as_deref(), self.training)?,
            want_state: self.want_state.unwrap_or(false),
            save: self.save.unwrap_or(false),
        })
    }
}

impl OwnedCall {
    /// Length of each sequence, where they were given.
    pub(crate) fn lengths(&self) -> Option<&[i32]> {
        self.lengths.as_deref()
    }
    /// Calls `body` with the options in the handle's number format, for sequences of `len` time steps. Intervals beyond a
    /// sequence's length, where callers may leave anything, are 1.
    pub(crate) fn with_options<T: Real, R>(
        self,
        len: usize,
        body: impl FnOnce(&ForwardOptions<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let state0 = self.state.map(Data::real::<T>).transpose()?;
        let mut intervals = self.intervals.map(Data::real::<T>).transpose()?;
        if let (Some(intervals), Some(lengths)) = (&mut intervals, &self.lengths) {
            fill_padding(intervals, T::one(), lengths, len);
        }
        body(&ForwardOptions {
            state0: state0.as_deref(),
            call: self.call.with_arrays(self.lengths.as_deref(), intervals.as_deref()),
            want_state_end: self.want_state,
            save: self.save,
            dropout_at: None,
        })
    }
}

/// [`BatchInput`] with copies of its arrays, which another thread may read, still in the types that JavaScript passed.
pub(crate) struct CopiedBatch {
    input: Data,
    target: Data,
    batch: usize,
    len: usize,
    lengths: Option<Vec<i32>>,
    intervals: Option<Data>,
    weights: Option<Data>,
    call: s4_nn::HostOptions<'static, f64>,
}

impl BatchInput {
    /// Copies the batch with its arrays.
    pub(crate) fn copy(&self) -> Result<CopiedBatch> {
        Ok(CopiedBatch {
            input: Data::copy(&self.input)?,
            target: Data::copy(&self.target)?,
            batch: self.batch as usize,
            len: self.len as usize,
            lengths: self.lengths.as_ref().map(|x| copied(x)).transpose()?,
            intervals: self.intervals.as_ref().map(Data::copy).transpose()?,
            weights: self.weights.as_ref().map(Data::copy).transpose()?,
            call: call_options(self.rate, self.algorithm.as_deref(), None)?,
        })
    }
}

/// An input or target in the handle's number format, or as integers (tokens, labels) where it is an Int32Array.
pub(crate) fn reals_or_integers<T: Real>(data: Data) -> Result<OwnedArray<T>> {
    match data {
        Data::I32(x) => Ok(OwnedArray::Integers(x)),
        reals => Ok(OwnedArray::Values(reals.real()?)),
    }
}

impl CopiedBatch {
    /// The batch in the model's number format.
    pub(crate) fn real<T: Real>(self) -> Result<OwnedBatch<T>> {
        Ok(OwnedBatch {
            input: reals_or_integers(self.input)?,
            target: reals_or_integers(self.target)?,
            batch: self.batch,
            len: self.len,
            lengths: self.lengths,
            intervals: self.intervals.map(Data::real).transpose()?,
            weights: self.weights.map(Data::real).transpose()?,
            call: self.call,
        })
    }
}

/// Result of a forward or of a time step.
#[napi(object, object_from_js = false)]
pub struct Forward {
    /// The output.
    #[napi(ts_type = "Floats")]
    pub y: Data,
    /// The state after the last time step, where it was asked for.
    #[napi(ts_type = "Floats")]
    pub state: Option<Data>,
}

/// Streams in slots that have been made.
#[napi(object, object_from_js = false)]
pub struct OpenSlots {
    /// The number that names them.
    pub id: u32,
    /// About how many slots one push should be given, where more of them wait.
    pub of_push: u32,
    /// How many pushes should be under way then.
    pub pushes: u32,
    /// Time steps of a slot that several pushes of a stream should have together at the most.
    pub steps_of_push: Option<u32>,
}

/// What a push of slots gives.
#[napi(object, object_from_js = false)]
pub struct SlotResults {
    /// Outputs (time steps, outputs) of each push, one after the other; zeros for those that failed.
    #[napi(ts_type = "Floats")]
    pub outputs: Data,
    /// Index of each push that failed.
    pub failed: Vec<u32>,
    /// The message of its error, as those that are thrown.
    pub messages: Vec<String>,
}

impl SlotResults {
    pub(crate) fn new(outputs: Data, errors: Vec<(usize, Error)>) -> Self {
        let (failed, messages) =
            errors.into_iter().map(|(i, error)| (i as u32, to_js(error).reason.to_string())).unzip();
        SlotResults { outputs, failed, messages }
    }
}

/// Gradients of a forward's inputs.
#[napi(object, object_from_js = false)]
pub struct Backward {
    /// Gradient of the input.
    #[napi(ts_type = "Floats")]
    pub du: Data,
    /// Gradient of the state that the forward started from, where it was given one.
    #[napi(ts_type = "Floats")]
    pub dstate: Option<Data>,
}

/// Name, shape and group of a parameter.
#[napi(object, object_from_js = false)]
pub struct ParameterInfo {
    /// Name as in the official code's state dicts.
    pub name: String,
    /// Shape as in the official code, complex numbers as a last size of 2.
    pub shape: Vec<u32>,
    /// Group of the optimiser that it is in.
    #[napi(ts_type = "'main' | 'ssm'")]
    pub group: String,
}

impl From<&ParamInfo> for ParameterInfo {
    fn from(p: &ParamInfo) -> Self {
        ParameterInfo {
            name: p.name.clone(),
            shape: p.shape.iter().map(|&n| n as u32).collect(),
            group: p.slot.group.as_str().into(),
        }
    }
}

/// Counts of memory requests and of the host's waits for the device so far, and the memory held now.
#[napi(object, object_from_js = false)]
pub struct Counters {
    /// How often memory was asked of the device.
    pub allocations: f64,
    /// How often the host has waited for the device.
    pub host_waits: f64,
    /// Bytes of GPU memory that the handle holds, those kept for reuse included.
    pub device_memory: f64,
}

/// How one update of training went.
#[napi(object, object_from_js = false)]
pub struct StepStats {
    /// Number of updates so far.
    pub step: f64,
    /// Mean loss with the parameters before the update.
    pub loss: f64,
    /// Sums of which metrics are made.
    pub metrics: MetricSums,
    /// Number of targets that count: one for each sequence where the model pools over time, else one for each time step.
    pub rows: f64,
    /// Time steps of its batches, without padding.
    pub time_steps: f64,
    /// Sum of the weights in the mean loss; 0 where no target counts, and then nothing was updated.
    pub weight: f64,
    /// Norm over the gradients of all parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the main group.
    pub lr: f64,
    /// Number of ranks that had a batch for it; 1 without other ranks.
    pub ranks: f64,
}

impl From<s4_nn::StepStats> for StepStats {
    fn from(s: s4_nn::StepStats) -> Self {
        StepStats {
            step: s.step as f64,
            loss: s.loss,
            metrics: s.metrics.into(),
            rows: s.rows as f64,
            time_steps: s.time_steps as f64,
            weight: s.weight,
            grad_norm: s.grad_norm,
            lr: s.lr,
            ranks: s.ranks as f64,
        }
    }
}

/// Sums over targets, by their own weights.
#[napi(object, object_from_js = false)]
pub struct MetricSums {
    /// Σ of the weights.
    pub weight: f64,
    /// For cross-entropy Σw of the targets that were predicted right, Σw of those whose label was among the largest outputs, and
    /// Σw·(−log of the label's probability). For other losses Σw·r², Σw·|r| and Σw·CRPS, each a mean over the values of a target.
    #[napi(ts_type = "[number, number, number]")]
    pub sums: Vec<f64>,
}

impl From<s4_nn::MetricSums> for MetricSums {
    fn from(m: s4_nn::MetricSums) -> Self {
        MetricSums { weight: m.weight, sums: m.sums.to_vec() }
    }
}

/// Sums over the targets of an evaluation.
#[napi(object, object_from_js = false)]
pub struct Sums {
    /// Σ weight·loss.
    pub loss: f64,
    /// Sum of the weights in the loss.
    pub weight: f64,
    /// Sums of which metrics are made.
    pub metrics: MetricSums,
    /// Number of targets that count: one for each sequence where the model pools over time, else one for each time step.
    pub rows: f64,
    /// Sums of the targets' weights by label and predicted class, (classes, classes), where there are not too many classes.
    #[napi(ts_type = "Float64Array")]
    pub confusion: Option<Data>,
}

/// How far a training run is, with the sums of its epoch under way and the options that a resumed loop needs.
#[napi(object, object_from_js = false)]
pub struct TrainState {
    /// Number of updates so far.
    pub steps: f64,
    /// Number of whole epochs.
    pub epochs: f64,
    /// Time steps trained on so far, without padding.
    pub samples: f64,
    /// Number of items that the epoch under way has taken from the dataset.
    pub items: f64,
    /// Σ weight·loss over the epoch under way.
    pub loss: f64,
    /// Sums of which metrics are made, over the epoch under way.
    pub metrics: MetricSums,
    /// Sum of the weights in the mean losses of the epoch under way.
    pub weight: f64,
    /// Gradient norm of the last update.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub lr: f64,
    /// Seed of the dropout masks and of the order of the dataset.
    pub seed: f64,
    /// Whether the dataset is shuffled every epoch.
    pub shuffle: bool,
    /// Whether batch norms have the statistics of the joint batch of all ranks.
    pub sync_batch_norm: bool,
    /// Number of epochs of the whole run, where it was given.
    pub total_epochs: Option<f64>,
    /// The option topK of the run.
    pub top_k: Option<f64>,
}

impl TrainState {
    /// The state of a model's training.
    pub(crate) fn of<B: s4_backend::Backend>(session: &s4_nn::TrainingSession<B>) -> Self {
        let (p, config) = (session.progress(), session.train_config());
        TrainState {
            steps: session.steps() as f64,
            epochs: p.epochs as f64,
            samples: p.samples as f64,
            items: p.items as f64,
            loss: p.loss,
            metrics: p.metrics.into(),
            weight: p.weight,
            grad_norm: p.grad_norm,
            lr: p.lr,
            seed: config.seed as f64,
            shuffle: config.shuffle,
            sync_batch_norm: config.sync_batch_norm,
            total_epochs: config.epochs.map(|n| n as f64),
            top_k: config.top_k.map(|k| k as f64),
        }
    }
}

impl From<Evaluation> for Sums {
    fn from(e: Evaluation) -> Self {
        let confusion = (!e.confusion.is_empty()).then_some(Data::F64(e.confusion));
        Sums { loss: e.loss, weight: e.weight, metrics: e.metrics.into(), rows: e.rows, confusion }
    }
}

/// A named array that JavaScript passes in.
#[napi(object, object_to_js = false)]
pub struct NamedArray {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: DataIn,
}

/// A named array that JavaScript is given.
#[napi(object, object_from_js = false)]
pub struct NamedData {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: Data,
}

/// Cancels an asynchronous call that has not begun.
#[napi]
#[derive(Default)]
pub struct Cancel {
    flag: CancelFlag,
}

#[napi]
impl Cancel {
    /// For one call, which is not cancelled yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Cancel { flag: CancelFlag::default() }
    }
    /// The call never begins, if it has not begun.
    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }
}

/// The flag that says whether a call was cancelled, where it can be.
pub(crate) fn cancel_flag(cancel: Option<&Cancel>) -> Option<CancelFlag> {
    cancel.map(|c| c.flag.clone())
}

/// Whether a call was not cancelled, and the process does not exit.
pub(crate) fn is_wanted(cancel: &Option<CancelFlag>) -> bool {
    !is_exiting() && cancel.as_ref().is_none_or(|flag| !flag.load(Ordering::Acquire))
}
