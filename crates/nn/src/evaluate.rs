//! Evaluation of a model: loss and metrics of a batch, without gradients, and their sums over several batches.

use crate::{
    batch::Batch,
    loss::{CheckedTarget, LossBuffers, LossCall, denominator},
    model::Model,
    padded::padded_len,
    pass_options::PassContext,
    update_figures::MetricSums,
};
use num_traits::Zero;
use s4_backend::{Backend, LOSS_SUMS, Result, Scalar, host_memory};

/// Most classes of which an evaluation counts which is taken for which.
pub const MOST_CONFUSED_CLASSES: usize = 256;

/// Sums over the targets of several batches; [`Evaluation::means`] gives the means. There is one target for each sequence
/// where the model pools over time, else one for each time step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Σ weight·loss over targets, with the weights of classes too.
    pub loss: f64,
    /// Sum of the weights in `loss`.
    pub weight: f64,
    /// Sums of which metrics are made.
    pub metrics: MetricSums,
    /// Number of targets that count: not left out, not padding, and of a weight above 0.
    pub rows: f64,
    /// Sums of the targets' weights by label (row) and predicted class (column), for cross-entropy with at most
    /// [`MOST_CONFUSED_CLASSES`] classes; else empty.
    pub confusion: Vec<f64>,
}

/// Means over the targets of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean loss, Σ weight·loss/Σ weight.
    pub loss: f64,
    /// Part of the targets that was predicted right, by weight, for cross-entropy.
    pub accuracy: f64,
    /// Number of targets that count: not left out, not padding, and of a weight above 0.
    pub rows: f64,
}

impl Evaluation {
    /// Adds a batch of `rows` targets: its mean loss, the sum of the weights in it, and its other sums.
    fn add_batch(&mut self, loss: f64, target: &CheckedTarget, sums: [f64; LOSS_SUMS - 1]) {
        self.loss += loss * denominator(target.weight);
        self.weight += target.weight;
        self.metrics.add(&target.metric_sums(sums));
        self.rows += target.rows as f64;
    }
    /// Means over all batches added; NaN where none was.
    pub fn means(&self) -> Metrics {
        let accuracy = self.metrics.sums[0] / self.metrics.weight;
        Metrics { loss: self.loss / self.weight, accuracy, rows: self.rows }
    }
}

impl<B: Backend> Model<B> {
    /// Adds the loss and the metrics of one batch to `total`, with the part of the labels among the `top_k` largest outputs.
    /// Computes no gradients and changes nothing.
    pub fn evaluate(
        &mut self,
        batch: &Batch<'_, B::Scalar>,
        top_k: usize,
        total: &mut Evaluation,
    ) -> Result<()> {
        let op = "SequenceModel.evaluate";
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss_buffers.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be, &self.config)?,
        };
        let result = self.evaluate_with(op, (batch, top_k), &mut buffers, &mut total.confusion);
        self.loss_buffers = Some(buffers);
        let (checked_target, [loss, metrics @ ..]) = result?;
        total.add_batch(loss, &checked_target, metrics);
        Ok(())
    }

    /// Refuses a batch that neither an evaluation nor a training step could take; nothing is computed.
    pub fn check_batch(&mut self, op: &'static str, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss_buffers.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be, &self.config)?,
        };
        let result = buffers.check(op, &self.config, batch);
        self.loss_buffers = Some(buffers);
        result.map(|_| ())
    }

    /// [`Model::evaluate`] after its check, with buffers taken out of the model: the checked target, and what the loss adds to.
    fn evaluate_with(
        &mut self,
        op: &'static str,
        (batch, top_k): (&Batch<'_, B::Scalar>, usize),
        buffers: &mut LossBuffers<B>,
        confusion: &mut Vec<f64>,
    ) -> Result<(CheckedTarget, [f64; LOSS_SUMS])> {
        let be = self.be.clone();
        let mut checked_target = buffers.check(op, &self.config, batch)?;
        let padded_len = padded_len(&be, &self.config, batch.len, false);
        let padded = padded_len.map(|len| batch.padded(len, self.config.pooling.is_none())).transpose()?;
        let padded = padded.as_ref().map(|padded| padded.batch());
        let batch = padded.as_ref().unwrap_or(batch);
        if padded_len.is_some() {
            checked_target = buffers.check(op, &self.config, batch)?;
        }
        self.upload_input(batch.input, batch.batch, batch.len, &batch.call)?;
        buffers.upload(&be, &checked_target, batch.target)?;
        let options = self.call_arrays.options(&batch.call);
        let pass = PassContext::inference(&be, &self.store, (batch.batch, batch.len), options);
        self.net.forward(&pass, None, None, false)?;
        let mut device_sums = be.view_mut(&mut self.eval_stats, 0..LOSS_SUMS);
        be.fill(be.reborrow(&mut device_sums), Zero::zero())?;
        let classes = self.config.output;
        let counts_confusion = self.config.loss.takes_labels() && classes <= MOST_CONFUSED_CLASSES;
        let call = LossCall {
            target: &checked_target,
            weight: checked_target.weight,
            top_k,
            want_gradient: false,
            want_predictions: counts_confusion,
        };
        buffers.compute(&pass, device_sums, &mut self.net, &self.config, call)?;
        let mut sums = [B::Scalar::zero(); LOSS_SUMS];
        be.download(&mut sums, be.view(&self.eval_stats, 0..LOSS_SUMS))?;
        if counts_confusion {
            host_memory::resize(op, "the confusion", confusion, classes * classes)?;
            buffers.count_confusion(op, &be, classes, confusion)?;
        }
        Ok((checked_target, sums.map(Scalar::to_f64)))
    }
}
