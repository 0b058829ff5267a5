//! The other ranks of a run, as a trainer keeps them.

use s4_backend::{Backend, Communicator};

/// The other ranks of a run.
pub(crate) struct Peers<B: Backend> {
    /// This rank's membership in their group.
    pub comm: Box<dyn Communicator<B>>,
    /// Ranks whose loss or gradients were not finite in the update that failed last.
    pub failed_ranks: Vec<usize>,
    /// Numbers by which the ranks compare what they have.
    pub compared: B::Buf,
}

impl<B: Backend> Peers<B> {
    /// This rank.
    pub fn rank(&self) -> usize {
        self.comm.rank()
    }
}

/// Words for an error: the ranks at which something was found; nothing without other ranks.
pub(crate) fn on_ranks(ranks: &[usize]) -> String {
    match ranks {
        [] => String::new(),
        [rank] => format!(" (rank {rank})"),
        ranks => format!(" (ranks {})", ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}
