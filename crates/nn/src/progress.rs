//! How far a training run is: kept with the trainer and in its checkpoints, so that a run goes on where it was.

use crate::figures::StepStats;
use serde::{Deserialize, Serialize};

/// Counts of a run, and the sums of its epoch under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Whole epochs.
    pub epochs: u64,
    /// Samples seen: rows times length, over all epochs.
    pub samples: u64,
    /// Items of the dataset that the epoch under way has taken.
    pub items: u64,
    /// Σ weight·loss over the updates of the epoch under way.
    pub loss: f64,
    /// Σ of the weights of its hits.
    pub correct: f64,
    /// Σ of its weights.
    pub weight: f64,
    /// Gradient norm of its last update.
    pub grad_norm: f64,
    /// Learning rate of its last update.
    pub lr: f64,
}

impl Progress {
    /// A batch has been taken.
    pub(crate) fn add(&mut self, stats: &StepStats, items: u64, samples: u64) {
        self.items += items;
        self.samples += samples;
        if stats.weight > 0.0 {
            self.loss += stats.loss * stats.weight;
            self.correct += stats.correct;
            self.weight += stats.weight;
            (self.grad_norm, self.lr) = (stats.grad_norm, stats.lr);
        }
    }

    /// The epoch under way is over.
    pub(crate) fn end_epoch(&mut self) {
        *self = Progress { epochs: self.epochs + 1, samples: self.samples, ..Progress::default() };
    }
}
