//! The loss of a batch: its target checked, on the device, and compared with the model's output.

use crate::{
    Batch, Evaluation, LossName, Model, ModelConfig, TargetData, check,
    net::Net,
    s4::Call,
    tensor::{Grow, GrowInts},
};
use num_traits::{One, Zero};
use s4_backend::{Backend, Code, Error, Result, Scalar, Target, random::DropKey};

/// Targets on the device.
pub(crate) struct LossBuffers<B: Backend> {
    labels: GrowInts<B>,
    values: Grow<B>,
    weights: Grow<B>,
    host_labels: Vec<i32>,
    host_weights: Vec<B::Scalar>,
}

/// What a target was found to be.
pub(crate) struct Counted {
    pub rows: usize,
    denominator: f64,
    labels: bool,
    weighted: bool,
}

impl<B: Backend> LossBuffers<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(LossBuffers {
            labels: GrowInts::new(be)?,
            values: Grow::new(be)?,
            weights: Grow::new(be)?,
            host_labels: Vec::new(),
            host_weights: Vec::new(),
        })
    }

    /// Checks a batch's target; nothing is uploaded yet.
    pub fn check(
        &mut self,
        op: &'static str,
        model: &Model<B>,
        batch: &Batch<'_, B::Scalar>,
    ) -> Result<Counted> {
        let c = model.config();
        let per_step = c.pooling.is_none();
        let rows = model.net.rows(batch.batch, batch.len);
        let sizes: &[usize] = if per_step { &[batch.batch, batch.len] } else { &[batch.batch] };
        let beyond = |row: usize| match (batch.lengths, per_step) {
            (Some(lengths), true) => row % batch.len >= lengths[row / batch.len] as usize,
            _ => false,
        };
        let lengths = batch.lengths.filter(|_| per_step);
        self.host_weights.clear();
        if let Some(weights) = batch.weights {
            check::shaped(op, "weights", weights, sizes)?;
            check::finite(op, "weights", weights)?;
            if let Some(w) = weights.iter().find(|w| **w < B::Scalar::zero()) {
                return Err(Error::value(op, "weights of 0 or more", w));
            }
            self.host_weights.extend_from_slice(weights);
        }
        self.host_labels.clear();
        let labels = match (batch.target, c.loss) {
            (TargetData::Labels(labels), LossName::CrossEntropy) => {
                check::shaped(op, "target (labels)", labels, sizes)?;
                check::indices(op, "labels", labels, c.output, true)?;
                self.host_labels
                    .extend(labels.iter().enumerate().map(|(i, &l)| if beyond(i) { -1 } else { l }));
                true
            }
            (TargetData::Values(values), loss) if loss != LossName::CrossEntropy => {
                let full: Vec<usize> = sizes.iter().copied().chain([c.output]).collect();
                check::shaped(op, "target", values, &full)?;
                check::finite(op, "target", values)?;
                if lengths.is_some() && self.host_weights.is_empty() {
                    self.host_weights.resize(rows, B::Scalar::one());
                }
                false
            }
            (TargetData::Labels(_), _) => {
                return Err(Error::new(
                    Code::Dtype,
                    op,
                    "real targets (loss is not cross-entropy)",
                    "labels",
                ));
            }
            (TargetData::Values(_), _) => {
                return Err(Error::new(
                    Code::Dtype,
                    op,
                    "integer labels (loss is cross-entropy)",
                    "real numbers",
                ));
            }
        };
        if lengths.is_some() {
            self.host_weights
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| beyond(*i))
                .for_each(|(_, w)| *w = Zero::zero());
        }
        // Counted rows, and the sum of their weights.
        let weighted = !self.host_weights.is_empty();
        let (mut counted, mut total) = (0, 0.0);
        for row in 0..rows {
            if labels && self.host_labels[row] < 0 {
                continue;
            }
            let w = if weighted { self.host_weights[row].to_f64() } else { 1.0 };
            counted += (w > 0.0) as usize;
            total += w;
        }
        if counted == 0 {
            return Err(Error::value(op, "one target or more that counts", "none"));
        }
        let denominator = total * if labels { 1.0 } else { c.output as f64 };
        Ok(Counted { rows: counted, denominator, labels, weighted })
    }

    /// stats += [loss, correct] of the model's last forward.
    pub fn run(
        &self,
        be: &B,
        stats: B::Mut<'_>,
        net: &mut Net<B>,
        config: &ModelConfig,
        counted: &Counted,
        gradient: bool,
        batch: usize,
        len: usize,
    ) -> Result<()> {
        let rows = net.rows(batch, len);
        let target = match counted.labels {
            true => Target::Labels(self.labels.get()),
            false => Target::Values(self.values.get(be, rows * config.output)),
        };
        let weights = counted.weighted.then(|| self.weights.get(be, rows));
        net.loss(be, stats, &target, weights, config.loss(), counted.denominator, gradient, batch, len)
    }

    /// Uploads what [`LossBuffers::check`] found.
    pub fn put(&mut self, be: &B, counted: &Counted, target: TargetData<'_, B::Scalar>) -> Result<()> {
        if counted.labels {
            self.labels.put(be, &self.host_labels)?;
        } else if let TargetData::Values(values) = target {
            self.values.ensure(be, values.len())?;
            be.upload(self.values.get_mut(be, values.len()), values)?;
        }
        if counted.weighted {
            self.weights.ensure(be, self.host_weights.len())?;
            be.upload(self.weights.get_mut(be, self.host_weights.len()), &self.host_weights)?;
        }
        Ok(())
    }
}

