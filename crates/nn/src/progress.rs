//! How far a training run is. A trainer keeps it, and writes it to its checkpoints, so that the run goes on where it
//! stopped.

use crate::update_figures::StepStats;
use serde::{Deserialize, Serialize};

/// Counts over a training run, and sums over the updates of its epoch under way, of which the epoch's means are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Number of whole epochs.
    pub epochs: u64,
    /// Time steps trained on so far, padding included: sequences times length, over all epochs.
    pub samples: u64,
    /// Number of items that the epoch under way has taken from the dataset.
    pub items: u64,
    /// Σ weight·loss over the updates of the epoch under way.
    pub loss: f64,
    /// Σ of the weights of the targets that were predicted right, over the same updates.
    pub correct: f64,
    /// Σ of the weights of all targets, over the same updates.
    pub weight: f64,
    /// Gradient norm of the last update.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub lr: f64,
}

impl Progress {
    /// Counts an update that has been made: its figures, the items of the dataset and the time steps that it took.
    pub(crate) fn add_update(&mut self, stats: &StepStats, items: u64, samples: u64) {
        self.items += items;
        self.samples += samples;
        if stats.weight > 0.0 {
            self.loss += stats.loss * stats.weight;
            self.correct += stats.correct;
            self.weight += stats.weight;
            (self.grad_norm, self.lr) = (stats.grad_norm, stats.lr);
        }
    }

    /// Counts the epoch under way as a whole one, and zeroes its sums.
    pub(crate) fn end_epoch(&mut self) {
        *self = Progress { epochs: self.epochs + 1, samples: self.samples, ..Progress::default() };
    }
}
