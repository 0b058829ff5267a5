//! A model in training, as a caller's loop drives it: the model, its trainer, the batch of the last update, and the next
//! batch, whose gradients are enqueued while the figures of that update are on their way to the host. Gradients change no
//! parameter, so the caller sees the model as each update left it.

use crate::{
    batch::{Batch, OwnedBatch},
    checkpoint,
    model::Model,
    progress::Progress,
    train::{FormerOptions, Trainer},
    train_config::{DEFAULT_EPOCHS, TrainConfig},
    undo::or_undo,
    update_figures::StepStats,
};
use s4_backend::{Backend, Code, CommCall, Error, Result};
use std::path::Path;

/// Name of training in error messages.
const OP: &str = "SequenceModel.train";

/// A model with its trainer, once training has begun, and the batches that are being worked on.
pub struct TrainingSession<B: Backend> {
    model: Model<B>,
    trainer: Option<Trainer<B>>,
    /// What there was before a run that has made no update yet: where its first batch is refused, it is there again.
    former: Option<FormerRun<B>>,
    /// The batch of the last update until its figures are read: where the update has failed, the batch is computed once
    /// more to find the tensor.
    unread_batch: Option<UpdateBatch<B::Scalar>>,
    /// Figures of the last update, where a save has read them before they were asked for.
    figures_read_early: Option<Result<StepStats>>,
    /// The next batch, whose gradients are enqueued already and whose update is not.
    next_batch: Option<OwnedBatch<B::Scalar>>,
}

/// What there was before a run.
enum FormerRun<B: Backend> {
    /// Of a new run: the trainer of the run before it, if there was one.
    Run(Option<Box<Trainer<B>>>),
    /// Of a run that goes on: the options that it had.
    Options(Box<FormerOptions<B>>),
}

/// The batch of an update; none where this rank took part in one without a batch.
struct UpdateBatch<T> {
    batch: Option<OwnedBatch<T>>,
}

impl<B: Backend> TrainingSession<B> {
    /// A session of a new model, with no run yet.
    pub fn new(model: Model<B>) -> Self {
        let (unread_batch, figures_read_early, next_batch) = (None, None, None);
        TrainingSession { model, trainer: None, former: None, unread_batch, figures_read_early, next_batch }
    }
    /// A session of what a checkpoint held: a model, with the trainer of its run or without.
    pub fn loaded(model: Model<B>, trainer: Option<Trainer<B>>) -> Self {
        TrainingSession { trainer, ..TrainingSession::new(model) }
    }
    /// The model, to be read.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }
    /// The model, to be changed.
    pub fn model_mut(&mut self) -> &mut Model<B> {
        &mut self.model
    }

    /// Model and trainer; `ERR_S4_VALUE` before training has begun.
    fn model_and_trainer(&mut self) -> Result<(&mut Model<B>, &mut Trainer<B>)> {
        match &mut self.trainer {
            Some(trainer) => Ok((&mut self.model, trainer)),
            None => Err(Error::value(OP, "training that has begun", "none")),
        }
    }

    /// Begins a new run with the options `config` (JSON). With `resume` the present run goes on instead, with the options
    /// that `config` names replaced. Where it ends before its first update, what there was before is there again. Gradients
    /// that no update has used are dropped. `ERR_S4_CHECKPOINT` where there is no run to resume: the model has not been
    /// trained, or its checkpoint does not hold the optimiser's state.
    pub fn begin_run(&mut self, config: &str, resume: bool) -> Result<()> {
        self.refuse_average()?;
        self.restore();
        if !resume {
            return self.begin_new_run(config);
        }
        let Some(trainer) = &mut self.trainer else {
            return Err(Error::new(
                Code::Checkpoint,
                OP,
                "a run to resume: a model in training, or a checkpoint with the optimiser's state",
                "a model without one (new, or saved with optimizer: false, or of another program)",
            ));
        };
        let model = &mut self.model;
        let config = trainer.config().with_replaced_options(OP, config)?;
        let old = trainer.config();
        if trainer.progress.items > 0 && (config.seed, config.shuffle) != (old.seed, old.shuffle) {
            return Err(Error::unsupported(
                OP,
                format!("seed {} and shuffle {} until the epoch under way ends", old.seed, old.shuffle),
                format!("seed {} and shuffle {}", config.seed, config.shuffle),
            ));
        }
        let former = trainer.reconfigure(model, config)?;
        trainer.discard(model)?;
        // A run with no epoch left makes no update, and has its new options all the same.
        let epochs_left = trainer.progress.epochs < trainer.config().epochs.unwrap_or(DEFAULT_EPOCHS);
        self.drop_batches();
        self.former = epochs_left.then_some(FormerRun::Options(Box::new(former)));
        Ok(())
    }

    /// Begins a new run; the present one is kept until an update of the new one has succeeded.
    fn begin_new_run(&mut self, config: &str) -> Result<()> {
        self.begin_with(Trainer::new(&self.model, TrainConfig::from_json(OP, config)?)?)
    }

