//! The other ranks of a run, as a trainer keeps them.

use crate::rank_exchange::SharedExchange;
use s4_backend::Backend;

/// The other ranks of a run.
pub(crate) struct Peers<B: Backend> {
    /// What is exchanged with them.
    pub exchange: SharedExchange<B>,
    /// Ranks whose loss or gradients were not finite in the update that failed last.
    pub failed_ranks: Vec<usize>,
    /// Numbers by which the ranks compare what they have.
    pub compared: B::Buf,
}

impl<B: Backend> Peers<B> {
    /// This rank.
    pub fn rank(&self) -> usize {
        self.exchange.borrow().comm.rank()
    }
    /// Number of ranks.
    pub fn world_size(&self) -> usize {
        self.exchange.borrow().comm.world_size()
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
