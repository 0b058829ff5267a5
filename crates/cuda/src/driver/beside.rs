//! Work beside the queue: kernels on a second stream, which run in what the large kernels of the first leave of the chip.
//!
//! Three rules keep the results those of one stream, whatever is launched where:
//! - work beside the queue begins behind all that was enqueued before it;
//! - what the queue is given later waits for the work beside it that uses some of the same memory. Kernels, copies and fills name their
//!   memory; what does not name it (graphs, collectives, waits of the host) waits for all work beside the queue;
//! - memory that is freed meanwhile is used again only behind the work that uses it ([`Queue::last_user`], `memory/allocator.rs`).
//!
//! All memory of a kernel is among its arguments, so both sides are known without a word of the caller's.

use super::{queue::Queue, side_stream::SideStream, span::Span};
use cudarc::driver::{result::DriverError, sys};
use s4_backend::Result;

impl Queue {
    /// Enqueues on the queue what uses the memory `spans` and no other, behind the work beside it that uses some of it.
    pub(super) fn enqueue<T>(
        &self,
        op: &'static str,
        spans: impl Iterator<Item = Span>,
        call: impl FnOnce(sys::CUstream) -> std::result::Result<T, DriverError>,
    ) -> Result<T> {
        self.enqueue_gathered(op);
        let Some(side) = &self.side else { return self.check(op, call(self.main_stream())) };
        if side.is_outstanding() {
            let mut groups = side.lock();
            // Groups of gathered work are behind the queue's own once they are enqueued, and those that are not yet come later than this.
            if !groups.gathering
                && let Some(number) = spans.filter_map(|span| groups.last_user(span)).max()
            {
                self.check(op, side.join(&mut groups, self.main_stream(), number))?;
            }
        }
        let result = self.check(op, call(self.main_stream()));
        side.count_enqueued();
        result
    }

    /// Enqueues on the queue what may use any memory, behind all work beside it.
    pub(super) fn enqueue_behind_all<T>(
        &self,
        op: &'static str,
        call: impl FnOnce(sys::CUstream) -> Result<T>,
    ) -> Result<T> {
        self.enqueue_gathered(op);
        self.join_beside(op, u64::MAX)?;
        let result = call(self.main_stream());
        if let Some(side) = &self.side {
            side.count_enqueued();
        }
        result
    }

    /// Enqueues beside the queue what uses the memory `spans` and no other, behind all that was enqueued so far; on the queue itself where
    /// it has no second stream, or records a graph.
    pub(super) fn enqueue_beside(
        &self,
        op: &'static str,
        spans: impl Iterator<Item = Span>,
        call: impl FnOnce(sys::CUstream) -> std::result::Result<(), DriverError>,
    ) -> Result<()> {
        let Some(side) = &self.side else { return self.enqueue(op, spans, call) };
        self.enqueue_gathered(op);
        // Held over the call: another thread that has the queue wait for the group waits for this launch too.
        let mut groups = side.lock();
        if groups.recording || groups.gathering {
            drop(groups);
            return self.enqueue(op, spans, call);
        }
        self.check(op, side.begin_group(&mut groups, self.main_stream()))?;
        groups.add(spans);
        self.check(op, call(side.stream))
    }

    /// Has the queue wait, from here on, for the groups of work beside it up to number `number`.
    pub(crate) fn join_beside(&self, op: &'static str, number: u64) -> Result<()> {
        let Some(side) = self.side.as_ref().filter(|side| side.is_outstanding()) else {
            return Ok(());
        };
        if self.join_gathered(number) {
            return Ok(());
        }
        self.bind(op)?;
        self.check(op, side.join(&mut side.lock(), self.main_stream(), number))
    }

    /// The number of the latest group of work beside the queue; 0 where there was none.
    pub(crate) fn latest_beside(&self) -> u64 {
        self.side.as_ref().map_or(0, |side| side.lock().begun)
    }

    /// The number of the latest group for which the queue waits: it waits for those before it too.
    pub(crate) fn joined_beside(&self) -> u64 {
        self.side.as_ref().map_or(0, SideStream::joined)
    }

    /// The latest group that uses some of this memory, where the queue does not wait for it yet.
    pub(crate) fn last_user(&self, span: Span) -> Option<u64> {
        let side = self.side.as_ref().filter(|side| side.is_outstanding())?;
        side.lock().last_user(span)
    }

    /// Has all work enqueued on the queue itself while a graph is recorded, behind what was beside it before.
    pub(super) fn set_recording(&self, op: &'static str, recording: bool) -> Result<()> {
        self.set_recording_apart(op, recording);
        let Some(side) = &self.side else { return Ok(()) };
        let mut groups = side.lock();
        if recording {
            self.check(op, side.join(&mut groups, self.main_stream(), u64::MAX))?;
        }
        groups.recording = recording;
        Ok(())
    }
}