impl<B: Backend> Model<B> {
    fn loss_buffers(&mut self) -> Result<LossBuffers<B>> {
        match self.loss.take() {
            Some(buffers) => Ok(buffers),
            None => LossBuffers::new(&self.be),
        }
    }

    /// Adds one batch's loss and hits to `total`, without gradients.
    pub fn evaluate(&mut self, batch: &Batch<'_, B::Scalar>, total: &mut Evaluation) -> Result<()> {
        let op = "SequenceModel.evaluate";
        self.check_input(op, batch.input, batch.batch, batch.len, batch.lengths, batch.rate)?;
        let mut buffers = self.loss_buffers()?;
        let result = self.evaluate_with(op, batch, &mut buffers);
        self.loss = Some(buffers);
        let (loss, correct, rows) = result?;
        total.add(loss, correct, rows);
        Ok(())
    }

    fn evaluate_with(
        &mut self,
        op: &'static str,
        batch: &Batch<'_, B::Scalar>,
        buffers: &mut LossBuffers<B>,
    ) -> Result<(f64, f64, f64)> {
        let be = self.be.clone();
        let counted = buffers.check(op, self, batch)?;
        self.put_input(batch.input, batch.batch, batch.len, batch.lengths)?;
        buffers.put(&be, &counted, batch.target)?;
        let call = Call {
            batch: batch.batch,
            len: batch.len,
            rate: batch.rate,
            algorithm: batch.algorithm,
            version: self.store.version(),
            lengths: batch.lengths.map(|_| self.lengths.get()),
            training: false,
            key: DropKey { seed: 0, step: 0, site: 0 },
        };
        self.net.forward(&be, &self.store.values, None, None, false, &call)?;
        let mut stats = be.view_mut(&mut self.eval_stats, 0..2);
        be.fill(be.reborrow(&mut stats), Zero::zero())?;
        let (batch, len) = (batch.batch, batch.len);
        buffers.run(&be, stats, &mut self.net, &self.config, &counted, false, batch, len)?;
        let mut host = [B::Scalar::zero(); 2];
        be.download(&mut host, be.view(&self.eval_stats, 0..2))?;
        Ok((host[0].to_f64(), host[1].to_f64(), counted.rows as f64))
    }
}
