//! The options of a training run, as JSON gives them and as a checkpoint keeps them.

use crate::{
    optim::AdamConfig,
    schedule::{MAX_COUNT, ScheduleConfig},
};
use s4_backend::{Error, Result};
use serde::{Deserialize, Serialize};

/// Epochs of a run whose caller names no number.
pub(crate) const DEFAULT_EPOCHS: u64 = 1;

/// Options of a training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainConfig {
    /// Hyperparameters of AdamW: lr, ssmLr, weightDecay, beta1, beta2, eps, clip.
    #[serde(flatten)]
    pub adam: AdamConfig,
    /// Schedule of the learning rates.
    pub schedule: ScheduleConfig,
    /// Decay of a running average of the parameters, with which [`Trainer::swap_average`] exchanges them; none by default.
    pub ema: Option<f64>,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Whether a batch starts from the states that the batch before ended with (truncated back-propagation through time).
    /// Gradients do not go back beyond the batch.
    pub carry_state: bool,
    /// Whether batch norms have the statistics of the joint batch of all ranks; else each rank has those of its own batch.
    pub sync_batch_norm: bool,
    /// Whether the caller's loop shuffles the dataset every epoch. Not used here, but kept so that a run resumed from a
    /// checkpoint does the same.
    pub shuffle: bool,
    /// The metric topK counts labels among so many of the largest outputs; the largest alone without.
    pub top_k: Option<usize>,
    /// Number of epochs of the whole run, where the caller gave one, else [`DEFAULT_EPOCHS`]; kept for the same reason.
    pub epochs: Option<u64>,
}

impl TrainConfig {
    /// Parses options given as JSON; those that are not of training are not read. `ERR_S4_VALUE` names what is wrong.
    pub fn from_json(op: &'static str, json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|e| Error::value(op, "known options with values of their types", e))
    }

    /// Refuses a seed or a number of epochs that no caller can give, such as those of a hostile file.
    pub(crate) fn check(&self) -> Result<()> {
        let possible = self.seed <= MAX_COUNT
            && self.epochs.is_none_or(|n| (1..=MAX_COUNT).contains(&n))
            && self.top_k.is_none_or(|k| k > 0);
        match possible {
            true => Ok(()),
            false => Err(Error::value(
                "train",
                "a seed, a number of epochs and a topK",
                format!("{}, {:?} and {:?}", self.seed, self.epochs, self.top_k),
            )),
        }
    }

    /// A copy in which the options that the JSON object `given` names are replaced.
    pub fn with_replaced_options(&self, op: &'static str, given: &str) -> Result<Self> {
        let invalid = |e: serde_json::Error| Error::value(op, "known options with values of their types", e);
        let mut options = serde_json::to_value(self).map_err(invalid)?;
        let given: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(given).map_err(invalid)?;
        for (name, value) in given {
            options[name] = value;
        }
        serde_json::from_value(options).map_err(invalid)
    }
}
