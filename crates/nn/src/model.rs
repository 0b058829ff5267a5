//! The deep sequence model: encoder, blocks, norm, pooling, decoder.
#![allow(unused_variables, clippy::todo)]
use crate::{Forward, ForwardOptions, ModelConfig, ParamStore, Stepper};
use s4_backend::{Backend, Result};

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, T> {
    /// (batch, len, input)
    Values(&'a [T]),
    /// (batch, len), with encoder `embedding`.
    Tokens(&'a [i32]),
}

/// A deep S4 model with its parameters.
pub struct Model<B: Backend> {
    be: B,
    config: ModelConfig,
    store: ParamStore<B>,
}

impl<B: Backend> Model<B> {
    /// A model initialised from the configuration's seed.
    pub fn new(be: B, config: ModelConfig) -> Result<Self> {
        todo!()
    }
    /// What it is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
    /// Device.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// All parameters.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// For `set` and `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry states (causal, not truncated).
    pub fn has_state(&self) -> bool {
        todo!()
    }
    /// Elements of the whole network's state, (layers, batch, H, N/2, 2).
    pub fn state_len(&self, batch: usize) -> usize {
        todo!()
    }
    /// Shape of the output: (batch, len, decoder outputs), or (batch, decoder outputs) when pooled.
    pub fn output_shape(&self, batch: usize, len: usize) -> Vec<usize> {
        todo!()
    }
    /// The output, and with `opts.want_state` the states after each row's last sample.
    pub fn forward(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        todo!()
    }
    /// After a forward with `opts.save`: gradients of sum(output·doutput); parameters' accumulate. Gives dx
    /// (None for tokens) and the gradient of the states that forward was given.
    pub fn backward(
        &mut self,
        doutput: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<(Option<Vec<B::Scalar>>, Option<Vec<B::Scalar>>)> {
        todo!()
    }
    /// The same weights as an RNN over `batch` rows.
    pub fn stream(&mut self, batch: usize, rate: f64) -> Result<Stepper<B>> {
        todo!()
    }
}
