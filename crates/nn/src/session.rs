//! A model in training: the trainer, the batch whose figures are not read yet, and the one whose gradients are begun
//! ahead of its update. Read-ahead changes no parameter, so a caller sees the model as each update left it.

use crate::{
    batch::{Batch, OwnedBatch},
    checkpoint,
    figures::StepStats,
    model::Model,
    progress::Progress,
    train::{TrainConfig, Trainer},
};
use s4_backend::{Backend, Code, Error, Result};
use std::path::Path;

const OP: &str = "SequenceModel.train";

/// A model with its trainer and the batches under way.
pub struct Session<B: Backend> {
    model: Model<B>,
    trainer: Option<Trainer<B>>,
    /// Whether the model is from a checkpoint without a trainer, so that there is no run to go on with.
    bare: bool,
    /// The run before a new one, until an update of the new one has succeeded: where its first batch is refused, that run
    /// is there again.
    former: Option<Former<B>>,
    /// Of the last update, until its figures are read: a failure is then traced by computing it once more.
    unread: Option<Taken<B::Scalar>>,
    /// Figures of the last update that a save had to read, until they are asked for.
    settled: Option<Result<StepStats>>,
    /// Its gradients are begun, its update is to come.
    ahead: Option<OwnedBatch<B::Scalar>>,
    /// Samples of the batches since the last update of a loop of the caller's own.
    accumulated: u64,
}

/// A run that is kept: its trainer, if there was one, and whether there was none to go on with.
struct Former<B: Backend> {
    trainer: Option<Trainer<B>>,
    bare: bool,
}

/// A batch, and how many items of the dataset it takes.
struct Taken<T> {
    batch: OwnedBatch<T>,
    items: u64,
}

impl<B: Backend> Session<B> {
    /// A new model, not trained yet.
    pub fn new(model: Model<B>) -> Self {
        let (unread, settled, ahead) = (None, None, None);
        Session { model, trainer: None, bare: false, former: None, unread, settled, ahead, accumulated: 0 }
    }
    /// What a checkpoint held: a model, with the trainer of its run or without.
    pub fn loaded(model: Model<B>, trainer: Option<Trainer<B>>) -> Self {
        Session { bare: trainer.is_none(), trainer, ..Session::new(model) }
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

    /// A new run; with `resume` the one that is there goes on, with the options that `config` (JSON) names replaced.
    /// Gradients that were accumulated and not updated are dropped. `ERR_S4_CHECKPOINT` when the model is from a file
    /// that holds no run.
    pub fn begin(&mut self, config: &str, resume: bool) -> Result<()> {
        if resume && self.bare {
            return Err(Error::new(
                Code::Checkpoint,
                OP,
                "a checkpoint with the optimiser's state to resume from",
                "one without (saved with optimizer: false, or the parameters of another program)",
            ));
        }
        if self.trainer.as_ref().is_some_and(|t| t.swapped) {
            return Err(Error::unsupported(
                OP,
                "the trained parameters in place: swapAverage() once more before training",
                "their running average",
            ));
        }
        if !resume || self.trainer.is_none() {
            let trainer = Trainer::new(&self.model, TrainConfig::from_json(OP, config)?)?;
            self.forget();
            let former = self.trainer.replace(trainer);
            self.former = Some(Former { trainer: former, bare: std::mem::take(&mut self.bare) });
            return Ok(());
        }
        let (model, trainer) = self.training()?;
        let config = trainer.config().with_json(OP, config)?;
        let old = trainer.config();
        if trainer.progress.items > 0 && (config.seed, config.shuffle) != (old.seed, old.shuffle) {
            return Err(Error::unsupported(
                OP,
                format!("seed {} and shuffle {} until the epoch under way ends", old.seed, old.shuffle),
                format!("seed {} and shuffle {}", config.seed, config.shuffle),
            ));
        }
        trainer.reconfigure(model, config)?;
        trainer.discard(model)?;
        self.forget();
        Ok(())
    }

    /// Puts the run before a new one that has made no update back in its place.
    fn restore(&mut self) {
        if let Some(Former { trainer, bare }) = self.former.take() {
            (self.trainer, self.bare) = (trainer, bare);
        }
    }

    fn forget(&mut self) {
        (self.unread, self.settled, self.ahead, self.accumulated) = (None, None, None, 0);
    }

    /// Options of a loop of the caller's own: those that `config` (JSON) names are replaced, what was accumulated stays.
    pub fn configure(&mut self, config: &str) -> Result<()> {
        match &mut self.trainer {
            Some(trainer) => {
                let config = trainer.config().with_json(OP, config)?;
                trainer.reconfigure(&self.model, config)
            }
            None => self.begin(config, false),
        }
    }

    /// How far the run is; nothing before one has begun.
    pub fn progress(&self) -> Progress {
        self.trainer.as_ref().map(|t| t.progress).unwrap_or_default()
    }
    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.trainer.as_ref().map_or(0, Trainer::steps)
    }
    /// Options of the run; the default ones before one has begun.
    pub fn train_config(&self) -> TrainConfig {
        self.trainer.as_ref().map(|t| t.config().clone()).unwrap_or_default()
    }

