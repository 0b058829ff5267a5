//! Training of a model, update by update: forward, loss, backward, clipping, AdamW. All of it is enqueued; nothing waits
//! for the device until the figures of an update are asked for. Between backward and clipping is the place for the sum over
//! ranks (`distributed.rs`).

use crate::{
    batch::Batch,
    carried_states::CarriedStates,
    check,
    loss::{CheckedTarget, LossBuffers, LossCall, denominator},
    model::Model,
    network::NetworkBackward,
    norm::check_time_steps,
    optim::Adam,
    padded::padded_len,
    param::{Group, GroupBuffers, ParamStore},
    pass_options::PassContext,
    peers::Peers,
    progress::Progress,
    recurrent_states::RecurrentStates,
    schedule::Schedule,
    train_config::TrainConfig,
    update_figures::{DeviceFigures, PendingUpdate},
};
use s4_backend::{Backend, CallOptions, EmaUpdate, Error, Result, random::DropKey};

/// What training one model needs besides the model: the optimiser, the schedule of its learning rates, a running average of
/// the parameters, the states carried from batch to batch, and each update's figures (loss, correct predictions, norm of the
/// gradient) until they are read.
pub struct Trainer<B: Backend> {
    pub(crate) be: B,
    pub(crate) config: TrainConfig,
    /// The optimiser, with its moments.
    pub(crate) adam: Adam<B>,
    /// The schedule of the learning rates, with its observations.
    pub(crate) schedule: Schedule,
    /// Running average of the parameters, with the option `ema`.
    pub(crate) average: Option<GroupBuffers<B>>,
    /// Buffers for the targets of a batch.
    loss_buffers: LossBuffers<B>,
    /// Losses, correct predictions and gradient norms of updates that were not read yet.
    pub(crate) figures: DeviceFigures<B>,
    /// One zero for each element of the parameters, made once several batches have been accumulated for one update.
    zeros: Option<GroupBuffers<B>>,
    /// Whether the model holds the running average of its parameters, and `average` the trained ones.
    pub(crate) average_in_place: bool,
    /// Whether the last batch or update failed within its work: states and statistics are of that batch then.
    pub(crate) work_unfinished: bool,
    /// How far the run is.
    pub progress: Progress,
    /// The update under way: batches have been accumulated for it.
    pub(crate) under_way: Option<PendingUpdate>,
    /// First failure among updates whose figures had to be read before they were asked for.
    pub(crate) first_failure: Option<Error>,
    /// States that are carried from batch to batch, with the option `carry_state`.
    carried_states: Option<CarriedStates<B>>,
    /// The other ranks, where several make each update together.
    pub(crate) peers: Option<Peers<B>>,
}

/// The options of a run from before others took their place, with what depends on them.
pub struct FormerOptions<B: Backend> {
    config: TrainConfig,
    schedule: Schedule,
    progress: Progress,
    /// States that the run carried, where the others carry none.
    carried_states: Option<CarriedStates<B>>,
}

