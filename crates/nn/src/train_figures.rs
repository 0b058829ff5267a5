//! How updates went: reads their figures from the device, and finds the tensor where one was not finite.

use crate::{
    batch::Batch,
    model::Model,
    non_finite::{non_finite_error, non_finite_tensor},
    peers::on_ranks,
    train::Trainer,
    update_figures::StepStats,
};
use s4_backend::{Backend, Error, Result};

impl<B: Backend> Trainer<B> {
    /// Waits for the last update, but not for batches enqueued after it, and gives its figures. `ERR_S4_NONFINITE` names
    /// update and tensor where a loss or gradient was not finite in any update since the last call. That update changed
    /// nothing, and does not count; later ones that were finite did.
    pub fn read_stats(&mut self, model: &Model<B>) -> Result<StepStats> {
        if self.figures.is_empty() && self.first_failure.is_none() {
            return Err(Error::value("readStats", "a training step since the last read", "none"));
        }
        let last_stats = self.read_figures(model)?;
        match (self.first_failure.take(), last_stats) {
            (Some(error), _) => Err(error),
            (None, Some(stats)) => Ok(stats),
            (None, None) => Err(Error::value("readStats", "a training step since the last read", "none")),
        }
    }

    /// Finds the tensor that was not finite in the last update, after a batch enqueued since has overwritten features and
    /// gradients: computes the update's batch once more. A failed update leaves the parameters alone, so the numbers are
    /// the same. Batches enqueued after it are dropped.
    pub fn find_failed_tensor(
        &mut self,
        model: &mut Model<B>,
        batch: &Batch<'_, B::Scalar>,
        error: Error,
    ) -> Result<Error> {
        self.discard(model)?;
        // To compute the batch once more would need all ranks.
        if self.norm_exchange(model).is_some() {
            return Ok(error);
        }
        let failed_ranks = match &self.peers {
            // It is none of this rank's, whose batch would give finite numbers.
            Some(peers) if !peers.failed_ranks.contains(&peers.rank()) => return Ok(error),
            peers => peers.as_ref().map_or(Vec::new(), |peers| peers.failed_ranks.clone()),
        };
        // The dropout masks depend on the number of updates, of which the failed one is none: they are the same.
        self.accumulate(model, batch)?;
        let loss = self.figures.loss(&self.be)?;
        // With the padding that it was computed with.
        let (rows, len) = self.under_way.as_ref().map_or((batch.batch, batch.len), |u| (u.batch, u.len));
        let tensor = non_finite_tensor(model, loss.is_finite(), rows, len)?;
        self.discard(model)?;
        let tensor = format!("{tensor}{}", on_ranks(&failed_ranks));
        Ok(non_finite_error("SequenceModel.train", error.step.unwrap_or(self.adam.step + 1), &tensor))
    }

    /// Reads the figures of all updates that were not read, and remembers the first failure among them.
    pub(crate) fn read_figures(&mut self, model: &Model<B>) -> Result<Option<StepStats>> {
        let Trainer { figures, first_failure, under_way, adam, peers, .. } = self;
        let mut stats = None;
        figures.read(&self.be, |update, values| {
            let (loss, squared_norm) = (values.loss, values.squared_norm);
            let failed = update.weight > 0.0 && !(loss.is_finite() && squared_norm.is_finite());
            // The device has left it out, and so it has where the host knew only of this rank that no target counts.
            adam.step -= u64::from(failed || (update.weight == 0.0 && peers.is_some()));
            if failed && first_failure.is_none() {
                // Features and gradients on the device are those of the last update, if no batch was enqueued after it.
                let still_on_device = values.is_last && under_way.is_none();
                let here = peers.as_ref().is_none_or(|peers| values.failed_ranks.contains(&peers.rank()));
                let tensor = match (loss.is_finite(), still_on_device && here) {
                    (finite, true) => non_finite_tensor(model, finite, update.batch, update.len)?,
                    (false, false) => "loss".into(),
                    (true, false) => "gradient".into(),
                };
                let tensor = format!("{tensor}{}", on_ranks(&values.failed_ranks));
                *first_failure = Some(non_finite_error("SequenceModel.train", update.step, &tensor));
                if let Some(peers) = peers {
                    peers.failed_ranks = values.failed_ranks;
                }
            }
            stats = Some(StepStats {
                step: update.step,
                loss: if update.weight > 0.0 { loss } else { f64::NAN },
                metrics: values.metrics,
                rows: update.rows,
                time_steps: update.time_steps,
                weight: update.weight,
                grad_norm: squared_norm.sqrt(),
                lr: update.lr,
                items: update.items,
                ranks: update.ranks,
            });
            Ok(())
        })?;
        Ok(stats)
    }
}
