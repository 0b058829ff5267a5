//! The buffers of a push in which the time steps of all sequences go through the network together.

use crate::growable_buffer::{GrowableBuffer, GrowableInts};
use s4_backend::{Backend, Result};

/// Buffers on the device for the time steps of all sequences, which grow with the largest push.
pub(crate) struct StepsBuffers<B: Backend> {
    pub input: GrowableBuffer<B>,
    pub tokens: GrowableInts<B>,
    pub features: [GrowableBuffer<B>; 2],
    pub output: GrowableBuffer<B>,
    /// The lengths of a push whose sequences have equally many time steps.
    pub lens: Vec<usize>,
}

impl<B: Backend> StepsBuffers<B> {
    /// Empty buffers.
    pub fn new(be: &B) -> Result<Self> {
        let buffer = || GrowableBuffer::new(be);
        let (input, features, output) = (buffer()?, [buffer()?, buffer()?], buffer()?);
        Ok(StepsBuffers { input, tokens: GrowableInts::new(be)?, features, output, lens: Vec::new() })
    }
}