impl<B: Backend> Trainer<B> {
    /// A trainer at the beginning of a run. `ERR_S4_VALUE` on impossible options.
    pub fn new(model: &Model<B>, config: TrainConfig) -> Result<Self> {
        let be = model.be.clone();
        if let Some(ema) = config.ema
            && !(0.0..1.0).contains(&ema)
        {
            return Err(Error::value("train", "ema from 0 to below 1", ema));
        }
        if config.carry_state {
            model.require_state("train with carryState")?;
        }
        let average = match config.ema {
            Some(_) => {
                let mut average = model.store.zeros_like()?;
                for group in [Group::Main, Group::Ssm] {
                    be.copy(average.group_view_mut(&be, group), model.store.values.group_view(&be, group))?;
                }
                Some(average)
            }
            None => None,
        };
        Ok(Trainer {
            adam: Adam::new(be.clone(), &model.store, config.adam.clone())?,
            schedule: Schedule::new(config.schedule)?,
            average,
            loss_buffers: LossBuffers::new(&be, &model.config)?,
            figures: DeviceFigures::new(&be, 0)?,
            zeros: None,
            average_in_place: false,
            work_unfinished: false,
            progress: Progress::default(),
            under_way: None,
            first_failure: None,
            carried_states: None,
            peers: None,
            config,
            be,
        })
    }
    /// Options of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }
    /// Replaces the options of the run; moments and the number of updates stay. A schedule that differs starts without
    /// observations. Gives what [`Trainer::restore_options`] goes back to. `ERR_S4_UNSUPPORTED` where `ema` changes.
    pub fn reconfigure(&mut self, model: &Model<B>, config: TrainConfig) -> Result<FormerOptions<B>> {
        if config.ema != self.config.ema {
            return Err(Error::unsupported(
                "train",
                "the same ema when training resumes",
                format!("{:?}", config.ema),
            ));
        }
        if config.carry_state {
            model.require_state("train with carryState")?;
        }
        let schedule = match config.schedule == self.config.schedule {
            true => self.schedule.clone(),
            false => Schedule::new(config.schedule)?,
        };
        self.adam.configure("train", &model.store, config.adam.clone())?;
        let carried_states = if config.carry_state { None } else { self.carried_states.take() };
        let config = std::mem::replace(&mut self.config, config);
        let schedule = std::mem::replace(&mut self.schedule, schedule);
        Ok(FormerOptions { config, schedule, progress: self.progress, carried_states })
    }
    /// Goes back to the options that [`Trainer::reconfigure`] replaced, where no update has been made since.
    pub fn restore_options(&mut self, model: &Model<B>, former: FormerOptions<B>) -> Result<()> {
        let FormerOptions { config, schedule, progress, carried_states } = former;
        self.adam.configure("train", &model.store, config.adam.clone())?;
        // Batches without a target that counts may have been walked. States that the run carries have gone on over them,
        // unless it was to carry none.
        if !config.carry_state || carried_states.is_some() {
            (self.carried_states, self.progress) = (carried_states, progress);
        }
        (self.config, self.schedule) = (config, schedule);
        Ok(())
    }
    /// Number of updates so far.
    pub fn steps(&self) -> u64 {
        self.adam.step
    }
    /// Enqueues a whole update from one batch; [`Trainer::read_stats`] says how it went.
    pub fn train_step(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.accumulate(model, batch)?;
        self.update(model)
    }

