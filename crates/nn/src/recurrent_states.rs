//! The recurrent states of all blocks of a network, on the device.

use crate::{
    config::ModelConfig,
    growable_buffer::GrowableBuffer,
    transposed_copies::{MatrixSizes, download_transposed_into, upload_transposed},
};
use num_traits::Zero;
use s4_backend::{Backend, Result, host_memory};
use std::ops::Range;

/// The recurrent state of each block, (batch, H, 2, N/2), for `batch` sequences.
pub(crate) struct RecurrentStates<B: Backend> {
    /// Number of sequences.
    pub batch: usize,
    /// The state of each block.
    pub blocks: Vec<GrowableBuffer<B>>,
    /// Number of elements of one block's state.
    len: usize,
    /// N/2, the conjugate pairs of a state.
    pairs: usize,
}

impl<B: Backend> RecurrentStates<B> {
    /// Zero states for `batch` sequences.
    pub fn new(be: &B, config: &ModelConfig, batch: usize) -> Result<Self> {
        let spec = config.block.layer.spec();
        let (len, pairs) = (spec.state_len(batch), spec.pairs());
        let zeros = || {
            let mut block = GrowableBuffer::new(be)?;
            block.ensure_in_lines(be, len)?;
            Ok(block)
        };
        let blocks = (0..config.layers).map(|_| zeros()).collect::<Result<_>>()?;
        Ok(RecurrentStates { batch, blocks, len, pairs })
    }
    /// State of block number `block`, to be read.
    pub fn view(&self, be: &B, block: usize) -> B::Ref<'_> {
        self.blocks[block].get(be, self.len)
    }
    /// State of block number `block`, to be written.
    pub fn view_mut(&mut self, be: &B, block: usize) -> B::Mut<'_> {
        self.blocks[block].get_mut(be, self.len)
    }
    /// Zeroes the states of all blocks.
    pub fn zero(&mut self, be: &B) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.fill(self.view_mut(be, i), B::Scalar::zero()))
    }
    /// Copies the states of all blocks from `other`, which has the same sizes.
    pub fn copy_from(&mut self, be: &B, other: &Self) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.copy(self.view_mut(be, i), other.view(be, i)))
    }
    /// Copies the states of `count` sequences of `other`, from sequence `from` on, to sequences `to` and after.
    pub fn copy_sequences(
        &mut self,
        be: &B,
        to: usize,
        (other, from): (&Self, usize),
        count: usize,
    ) -> Result<()> {
        let n = self.len / self.batch;
        for (block, source) in self.blocks.iter_mut().zip(&other.blocks) {
            let source = source.range(be, from * n..(from + count) * n);
            be.copy(block.range_mut(be, to * n..(to + count) * n), source)?;
        }
        Ok(())
    }
    /// Zeroes the states of the sequences of a range.
    pub fn zero_sequences(&mut self, be: &B, range: Range<usize>) -> Result<()> {
        let n = self.len / self.batch;
        self.blocks.iter_mut().try_for_each(|block| {
            be.fill(block.range_mut(be, range.start * n..range.end * n), B::Scalar::zero())
        })
    }
    /// From now on the first `batch` sequences alone; those after them stay as they are, to be had again by another call.
    pub fn take_first(&mut self, batch: usize) {
        self.len = self.len / self.batch * batch;
        self.batch = batch;
    }
    /// Replaces the states by the host's (layers, batch, H, N/2, 2).
    pub fn upload(&mut self, be: &B, staging: &mut GrowableBuffer<B>, host: &[B::Scalar]) -> Result<()> {
        let sizes = MatrixSizes::new(self.len / (2 * self.pairs), self.pairs, 2);
        for (block, part) in self.blocks.iter_mut().zip(host.chunks_exact(self.len)) {
            upload_transposed(be, staging, block, part, sizes)?;
        }
        Ok(())
    }
    /// A host copy of the states, (layers, batch, H, N/2, 2).
    pub fn download(&self, be: &B, staging: &mut GrowableBuffer<B>) -> Result<Vec<B::Scalar>> {
        let sizes = MatrixSizes::new(self.len / (2 * self.pairs), 2, self.pairs);
        let mut host = host_memory::zeros("s4-node", "a result", self.len * self.blocks.len())?;
        for (i, part) in host.chunks_exact_mut(self.len).enumerate() {
            download_transposed_into(be, staging, part, self.view(be, i), sizes)?;
        }
        Ok(host)
    }
    /// A host copy of one block's state in the device's layout, (batch, H, 2, N/2).
    pub fn read(&self, be: &B, block: usize) -> Result<Vec<B::Scalar>> {
        let mut host = host_memory::zeros("s4-node", "a result", self.len)?;
        be.download(&mut host, self.view(be, block))?;
        Ok(host)
    }
}
