//! Evaluation of a model: loss and right predictions of a batch, without gradients, and their sums over several batches.

use crate::{
    batch::Batch,
    loss::{CheckedTarget, LossBuffers},
    model::Model,
    pass_options::PassContext,
};
use num_traits::Zero;
use s4_backend::{Backend, Result, Scalar};

/// Sums over the targets of several batches; [`Evaluation::metrics`] gives the means. There is one target for each sequence
/// where the model pools over time, else one for each time step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Σ weight·loss over targets.
    pub loss: f64,
    /// Sum of the weights of the targets that were predicted right: the label was the largest output.
    pub correct: f64,
    /// Number of targets that count: not left out, not padding, and of a weight above 0.
    pub rows: f64,
    /// Sum of the targets' weights.
    pub weight: f64,
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
    /// Adds a batch of `rows` targets whose weights sum to `weight`: its mean loss by weight, and the weights of those
    /// predicted right.
    pub fn add_batch(&mut self, loss: f64, correct: f64, rows: f64, weight: f64) {
        if weight > 0.0 {
            self.loss += loss * weight;
            self.correct += correct;
            self.rows += rows;
            self.weight += weight;
        }
    }
    /// Means over all batches added; NaN where none was.
    pub fn metrics(&self) -> Metrics {
        Metrics { loss: self.loss / self.weight, accuracy: self.correct / self.weight, rows: self.rows }
    }
}

impl<B: Backend> Model<B> {
    /// Adds the loss and the right predictions of one batch to `total`. Computes no gradients and changes nothing.
    pub fn evaluate(&mut self, batch: &Batch<'_, B::Scalar>, total: &mut Evaluation) -> Result<()> {
        let op = "SequenceModel.evaluate";
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss_buffers.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be)?,
        };
        let result = self.evaluate_with(op, batch, &mut buffers);
        self.loss_buffers = Some(buffers);
        let (checked_target, loss, correct) = result?;
        total.add_batch(loss, correct, checked_target.rows as f64, checked_target.weight);
        Ok(())
    }

    /// Refuses a batch that neither an evaluation nor a training step could take; nothing is computed.
    pub fn check_batch(&mut self, op: &'static str, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss_buffers.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be)?,
        };
        let result = buffers.check(op, &self.config, batch);
        self.loss_buffers = Some(buffers);
        result.map(|_| ())
    }

    /// [`Model::evaluate`] after its check, with buffers taken out of the model: the checked target, mean loss, and weights
    /// of the right predictions.
    fn evaluate_with(
        &mut self,
        op: &'static str,
        batch: &Batch<'_, B::Scalar>,
        buffers: &mut LossBuffers<B>,
    ) -> Result<(CheckedTarget, f64, f64)> {
        let be = self.be.clone();
        let checked_target = buffers.check(op, &self.config, batch)?;
        self.upload_input(batch.input, batch.batch, batch.len, &batch.call)?;
        buffers.upload(&be, &checked_target, batch.target)?;
        let options = self.call_arrays.options(&batch.call);
        let pass = PassContext::inference(&be, &self.store, (batch.batch, batch.len), options);
        self.net.forward(&pass, None, None, false)?;
        let mut device_sums = be.view_mut(&mut self.eval_stats, 0..2);
        be.fill(be.reborrow(&mut device_sums), Zero::zero())?;
        buffers.compute(
            &pass,
            device_sums,
            &mut self.net,
            &self.config,
            (&checked_target, checked_target.weight),
            false,
        )?;
        let mut loss_and_correct = [B::Scalar::zero(); 2];
        be.download(&mut loss_and_correct, be.view(&self.eval_stats, 0..2))?;
        Ok((checked_target, loss_and_correct[0].to_f64(), loss_and_correct[1].to_f64()))
    }
}
