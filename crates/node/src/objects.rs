//! The plain objects that cross the edge, and what they become on the other side.

use crate::{
    buffer::{Data, DataIn, Real, copied},
    worker::Flag,
};
use napi::bindgen_prelude::Int32Array;
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_nn::{Algorithm, Evaluation, ForwardOptions, OwnedArray, OwnedBatch, ParamInfo};
use std::sync::atomic::Ordering;

/// How one forward runs.
#[napi(object, object_to_js = false)]
pub struct CallOptions {
    /// State before the first sample.
    #[napi(ts_type = "Floats")]
    pub state: Option<DataIn>,
    /// Length of each row.
    pub lengths: Option<Int32Array>,
    /// Multiplies every Δ; default 1.
    pub rate: Option<f64>,
    /// By name; default `auto`.
    pub algorithm: Option<String>,
    /// Dropout and batch statistics on, values saved.
    pub training: Option<bool>,
    /// Give the end state.
    pub want_state: Option<bool>,
    /// Save what backward needs.
    pub save: Option<bool>,
}

/// One batch of training or evaluation.
#[napi(object, object_to_js = false)]
pub struct BatchInput {
    /// Values or tokens.
    pub input: DataIn,
    /// Values or labels.
    pub target: DataIn,
    /// Rows.
    pub batch: u32,
    /// Samples a row.
    pub len: u32,
    /// Length of each row.
    pub lengths: Option<Int32Array>,
    /// Weight of each output row.
    #[napi(ts_type = "Floats")]
    pub weights: Option<DataIn>,
    /// Multiplies every Δ; default 1.
    pub rate: Option<f64>,
    /// By name; default `auto`.
    pub algorithm: Option<String>,
}

/// The options that every call has, without its lengths.
fn call(
    rate: Option<f64>,
    algorithm: Option<&str>,
    training: Option<bool>,
) -> Result<s4_nn::CallOptions<'static, [i32]>> {
    let mut call = s4_nn::CallOptions::default();
    if let Some(name) = algorithm {
        call.algorithm = Algorithm::from_name(name)
            .ok_or_else(|| Error::value("algorithm", format!("one of {}", Algorithm::names()), name))?;
    }
    call.rate = rate.unwrap_or(call.rate);
    call.training = training.unwrap_or(call.training);
    Ok(call)
}

/// [`CallOptions`] with arrays of its own.
pub(crate) struct OwnedCall {
    state: Option<Data>,
    lengths: Option<Vec<i32>>,
    call: s4_nn::CallOptions<'static, [i32]>,
    want_state: bool,
    save: bool,
}

impl CallOptions {
    pub(crate) fn copy(&self) -> Result<OwnedCall> {
        Ok(OwnedCall {
            state: self.state.as_ref().map(Data::copy).transpose()?,
            lengths: self.lengths.as_ref().map(|x| copied(x)).transpose()?,
            call: call(self.rate, self.algorithm.as_deref(), self.training)?,
            want_state: self.want_state.unwrap_or(false),
            save: self.save.unwrap_or(false),
        })
    }
}