    /// Enqueues the gradients of a batch, the first part of an update. Further batches before [`Trainer::update`] are
    /// joined with it: loss and gradients become those of the mean by weight over the targets of all of them. Each batch
    /// has dropout masks and batch statistics of its own.
    pub fn accumulate(&mut self, model: &mut Model<B>, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        let op = "SequenceModel.train";
        model.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut checked_target = self.loss_buffers.check(op, &model.config, batch)?;
        // States that are carried on are those after whole batches.
        let padded_len = match self.config.carry_state {
            true => None,
            false => padded_len(&self.be, &model.config, batch.len, true),
        };
        let padded = padded_len.map(|len| batch.padded(len, model.config.pooling.is_none())).transpose()?;
        let padded = padded.as_ref().map(|padded| padded.batch());
        let batch = padded.as_ref().unwrap_or(batch);
        if padded_len.is_some() {
            // The arrays for the device are made anew, of the padded ones.
            checked_target = self.loss_buffers.check(op, &model.config, batch)?;
        }
        let time_steps = check::time_steps(batch.batch, batch.len, batch.call.lengths);
        check_time_steps(op, model.config.block.norm, time_steps)?;
        self.refuse_average()?;
        let be = self.be.clone();
        let first = self.under_way.is_none();
        // Batch norms of all ranks have one joint batch then, of which each rank's is a part.
        let synchronised = self.norm_exchange(model).is_some();
        if synchronised && !first {
            return Err(Error::unsupported(
                op,
                "one batch of a rank for an update with syncBatchNorm",
                "more",
            ));
        }
        if first && self.figures.is_full() {
            self.read_figures(model)?;
        }
        if self.config.carry_state {
            self.ensure_carried_states(model, batch.batch)?;
        }
        // Where this batch fails, by an error or by unwinding, the gradients are of no whole batches: there is no update then.
        let so_far = self.under_way.take();
        if std::mem::replace(&mut self.work_unfinished, true) {
            self.discard(model)?;
        }
        model.upload_input(batch.input, batch.batch, batch.len, &batch.call)?;
        self.loss_buffers.upload(&be, &checked_target, batch.target)?;
        // Ranks wait for each other within a batch.
        let features = batch.batch * batch.len * model.config.features();
        let elements = if self.peers.is_some() { usize::MAX } else { features };
        let gradients = &mut || self.enqueue_gradients(model, batch, &checked_target, so_far);
        let enqueued = be.enqueue_together(elements, gradients);
        // Where that failed they may have been made by it, and then hold anything.
        self.zeros = self.zeros.take().filter(|_| enqueued.is_ok());
        enqueued?;
        let (so_far, counts) = (so_far.unwrap_or_default(), checked_target.has_loss);
        self.under_way = Some(PendingUpdate {
            // Both are known when the update is enqueued: its number, and its learning rate.
            step: self.adam.step,
            rows: so_far.rows + checked_target.rows as u64,
            time_steps: so_far.time_steps + time_steps as u64,
            weight: so_far.weight + checked_target.weight,
            has_loss: so_far.has_loss || counts,
            metric_weight: so_far.metric_weight + if counts { checked_target.metric_weight } else { 0.0 },
            width: checked_target.width,
            lr: 0.0,
            batches: so_far.batches + 1,
            // What the features on the device are of.
            batch: if counts { batch.batch } else { so_far.batch },
            len: if counts { batch.len } else { so_far.len },
            items: so_far.items,
            ranks: 1,
        });
        self.work_unfinished = false;
        Ok(())
    }

    /// Forward, loss and backward of a batch that has been uploaded, in the update that has `so_far`.
    fn enqueue_gradients(
        &mut self,
        model: &mut Model<B>,
        batch: &Batch<'_, B::Scalar>,
        target: &CheckedTarget,
        so_far: Option<PendingUpdate>,
    ) -> Result<()> {
        let be = self.be.clone();
        if so_far.is_none() {
            self.figures.zero_slot(&be)?;
            model.store.grads.zero(&be)?;
        }
        let so_far = so_far.unwrap_or_default();
        let (weight, counts) = (so_far.weight + target.weight, target.has_loss);
        // Rows of a joint batch are in its statistics whether their targets count or not.
        let synchronised = self.norm_exchange(model).is_some();
        let has_backward = counts || synchronised;
        if so_far.has_loss && target.weight > 0.0 {
            self.scale_accumulated(model, denominator(so_far.weight) / weight)?;
        }
        let version = model.store.version();
        let ParamStore { values, grads, .. } = &mut model.store;
        let pass = PassContext {
            be: &be,
            values,
            batch: batch.batch,
            len: batch.len,
            options: CallOptions { training: true, ..model.call_arrays.options(&batch.call) },
            moves_statistics: has_backward,
            training_step: true,
            exchange: self.peers.as_ref().filter(|_| synchronised).map(|peers| &peers.exchange),
            version,
            // There are fewer than 2³² updates, so the upper 32 bits of the number can tell the batches of one update
            // apart, those of other ranks too.
            dropout_key: DropKey {
                seed: self.config.seed,
                step: self.adam.step + (self.batch_number(so_far.batches) << 32),
                site: 0,
            },
        };
        if let Some(exchange) = pass.exchange {
            exchange.borrow_mut().sum_weight(&be, target.weight)?;
        }
        let (start, end) = match &mut self.carried_states {
            Some(carried_states) => (Some(&carried_states.batch_start), Some(&mut carried_states.batch_end)),
            None => (None, None),
        };
        // Where no target counts there is no gradient; the states that the batch ends with go on all the same.
        if has_backward || start.is_some() {
            model.net.forward(&pass, start, end, has_backward)?;
        }
        if counts {
            let sums = self.figures.loss_sums_mut(&be);
            let call = LossCall::in_training(target, weight, self.config.top_k);
            self.loss_buffers.compute(&pass, sums, &mut model.net, &model.config, call)?;
        }
        if let Some(exchange) = pass.exchange {
            // Backward exchanges sums of gradients, which must be parts of one mean on all ranks.
            match counts {
                true => {
                    let (own, exchange) = (denominator(target.weight), exchange.borrow());
                    model.net.output_stage.scale_gradient(&pass, own, exchange.weight(&be))?;
                }
                false => model.net.output_stage.zero_gradient(&pass)?,
            }
        }
        if has_backward {
            let arrays = NetworkBackward {
                grads,
                state0: start,
                dstate_end: None,
                dstate0: None,
                want_dx: false,
                consume_saved: true,
            };
            model.net.backward(&pass, arrays)?;
        }
        self.carried_states.as_mut().map_or(Ok(()), |states| states.advance(&be))
    }

