//! The loss of a batch: its target checked, on the device, and compared with the model's output.

use crate::{
    batch::{Batch, TargetData},
    call::Pass,
    check,
    config::ModelConfig,
    growable::{GrowableBuffer, GrowableInts},
    head::HeadLoss,
    net::Net,
};
use num_traits::{One, Zero};
use s4_backend::{Backend, Code, Error, Result, Scalar, Target};

/// Targets on the device.
pub(crate) struct LossBuffers<B: Backend> {
    labels: GrowableInts<B>,
    values: GrowableBuffer<B>,
    weights: GrowableBuffer<B>,
    host_labels: Vec<i32>,
    host_weights: Vec<B::Scalar>,
}

/// What a target was found to be.
pub(crate) struct Counted {
    pub rows: usize,
    /// Sum of their weights.
    pub weight: f64,
    /// Values of a target row that the loss averages.
    width: usize,
    labels: bool,
    weighted: bool,
}

impl<B: Backend> LossBuffers<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(LossBuffers {
            labels: GrowableInts::new(be)?,
            values: GrowableBuffer::new(be)?,
            weights: GrowableBuffer::new(be)?,
            host_labels: Vec::new(),
            host_weights: Vec::new(),
        })
    }

    /// Checks a batch's target; nothing is uploaded yet.
    pub fn check(
        &mut self,
        op: &'static str,
        c: &ModelConfig,
        batch: &Batch<'_, B::Scalar>,
    ) -> Result<Counted> {
        let per_step = c.pooling.is_none();
        let rows = if per_step { batch.batch * batch.len } else { batch.batch };
        let sizes: &[usize] = if per_step { &[batch.batch, batch.len] } else { &[batch.batch] };
        let beyond = |row: usize| match (batch.call.lengths, per_step) {
            (Some(lengths), true) => row % batch.len >= lengths[row / batch.len] as usize,
            _ => false,
        };
        let lengths = batch.call.lengths.filter(|_| per_step);
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
        let dtype = |expected: &str, got: &str| {
            Error::new(Code::Dtype, op, format!("{expected} with loss '{}'", c.loss), got)
        };
        let labels = match (batch.target, c.loss.takes_labels()) {
            (TargetData::Labels(labels), true) => {
                check::shaped(op, "target (labels)", labels, sizes)?;
                self.host_labels
                    .extend(labels.iter().enumerate().map(|(i, &l)| if beyond(i) { -1 } else { l }));
                check::indices(op, "labels", &self.host_labels, c.output, true)?;
                true
            }
            (TargetData::Values(values), false) => {
                let full: Vec<usize> = sizes.iter().copied().chain([c.output]).collect();
                check::shaped(op, "target", values, &full)?;
                check::finite(op, "target", values)?;
                if lengths.is_some() && self.host_weights.is_empty() {
                    self.host_weights.resize(rows, B::Scalar::one());
                }
                false
            }
            (TargetData::Labels(_), false) => return Err(dtype("real targets", "labels")),
            (TargetData::Values(_), true) => return Err(dtype("integer labels", "real numbers")),
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
        let width = if labels { 1 } else { c.output };
        Ok(Counted { rows: counted, weight: total, width, labels, weighted })
    }

    /// stats += [loss, correct] of the network's last forward; with `gradient` a backward may follow. The loss is this
    /// batch's part of a mean whose weights sum to `weight`: its own, and those of the batches that it is joined with.
    pub fn run(
        &self,
        pass: &Pass<'_, B>,
        stats: B::Mut<'_>,
        net: &mut Net<B>,
        config: &ModelConfig,
        (counted, weight): (&Counted, f64),
        gradient: bool,
    ) -> Result<()> {
        let rows = net.head.rows(pass.batch, pass.len);
        // Where nothing counts every weight is 0 or every label left out: the loss is 0.
        let total = if weight > 0.0 { weight } else { 1.0 };
        let against = HeadLoss {
            target: match counted.labels {
                true => Target::Labels(self.labels.get()),
                false => Target::Values(self.values.get(pass.be, rows * config.output)),
            },
            weights: counted.weighted.then(|| self.weights.get(pass.be, rows)),
            loss: config.loss(),
            denominator: total * counted.width as f64,
            gradient,
        };
        net.head.loss(pass, stats, against, &mut net.scratch.ws)
    }

    /// Uploads what [`LossBuffers::check`] found.
    pub fn upload(&mut self, be: &B, counted: &Counted, target: TargetData<'_, B::Scalar>) -> Result<()> {
        if counted.labels {
            self.labels.upload(be, &self.host_labels)?;
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