    /// Enqueues one update; without a batch, of the one given to [`Session::begin_ahead`]. `items`: what it takes of the
    /// dataset.
    pub fn step(&mut self, batch: Option<OwnedBatch<B::Scalar>>, items: u64) -> Result<()> {
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
        (self.unread, self.settled) = (Some(Taken { batch, items }), None);
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
        if let Some(settled) = self.settled.take() {
            return settled;
        }
        let taken = self.unread.take();
        let (model, trainer) = self.training()?;
        match (trainer.read_stats(model), taken) {
            // The activations may be another batch's by now.
            (Err(error), Some(Taken { batch, .. })) if error.code == Code::NonFinite => {
                let error = trainer.explain(model, &batch.batch(), error);
                self.ahead = None;
                Err(error?)
            }
            (Ok(stats), Some(Taken { batch, items })) => {
                trainer.progress.add(&stats, items, (batch.batch * batch.len) as u64);
                self.former = None;
                Ok(stats)
            }
            (result, _) => result,
        }
    }

    /// Reads the figures of an update under way, so that the run's progress is that of the parameters.
    fn settle(&mut self) {
        if self.unread.is_some() {
            self.settled = Some(self.stats());
        }
    }

    /// Drops what was begun and not updated.
    pub fn end(&mut self) -> Result<()> {
        self.forget();
        let (model, trainer) = self.training()?;
        trainer.discard(model)?;
        self.restore();
        Ok(())
    }

    /// Refuses a batch that training could not take, before any work.
    pub fn check(&mut self, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.model.check_batch(OP, batch)
    }

    /// Forward and backward without an update.
    pub fn accumulate(&mut self, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        let (model, trainer) = self.training()?;
        if let Err(error) = trainer.accumulate(model, batch) {
            self.restore();
            return Err(error);
        }
        self.former = None;
        self.accumulated += (batch.batch * batch.len) as u64;
        Ok(())
    }

    /// Zeroes the gradients: what was accumulated counts no more.
    pub fn zero_grad(&mut self) -> Result<()> {
        if let Some(trainer) = &mut self.trainer {
            trainer.uncount()?;
        }
        self.model.store_mut().zero_grad()
    }

    /// The update after accumulated batches; waits.
    pub fn update(&mut self) -> Result<StepStats> {
        let samples = std::mem::take(&mut self.accumulated);
        let (model, trainer) = self.training()?;
        trainer.update(model)?;
        let stats = trainer.read_stats(model)?;
        trainer.progress.samples += samples;
        Ok(stats)
    }

    /// Ends an epoch: a plateau schedule follows its metric.
    pub fn end_epoch(&mut self, metric: f64) -> Result<()> {
        let (_, trainer) = self.training()?;
        trainer.observe(metric);
        trainer.progress.end_epoch();
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
    pub fn save(&mut self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()> {
        self.settle();
        checkpoint::save(path, &self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }

    /// The bytes that [`Session::save`] writes.
    pub fn save_bytes(&mut self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>> {
        self.settle();
        checkpoint::save_bytes(&self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }
}
