//! One training step: forward, loss, backward, [reduction], clip, AdamW. Nothing in it waits for the device.

use crate::{
    batch::Batch,
    call::Pass,
    carry::CarriedStates,
    figures::{Figures, PendingStep, StepStats},
    loss::LossBuffers,
    model::Model,
    net::NetBackward,
    optim::{Adam, AdamConfig, bad_gradient, non_finite},
    param::{Flats, Group, ParamStore},
    progress::Progress,
    schedule::{Schedule, ScheduleConfig},
    states::RecurrentStates,
};
use s4_backend::{Backend, CallOptions, EmaUpdate, Error, Result, random::DropKey};
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
    /// Whether the caller's loop takes a new order every epoch: kept for the run that goes on from a checkpoint.
    pub shuffle: bool,
    /// Epochs of the whole run, where the caller said how many: kept likewise.
    pub epochs: Option<u64>,
}

impl TrainConfig {
    /// From JSON; options that are not of training are left unread. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(op: &'static str, json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|e| Error::value(op, "known options with values of their types", e))
    }

    /// With the options that the JSON object `given` names replaced, the rest as it was.
    pub fn with_json(&self, op: &'static str, given: &str) -> Result<Self> {
        let bad = |e: serde_json::Error| Error::value(op, "known options with values of their types", e);
        let mut all = serde_json::to_value(self).map_err(bad)?;
        let given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(given).map_err(bad)?;
        for (name, value) in given {
            all[name] = value;
        }
        serde_json::from_value(all).map_err(bad)
    }
}

/// The optimiser's side of training one model.
pub struct Trainer<B: Backend> {
    be: B,
    config: TrainConfig,
    pub(crate) adam: Adam<B>,
    pub(crate) schedule: Schedule,
    pub(crate) average: Option<Flats<B>>,
    buffers: LossBuffers<B>,
    figures: Figures<B>,
    /// Zeros like the parameters, once batches have been joined.
    zeros: Option<Flats<B>>,
    /// Whether the parameters in place are their average.
    pub(crate) swapped: bool,
    /// How far the run is.
    pub progress: Progress,
    /// The step under way, between accumulate and update.
    open: Option<PendingStep>,
    /// First failure among steps whose figures had to be read before they were asked for.
    failed: Option<Error>,
    carry: Option<CarriedStates<B>>,
}

