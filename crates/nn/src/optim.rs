//! AdamW over a parameter store.
#![allow(unused_variables, clippy::todo)]
use crate::{Flats, ParamStore};
use s4_backend::{Backend, Error, Result};
use serde::{Deserialize, Serialize};

/// Hyperparameters; the SSM group has its own learning rate and no decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AdamConfig {
    pub lr: f64,
    pub ssm_lr: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Largest global gradient norm; none by default.
    pub clip: Option<f64>,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig {
            lr: 4e-3,
            ssm_lr: 1e-3,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip: None,
        }
    }
}

/// AdamW: moments and update counter for one [`ParamStore`] (custom loops; [`crate::Trainer`] has its own).
pub struct Adam<B: Backend> {
    pub(crate) be: B,
    pub(crate) config: AdamConfig,
    pub(crate) m: Flats<B>,
    pub(crate) v: Flats<B>,
    pub(crate) step: u64,
}

impl<B: Backend> Adam<B> {
    /// Zero moments.
    pub fn new(be: B, store: &ParamStore<B>, config: AdamConfig) -> Result<Self> {
        todo!()
    }
    /// Hyperparameters.
    pub fn config(&self) -> &AdamConfig {
        &self.config
    }
    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.step
    }
    /// One update from the store's gradients, learning rates times `scale`; waits. Gives the gradients' norm.
    /// On a non-finite gradient: `ERR_S4_NONFINITE` with step and tensor, parameters untouched.
    pub fn update(&mut self, store: &mut ParamStore<B>, scale: f64) -> Result<f64> {
        todo!()
    }
}

impl AdamConfig {
    /// Refuses impossible values.
    pub fn check(&self, op: &'static str) -> Result<()> {
        let at_least_0 = |what: &str, x: f64| match x.is_finite() && x >= 0.0 {
            true => Ok(()),
            false => Err(Error::value(op, format!("{what} of 0 or more"), x)),
        };
        at_least_0("lr", self.lr)?;
        at_least_0("ssmLr", self.ssm_lr)?;
        at_least_0("weightDecay", self.weight_decay)?;
        for (what, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::value(op, format!("{what} from 0 to below 1"), beta));
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(Error::value(op, "eps above 0", self.eps));
        }
        match self.clip {
            Some(c) if !(c > 0.0) => Err(Error::value(op, "clip above 0", c)),
            _ => Ok(()),
        }
    }
}
