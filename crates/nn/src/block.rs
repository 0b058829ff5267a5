//! The block: norm, S4, activation, dropout, linear, GLU, dropout, residual.
#![allow(unused_variables, clippy::todo)]
use crate::{BlockConfig, Forward, ForwardOptions, InputGrads, ParamStore};
use s4_backend::{Backend, Result};

/// One block with host arrays; the same verbs as [`crate::Layer`].
pub struct Block<B: Backend> {
    be: B,
    config: BlockConfig,
    store: ParamStore<B>,
}

impl<B: Backend> Block<B> {
    /// A block with its own parameters, initialised from `config.layer.seed`.
    pub fn new(be: B, config: BlockConfig) -> Result<Self> {
        todo!()
    }
    /// What it is.
    pub fn config(&self) -> &BlockConfig {
        &self.config
    }
    /// Device.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// `norm.weight, norm.bias, layer.kernel.*, layer.D, output_linear.0.weight, output_linear.0.bias`.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// For `set` and `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry a state.
    pub fn has_state(&self) -> bool {
        todo!()
    }
    /// `u`: (batch, len, H) → (batch, len, H).
    pub fn forward(
        &mut self,
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        todo!()
    }
    /// As [`crate::Layer::backward`].
    pub fn backward(
        &mut self,
        dy: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<InputGrads<B::Scalar>> {
        todo!()
    }
    /// As [`crate::Layer::step`]; the norm uses its running statistics.
    pub fn step(
        &mut self,
        u: &[B::Scalar],
        state: &mut [B::Scalar],
        interval: Option<&[B::Scalar]>,
        batch: usize,
        rate: f64,
    ) -> Result<Vec<B::Scalar>> {
        todo!()
    }
    /// K̄ of the SSM: (kernel channels, H, len).
    pub fn kernel(&mut self, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        todo!()
    }
    /// Zeros (batch, H, N/2, 2).
    pub fn initial_state(&self, batch: usize) -> Result<Vec<B::Scalar>> {
        todo!()
    }
}
