//! Work that is recorded once and enqueued as a whole (CUDA graphs).

use super::queue::Queue;
use cudarc::driver::{result, sys};
use s4_backend::Result;

/// A recorded graph, freed by [`Queue::forget`].
pub(crate) struct RecordedGraph(sys::CUgraphExec);

// SAFETY: a plain reference into the driver, which locks its own state.
unsafe impl Send for RecordedGraph {}
// SAFETY: as above.
unsafe impl Sync for RecordedGraph {}

impl Queue {
    /// Records what `body` enqueues instead of running it; `None` where that cannot be recorded.
    pub(crate) fn record(
        &self,
        op: &'static str,
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<RecordedGraph>> {
        self.bind(op)?;
        // Relaxed: the cache may ask for memory, which is no work of the stream.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        let begun = self.set_recording(op, true).and_then(|()| {
            // SAFETY: the stream is live and ends its capture below, whatever `body` does.
            self.check(op, unsafe { result::stream::begin_capture(self.main_stream(), mode) })
        });
        if let Err(e) = begun {
            self.set_recording(op, false)?;
            return Err(e);
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: the capture was begun above; the graph is destroyed once, after it was instantiated.
        let exec = unsafe {
            result::stream::end_capture(self.main_stream()).and_then(|graph| {
                let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
                result::graph::destroy(graph)?;
                exec
            })
        };
        self.set_recording(op, false)?;
        match done {
            Ok(Ok(())) => Ok(exec.ok().map(RecordedGraph)),
            Ok(Err(e)) => {
                if let Ok(exec) = exec {
                    self.forget(&mut RecordedGraph(exec));
                }
                Err(e)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Enqueues a recorded graph. Its buffers are live: the caller compares the epochs.
    pub(crate) fn launch(&self, op: &'static str, graph: &RecordedGraph) -> Result<()> {
        self.bind(op)?;
        self.enqueue_behind_all(op, |stream| {
            // SAFETY: graph and stream are live.
            self.check(op, unsafe { result::graph::launch(graph.0, stream) })
        })
    }

    /// Frees a recorded graph, once.
    pub(crate) fn forget(&self, graph: &mut RecordedGraph) {
        let exec = std::mem::replace(&mut graph.0, std::ptr::null_mut());
        if !exec.is_null() && self.bind("replay").is_ok() {
            // SAFETY: the handle was taken out above, so it is destroyed once; the driver lets a launch under way end.
            let _ = unsafe { result::graph::exec_destroy(exec) };
        }
    }
}
