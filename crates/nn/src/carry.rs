//! States that run on from batch to batch of a training run; an update that failed leaves them as they were.

use crate::{config::ModelConfig, states::RecurrentStates};
use s4_backend::{Backend, EmaUpdate, Result};

/// The states of one number of rows.
pub(crate) struct CarriedStates<B: Backend> {
    /// After the last finite update.
    pub kept: RecurrentStates<B>,
    /// What the next batch of the step under way starts from.
    pub start: RecurrentStates<B>,
    /// What the last batch ended in.
    pub end: RecurrentStates<B>,
    /// No update since the states were zeros.
    zero: bool,
}

impl<B: Backend> CarriedStates<B> {
    /// Zeros.
    pub fn new(be: &B, config: &ModelConfig, batch: usize) -> Result<Self> {
        let zeros = || RecurrentStates::new(be, config, batch);
        Ok(CarriedStates { kept: zeros()?, start: zeros()?, end: zeros()?, zero: true })
    }
    /// Whether a sequence begins here.
    pub fn is_zero(&self) -> bool {
        self.zero
    }
    /// The next batch goes on from where the last one ended.
    pub fn advance(&mut self, be: &B) -> Result<()> {
        self.start.copy_from(be, &self.end)
    }
    /// The step under way is accepted, if `guard` is finite.
    pub fn commit(&mut self, be: &B, guard: B::Ref<'_>) -> Result<()> {
        self.zero = false;
        for i in 0..self.kept.blocks.len() {
            // A guarded copy is an average that forgets everything.
            be.ema(EmaUpdate {
                average: self.kept.view_mut(be, i),
                value: self.start.view(be, i),
                guard: be.shorten(guard),
                decay: 0.0,
            })?;
        }
        self.discard(be)
    }
    /// The step under way has not been.
    pub fn discard(&mut self, be: &B) -> Result<()> {
        self.start.copy_from(be, &self.kept)
    }
    /// Back to zero.
    pub fn zero(&mut self, be: &B) -> Result<()> {
        self.zero = true;
        self.start.zero(be)?;
        self.kept.zero(be)
    }
    /// Replaces them by each block's (batch, H, 2, N/2).
    pub fn set(&mut self, be: &B, blocks: &[Vec<B::Scalar>]) -> Result<()> {
        self.zero = false;
        for (i, block) in blocks.iter().enumerate() {
            be.upload(self.kept.view_mut(be, i), block)?;
        }
        self.discard(be)
    }
}
