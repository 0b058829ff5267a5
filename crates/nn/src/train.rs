//! One training step: forward, loss, backward, [reduction], clip, AdamW. Nothing in it waits for the device.

use crate::{
    Adam, AdamConfig, Flats, Group, Input, Model, Schedule, ScheduleConfig,
    loss::LossBuffers,
    net::States,
    optim::{bad_gradient, non_finite},
    s4::Call,
};
use num_traits::Zero;
use s4_backend::{Algorithm, Backend, Error, Result, Scalar, random::DropKey};
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
    /// How the SSM is applied.
    pub algorithm: Algorithm,
}

impl<'a, T> Batch<'a, T> {
    /// A batch without lengths or weights, at rate 1.
    pub fn new(input: Input<'a, T>, target: TargetData<'a, T>, batch: usize, len: usize) -> Self {
        let algorithm = Algorithm::Auto;
        Batch { input, target, batch, len, lengths: None, weights: None, rate: 1.0, algorithm }
    }
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

/// Steps whose figures wait on the device at most.
const RING: usize = 64;
/// A step's figures: [loss, correct, loss, Σ g²]; the last two guard the update.
const SLOT: usize = 4;

/// What the host knows of a step whose figures it has not read.
#[derive(Clone, Copy)]
struct Pending {
    step: u64,
    /// Its place in the ring.
    slot: usize,
    rows: u64,
    lr: f64,
    /// Batches whose gradients it sums.
    batches: u64,
    /// Of the last of them.
    batch: usize,
    len: usize,
}

/// States that run from batch to batch.
struct Carry<B: Backend> {
    /// After the last finite update.
    kept: States<B>,
    /// Within the step.
    start: States<B>,
    end: States<B>,
}

/// The optimiser's side of training one model.
pub struct Trainer<B: Backend> {
    be: B,
    config: TrainConfig,
    pub(crate) adam: Adam<B>,
    pub(crate) schedule: Schedule,
    pub(crate) average: Option<Flats<B>>,
    buffers: LossBuffers<B>,
    ring: B::Buf,
    /// The ring as the last update left it, on its way to the host.
    figures: B::Later,
    /// The next step's place in the ring.
    slot: usize,
    pending: Vec<Pending>,
    /// Between accumulate and update.
    open: Option<Pending>,
    /// Read already when the ring was full: first failure.
    failed: Option<Error>,
    carry: Option<Carry<B>>,
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
            adam: Adam::new(be.clone(), &model.store, config.adam)?,
            schedule: Schedule::new(config.schedule)?,
            average,
            buffers: LossBuffers::new(&be)?,
            ring: be.alloc(RING * SLOT)?,
            figures: be.later(RING * SLOT)?,
            slot: 0,
            pending: Vec::with_capacity(RING),
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
        config.adam.check("train")?;
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
        if config.schedule != self.config.schedule {
            self.schedule = Schedule::new(config.schedule)?;
        }
        self.adam.config = config.adam;
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