    /// Begins a run with `trainer`; the present one is kept until an update of the new one has succeeded.
    fn begin_with(&mut self, trainer: Trainer<B>) -> Result<()> {
        // Both share the gradients: those of batches that the run before has not used yet are gone.
        if let Some(present) = &mut self.trainer {
            present.discard(&mut self.model)?;
        }
        self.drop_batches();
        self.former = Some(FormerRun::Run(self.trainer.replace(trainer).map(Box::new)));
        Ok(())
    }

    /// Refuses to train while the running average stands in the parameters' place.
    fn refuse_average(&self) -> Result<()> {
        self.trainer.as_ref().map_or(Ok(()), Trainer::refuse_average)
    }

    /// Goes back to what there was before a run that has made no update.
    fn restore(&mut self) {
        match (self.former.take(), &mut self.trainer) {
            (Some(FormerRun::Run(trainer)), _) => self.trainer = trainer.map(|trainer| *trainer),
            // These options have been accepted before.
            (Some(FormerRun::Options(options)), Some(trainer)) => {
                drop(trainer.restore_options(&self.model, *options));
            }
            _ => {}
        }
    }

    /// Drops all batches that are being worked on, and figures that were not asked for.
    fn drop_batches(&mut self) {
        (self.unread_batch, self.figures_read_early, self.next_batch) = (None, None, None);
    }

    /// How far the run is; all zeros before one has begun.
    pub fn progress(&self) -> Progress {
        self.trainer.as_ref().map(|t| t.progress).unwrap_or_default()
    }
    /// Number of updates so far.
    pub fn steps(&self) -> u64 {
        self.trainer.as_ref().map_or(0, Trainer::steps)
    }
    /// Options of the run; the defaults before one has begun.
    pub fn train_config(&self) -> TrainConfig {
        self.trainer.as_ref().map(|t| t.config().clone()).unwrap_or_default()
    }

    /// Enqueues one update from `batch`, or without it from the batch that was given to [`TrainingSession::begin_ahead`]. `items`:
    /// number of items of the dataset that the batch consists of.
    pub fn step(&mut self, batch: Option<OwnedBatch<B::Scalar>>, items: u64) -> Result<()> {
        let next_batch = self.next_batch.take();
        let (batch, begun) = match (batch, next_batch) {
            (Some(batch), _) => (batch, false),
            (None, Some(batch)) => (batch, true),
            (None, None) => return Err(Error::value(OP, "a batch", "none")),
        };
        let (model, trainer) = self.model_and_trainer()?;
        if !begun {
            trainer.accumulate(model, &batch.batch())?;
        }
        trainer.count_items(items);
        trainer.update(model)?;
        (self.unread_batch, self.figures_read_early) = (Some(UpdateBatch { batch: Some(batch) }), None);
        Ok(())
    }

    /// Enqueues an update in which this rank has no batch, and others may have one.
    pub fn step_without_batch(&mut self) -> Result<()> {
        let (model, trainer) = self.model_and_trainer()?;
        trainer.accumulate_nothing(model)?;
        trainer.update(model)?;
        (self.unread_batch, self.figures_read_early) = (Some(UpdateBatch { batch: None }), None);
        Ok(())
    }

    /// Makes each further update of the run together with other ranks, from the parameters and the state of rank 0.
    pub fn join(&mut self, call: &CommCall) -> Result<()> {
        call.check()?;
        let (model, trainer) = self.model_and_trainer()?;
        let comm = model.be.join(call)?;
        trainer.join(model, comm)?;
        let shared = trainer.share(model);
        if shared.is_err() {
            // What is left of a group that has failed is of no use.
            drop(trainer.leave(model));
        }
        shared
    }

    /// Makes the updates alone again.
    pub fn leave(&mut self) -> Result<()> {
        match &mut self.trainer {
            Some(trainer) => trainer.leave(&mut self.model),
            None => Ok(()),
        }
    }

    /// The options and counts of the run as JSON, for the other ranks to begin with.
    pub fn run_state(&mut self) -> Result<String> {
        let (_, trainer) = self.model_and_trainer()?;
        checkpoint::run_state(trainer)
    }

    /// Begins a run that is where rank 0 is, as [`TrainingSession::run_state`] says. Moments and averages are those of
    /// [`TrainingSession::join`].
    pub fn begin_shared_run(&mut self, run_state: &str) -> Result<()> {
        self.refuse_average()?;
        self.restore();
        let trainer = checkpoint::trainer_at(&self.model, run_state)?;
        self.begin_with(trainer)
    }

    /// Enqueues the gradients of the next update's batch, behind the update under way.
    pub fn begin_ahead(&mut self, batch: OwnedBatch<B::Scalar>) -> Result<()> {
        let (model, trainer) = self.model_and_trainer()?;
        trainer.accumulate(model, &batch.batch())?;
        self.next_batch = Some(batch);
        Ok(())
    }

