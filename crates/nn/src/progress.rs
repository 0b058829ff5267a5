//! How far a training run is. A trainer keeps it, and writes it to its checkpoints, so that the run goes on where it
//! stopped.

use crate::{
    schedule::MAX_COUNT,
    update_figures::{MetricSums, StepStats},
};
use s4_backend::{Error, Result};
use serde::{Deserialize, Serialize};

/// Counts over a training run, and sums over the updates of its epoch under way, of which the epoch's means are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Number of whole epochs.
    pub epochs: u64,
    /// Time steps trained on so far, over all epochs; padding does not count.
    pub samples: u64,
    /// Number of items that the epoch under way has taken from the dataset.
    pub items: u64,
    /// Σ weight·loss over the updates of the epoch under way.
    pub loss: f64,
    /// Sums of which metrics are made, over the same updates.
    pub metrics: MetricSums,
    /// Σ of the weights in the mean losses, over the same updates.
    pub weight: f64,
    /// Gradient norm of the last update.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub lr: f64,
}

impl Progress {
    /// Counts an update that has been made, and the items of the dataset that it took.
    pub(crate) fn add_update(&mut self, stats: &StepStats) {
        self.items += stats.items;
        self.samples += stats.time_steps;
        if stats.weight > 0.0 {
            self.loss += stats.loss * stats.weight;
            self.metrics.add(&stats.metrics);
            self.weight += stats.weight;
            (self.grad_norm, self.lr) = (stats.grad_norm, stats.lr);
        }
    }

    /// Refuses counts and sums that no run makes, such as those of a hostile file.
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [self.epochs, self.samples, self.items];
        let MetricSums { weight, sums: [a, b, c] } = self.metrics;
        let sums = [weight, self.weight, self.grad_norm, self.lr];
        let possible = counts.iter().all(|&n| n <= MAX_COUNT)
            && self.loss.is_finite()
            && sums.iter().all(|&x| x.is_finite() && x >= 0.0)
            // These may have overflowed.
            && [a, b, c].iter().all(|&x| x >= 0.0);
        match possible {
            true => Ok(()),
            false => Err(Error::value("progress", "counts and sums of a run", format!("{self:?}"))),
        }
    }

    /// Counts the epoch under way as a whole one, and zeroes its sums.
    pub(crate) fn end_epoch(&mut self) {
        *self = Progress { epochs: self.epochs + 1, samples: self.samples, ..Progress::default() };
    }
}