    /// First half of a step: the gradients of this batch's loss. A further batch before [`Trainer::update`] adds to them,
    /// with dropout masks of its own.
    pub fn accumulate(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        let op = "SequenceModel.train";
        model.check_input(op, batch.input, batch.batch, batch.len, batch.lengths, batch.rate)?;
        let counted = self.buffers.check(op, model, batch)?;
        let be = self.be.clone();
        let first = self.open.is_none();
        if first && self.pending.len() == RING {
            self.drain(model)?;
        }
        if self.config.carry_state {
            self.carry_for(model, batch.batch)?;
        }
        let slot = self.slot;
        let at = slot * SLOT;
        if first {
            be.fill(be.view_mut(&mut self.ring, at..at + SLOT), Zero::zero())?;
            model.store.grads.zero(&be)?;
        }
        model.put_input(batch.input, batch.batch, batch.len, batch.lengths)?;
        self.buffers.put(&be, &counted, batch.target)?;
        let before = self.open.map_or(0, |open| open.batches);
        let call = Call {
            batch: batch.batch,
            len: batch.len,
            rate: batch.rate,
            algorithm: batch.algorithm,
            version: model.store.version(),
            lengths: batch.lengths.map(|_| model.lengths.get()),
            training: true,
            // Updates stay below 2³²: the upper half of the counter tells the batches of one update apart.
            key: DropKey { seed: self.config.seed, step: self.adam.step + (before << 32), site: 0 },
        };
        let (start, end) = match &mut self.carry {
            Some(carry) => (Some(&carry.start), Some(&mut carry.end)),
            None => (None, None),
        };
        model.net.forward(&be, &model.store.values, start, end, true, &call)?;
        let stats = be.view_mut(&mut self.ring, at..at + 2);
        self.buffers.run(
            &be,
            stats,
            &mut model.net,
            &model.config,
            &counted,
            true,
            batch.batch,
            batch.len,
        )?;
        let crate::ParamStore { values, grads, .. } = &mut model.store;
        model.net.backward(&be, values, grads, start_of(&self.carry), None, None, false, true, &call)?;
        if let Some(carry) = &mut self.carry {
            carry.start.copy_from(&be, &carry.end)?;
        }
        let rows = self.open.map_or(0, |open| open.rows) + counted.rows as u64;
        let lr = self.config.adam.lr * self.schedule.factor(self.adam.step);
        let step = self.adam.step + 1;
        let (batches, batch, len) = (before + 1, batch.batch, batch.len);
        self.open = Some(Pending { step, slot, rows, lr, batches, batch, len });
        Ok(())
    }

