//! The whole network as an RNN: O(1) memory, chunks of any length.
#![allow(unused_variables, clippy::todo)]
use crate::{Input, Model};
use s4_backend::{Backend, Result};
use std::marker::PhantomData;

/// Per push options.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a, T> {
    /// (batch) or (batch, len): ratio of each step to the training interval.
    pub interval: Option<&'a [T]>,
}

impl<T> Default for StepOptions<'_, T> {
    fn default() -> Self {
        StepOptions { interval: None }
    }
}

/// A stream's state on the device; the weights stay in the model, which each push names.
pub struct Stepper<B: Backend> {
    device: PhantomData<B>,
}

impl<B: Backend> Stepper<B> {
    pub(crate) fn new(model: &mut Model<B>, batch: usize, rate: f64) -> Result<Self> {
        todo!()
    }
    /// Rows.
    pub fn batch(&self) -> usize {
        todo!()
    }
    /// Samples seen.
    pub fn position(&self) -> u64 {
        todo!()
    }
    /// `x`: (batch, len, input) or tokens (batch, len); `out`: (batch, len, decoder outputs), every element written.
    /// A pooled model gives at each step what it would give if the sequence ended there.
    pub fn push(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        len: usize,
        opts: &StepOptions<'_, B::Scalar>,
        out: &mut [B::Scalar],
    ) -> Result<()> {
        todo!()
    }
    /// Everything needed to go on from here, as bytes.
    pub fn save(&self) -> Result<Vec<u8>> {
        todo!()
    }
    /// Goes back to what [`Stepper::save`] gave.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        todo!()
    }
    /// An independent stream from here.
    pub fn fork(&self, model: &mut Model<B>) -> Result<Self> {
        todo!()
    }
    /// Back to zero.
    pub fn reset(&mut self) -> Result<()> {
        todo!()
    }
}
