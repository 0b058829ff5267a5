//! The loss of a batch: checks the targets, uploads them, and compares the model's output with them.

use crate::{
    batch::{Batch, TargetData},
    check,
    config::ModelConfig,
    growable_buffer::{GrowableBuffer, GrowableInts},
    network::Network,
    output_stage::LossInputs,
    pass_options::PassContext,
    update_figures::MetricSums,
};
use num_traits::{One, Zero};
use s4_backend::{Backend, Code, Error, LOSS_SUMS, Result, Scalar, Target, host_memory};

/// Buffers for the targets of one batch, on the host and on the device.
pub(crate) struct LossBuffers<B: Backend> {
    /// Labels on the device.
    labels: GrowableInts<B>,
    /// Real targets on the device.
    values: GrowableBuffer<B>,
    /// Weights on the device.
    weights: GrowableBuffer<B>,
    /// Checked labels; -1 for those that are left out.
    host_labels: Vec<i32>,
    /// Checked weights, 0 for padding; empty where all weights are 1.
    host_weights: Vec<B::Scalar>,
    /// The classes' weights, and their copy on the device; empty where all are 1.
    class_weights: Vec<B::Scalar>,
    device_class_weights: B::Buf,
    /// The predicted class of each target of an evaluation, on the device and on the host.
    predictions: GrowableBuffer<B>,
    host_predictions: Vec<B::Scalar>,
}

/// How a loss is to be computed.
pub(crate) struct LossCall<'a> {
    /// The target, as checked.
    pub target: &'a CheckedTarget,
    /// Sum of the weights in the mean that the loss is a part of: those of this batch, and of the batches that it is accumulated
    /// with.
    pub weight: f64,
    /// The label counts as found where it is among so many of the largest outputs.
    pub top_k: usize,
    /// Whether a backward may follow.
    pub want_gradient: bool,
    /// Whether to write which class is predicted.
    pub want_predictions: bool,
}

impl<'a> LossCall<'a> {
    /// A loss that a backward follows, as part of a mean by weights that sum to `weight`.
    pub fn in_training(target: &'a CheckedTarget, weight: f64, top_k: Option<usize>) -> Self {
        let top_k = top_k.unwrap_or(1);
        LossCall { target, weight, top_k, want_gradient: true, want_predictions: false }
    }
}

/// What the losses of targets whose weights sum to `weight` are divided by. Where that is 0 the losses are summed: they are 0, or those of
/// smoothed labels whose classes all have the weight 0.
pub(crate) fn denominator(weight: f64) -> f64 {
    if weight > 0.0 { weight } else { 1.0 }
}

/// What the check of a batch's targets has found.
pub(crate) struct CheckedTarget {
    /// Number of targets that count: not left out, not padding, of a weight above 0.
    pub rows: usize,
    /// Sum of the targets' weights, each times that of its class.
    pub weight: f64,
    /// Whether there is a loss: the weights sum to more than 0, or labels whose classes all have the weight 0 are smoothed, and have
    /// the terms of other classes.
    pub has_loss: bool,
    /// Sum of the targets' own weights.
    pub metric_weight: f64,
    /// Number of values of one target, over which the loss is averaged; 1 for a label.
    pub width: usize,
    /// Whether the targets are labels; else they are real numbers.
    is_labels: bool,
    /// Whether the targets have weights that are not all 1.
    has_weights: bool,
}

impl CheckedTarget {
    /// Sums of which metrics are made, of what a loss has added to; those of real targets become means over their values.
    pub fn metric_sums(&self, sums: [f64; LOSS_SUMS - 1]) -> MetricSums {
        MetricSums { weight: self.metric_weight, sums: sums.map(|sum| sum / self.width as f64) }
    }
}

impl<B: Backend> LossBuffers<B> {
    /// Empty buffers, which grow with the first batch.
    pub fn new(be: &B, config: &ModelConfig) -> Result<Self> {
        let given = config.class_weights.as_deref().unwrap_or(&[]);
        let class_weights: Vec<_> = given.iter().map(|&w| B::Scalar::from_f64(w)).collect();
        let mut device_class_weights = be.alloc(class_weights.len())?;
        be.upload(be.view_mut(&mut device_class_weights, 0..class_weights.len()), &class_weights)?;
        Ok(LossBuffers {
            class_weights,
            device_class_weights,
            predictions: GrowableBuffer::new(be)?,
            host_predictions: Vec::new(),
            labels: GrowableInts::new(be)?,
            values: GrowableBuffer::new(be)?,
            weights: GrowableBuffer::new(be)?,
            host_labels: Vec::new(),
            host_weights: Vec::new(),
        })
    }