    /// Second half: clip and AdamW. Between the two, gradients (`model.store_mut().grads`) may be reduced over devices.
    pub fn update(&mut self, model: &mut Model<B>) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Err(Error::value("SequenceModel.train", "a batch before an update", "none"));
        };
        let be = self.be.clone();
        let at = open.slot * SLOT;
        let slot = be.view_mut(&mut self.ring, at..at + SLOT);
        let (loss, guard) = be.split_mut(slot, 2);
        let (copy, squares) = be.split_mut(guard, 1);
        be.copy(copy, be.sub(be.freeze(&loss), 0..1))?;
        drop(loss);
        self.adam.sum_squares(squares, &model.store)?;
        let guard = be.view(&self.ring, at + 2..at + 4);
        let factor = self.schedule.factor(self.adam.step);
        self.adam.enqueue(&mut model.store, guard, factor)?;
        if let (Some(average), Some(decay)) = (&mut self.average, self.config.ema) {
            for group in [Group::Main, Group::Ssm] {
                be.ema(average.all_mut(&be, group), model.store.values.all(&be, group), guard, decay)?;
            }
        }
        model.net.commit(&be, Some(guard))?;
        if let Some(carry) = &mut self.carry {
            for i in 0..carry.kept.blocks.len() {
                be.ema(carry.kept.view_mut(&be, i), carry.start.view(&be, i), guard, 0.0)?;
            }
            carry.start.copy_from(&be, &carry.kept)?;
        }
        be.send(&mut self.figures, be.view(&self.ring, 0..RING * SLOT))?;
        self.slot = (open.slot + 1) % RING;
        self.pending.push(open);
        Ok(())
    }

    /// Drops the gradients of batches since the last update, as if they had not been seen.
    pub fn discard(&mut self, model: &mut Model<B>) -> Result<()> {
        self.open = None;
        model.net.forget();
        match &mut self.carry {
            Some(carry) => carry.start.copy_from(&self.be, &carry.kept),
            None => Ok(()),
        }
    }

    /// Waits for the last update, but not for batches after it, and gives its figures. `ERR_S4_NONFINITE` names step and tensor where a loss or gradient since
    /// the last read was not finite; that step changed nothing, later finite ones count.
    pub fn read_stats(&mut self, model: &Model<B>) -> Result<StepStats> {
        if self.pending.is_empty() && self.failed.is_none() {
            return Err(Error::value("readStats", "a training step since the last read", "none"));
        }
        let last = self.drain(model)?;
        match (self.failed.take(), last) {
            (Some(error), _) => Err(error),
            (None, Some(stats)) => Ok(stats),
            (None, None) => Err(Error::value("readStats", "a training step since the last read", "none")),
        }
    }

    /// Names the tensor of a failed last update when activations and gradients are another batch's by now: the update has
    /// left the parameters alone, so the same batch gives the same numbers again. Drops what came after it.
    pub fn explain(
        &mut self,
        model: &mut Model<B>,
        batch: &Batch<'_, B::Scalar>,
        error: Error,
    ) -> Result<Error> {
        self.discard(model)?;
        // The masks of dropout go by the update's number.
        self.adam.step -= 1;
        let again = self.accumulate(model, batch);
        self.adam.step += 1;
        again?;
        let mut loss = [B::Scalar::zero(); 1];
        let at = self.slot * SLOT;
        self.be.download(&mut loss, self.be.view(&self.ring, at..at + 1))?;
        let tensor = culprit(model, loss[0].to_f64().is_finite(), batch.batch, batch.len)?;
        self.discard(model)?;
        Ok(non_finite("SequenceModel.train", error.step.unwrap_or(self.adam.step), &tensor))
    }

    /// Reads all waiting figures; remembers the first failure.
    fn drain(&mut self, model: &Model<B>) -> Result<Option<StepStats>> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let host = self.be.arrived(&mut self.figures)?;
        let mut last = None;
        let count = self.pending.len();
        for (i, p) in self.pending.drain(..).enumerate() {
            let slot = &host[p.slot * SLOT..];
            let (loss, squares) = (slot[0].to_f64(), slot[3].to_f64());
            if self.failed.is_none() && !(loss.is_finite() && squares.is_finite()) {
                // Gradients and activations are still those of the last step only.
                let fresh = i + 1 == count && self.open.is_none();
                let tensor = match (loss.is_finite(), fresh) {
                    (finite, true) => culprit(model, finite, p.batch, p.len)?,
                    (false, false) => "loss".into(),
                    (true, false) => "gradient".into(),
                };
                self.failed = Some(non_finite("SequenceModel.train", p.step, &tensor));
            }
            last = Some(StepStats {
                step: p.step,
                loss,
                correct: slot[1].to_f64() as u64,
                rows: p.rows,
                grad_norm: squares.sqrt(),
                lr: p.lr,
            });
        }
        Ok(last)
    }

    /// Tells a plateau schedule the metric of an epoch.
    pub fn observe(&mut self, metric: f64) {
        self.schedule.observe(metric);
    }

    /// Forgets carried states.
    pub fn reset_state(&mut self) -> Result<()> {
        if let Some(carry) = &mut self.carry {
            carry.start.zero(&self.be)?;
            carry.kept.zero(&self.be)?;
        }
        Ok(())
    }

    /// Exchanges the parameters with their average (twice: back again). `ERR_S4_UNSUPPORTED` without `ema`.
    pub fn swap_average(&mut self, model: &mut Model<B>) -> Result<()> {
        let Some(average) = &mut self.average else {
            return Err(Error::unsupported("swapAverage", "training with ema", "none"));
        };
        std::mem::swap(average, &mut model.store.values);
        model.store.touch();
        Ok(())
    }

    /// Carried states for `batch` rows; another number of rows starts from zero.
    fn carry_for(&mut self, model: &Model<B>, batch: usize) -> Result<()> {
        if self.carry.as_ref().is_none_or(|c| c.kept.batch != batch) {
            let new = || States::new(&self.be, &model.config, batch);
            self.carry = Some(Carry { kept: new()?, start: new()?, end: new()? });
        }
        Ok(())
    }

    /// Carried states as a checkpoint keeps them: rows and each block's (batch, H, 2, N/2).
    pub(crate) fn carried(&self) -> Option<&States<B>> {
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
        if let Some(carry) = &mut self.carry {
            for (i, block) in blocks.iter().enumerate() {
                self.be.upload(carry.kept.view_mut(&self.be, i), block)?;
            }
            carry.start.copy_from(&self.be, &carry.kept)?;
        }
        Ok(())
    }
}

/// The tensor that was not finite first: an activation where the loss is not, else a gradient.
fn culprit<B: Backend>(model: &Model<B>, finite: bool, batch: usize, len: usize) -> Result<String> {
    match finite {
        false => Ok(model.net.first_non_finite(&model.be, batch, len)?.unwrap_or("loss".into())),
        true => bad_gradient(&model.store),
    }
}

fn start_of<B: Backend>(carry: &Option<Carry<B>>) -> Option<&States<B>> {
    carry.as_ref().map(|c| &c.start)
}
