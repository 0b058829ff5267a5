//! Sums over the ranks of a group: processes (or threads) that train one model together, each on a device of its own.

use crate::{Code, Error, Memory, Result};
use std::sync::Arc;
use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Bytes by which the ranks of one group find each other, as in NCCL: rank 0 makes them, and every rank is told them.
pub const COMM_ID_BYTES: usize = 128;
/// See [`COMM_ID_BYTES`].
pub type CommId = [u8; COMM_ID_BYTES];

/// Ends every wait of one rank for the others. Set from another thread than the one that waits, by whoever learns first that a
/// rank is gone.
#[derive(Clone, Default)]
pub struct CommStop {
    inner: Arc<(AtomicBool, Mutex<Option<String>>)>,
}

impl CommStop {
    /// Ends all waits, now and later. `reason` says what has happened to which rank; the first reason stays.
    pub fn stop(&self, reason: impl Into<String>) {
        self.inner.1.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason.into());
        self.inner.0.store(true, Ordering::Release);
    }
    /// Whether anyone else holds it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }
    /// Whether waits are to end.
    pub fn is_set(&self) -> bool {
        self.inner.0.load(Ordering::Acquire)
    }
    /// Why they are to end; `None` where they are not.
    pub fn reason(&self) -> Option<String> {
        self.inner.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for CommStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommStop({:?})", self.reason())
    }
}

/// How a rank joins a group.
#[derive(Clone, Debug)]
pub struct CommCall {
    /// The group's id, from rank 0's [`CommOps::comm_id`].
    pub id: CommId,
    /// This rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
    /// Longest time that a rank waits for the others.
    pub timeout: Duration,
    /// Ends the waits before that.
    pub stop: CommStop,
}

impl CommCall {
    /// Refuses a rank outside its group: `ERR_S4_DISTRIBUTED`.
    pub fn check(&self) -> Result<()> {
        match self.rank < self.world_size {
            true => Ok(()),
            false => Err(Error::new(
                Code::Distributed,
                OP,
                format!("a rank below the number of ranks, {}", self.world_size),
                self.rank,
            )),
        }
    }
}

/// Name of the operations in errors.
const OP: &str = "distributed";

/// `ERR_S4_PEER`: another rank is gone, or has not come within the time. `got` says what happened to which rank.
#[cold]
pub fn peer_error(rank: usize, got: impl fmt::Display) -> Error {
    Error::new(Code::Peer, OP, format!("all ranks in the same update (this is rank {rank})"), got)
}

/// `ERR_S4_DISTRIBUTED`: a group that cannot be formed.
#[cold]
pub fn group_error(expected: impl fmt::Display, got: impl fmt::Display) -> Error {
    Error::new(Code::Distributed, OP, expected, got)
}

/// One rank's membership in a group, for work on one queue. Every rank calls the same methods in the same order with views of the
/// same sizes. After an error the group is of no more use, and what the views hold is undefined.
pub trait Communicator<B: Memory>: Send {
    /// This rank.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn world_size(&self) -> usize;
    /// Enqueues: every view becomes its sum over all ranks, the same bits on each. `ERR_S4_PEER` where the group has failed.
    fn all_reduce(&mut self, views: &mut [B::Mut<'_>]) -> Result<()>;
    /// Enqueues: every view becomes that of rank `root`.
    fn broadcast(&mut self, views: &mut [B::Mut<'_>], root: usize) -> Result<()>;
}

/// How ranks of a group meet.
pub trait CommOps: Memory {
    /// A new id for a group, which rank 0 makes. `ERR_S4_DISTRIBUTED` where this device has no way to other ranks.
    fn comm_id(&self) -> Result<CommId> {
        Err(unsupported(self))
    }
    /// Joins a group; returns when all ranks have. `ERR_S4_DISTRIBUTED` where the group cannot be formed, `ERR_S4_PEER` where
    /// a rank does not come within the time.
    fn join(&self, call: &CommCall) -> Result<Box<dyn Communicator<Self>>> {
        let _ = call;
        Err(unsupported(self))
    }
}

fn unsupported<B: Memory>(be: &B) -> Error {
    group_error("ranks on NVIDIA GPUs, one for each rank", format!("a model on {}", be.device_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_stop_stays() {
        let stop = CommStop::default();
        assert!(!stop.is_set() && stop.reason().is_none());
        stop.clone().stop("rank 1 has left");
        stop.stop("another");
        assert!(stop.is_set());
        assert_eq!(stop.reason().as_deref(), Some("rank 1 has left"));
    }

    #[test]
    fn a_rank_outside_its_group_is_refused() {
        let call = |rank, world_size| CommCall {
            id: [0; COMM_ID_BYTES],
            rank,
            world_size,
            timeout: Duration::from_secs(1),
            stop: CommStop::default(),
        };
        assert!(call(1, 2).check().is_ok());
        assert_eq!(call(2, 2).check().unwrap_err().code.as_str(), "ERR_S4_DISTRIBUTED");
    }
}
