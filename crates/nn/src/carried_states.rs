//! Recurrent states that training carries from one batch to the next. An update that failed leaves them as they were.

use crate::{config::ModelConfig, recurrent_states::RecurrentStates};
use s4_backend::{Backend, EmaUpdate, Result};

/// Carried states for batches of one size, three times: as they were before the update under way, and as they are within
/// it.
pub(crate) struct CarriedStates<B: Backend> {
    /// What the last update with a finite loss and gradient ended with; a failed update goes back to it.
    pub accepted: RecurrentStates<B>,
    /// What the next batch of the update under way starts from: `accepted` for its first one, and what the one before it ended with
    /// after [`CarriedStates::advance`].
    pub batch_start: RecurrentStates<B>,
    /// What the batch that runs ended with. Separate from `batch_start`, since a batch reads one while it writes the other; `advance`
    /// copies it there.
    pub batch_end: RecurrentStates<B>,
    /// No update since the states were zeros.
    zero: bool,
}

impl<B: Backend> CarriedStates<B> {
    /// Zero states for batches of `batch` sequences.
    pub fn new(be: &B, config: &ModelConfig, batch: usize) -> Result<Self> {
        let zeros = || RecurrentStates::new(be, config, batch);
        Ok(CarriedStates { accepted: zeros()?, batch_start: zeros()?, batch_end: zeros()?, zero: true })
    }
    /// Whether a sequence begins here.
    pub fn is_zero(&self) -> bool {
        self.zero
    }
    /// Lets the next batch start from the states that the last one ended with.
    pub fn advance(&mut self, be: &B) -> Result<()> {
        self.batch_start.copy_from(be, &self.batch_end)
    }
    /// Keeps the states that the update under way has reached, if `guard` (loss and Σ g² on the device) is finite; else
    /// goes back to those before it.
    pub fn commit(&mut self, be: &B, guard: B::Ref<'_>) -> Result<()> {
        self.zero = false;
        for i in 0..self.accepted.blocks.len() {
            // A running average with decay 0 is a copy, and unlike a copy it leaves its target alone where the guard is not
            // finite.
            be.ema(EmaUpdate {
                average: self.accepted.view_mut(be, i),
                value: self.batch_start.view(be, i),
                guard: be.shorten(guard),
                decay: 0.0,
            })?;
        }
        self.discard(be)
    }
    /// Goes back to the states before the update under way.
    pub fn discard(&mut self, be: &B) -> Result<()> {
        self.batch_start.copy_from(be, &self.accepted)
    }
    /// Zeroes all states.
    pub fn zero(&mut self, be: &B) -> Result<()> {
        self.zero = true;
        self.batch_start.zero(be)?;
        self.accepted.zero(be)
    }
    /// Replaces the states by given ones: for each block (batch, H, 2, N/2), as a checkpoint holds them.
    pub fn replace(&mut self, be: &B, blocks: &[Vec<B::Scalar>]) -> Result<()> {
        self.zero = false;
        for (i, block) in blocks.iter().enumerate() {
            be.upload(self.accepted.view_mut(be, i), block)?;
        }
        self.discard(be)
    }
}