    /// Multiplies gradients and loss of the batches so far by `factor`: with another batch they are a smaller part of the
    /// mean.
    fn scale_accumulated(&mut self, model: &mut Model<B>, factor: f64) -> Result<()> {
        let be = self.be.clone();
        let zeros = match self.zeros.take() {
            Some(zeros) => zeros,
            None => model.store.zeros_like()?,
        };
        self.figures.scale_loss(&be, factor, be.view(&zeros.main, 0..2))?;
        for group in [Group::Main, Group::Ssm] {
            be.ema(EmaUpdate {
                average: model.store.grads.group_view_mut(&be, group),
                value: zeros.group_view(&be, group),
                // The guard is two zeros, always finite: an average under the real guard would skip gradients that are not
                // finite, and the failure would go unseen.
                guard: be.view(&zeros.main, 0..2),
                decay: factor,
            })?;
        }
        self.zeros = Some(zeros);
        Ok(())
    }

    /// Refuses an update without a batch before it.
    pub(crate) fn require_batches(&self) -> Result<()> {
        match self.under_way {
            Some(_) => Ok(()),
            None => Err(Error::value("SequenceModel.train", "a batch before an update", "none")),
        }
    }

    /// Says of how many items of the dataset the batches of the update under way consist.
    pub fn count_items(&mut self, items: u64) {
        if let Some(under_way) = &mut self.under_way {
            under_way.items = items;
        }
    }

    /// Enqueues the second part of an update: the sum over ranks where there are others, clipping and AdamW, with the gradients
    /// accumulated so far. Where no target counts there is no update.
    pub fn update(&mut self, model: &mut Model<B>) -> Result<()> {
        self.refuse_average()?;
        self.require_batches()?;
        let mut under_way = self.under_way.take().unwrap_or_default();
        self.work_unfinished = true;
        let be = self.be.clone();
        let counts_here = under_way.weight > 0.0;
        // With other ranks the device alone knows whether any of their targets counts: loss and Σ g² are not finite where not.
        let has_targets = counts_here || self.peers.is_some();
        self.reduce(model, &under_way)?;
        let factor = self.schedule.factor(self.adam.step);
        {
            let squared_norm = self.figures.guard_squares_mut(&be)?;
            if has_targets {
                self.adam.sum_squares(squared_norm, &model.store)?;
            }
        }
        let guard = self.figures.guard(&be);
        if has_targets {
            self.adam.enqueue_update(&mut model.store, guard, factor)?;
        }
        (under_way.step, under_way.lr) = (self.adam.step, self.config.adam.lr * factor);
        if let (Some(average), Some(decay), true) = (&mut self.average, self.config.ema, has_targets) {
            for group in [Group::Main, Group::Ssm] {
                be.ema(EmaUpdate {
                    average: average.group_view_mut(&be, group),
                    value: model.store.values.group_view(&be, group),
                    guard: be.shorten(guard),
                    decay,
                })?;
            }
        }
        match has_targets {
            true => model.net.accept_statistics(&be, Some(guard))?,
            false => model.net.drop_statistics(),
        }
        if let Some(carried_states) = &mut self.carried_states
            && under_way.batches > 0
        {
            carried_states.commit(&be, guard)?;
        }
        self.figures.finish_update(&be, under_way)?;
        self.work_unfinished = false;
        Ok(())
    }