impl OwnedCall {
    /// Length of each row, where they were given.
    pub(crate) fn lengths(&self) -> Option<&[i32]> {
        self.lengths.as_deref()
    }
    /// Borrows it in the handle's number format.
    pub(crate) fn with<T: Real, R>(
        self,
        body: impl FnOnce(&ForwardOptions<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let state = self.state.map(Data::real::<T>).transpose()?;
        body(&ForwardOptions {
            state: state.as_deref(),
            call: self.call.with_lengths(self.lengths.as_deref()),
            want_state: self.want_state,
            save: self.save,
            dropout_at: None,
        })
    }
}

/// [`BatchInput`] with arrays of its own, not yet of one number format.
pub(crate) struct CopiedBatch {
    input: Data,
    target: Data,
    batch: usize,
    len: usize,
    lengths: Option<Vec<i32>>,
    weights: Option<Data>,
    call: s4_nn::CallOptions<'static, [i32]>,
}

impl BatchInput {
    pub(crate) fn copy(&self) -> Result<CopiedBatch> {
        Ok(CopiedBatch {
            input: Data::copy(&self.input)?,
            target: Data::copy(&self.target)?,
            batch: self.batch as usize,
            len: self.len as usize,
            lengths: self.lengths.as_ref().map(|x| copied(x)).transpose()?,
            weights: self.weights.as_ref().map(Data::copy).transpose()?,
            call: call(self.rate, self.algorithm.as_deref(), None)?,
        })
    }
}

/// Reals, or integers that are tokens or labels.
pub(crate) fn array<T: Real>(data: Data) -> Result<OwnedArray<T>> {
    match data {
        Data::I32(x) => Ok(OwnedArray::Integers(x)),
        reals => Ok(OwnedArray::Values(reals.real()?)),
    }
}

impl CopiedBatch {
    /// In the model's number format.
    pub(crate) fn real<T: Real>(self) -> Result<OwnedBatch<T>> {
        Ok(OwnedBatch {
            input: array(self.input)?,
            target: array(self.target)?,
            batch: self.batch,
            len: self.len,
            lengths: self.lengths,
            weights: self.weights.map(Data::real).transpose()?,
            call: self.call,
        })
    }
}

/// What a forward or a step gives.
#[napi(object, object_from_js = false)]
pub struct Forward {
    /// The output.
    #[napi(ts_type = "Floats")]
    pub y: Data,
    /// The state after the last sample.
    #[napi(ts_type = "Floats")]
    pub state: Option<Data>,
}

/// Gradients of a forward's inputs.
#[napi(object, object_from_js = false)]
pub struct Backward {
    /// Of the input.
    #[napi(ts_type = "Floats")]
    pub du: Data,
    /// Of the initial state, where one was given.
    #[napi(ts_type = "Floats")]
    pub dstate: Option<Data>,
}

/// One parameter.
#[napi(object, object_from_js = false)]
pub struct ParameterInfo {
    /// Official name.
    pub name: String,
    /// Official shape.
    pub shape: Vec<u32>,
    /// Which group of the optimiser.
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

/// Requests for memory and waits of the host so far, memory held now.
#[napi(object, object_from_js = false)]
pub struct Counters {
    /// Requests.
    pub allocations: f64,
    /// Waits.
    pub host_waits: f64,
    /// Bytes of the GPU that the handle holds, in use or for reuse.
    pub device_memory: f64,
}

/// How an update went.
#[napi(object, object_from_js = false)]
pub struct StepStats {
    /// Updates so far.
    pub step: f64,
    /// Before the update.
    pub loss: f64,
    /// Weights of the rows whose label was the largest output.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
    /// Their weights; 0 where nothing counted and so nothing was updated.
    pub weight: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Of the main group.
    pub lr: f64,
}

impl From<s4_nn::StepStats> for StepStats {
    fn from(s: s4_nn::StepStats) -> Self {
        StepStats {
            step: s.step as f64,
            loss: s.loss,
            correct: s.correct,
            rows: s.rows as f64,
            weight: s.weight,
            grad_norm: s.grad_norm,
            lr: s.lr,
        }
    }
}

/// Sums of an evaluation.
#[napi(object, object_from_js = false)]
pub struct Sums {
    /// Loss times weights.
    pub loss: f64,
    /// Weights of the rows whose label was the largest output.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
    /// Their weights.
    pub weight: f64,
}

/// How far a training run is, and the options that its loop goes on with.
#[napi(object, object_from_js = false)]
pub struct TrainState {
    /// Updates so far.
    pub steps: f64,
    /// Whole epochs.
    pub epochs: f64,
    /// Samples seen.
    pub samples: f64,
    /// Items of the dataset that the epoch under way has taken.
    pub items: f64,
    /// Σ weight·loss of the epoch under way.
    pub loss: f64,
    /// Weights of its hits.
    pub correct: f64,
    /// Its weights.
    pub weight: f64,
    /// Of its last update.
    pub grad_norm: f64,
    /// Of its last update.
    pub lr: f64,
    /// Seed of dropout and of the order.
    pub seed: f64,
    /// A new order every epoch.
    pub shuffle: bool,
    /// Epochs of the whole run.
    pub total_epochs: Option<f64>,
}

impl TrainState {
    /// Of a session.
    pub(crate) fn of<B: s4_backend::Backend>(session: &s4_nn::Session<B>) -> Self {
        let (p, config) = (session.progress(), session.train_config());
        TrainState {
            steps: session.steps() as f64,
            epochs: p.epochs as f64,
            samples: p.samples as f64,
            items: p.items as f64,
            loss: p.loss,
            correct: p.correct,
            weight: p.weight,
            grad_norm: p.grad_norm,
            lr: p.lr,
            seed: config.seed as f64,
            shuffle: config.shuffle,
            total_epochs: config.epochs.map(|n| n as f64),
        }
    }
}

impl From<Evaluation> for Sums {
    fn from(e: Evaluation) -> Self {
        Sums { loss: e.loss, correct: e.correct, rows: e.rows, weight: e.weight }
    }
}

/// A named array coming in.
#[napi(object, object_to_js = false)]
pub struct NamedArray {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: DataIn,
}

/// A named array going out.
#[napi(object, object_from_js = false)]
pub struct NamedData {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: Data,
}

/// Cancels a queued call.
#[napi]
#[derive(Default)]
pub struct Cancel {
    flag: Flag,
}

#[napi]
impl Cancel {
    /// Not cancelled.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Cancel { flag: Flag::default() }
    }
    /// A job that has not begun never does.
    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }
}

/// The flag of a call that may be cancelled.
pub(crate) fn flag(cancel: Option<&Cancel>) -> Option<Flag> {
    cancel.map(|c| c.flag.clone())
}
