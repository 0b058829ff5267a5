//! Groups of ranks by NCCL: the contract's sums and broadcasts, enqueued on the device's queue.

use crate::{
    device::Cuda,
    driver::{Collective, Floats, NcclComm, comm_id},
    memory::Mut,
};
use s4_backend::{CommCall, CommId, CommOps, Communicator, Result};

impl CommOps for Cuda {
    fn comm_id(&self) -> Result<CommId> {
        comm_id()
    }
    fn join(&self, call: &CommCall) -> Result<Box<dyn Communicator<Self>>> {
        Ok(Box::new(NcclComm::join(self.queue(), call)?))
    }
}

/// The device memory of views.
fn floats_of(views: &[Mut<'_>]) -> Vec<Floats> {
    views.iter().map(|view| Floats { ptr: view.span().ptr(), len: view.len() }).collect()
}

impl Communicator<Cuda> for NcclComm {
    fn rank(&self) -> usize {
        NcclComm::rank(self)
    }
    fn world_size(&self) -> usize {
        NcclComm::world_size(self)
    }
    fn all_reduce(&mut self, views: &mut [Mut<'_>]) -> Result<()> {
        self.enqueue(floats_of(views), Collective::Sum)
    }
    fn broadcast(&mut self, views: &mut [Mut<'_>], root: usize) -> Result<()> {
        self.enqueue(floats_of(views), Collective::Broadcast { root })
    }
}