    /// Waits for the last update and gives its figures. Where it failed with `ERR_S4_NONFINITE`, the gradients of a next
    /// batch are dropped.
    pub fn stats(&mut self) -> Result<StepStats> {
        if let Some(figures_read_early) = self.figures_read_early.take() {
            return figures_read_early;
        }
        let update_batch = self.unread_batch.take();
        let (model, trainer) = self.model_and_trainer()?;
        match (trainer.read_stats(model), update_batch) {
            // The tensor is found by computing the batch once more: the next batch may have overwritten its features.
            (Err(error), Some(UpdateBatch { batch: Some(batch) })) if error.code == Code::NonFinite => {
                let error = trainer.find_failed_tensor(model, &batch.batch(), error);
                self.next_batch = None;
                Err(error?)
            }
            (Ok(stats), Some(_)) => {
                trainer.progress.add_update(&stats);
                if stats.weight > 0.0 {
                    self.former = None;
                }
                Ok(stats)
            }
            (result, _) => result,
        }
    }

    /// Waits for an update under way and keeps its figures, so that the counts which a save writes are those of the
    /// parameters which it writes.
    fn read_figures_early(&mut self) {
        if self.unread_batch.is_some() {
            self.figures_read_early = Some(self.stats());
        }
    }

    /// Ends the caller's loop over an epoch: drops gradients that no update has used. Where it was `cut_short`, by an error
    /// or by the caller, before the run's first update, what there was before the run is there again.
    pub fn end(&mut self, cut_short: bool) -> Result<()> {
        self.drop_batches();
        let (model, trainer) = self.model_and_trainer()?;
        trainer.discard(model)?;
        match cut_short {
            true => self.restore(),
            false => self.former = None,
        }
        Ok(())
    }

    /// Refuses a batch that training could not take, before any work.
    pub fn check(&mut self, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.model.check_batch(OP, batch)
    }

    /// Adds the gradients of a batch, without an update, for a loop of the caller's own. Begins a run where there is none;
    /// where the batch is refused there is none afterwards either.
    pub fn accumulate(&mut self, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        match self.trainer {
            None => self.begin_new_run("{}")?,
            Some(_) => self.former = None,
        }
        let accumulated = |s: &mut Self| {
            let (model, trainer) = s.model_and_trainer()?;
            trainer.accumulate(model, batch)
        };
        or_undo(self, accumulated, Self::restore)?;
        self.former = None;
        Ok(())
    }

    /// Zeroes the gradients; batches accumulated so far are not part of the next update.
    pub fn zero_grad(&mut self) -> Result<()> {
        if let Some(trainer) = &mut self.trainer {
            trainer.leave_out_accumulated(&mut self.model)?;
        }
        self.model.store_mut().zero_grad()
    }

    /// Makes the update from all batches accumulated since the last, and waits for it. The options that `config` (JSON)
    /// names are replaced, for later updates too, unless this one fails. `ERR_S4_VALUE`, with nothing changed, where no
    /// batch has been accumulated.
    pub fn update(&mut self, config: &str) -> Result<StepStats> {
        let (model, trainer) = self.model_and_trainer()?;
        trainer.require_batches()?;
        let replaced = trainer.config().with_replaced_options(OP, config)?;
        let former = trainer.reconfigure(model, replaced)?;
        let updated = |s: &mut Self| {
            let (model, trainer) = s.model_and_trainer()?;
            trainer.update(model)?;
            trainer.read_stats(model)
        };
        let go_back = |s: &mut Self| {
            if let Ok((model, trainer)) = s.model_and_trainer() {
                // These options have been accepted before.
                drop(trainer.restore_options(model, former));
            }
        };
        let stats = or_undo(self, updated, go_back)?;
        let (_, trainer) = self.model_and_trainer()?;
        trainer.progress.samples += stats.time_steps;
        Ok(stats)
    }

    /// Ends an epoch, and tells a plateau schedule its metric.
    pub fn end_epoch(&mut self, metric: f64) -> Result<()> {
        let (_, trainer) = self.model_and_trainer()?;
        trainer.observe(metric);
        trainer.progress.end_epoch();
        Ok(())
    }

    /// Zeroes the states that are carried from batch to batch.
    pub fn reset_state(&mut self) -> Result<()> {
        self.model_and_trainer()?.1.reset_state()
    }

    /// Exchanges the parameters with their running average.
    pub fn swap_average(&mut self) -> Result<()> {
        let (model, trainer) = self.model_and_trainer()?;
        trainer.swap_average(model)
    }

    /// Writes a checkpoint; with `optimizer` it holds the trainer too. `extra`: a JSON text of the caller's.
    pub fn save(&mut self, path: &Path, optimizer: bool, extra: Option<&str>) -> Result<()> {
        self.read_figures_early();
        checkpoint::save(path, &self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }

    /// The bytes that [`TrainingSession::save`] writes.
    pub fn save_bytes(&mut self, optimizer: bool, extra: Option<&str>) -> Result<Vec<u8>> {
        self.read_figures_early();
        checkpoint::save_bytes(&self.model, self.trainer.as_ref().filter(|_| optimizer), extra)
    }
}
