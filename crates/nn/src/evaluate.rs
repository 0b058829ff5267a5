//! Evaluation of a model: a batch's loss and hits without gradients, and their sums over several batches.

use crate::{
    batch::Batch,
    call::Pass,
    loss::{Counted, LossBuffers},
    model::Model,
};
use num_traits::Zero;
use s4_backend::{Backend, Result, Scalar};

/// Sums over batches; [`Evaluation::metrics`] gives the means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Σ weight·loss over rows.
    pub loss: f64,
    /// Weights of the rows whose largest output was the label.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
    /// Sum of their weights.
    pub weight: f64,
}

/// Means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean loss, Σ weight·loss/Σ weight.
    pub loss: f64,
    /// Share of hits, by weight (cross-entropy).
    pub accuracy: f64,
    /// Rows counted.
    pub rows: f64,
}

impl Evaluation {
    /// Adds a batch with weighted mean loss `loss` over `rows` rows whose weights sum to `weight`.
    pub fn add(&mut self, loss: f64, correct: f64, rows: f64, weight: f64) {
        if weight > 0.0 {
            self.loss += loss * weight;
            self.correct += correct;
            self.rows += rows;
            self.weight += weight;
        }
    }
    /// Means over all that was added; NaN when nothing was.
    pub fn metrics(&self) -> Metrics {
        Metrics { loss: self.loss / self.weight, accuracy: self.correct / self.weight, rows: self.rows }
    }
}

impl<B: Backend> Model<B> {
    /// Adds one batch's loss and hits to `total`, without gradients.
    pub fn evaluate(&mut self, batch: &Batch<'_, B::Scalar>, total: &mut Evaluation) -> Result<()> {
        let op = "SequenceModel.evaluate";
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be)?,
        };
        let result = self.evaluate_with(op, batch, &mut buffers);
        self.loss = Some(buffers);
        let (counted, loss, correct) = result?;
        total.add(loss, correct, counted.rows as f64, counted.weight);
        Ok(())
    }

    /// Refuses a batch that neither an evaluation nor a training step could take; nothing is computed.
    pub fn check_batch(&mut self, op: &'static str, batch: &Batch<'_, B::Scalar>) -> Result<()> {
        self.check_input(op, (batch.input, batch.batch, batch.len), batch.call)?;
        let mut buffers = match self.loss.take() {
            Some(buffers) => buffers,
            None => LossBuffers::new(&self.be)?,
        };
        let result = buffers.check(op, &self.config, batch);
        self.loss = Some(buffers);
        result.map(|_| ())
    }

    fn evaluate_with(
        &mut self,
        op: &'static str,
        batch: &Batch<'_, B::Scalar>,
        buffers: &mut LossBuffers<B>,
    ) -> Result<(Counted, f64, f64)> {
        let be = self.be.clone();
        let counted = buffers.check(op, &self.config, batch)?;
        self.upload_input(batch.input, batch.batch, batch.len, batch.call.lengths)?;
        buffers.upload(&be, &counted, batch.target)?;
        let options = batch.call.with_lengths(batch.call.lengths.map(|_| self.lengths.get()));
        let pass = Pass::inference(&be, &self.store, (batch.batch, batch.len), options);
        self.net.forward(&pass, None, None, false)?;
        let mut stats = be.view_mut(&mut self.eval_stats, 0..2);
        be.fill(be.reborrow(&mut stats), Zero::zero())?;
        buffers.run(&pass, stats, &mut self.net, &self.config, (&counted, counted.weight), false)?;
        let mut host = [B::Scalar::zero(); 2];
        be.download(&mut host, be.view(&self.eval_stats, 0..2))?;
        Ok((counted, host[0].to_f64(), host[1].to_f64()))
    }
}
