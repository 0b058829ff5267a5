//! The recurrent states of a whole network.

use crate::{
    config::ModelConfig,
    growable::GrowableBuffer,
    transfer::{Matrices, download_transposed_into, upload_transposed},
};
use num_traits::Zero;
use s4_backend::{Backend, Result, host_memory};

/// A recurrent state for each block, (batch, H, 2, N/2).
pub(crate) struct RecurrentStates<B: Backend> {
    pub batch: usize,
    pub blocks: Vec<GrowableBuffer<B>>,
    /// Elements of one block's state.
    len: usize,
    /// N/2
    pairs: usize,
}

impl<B: Backend> RecurrentStates<B> {
    /// Zeros.
    pub fn new(be: &B, config: &ModelConfig, batch: usize) -> Result<Self> {
        let spec = config.block.layer.spec();
        let (len, pairs) = (spec.state_len(batch), spec.pairs());
        let zeros = || {
            let mut block = GrowableBuffer::new(be)?;
            block.ensure(be, len)?;
            Ok(block)
        };
        let blocks = (0..config.layers).map(|_| zeros()).collect::<Result<_>>()?;
        Ok(RecurrentStates { batch, blocks, len, pairs })
    }
    pub fn view(&self, be: &B, block: usize) -> B::Ref<'_> {
        self.blocks[block].get(be, self.len)
    }
    pub fn view_mut(&mut self, be: &B, block: usize) -> B::Mut<'_> {
        self.blocks[block].get_mut(be, self.len)
    }
    pub fn zero(&mut self, be: &B) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.fill(self.view_mut(be, i), B::Scalar::zero()))
    }
    pub fn copy_from(&mut self, be: &B, other: &Self) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|i| be.copy(self.view_mut(be, i), other.view(be, i)))
    }
    /// From the host's (layers, batch, H, N/2, 2).
    pub fn upload(&mut self, be: &B, staging: &mut GrowableBuffer<B>, host: &[B::Scalar]) -> Result<()> {
        let sizes = Matrices::new(self.len / (2 * self.pairs), self.pairs, 2);
        for (block, part) in self.blocks.iter_mut().zip(host.chunks_exact(self.len)) {
            upload_transposed(be, staging, block, part, sizes)?;
        }
        Ok(())
    }
    /// To the host's (layers, batch, H, N/2, 2).
    pub fn download(&self, be: &B, staging: &mut GrowableBuffer<B>) -> Result<Vec<B::Scalar>> {
        let sizes = Matrices::new(self.len / (2 * self.pairs), 2, self.pairs);
        let mut host = host_memory::zeros("s4-node", "a result", self.len * self.blocks.len())?;
        for (i, part) in host.chunks_exact_mut(self.len).enumerate() {
            download_transposed_into(be, staging, part, self.view(be, i), sizes)?;
        }
        Ok(host)
    }
    /// One block's state as it lies on the device, (batch, H, 2, N/2).
    pub fn read(&self, be: &B, block: usize) -> Result<Vec<B::Scalar>> {
        let mut host = host_memory::zeros("s4-node", "a result", self.len)?;
        be.download(&mut host, self.view(be, block))?;
        Ok(host)
    }
}
