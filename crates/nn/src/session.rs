//! A model in training: the trainer, the batch whose figures are not read yet, and the one whose gradients are begun
//! ahead of its update. Read-ahead changes no parameter, so a caller sees the model as each update left it.

use crate::{
    batch::{Batch, OwnedBatch},
    checkpoint,
    figures::StepStats,
    model::Model,
    train::{TrainConfig, Trainer},
};
use s4_backend::{Backend, Code, Error, Result};
use std::path::Path;

const OP: &str = "SequenceModel.train";

/// A model with its trainer and the batches under way.
pub struct Session<B: Backend> {
    model: Model<B>,
    trainer: Option<Trainer<B>>,
    /// Of the last update, until its figures are read: a failure is then traced by computing it once more.
    unread: Option<OwnedBatch<B::Scalar>>,
    /// Its gradients are begun, its update is to come.
    ahead: Option<OwnedBatch<B::Scalar>>,
}

impl<B: Backend> Session<B> {
    /// With the trainer of a checkpoint, or none.
    pub fn new(model: Model<B>, trainer: Option<Trainer<B>>) -> Self {
        Session { model, trainer, unread: None, ahead: None }
    }
    /// The model.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }
    /// The model.
    pub fn model_mut(&mut self) -> &mut Model<B> {
        &mut self.model
    }

    fn training(&mut self) -> Result<(&mut Model<B>, &mut Trainer<B>)> {
        match &mut self.trainer {
            Some(trainer) => Ok((&mut self.model, trainer)),
            None => Err(Error::value(OP, "training that has begun", "none")),
        }
    }

    /// A new trainer; with `resume` the one that is there goes on, with the options that `config` (JSON) names replaced.
    pub fn begin(&mut self, config: &str, resume: bool) -> Result<()> {
        if resume && let Some(trainer) = &mut self.trainer {
            let config = trainer.config().with_json(OP, config)?;
            return trainer.reconfigure(&self.model, config);
        }
        let config = TrainConfig::from_json(OP, config)?;
        (self.unread, self.ahead) = (None, None);
        self.trainer = Some(Trainer::new(&self.model, config)?);
        Ok(())
    }

    /// Enqueues one update; without a batch, of the one given to [`Session::begin_ahead`].
    pub fn step(&mut self, batch: Option<OwnedBatch<B::Scalar>>) -> Result<()> {
        let ahead = self.ahead.take();
        let (batch, begun) = match (batch, ahead) {
            (Some(batch), _) => (batch, false),
            (None, Some(batch)) => (batch, true),
            (None, None) => return Err(Error::value(OP, "a batch", "none")),
        };
        let (model, trainer) = self.training()?;
        if !begun {
            trainer.accumulate(model, &batch.batch())?;
        }
        trainer.update(model)?;
        self.unread = Some(batch);
        Ok(())
    }

    /// Begins the next update behind the one under way: enqueues its gradients.
    pub fn begin_ahead(&mut self, batch: OwnedBatch<B::Scalar>) -> Result<()> {
        let (model, trainer) = self.training()?;
        trainer.accumulate(model, &batch.batch())?;
        self.ahead = Some(batch);
        Ok(())
    }

    /// Waits for the last update and gives its figures. After `ERR_S4_NONFINITE` what was begun ahead is dropped.
    pub fn stats(&mut self) -> Result<StepStats> {
        let batch = self.unread.take();
        let (model, trainer) = self.training()?;
        match (trainer.read_stats(model), batch) {
            // The activations may be another batch's by now.
            (Err(error), Some(batch)) if error.code == Code::NonFinite => {
                let error = trainer.explain(model, &batch.batch(), error);
                self.ahead = None;
                Err(error?)
            }
            (result, _) => result,
        }
    }

    /// Drops what was begun and not updated.
    pub fn end(&mut self) -> Result<()> {
        (self.unread, self.ahead) = (None, None);
        let (model, trainer) = self.training()?;
        trainer.discard(model)
    }

    /// Forward and backward without an update.
    pub fn accumulate(&mut self, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        let (model, trainer) = self.training()?;
        trainer.accumulate(model, batch)
    }

    /// The update after accumulated batches; waits.
    pub fn update(&mut self) -> Result<StepStats> {
        let (model, trainer) = self.training()?;
        trainer.update(model)?;
        trainer.read_stats(model)
    }

    /// Tells a plateau schedule the metric of an epoch.
    pub fn observe(&mut self, metric: f64) -> Result<()> {
        self.training()?.1.observe(metric);
        Ok(())
    }

    /// Forgets carried states.
    pub fn reset_state(&mut self) -> Result<()> {
        self.training()?.1.reset_state()
    }

    /// Exchanges the parameters with their average.
    pub fn swap_average(&mut self) -> Result<()> {
        let (model, trainer) = self.training()?;
        trainer.swap_average(model)
    }

    /// Writes a checkpoint, the trainer included with `optimizer`; `extra` is the caller's own JSON.
    pub fn save(&self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()> {
        checkpoint::save(path, &self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }

    /// The bytes that [`Session::save`] writes.
    pub fn save_bytes(&self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>> {
        checkpoint::save_bytes(&self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }
}
