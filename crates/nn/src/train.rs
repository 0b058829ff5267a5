//! One training step: zero, forward, loss, backward, [reduction], clip, AdamW.
#![allow(unused_variables, clippy::todo)]
use crate::{AdamConfig, Evaluation, Input, Model, ScheduleConfig};
use s4_backend::{Backend, Result};
use serde::{Deserialize, Serialize};

/// Options of a training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainConfig {
    /// lr, ssmLr, weightDecay, beta1, beta2, eps, clip.
    #[serde(flatten)]
    pub adam: AdamConfig,
    /// Learning rate over time.
    pub schedule: ScheduleConfig,
    /// Decay of an average of the parameters that [`Trainer::swap_average`] gives; none by default.
    pub ema: Option<f64>,
    /// Seed of dropout.
    pub seed: u64,
    /// States run on from batch to batch (truncated back-propagation); gradients stop at the boundary.
    pub carry_state: bool,
}

/// What a batch is compared with.
#[derive(Clone, Copy, Debug)]
pub enum TargetData<'a, T> {
    /// (batch, output) when pooled, else (batch, len, output).
    Values(&'a [T]),
    /// (batch) when pooled, else (batch, len); a negative label is left out.
    Labels(&'a [i32]),
}

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// (batch, len, input) or tokens.
    pub input: Input<'a, T>,
    /// What should come out.
    pub target: TargetData<'a, T>,
    /// Rows.
    pub batch: usize,
    /// Samples a row.
    pub len: usize,
    /// Length of each row.
    pub lengths: Option<&'a [i32]>,
    /// Weight of each output row: (batch) when pooled, else (batch, len).
    pub weights: Option<&'a [T]>,
    /// Multiplies every Δ.
    pub rate: f64,
}

/// What one update was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Updates so far, this one included.
    pub step: u64,
    /// Loss before the update.
    pub loss: f64,
    /// Rows whose largest output was the label (cross-entropy).
    pub correct: u64,
    /// Rows counted.
    pub rows: u64,
    /// Global norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the main group.
    pub lr: f64,
}

/// The optimiser's side of training one model.
pub struct Trainer<B: Backend> {
    be: B,
    config: TrainConfig,
}

impl<B: Backend> Trainer<B> {
    /// Zero moments, update 0.
    pub fn new(model: &Model<B>, config: TrainConfig) -> Result<Self> {
        todo!()
    }
    /// Options.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }
    /// Updates so far.
    pub fn steps(&self) -> u64 {
        todo!()
    }
    /// Enqueues one whole step; [`Trainer::read_stats`] tells how it went.
    pub fn train_step(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        todo!()
    }
    /// First half of a step: gradients of the loss of this batch, accumulated.
    pub fn accumulate(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        todo!()
    }
    /// Second half: clip and AdamW; gradients are zero afterwards. Between the two, gradients (`model.store_mut().grads`)
    /// may be reduced over devices.
    pub fn update(&mut self, model: &mut Model<B>) -> Result<()> {
        todo!()
    }
    /// Waits and gives the last step's figures. `ERR_S4_NONFINITE` names step and tensor where a loss or gradient since
    /// the last read was not finite; the parameters are those before that step.
    pub fn read_stats(&mut self, model: &Model<B>) -> Result<StepStats> {
        todo!()
    }
    /// Tells a plateau schedule.
    pub fn observe(&mut self, metric: f64) {
        todo!()
    }
    /// Forgets carried states.
    pub fn reset_state(&mut self) {
        todo!()
    }
    /// Exchanges the parameters with their average (twice: back again). `ERR_S4_UNSUPPORTED` without `ema`.
    pub fn swap_average(&mut self, model: &mut Model<B>) -> Result<()> {
        todo!()
    }
}

impl<B: Backend> Model<B> {
    /// Adds one batch's loss and hits to `total`, without gradients.
    pub fn evaluate(&mut self, batch: &Batch<'_, B::Scalar>, total: &mut Evaluation) -> Result<()> {
        todo!()
    }
}
