//! Downloads for which the host waits later.

use crate::driver::{Pinned, Queue, Span};
use s4_backend::Result;
use std::sync::Arc;

/// A download: page-locked memory that the device writes, and the host array that the caller reads.
pub struct AsyncDownload {
    /// `None` only while this is dropped.
    pinned: Option<Pinned>,
    host: Vec<f32>,
    queue: Arc<Queue>,
}

impl Drop for AsyncDownload {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.queue.unpin_after_transfer(pinned);
        }
    }
}

impl AsyncDownload {
    pub(super) fn new(queue: &Arc<Queue>, len: usize) -> Result<AsyncDownload> {
        let pinned = queue.pin_for_download("async_download", (4 * len).max(4))?;
        Ok(AsyncDownload { pinned: Some(pinned), host: vec![0.0; len], queue: queue.clone() })
    }

    pub(super) fn len(&self) -> usize {
        self.host.len()
    }

    pub(super) fn start(&mut self, src: Span) -> Result<()> {
        match &mut self.pinned {
            Some(pinned) => self.queue.start_download(pinned, src),
            None => Ok(()),
        }
    }

    pub(super) fn wait(&mut self) -> Result<&[f32]> {
        if let Some(pinned) = &mut self.pinned {
            self.queue.wait_download(&mut self.host, pinned)?;
        }
        Ok(&self.host)
    }
}