    /// Leaves the batches accumulated so far out of the next update, after a caller has zeroed their gradients. The dropout
    /// masks that they have drawn are not drawn again, and what they made of the statistics of batch norms is dropped.
    pub fn leave_out_accumulated(&mut self, model: &mut Model<B>) -> Result<()> {
        match &mut self.under_way {
            Some(under_way) => {
                (under_way.weight, under_way.rows, under_way.has_loss) = (0.0, 0, false);
                model.net.drop_statistics();
                self.figures.zero_slot(&self.be)
            }
            None => Ok(()),
        }
    }

    /// Drops the gradients, states and statistics of batches since the last update, as if there had been none.
    pub fn discard(&mut self, model: &mut Model<B>) -> Result<()> {
        self.under_way = None;
        model.net.drop_statistics();
        match &mut self.carried_states {
            Some(carried_states) => carried_states.discard(&self.be),
            None => Ok(()),
        }
    }

    /// Tells a plateau schedule the metric of an epoch, of which less is better.
    pub fn observe(&mut self, metric: f64) {
        self.schedule.observe(metric);
    }

    /// Zeroes the states that are carried from batch to batch.
    pub fn reset_state(&mut self) -> Result<()> {
        match &mut self.carried_states {
            Some(carried_states) => carried_states.zero(&self.be),
            None => Ok(()),
        }
    }

    /// Refuses to train while the running average stands in the parameters' place.
    pub(crate) fn refuse_average(&self) -> Result<()> {
        match self.average_in_place {
            false => Ok(()),
            true => Err(Error::unsupported(
                "SequenceModel.train",
                "the trained parameters in place: swapAverage() once more before training",
                "their running average",
            )),
        }
    }

    /// Exchanges the model's parameters with their running average; a second call exchanges them back. `ERR_S4_UNSUPPORTED`
    /// without the option `ema`.
    pub fn swap_average(&mut self, model: &mut Model<B>) -> Result<()> {
        let Some(average) = &mut self.average else {
            return Err(Error::unsupported("swapAverage", "training with ema", "none"));
        };
        std::mem::swap(average, &mut model.store.values);
        self.average_in_place = !self.average_in_place;
        model.store.mark_changed();
        Ok(())
    }

    /// Carried states for `batch` rows: those there are, or zeros where a sequence begins. Within one, other rows than
    /// before have no states to go on from: `ERR_S4_SHAPE`.
    fn ensure_carried_states(&mut self, model: &Model<B>, batch: usize) -> Result<()> {
        match &self.carried_states {
            Some(carried_states) if carried_states.accepted.batch == batch => return Ok(()),
            Some(carried_states) if self.under_way.is_some() || !carried_states.is_zero() => {
                return Err(Error::shape(
                    "SequenceModel.train",
                    format!(
                        "batches of {} rows, whose states carryState goes on with",
                        carried_states.accepted.batch
                    ),
                    format!("{batch} rows"),
                ));
            }
            _ => {}
        }
        self.carried_states = Some(CarriedStates::new(&self.be, &model.config, batch)?);
        Ok(())
    }

    /// The carried states as the last finite update left them, for a checkpoint.
    pub(crate) fn carried(&self) -> Option<&RecurrentStates<B>> {
        self.carried_states.as_ref().map(|c| &c.accepted)
    }

    /// Replaces the carried states by those of a checkpoint: each block's (batch, H, 2, N/2).
    pub(crate) fn set_carried(
        &mut self,
        model: &Model<B>,
        batch: usize,
        blocks: &[Vec<B::Scalar>],
    ) -> Result<()> {
        self.ensure_carried_states(model, batch)?;
        match &mut self.carried_states {
            Some(carried_states) => carried_states.replace(&self.be, blocks),
            None => Ok(()),
        }
    }
}