    /// Checks the targets of a batch against the model's configuration. Keeps labels and weights for
    /// [`LossBuffers::upload`], with those of padding left out; uploads nothing yet.
    pub fn check(
        &mut self,
        op: &'static str,
        c: &ModelConfig,
        batch: &Batch<'_, B::Scalar>,
    ) -> Result<CheckedTarget> {
        let per_step = c.pooling.is_none();
        let rows = if per_step { batch.batch * batch.len } else { batch.batch };
        let sizes: &[usize] = if per_step { &[batch.batch, batch.len] } else { &[batch.batch] };
        let is_padding = |row: usize| match (batch.call.lengths, per_step) {
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
        let wrong_dtype = |expected: &str, got: &str| {
            Error::new(Code::Dtype, op, format!("{expected} with loss '{}'", c.loss), got)
        };
        let labels = match (batch.target, c.loss.takes_labels()) {
            (TargetData::Labels(labels), true) => {
                check::shaped(op, "target (labels)", labels, sizes)?;
                let counted = |i: usize, label: i32| !is_padding(i) && label != c.ignore_label;
                self.host_labels
                    .extend(labels.iter().enumerate().map(|(i, &l)| if counted(i, l) { l } else { -1 }));
                check::indices(op, "labels", &self.host_labels, c.output, true)?;
                true
            }
            (TargetData::Values(values), false) => {
                let target_sizes: Vec<usize> = sizes.iter().copied().chain([c.output]).collect();
                check::shaped(op, "target", values, &target_sizes)?;
                check::finite(op, "target", values)?;
                if lengths.is_some() && self.host_weights.is_empty() {
                    self.host_weights.resize(rows, B::Scalar::one());
                }
                false
            }
            (TargetData::Labels(_), false) => return Err(wrong_dtype("real targets", "labels")),
            (TargetData::Values(_), true) => return Err(wrong_dtype("integer labels", "real numbers")),
        };
        if lengths.is_some() {
            self.host_weights
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| is_padding(*i))
                .for_each(|(_, w)| *w = Zero::zero());
        }
        // The number of targets that count, and the sums of their weights.
        let has_weights = !self.host_weights.is_empty();
        let (mut rows_counted, mut total_weight, mut metric_weight) = (0, 0.0, 0.0);
        for row in 0..rows {
            if labels && self.host_labels[row] < 0 {
                continue;
            }
            let w = if has_weights { self.host_weights[row].to_f64() } else { 1.0 };
            rows_counted += (w > 0.0) as usize;
            metric_weight += w;
            total_weight += match self.class_weights.is_empty() {
                true => w,
                false => w * self.class_weights[self.host_labels[row] as usize].to_f64(),
            };
        }
        let width = if labels { 1 } else { c.output };
        // (Some class has a weight above 0.)
        let smoothed = labels && c.label_smoothing > 0.0 && rows_counted > 0;
        Ok(CheckedTarget {
            rows: rows_counted,
            weight: total_weight,
            has_loss: total_weight > 0.0 || smoothed,
            metric_weight,
            width,
            is_labels: labels,
            has_weights,
        })
    }

    /// Adds the loss of the network's last forward, and the sums of which metrics are made, to `sums`. The loss is this batch's part of
    /// a mean by weight.
    pub fn compute(
        &mut self,
        pass: &PassContext<'_, B>,
        sums: B::Mut<'_>,
        net: &mut Network<B>,
        config: &ModelConfig,
        call: LossCall<'_>,
    ) -> Result<()> {
        let LossCall { target: checked_target, weight, top_k, want_gradient, want_predictions } = call;
        let rows = net.output_stage.rows(pass.batch, pass.len);
        if want_predictions {
            self.predictions.ensure(pass.be, rows)?;
        }
        let total = denominator(weight);
        let loss_inputs = LossInputs {
            target: match checked_target.is_labels {
                true => Target::Labels(self.labels.get()),
                false => Target::Values(self.values.get(pass.be, rows * config.output)),
            },
            weights: checked_target.has_weights.then(|| self.weights.get(pass.be, rows)),
            class_weights: match self.class_weights.len() {
                0 => None,
                classes => Some(pass.be.view(&self.device_class_weights, 0..classes)),
            },
            predictions: want_predictions.then(|| self.predictions.get_mut(pass.be, rows)),
            loss: config.loss(),
            top_k,
            denominator: total * checked_target.width as f64,
            want_gradient,
        };
        net.output_stage.loss(pass, sums, loss_inputs, &mut net.scratch.ws)
    }

    /// Adds the weight of each target of the last [`LossBuffers::compute`] with predictions to `confusion` (classes, classes), at the
    /// row of its label and the column of the predicted class.
    pub fn count_confusion(
        &mut self,
        op: &'static str,
        be: &B,
        classes: usize,
        confusion: &mut [f64],
    ) -> Result<()> {
        let rows = self.host_labels.len();
        host_memory::resize(op, "the predictions", &mut self.host_predictions, rows)?;
        be.download(&mut self.host_predictions, self.predictions.get(be, rows))?;
        for (row, (&label, predicted)) in self.host_labels.iter().zip(&self.host_predictions).enumerate() {
            let weight = self.host_weights.get(row).map_or(1.0, |w| w.to_f64());
            // −1 stands where no label counts, and where an output is NaN.
            if label >= 0 && weight > 0.0 && predicted.to_f64() >= 0.0 {
                confusion[label as usize * classes + predicted.to_f64() as usize] += weight;
            }
        }
        Ok(())
    }

    /// Uploads the targets and weights that [`LossBuffers::check`] has checked.
    pub fn upload(
        &mut self,
        be: &B,
        checked_target: &CheckedTarget,
        target: TargetData<'_, B::Scalar>,
    ) -> Result<()> {
        if checked_target.is_labels {
            self.labels.upload(be, &self.host_labels)?;
        } else if let TargetData::Values(values) = target {
            self.values.ensure(be, values.len())?;
            be.upload(self.values.get_mut(be, values.len()), values)?;
        }
        if checked_target.has_weights {
            self.weights.ensure(be, self.host_weights.len())?;
            be.upload(self.weights.get_mut(be, self.host_weights.len()), &self.host_weights)?;
        }
        Ok(())
    }
}
