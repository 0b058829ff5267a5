//! Work that repeats, recorded once as a CUDA graph: one call of the driver instead of one per kernel.
//!
//! The first call with a key runs plainly, so that modules are loaded, plans made and buffers grown; the second
//! records. A recording holds addresses, so it is valid while no buffer was made or freed since (`epoch`), and its
//! scratch is its own: a block of the common cache could belong to another operation at the next replay.

use crate::{
    device::Cuda,
    driver::{RecordedGraph, Span},
};
use s4_backend::Result;

/// What [`s4_backend::Memory::replay`] keeps between calls.
#[derive(Default)]
pub struct Graph {
    /// The caller's key and the epoch of the buffers at the last call.
    last_call: Option<([u64; 2], u64)>,
    recorded: Option<Recorded>,
    /// Whether the driver could not record the work.
    refused: bool,
}

struct Recorded {
    exec: RecordedGraph,
    scratch: Vec<Span>,
    be: Cuda,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.be.queue().forget(&mut self.exec);
        self.be.allocator().give_back(std::mem::take(&mut self.scratch));
    }
}

impl Cuda {
    pub(super) fn replay_graph(
        &self,
        graph: &mut Graph,
        key: [u64; 2],
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let unchanged = graph.last_call == Some((key, self.allocator().epoch()));
        if !unchanged || graph.refused {
            graph.recorded = None;
            body()?;
            graph.last_call = Some((key, self.allocator().epoch()));
            return Ok(());
        }
        if graph.recorded.is_none() {
            // Memory in use beside the queue is the common cache's again before that is set aside.
            self.queue().join_beside("replay", u64::MAX)?;
            let (made, scratch) =
                self.allocator().with_own_scratch(|| self.queue().record("replay", &mut *body));
            match made {
                Ok(Some(exec)) => graph.recorded = Some(Recorded { exec, scratch, be: self.clone() }),
                // What cannot be recorded runs as it did before, and gives its own error if it has one.
                other => {
                    self.allocator().give_back(scratch);
                    drop(other);
                    graph.refused = true;
                    return body();
                }
            }
        }
        match &graph.recorded {
            Some(recorded) => self.queue().launch("replay", &recorded.exec),
            None => body(),
        }
    }
}
