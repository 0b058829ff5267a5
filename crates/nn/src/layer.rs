//! The SSM as a layer with host arrays.
#![allow(unused_variables, clippy::todo)]
use crate::{LayerConfig, ParamStore};
use s4_backend::{Algorithm, Backend, Result};

/// How one call runs. Lengths: one a row, 1..=len.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions<'a, T> {
    /// State before the first sample, (batch, H, N/2, 2); for a model: its blocks' states one after another
    /// (layers, batch, H, N/2, 2).
    pub state: Option<&'a [T]>,
    /// Length of each row.
    pub lengths: Option<&'a [i32]>,
    /// Multiplies every Δ.
    pub rate: f64,
    /// How the SSM is applied.
    pub algorithm: Algorithm,
    /// Dropout and batch statistics on, and values saved for backward.
    pub training: bool,
    /// Give the end state (layers that have one).
    pub want_state: bool,
    /// Save what backward needs (implied by `training`).
    pub save: bool,
}

impl<T> Default for ForwardOptions<'_, T> {
    fn default() -> Self {
        ForwardOptions {
            state: None,
            lengths: None,
            rate: 1.0,
            algorithm: Algorithm::Auto,
            training: false,
            want_state: false,
            save: false,
        }
    }
}

/// What a forward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<T> {
    /// (batch, len, channels·H)
    pub y: Vec<T>,
    /// (batch, H, N/2, 2), when asked for and the layer has one.
    pub state: Option<Vec<T>>,
}

/// What a backward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct InputGrads<T> {
    /// (batch, len, H)
    pub du: Vec<T>,
    /// Gradient of the state that forward started from, when it was given one.
    pub dstate: Option<Vec<T>>,
}

/// One S4 or S4D layer: y = K̄∗u + D·u.
pub struct Layer<B: Backend> {
    be: B,
    config: LayerConfig,
    store: ParamStore<B>,
}

impl<B: Backend> Layer<B> {
    /// A layer with its own parameters, initialised from `config.seed`.
    pub fn new(be: B, config: LayerConfig) -> Result<Self> {
        todo!()
    }
    /// What it is.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }
    /// Device.
    pub fn backend(&self) -> &B {
        &self.be
    }
    /// `inv_dt`… as `kernel.inv_dt, kernel.A_real, kernel.A_imag, kernel.B, kernel.C, kernel.P, D`.
    pub fn store(&self) -> &ParamStore<B> {
        &self.store
    }
    /// For `set` and `zero_grad`.
    pub fn store_mut(&mut self) -> &mut ParamStore<B> {
        &mut self.store
    }
    /// Whether it can carry a state (causal, not truncated).
    pub fn has_state(&self) -> bool {
        todo!()
    }
    /// `u`: (batch, len, H). With `opts.save` (or `training`) backward may follow.
    pub fn forward(
        &mut self,
        u: &[B::Scalar],
        batch: usize,
        len: usize,
        opts: &ForwardOptions<'_, B::Scalar>,
    ) -> Result<Forward<B::Scalar>> {
        todo!()
    }
    /// Gradients of sum(y·dy) + sum(state·dstate) of the last saved forward; parameters' accumulate.
    pub fn backward(
        &mut self,
        dy: &[B::Scalar],
        dstate: Option<&[B::Scalar]>,
    ) -> Result<InputGrads<B::Scalar>> {
        todo!()
    }
    /// One sample a row: `u` (batch, H) → (batch, channels·H); `state` (batch, H, N/2, 2) moves on.
    /// `interval`: (batch), the ratio of this step to the training interval.
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
    /// K̄: (kernel channels, H, len).
    pub fn kernel(&mut self, len: usize, rate: f64) -> Result<Vec<B::Scalar>> {
        todo!()
    }
    /// Zeros (batch, H, N/2, 2).
    pub fn initial_state(&self, batch: usize) -> Result<Vec<B::Scalar>> {
        todo!()
    }
}
