//! What ranks exchange within a forward and a backward where batch norm is synchronised: the sum of their targets' weights, the moments
//! of their batches, sums of gradients. Every rank makes the same exchanges in the same order in each update, one without a batch too.

use crate::growable_buffer::GrowableBuffer;
use s4_backend::{Backend, BatchNormJoint, Communicator, Result, Scalar, joint_norm_len};
use std::cell::RefCell;

/// A rank's membership in its group, with buffers for what is exchanged.
pub(crate) struct RankExchange<B: Backend> {
    /// This rank's membership.
    pub comm: Box<dyn Communicator<B>>,
    /// In a forward the moments of all ranks, (ranks, 2·heads + 1); in a backward the sums, (2·heads + 1).
    numbers: GrowableBuffer<B>,
    /// Statistics on a rank without a batch, which has nothing to normalise.
    unused_stats: GrowableBuffer<B>,
    /// Sum of the weights of all ranks' targets in the update under way.
    weight: B::Buf,
}

/// A rank's exchanges, as a pass through the network has them.
pub(crate) type SharedExchange<B> = RefCell<RankExchange<B>>;

/// What the statistics of a joint batch are written to, and how.
pub(crate) struct JointStatistics<'a, B: Backend> {
    /// Receives mean and inverse deviation, (2, heads).
    pub stats: Option<B::Mut<'a>>,
    /// Running means and variances, (2, heads), which move towards those of the joint batch by the share `momentum`.
    pub running: B::Mut<'a>,
    pub heads: usize,
    pub eps: f64,
    pub momentum: f64,
}

impl<B: Backend> RankExchange<B> {
    /// The exchanges of a member.
    pub fn new(be: &B, comm: Box<dyn Communicator<B>>) -> Result<Self> {
        let (numbers, unused_stats) = (GrowableBuffer::new(be)?, GrowableBuffer::new(be)?);
        Ok(RankExchange { comm, numbers, unused_stats, weight: be.alloc(1)? })
    }

    /// Enqueues the sum of the weights of all ranks' targets.
    pub fn sum_weight(&mut self, be: &B, own: f64) -> Result<()> {
        be.upload(be.view_mut(&mut self.weight, 0..1), &[B::Scalar::from_f64(own)])?;
        self.comm.all_reduce(&mut [be.view_mut(&mut self.weight, 0..1)])
    }

    /// What [`RankExchange::sum_weight`] has given.
    pub fn weight(&self, be: &B) -> B::Ref<'_> {
        be.view(&self.weight, 0..1)
    }

    /// The place for the moments of this rank's batch, zeros: those of a rank without a batch.
    pub fn own_moments(&mut self, be: &B, heads: usize) -> Result<B::Mut<'_>> {
        let (n, ranks, rank) = (joint_norm_len(heads), self.comm.world_size(), self.comm.rank());
        self.numbers.ensure(be, ranks * n)?;
        be.fill(self.numbers.get_mut(be, ranks * n), B::Scalar::from_f64(0.0))?;
        Ok(self.numbers.range_mut(be, rank * n..(rank + 1) * n))
    }

    /// The statistics of the joint batch, from what all ranks have written to [`RankExchange::own_moments`].
    pub fn statistics(&mut self, be: &B, mut joint: JointStatistics<'_, B>) -> Result<()> {
        let JointStatistics { heads, eps, momentum, .. } = joint;
        let (n, ranks) = (joint_norm_len(heads), self.comm.world_size());
        // Each rank has written a row of its own, and the others' are zeros: the sum is a table of all.
        self.comm.all_reduce(&mut [self.numbers.get_mut(be, ranks * n)])?;
        self.unused_stats.ensure(be, 2 * heads)?;
        let (moments, running) = (self.numbers.get(be, ranks * n), be.reborrow(&mut joint.running));
        let stats = match &mut joint.stats {
            Some(stats) => be.reborrow(stats),
            None => self.unused_stats.get_mut(be, 2 * heads),
        };
        be.batch_norm_joint(BatchNormJoint { stats, running, moments, ranks, heads, eps, momentum })
    }

    /// The place for the sums of this rank's gradients, zeros: those of a rank without a batch.
    pub fn own_sums(&mut self, be: &B, heads: usize) -> Result<B::Mut<'_>> {
        let n = joint_norm_len(heads);
        self.numbers.ensure(be, n)?;
        be.fill(self.numbers.get_mut(be, n), B::Scalar::from_f64(0.0))?;
        Ok(self.numbers.get_mut(be, n))
    }

    /// The sums of all ranks' gradients, (2·heads + 1), from what all ranks have written to [`RankExchange::own_sums`].
    pub fn sums(&mut self, be: &B, heads: usize) -> Result<B::Ref<'_>> {
        let n = joint_norm_len(heads);
        self.comm.all_reduce(&mut [self.numbers.get_mut(be, n)])?;
        Ok(self.numbers.get(be, n))
    }
}