impl<B: Backend> Trainer<B> {
    /// Zero moments, update 0. `ERR_S4_VALUE` on impossible options.
    pub fn new(model: &Model<B>, config: TrainConfig) -> Result<Self> {
        let be = model.be.clone();
        if let Some(ema) = config.ema
            && !(0.0..1.0).contains(&ema)
        {
            return Err(Error::value("train", "ema from 0 to below 1", ema));
        }
        if config.carry_state {
            model.need_state("train with carryState")?;
        }
        let average = match config.ema {
            Some(_) => {
                let mut average = model.store.like()?;
                for group in [Group::Main, Group::Ssm] {
                    be.copy(average.all_mut(&be, group), model.store.values.all(&be, group))?;
                }
                Some(average)
            }
            None => None,
        };
        Ok(Trainer {
            adam: Adam::new(be.clone(), &model.store, config.adam.clone())?,
            schedule: Schedule::new(config.schedule)?,
            average,
            buffers: LossBuffers::new(&be)?,
            figures: Figures::new(&be)?,
            zeros: None,
            swapped: false,
            progress: Progress::default(),
            open: None,
            failed: None,
            carry: None,
            config,
            be,
        })
    }
    /// Options.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }
    /// Goes on with other options, moments and update counter kept. A schedule that is another one starts without
    /// observations. `ERR_S4_UNSUPPORTED` when `ema` changes.
    pub fn reconfigure(&mut self, model: &Model<B>, config: TrainConfig) -> Result<()> {
        if config.ema != self.config.ema {
            return Err(Error::unsupported(
                "train",
                "the same ema when training resumes",
                format!("{:?}", config.ema),
            ));
        }
        if config.carry_state {
            model.need_state("train with carryState")?;
        }
        let schedule = (config.schedule != self.config.schedule).then(|| Schedule::new(config.schedule));
        let schedule = schedule.transpose()?;
        self.adam.configure("train", &model.store, config.adam.clone())?;
        if let Some(schedule) = schedule {
            self.schedule = schedule;
        }
        if !config.carry_state {
            self.carry = None;
        }
        self.config = config;
        Ok(())
    }
    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.adam.step
    }
    /// Enqueues one whole step; [`Trainer::read_stats`] tells how it went.
    pub fn train_step(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.accumulate(model, batch)?;
        self.update(model)
    }

    /// First part of a step: the gradients of this batch's loss. A further batch before [`Trainer::update`] joins it:
    /// loss and gradients are those of the mean over all their rows by weight. Each batch has dropout masks and batch
    /// statistics of its own.
    pub fn accumulate(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        let op = "SequenceModel.train";
        model.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let counted = self.buffers.check(op, &model.config, batch)?;
        let be = self.be.clone();
        let first = self.open.is_none();
        if first && self.figures.is_full() {
            self.read_figures(model)?;
        }
        if self.config.carry_state {
            self.carry_for(model, batch.batch)?;
        }
        if first {
            self.figures.clear(&be)?;
            model.store.grads.zero(&be)?;
        }
        model.upload_input(batch.input, batch.batch, batch.len, batch.call.lengths)?;
        self.buffers.upload(&be, &counted, batch.target)?;
        let before = self.open.map_or(0, |open| open.batches);
        let held = self.open.map_or(0.0, |open| open.weight);
        let weight = held + counted.weight;
        if held > 0.0 && counted.weight > 0.0 {
            self.scale_held(model, held / weight)?;
        }
        let version = model.store.version();
        let ParamStore { values, grads, .. } = &mut model.store;
        let pass = Pass {
            be: &be,
            values,
            batch: batch.batch,
            len: batch.len,
            options: CallOptions {
                training: true,
                ..batch.call.with_lengths(batch.call.lengths.map(|_| model.lengths.get()))
            },
            version,
            // Updates stay below 2³²: the upper bits of the counter tell the batches of one update apart.
            key: DropKey { seed: self.config.seed, step: self.adam.step + (before << 32), site: 0 },
        };
        let (start, end) = match &mut self.carry {
            Some(carry) => (Some(&carry.start), Some(&mut carry.end)),
            None => (None, None),
        };
        model.net.forward(&pass, start, end, true)?;
        let sums = self.figures.sums_mut(&be);
        self.buffers.run(&pass, sums, &mut model.net, &model.config, (&counted, weight), true)?;
        let arrays = NetBackward {
            grads,
            state0: start,
            dstate_end: None,
            dstate0: None,
            want_dx: false,
            consume_saved: true,
        };
        model.net.backward(&pass, arrays)?;
        if let Some(carry) = &mut self.carry {
            carry.advance(&be)?;
        }
        self.open = Some(PendingStep {
            // Step and rate are the update's.
            step: self.adam.step,
            rows: self.open.map_or(0, |open| open.rows) + counted.rows as u64,
            weight,
            lr: 0.0,
            batches: before + 1,
            batch: batch.batch,
            len: batch.len,
        });
        Ok(())
    }

    /// Makes the gradients and the loss so far a smaller part of the joint mean.
    fn scale_held(&mut self, model: &mut Model<B>, factor: f64) -> Result<()> {
        let be = self.be.clone();
        let zeros = match self.zeros.take() {
            Some(zeros) => zeros,
            None => model.store.like()?,
        };
        self.figures.scale_loss(&be, factor, be.view(&zeros.main, 0..2))?;
        for group in [Group::Main, Group::Ssm] {
            be.ema(EmaUpdate {
                average: model.store.grads.all_mut(&be, group),
                value: zeros.all(&be, group),
                // Two zeros: taken whatever the gradients are, so that what is not finite stays seen.
                guard: be.view(&zeros.main, 0..2),
                decay: factor,
            })?;
        }
        self.zeros = Some(zeros);
        Ok(())
    }

    /// Second part: clip and AdamW. Between the two, gradients (`model.store_mut().grads`) may be reduced over devices.
    /// Where nothing counted there is no update.
    pub fn update(&mut self, model: &mut Model<B>) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Err(Error::value("SequenceModel.train", "a batch before an update", "none"));
        };
        let be = self.be.clone();
        let counts = open.weight > 0.0;
        let factor = self.schedule.factor(self.adam.step);
        {
            let squares = self.figures.guard_squares_mut(&be)?;
            if counts {
                self.adam.sum_squares(squares, &model.store)?;
            }
        }
        let guard = self.figures.guard(&be);
        if counts {
            self.adam.enqueue(&mut model.store, guard, factor)?;
        }
        (open.step, open.lr) = (self.adam.step, self.config.adam.lr * factor);
        if let (Some(average), Some(decay), true) = (&mut self.average, self.config.ema, counts) {
            for group in [Group::Main, Group::Ssm] {
                be.ema(EmaUpdate {
                    average: average.all_mut(&be, group),
                    value: model.store.values.all(&be, group),
                    guard: be.shorten(guard),
                    decay,
                })?;
            }
        }
        model.net.commit(&be, Some(guard))?;
        if let Some(carry) = &mut self.carry {
            carry.commit(&be, guard)?;
        }
        self.figures.finish(&be, open)
    }

    /// The gradients of batches since the last update have been zeroed: they count no more. Their masks stay used.
    pub fn uncount(&mut self) -> Result<()> {
        match &mut self.open {
            Some(open) => {
                (open.weight, open.rows) = (0.0, 0);
                self.figures.clear(&self.be)
            }
            None => Ok(()),
        }
    }

    /// Drops the gradients of batches since the last update, as if they had not been seen.
    pub fn discard(&mut self, model: &mut Model<B>) -> Result<()> {
        self.open = None;
        model.net.forget();
        match &mut self.carry {
            Some(carry) => carry.discard(&self.be),
            None => Ok(()),
        }
    }

    /// Waits for the last update, but not for batches after it, and gives its figures. `ERR_S4_NONFINITE` names step
    /// and tensor where a loss or gradient since the last read was not finite; that step changed nothing, later finite
    /// ones count.
    pub fn read_stats(&mut self, model: &Model<B>) -> Result<StepStats> {
        if self.figures.is_empty() && self.failed.is_none() {
            return Err(Error::value("readStats", "a training step since the last read", "none"));
        }
        let last = self.read_figures(model)?;
        match (self.failed.take(), last) {
            (Some(error), _) => Err(error),
            (None, Some(stats)) => Ok(stats),
            (None, None) => Err(Error::value("readStats", "a training step since the last read", "none")),
        }
    }

    /// Names the tensor of a failed last update when a batch begun since has overwritten its activations and gradients:
    /// computes the failed batch once more (a failed update leaves the parameters alone, so it gives the same numbers).
    /// What was begun after it is dropped.
    pub fn explain(
        &mut self,
        model: &mut Model<B>,
        batch: &Batch<'_, B::Scalar>,
        error: Error,
    ) -> Result<Error> {
        self.discard(model)?;
        // The masks of dropout go by the update's number.
        self.adam.step -= 1;
        let recomputed = self.accumulate(model, batch);
        self.adam.step += 1;
        recomputed?;
        let loss = self.figures.loss(&self.be)?;
        let tensor = non_finite_tensor(model, loss.is_finite(), batch.batch, batch.len)?;
        self.discard(model)?;
        Ok(non_finite("SequenceModel.train", error.step.unwrap_or(self.adam.step), &tensor))
    }

    /// Reads all waiting figures; remembers the first failure.
    fn read_figures(&mut self, model: &Model<B>) -> Result<Option<StepStats>> {
        let Trainer { figures, failed, open, .. } = self;
        let mut stats = None;
        figures.read(&self.be, |step, read| {
            let (loss, squares) = (read.loss, read.squares);
            if failed.is_none() && step.weight > 0.0 && !(loss.is_finite() && squares.is_finite()) {
                // Gradients and activations are still those of the last step only.
                let present = read.last && open.is_none();
                let tensor = match (loss.is_finite(), present) {
                    (finite, true) => non_finite_tensor(model, finite, step.batch, step.len)?,
                    (false, false) => "loss".into(),
                    (true, false) => "gradient".into(),
                };
                *failed = Some(non_finite("SequenceModel.train", step.step, &tensor));
            }
            stats = Some(StepStats {
                step: step.step,
                loss: if step.weight > 0.0 { loss } else { f64::NAN },
                correct: read.correct,
                rows: step.rows,
                weight: step.weight,
                grad_norm: squares.sqrt(),
                lr: step.lr,
            });
            Ok(())
        })?;
        Ok(stats)
    }

    /// Tells a plateau schedule the metric of an epoch.
    pub fn observe(&mut self, metric: f64) {
        self.schedule.observe(metric);
    }

    /// Forgets carried states.
    pub fn reset_state(&mut self) -> Result<()> {
        match &mut self.carry {
            Some(carry) => carry.zero(&self.be),
            None => Ok(()),
        }
    }

    /// Exchanges the parameters with their average (twice: back again). `ERR_S4_UNSUPPORTED` without `ema`.
    pub fn swap_average(&mut self, model: &mut Model<B>) -> Result<()> {
        let Some(average) = &mut self.average else {
            return Err(Error::unsupported("swapAverage", "training with ema", "none"));
        };
        std::mem::swap(average, &mut model.store.values);
        self.swapped = !self.swapped;
        model.store.touch();
        Ok(())
    }

    /// Carried states for `batch` rows: those there are, or zeros where a sequence begins. Within one, other rows than
    /// before have no states to go on from: `ERR_S4_SHAPE`.
    fn carry_for(&mut self, model: &Model<B>, batch: usize) -> Result<()> {
        match &self.carry {
            Some(carry) if carry.kept.batch == batch => return Ok(()),
            Some(carry) if self.open.is_some() || !carry.is_zero() => {
                return Err(Error::shape(
                    "SequenceModel.train",
                    format!("batches of {} rows, whose states carryState goes on with", carry.kept.batch),
                    format!("{batch} rows"),
                ));
            }
            _ => {}
        }
        self.carry = Some(CarriedStates::new(&self.be, &model.config, batch)?);
        Ok(())
    }

    /// Carried states as a checkpoint keeps them: rows and each block's (batch, H, 2, N/2).
    pub(crate) fn carried(&self) -> Option<&RecurrentStates<B>> {
        self.carry.as_ref().map(|c| &c.kept)
    }

    /// Puts carried states back.
    pub(crate) fn set_carried(
        &mut self,
        model: &Model<B>,
        batch: usize,
        blocks: &[Vec<B::Scalar>],
    ) -> Result<()> {
        self.carry_for(model, batch)?;
        match &mut self.carry {
            Some(carry) => carry.set(&self.be, blocks),
            None => Ok(()),
        }
    }
}

/// The tensor that was not finite first: an activation where the loss is not, else a gradient.
fn non_finite_tensor<B: Backend>(model: &Model<B>, finite: bool, batch: usize, len: usize) -> Result<String> {
    match finite {
        false => Ok(model.net.first_non_finite(&model.be, batch, len)?.unwrap_or("loss".into())),
        true => bad_gradient(&model.store),
    }
}
