//! Work beside the queue: kernels on a second stream, which run in what the large kernels of the first leave of the chip.
//!
//! Three rules keep the results those of one stream, whatever is launched where:
//! - work beside the queue begins behind all that was enqueued before it;
//! - what the queue is given later waits for the work beside it that uses some of the same memory. Kernels, copies and fills name their
//!   memory; what does not name it (graphs, collectives, waits of the host) waits for all work beside the queue;
//! - memory that is freed meanwhile is used again only behind the work that uses it ([`Queue::last_user`], `memory/allocator.rs`).
//!
//! All memory of a kernel is among its arguments, so both sides are known without a word of the caller's.

use super::{queue::Queue, span::Span};
use cudarc::driver::{result, result::DriverError, sys};
use s4_backend::Result;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// When small kernels run beside the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Never: all work is in one order.
    Never,
    /// Where the kernels beside them are large.
    BySize,
    /// Wherever they may, for tests.
    Always,
}

impl Beside {
    /// What the environment variable `S4_CUDA_SIDE` says: `0` for never, `always`, else by size.
    pub(crate) fn from_environment() -> Beside {
        match std::env::var("S4_CUDA_SIDE").as_deref() {
            Ok("0") => Beside::Never,
            Ok("always") => Beside::Always,
            _ => Beside::BySize,
        }
    }
}

/// Launches beside the queue, one after another, that began behind the same work of the queue.
struct Group {
    number: u64,
    /// The memory that they use.
    spans: Vec<Span>,
    /// Passes when all of them have ended; recorded when another group begins, or when the queue waits.
    done: Option<sys::CUevent>,
}

/// The groups for which the queue does not wait yet, in their order.
#[derive(Default)]
struct Groups {
    waiting: VecDeque<Group>,
    /// Groups that have begun so far; the number of the latest.
    begun: u64,
    /// What [`SideStream::enqueued`] was when the latest began.
    began_at: u64,
    /// Whether the queue records a graph: all work is the queue's own then.
    recording: bool,
    /// Events that may be recorded again.
    events: Vec<sys::CUevent>,
}

impl Groups {
    /// The number of the latest group that uses some of this memory.
    fn last_user(&self, span: Span) -> Option<u64> {
        let uses = |group: &&Group| group.spans.iter().any(|s| s.overlaps(span));
        self.waiting.iter().rev().find(uses).map(|group| group.number)
    }

    /// Adds memory to what the latest group uses.
    fn add(&mut self, spans: impl Iterator<Item = Span>) {
        if let Some(group) = self.waiting.back_mut() {
            for span in spans {
                if !group.spans.iter().any(|s| s.contains(span)) {
                    group.spans.push(span);
                }
            }
        }
    }

    /// Takes out the groups up to `number`, for which the queue waits from here on.
    fn remove(&mut self, number: u64) {
        while self.waiting.front().is_some_and(|group| group.number <= number) {
            self.events.extend(self.waiting.pop_front().and_then(|group| group.done));
        }
    }
}

/// The second stream of a queue.
pub(super) struct SideStream {
    stream: sys::CUstream,
    /// Behind what was enqueued on the queue when a group began.
    begin: sys::CUevent,
    groups: Mutex<Groups>,
    /// How often something was enqueued on the queue; counted after the call, so that a group which has seen the number begins behind it.
    enqueued: AtomicU64,
    /// Whether there are groups for which the queue does not wait yet.
    outstanding: AtomicBool,
    /// The number of the latest group for which the queue waits.
    joined: AtomicU64,
}

impl SideStream {
    /// The streams of a queue: its own and one beside it, which gets what kernels of the queue leave where the driver knows priorities.
    /// The context is current.
    pub(super) fn open() -> std::result::Result<(sys::CUstream, SideStream), DriverError> {
        let (least, greatest) = result::stream::get_priority_range()?;
        let create = |p| result::stream::create_with_priority(result::stream::StreamKind::NonBlocking, p);
        let main = create(greatest)?;
        let made = create(least).and_then(|stream| match event() {
            Ok(begin) => Ok((stream, begin)),
            Err(e) => {
                // SAFETY: nothing was enqueued on the stream.
                let _ = unsafe { result::stream::destroy(stream) };
                Err(e)
            }
        });
        match made {
            Ok((stream, begin)) => Ok((
                main,
                SideStream {
                    stream,
                    begin,
                    groups: Mutex::default(),
                    enqueued: AtomicU64::new(0),
                    outstanding: AtomicBool::new(false),
                    joined: AtomicU64::new(0),
                },
            )),
            Err(e) => {
                // SAFETY: as above.
                let _ = unsafe { result::stream::destroy(main) };
                Err(e)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a group where the queue was given something since the latest began. Nothing has changed where that fails.
    fn begin_group(&self, groups: &mut Groups, main: sys::CUstream) -> std::result::Result<(), DriverError> {
        // Before the event is recorded: what is enqueued in between makes the next launch begin a group.
        let enqueued = self.enqueued.load(Ordering::Acquire);
        let open = groups.waiting.back().is_some_and(|group| group.done.is_none());
        if open && groups.began_at == enqueued {
            return Ok(());
        }
        if open {
            let done = self.record_done(groups)?;
            groups.waiting.back_mut().expect("it is open").done = Some(done);
        }
        // SAFETY: streams and event are live; the wait is for what the event was just recorded behind.
        unsafe {
            result::event::record(self.begin, main)?;
            result::stream::wait_event(self.stream, self.begin, DEFAULT_WAIT)?;
        }
        groups.begun += 1;
        groups.began_at = enqueued;
        let number = groups.begun;
        groups.waiting.push_back(Group { number, spans: Vec::new(), done: None });
        self.outstanding.store(true, Ordering::Release);
        Ok(())
    }

    /// An event behind all work of this stream.
    fn record_done(&self, groups: &mut Groups) -> std::result::Result<sys::CUevent, DriverError> {
        let done = match groups.events.pop() {
            Some(event) => event,
            None => event()?,
        };
        // SAFETY: event and stream are live; nobody waits for this event by an earlier record.
        match unsafe { result::event::record(done, self.stream) } {
            Ok(()) => Ok(done),
            Err(e) => {
                groups.events.push(done);
                Err(e)
            }
        }
    }

    /// Has the queue wait for the groups up to `number`, from here on. Nothing has changed where that fails.
    fn join(
        &self,
        groups: &mut Groups,
        main: sys::CUstream,
        number: u64,
    ) -> std::result::Result<(), DriverError> {
        let Some(at) = groups.waiting.iter().rposition(|group| group.number <= number) else { return Ok(()) };
        let done = match groups.waiting[at].done {
            Some(done) => done,
            // The latest: its event is behind all of this stream.
            None => {
                let done = self.record_done(groups)?;
                *groups.waiting[at].done.insert(done)
            }
        };
        // SAFETY: stream and event are live.
        unsafe { result::stream::wait_event(main, done, DEFAULT_WAIT) }?;
        let joined = groups.waiting[at].number;
        groups.remove(joined);
        self.outstanding.store(!groups.waiting.is_empty(), Ordering::Release);
        self.enqueued.fetch_add(1, Ordering::AcqRel);
        self.joined.store(joined, Ordering::Release);
        Ok(())
    }

    /// Waits for this stream, and frees it. Nothing is enqueued on it any more; the context is current.
    pub(super) fn close(&mut self) {
        let groups = self.groups.get_mut().unwrap_or_else(PoisonError::into_inner);
        let waiting = groups.waiting.drain(..).filter_map(|group| group.done);
        // SAFETY: the only owner gives stream and events up; errors of a lost device are of no use here.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            for event in waiting.chain(groups.events.drain(..)).chain([self.begin]) {
                let _ = result::event::destroy(event);
            }
            let _ = result::stream::destroy(self.stream);
        }
    }

    /// Whether work of this stream has not ended.
    pub(super) fn is_busy(&self) -> bool {
        // SAFETY: the stream is live; the query changes nothing.
        unsafe { sys::cuStreamQuery(self.stream) == sys::CUresult::CUDA_ERROR_NOT_READY }
    }
}

const DEFAULT_WAIT: sys::CUevent_wait_flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;

/// An event without a time.
fn event() -> std::result::Result<sys::CUevent, DriverError> {
    result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
}

impl Queue {
    /// Enqueues on the queue what uses the memory `spans` and no other, behind the work beside it that uses some of it.
    pub(super) fn enqueue<T>(
        &self,
        op: &'static str,
        spans: impl Iterator<Item = Span>,
        call: impl FnOnce(sys::CUstream) -> std::result::Result<T, DriverError>,
    ) -> Result<T> {
        let Some(side) = &self.side else { return self.check(op, call(self.main_stream())) };
        if side.outstanding.load(Ordering::Acquire) {
            let mut groups = side.lock();
            if let Some(number) = spans.filter_map(|span| groups.last_user(span)).max() {
                self.check(op, side.join(&mut groups, self.main_stream(), number))?;
            }
        }
        let result = self.check(op, call(self.main_stream()));
        side.enqueued.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// Enqueues on the queue what may use any memory, behind all work beside it.
    pub(super) fn enqueue_behind_all<T>(
        &self,
        op: &'static str,
        call: impl FnOnce(sys::CUstream) -> Result<T>,
    ) -> Result<T> {
        self.join_beside(op, u64::MAX)?;
        let result = call(self.main_stream());
        if let Some(side) = &self.side {
            side.enqueued.fetch_add(1, Ordering::AcqRel);
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
        // Held over the call: another thread that has the queue wait for the group waits for this launch too.
        let mut groups = side.lock();
        if groups.recording {
            drop(groups);
            return self.enqueue(op, spans, call);
        }
        self.check(op, side.begin_group(&mut groups, self.main_stream()))?;
        groups.add(spans);
        self.check(op, call(side.stream))
    }

    /// Has the queue wait, from here on, for the groups of work beside it up to number `number`.
    pub(crate) fn join_beside(&self, op: &'static str, number: u64) -> Result<()> {
        let Some(side) = self.side.as_ref().filter(|side| side.outstanding.load(Ordering::Acquire)) else {
            return Ok(());
        };
        self.bind(op)?;
        self.check(op, side.join(&mut side.lock(), self.main_stream(), number))
    }

    /// The number of the latest group of work beside the queue; 0 where there was none.
    pub(crate) fn latest_beside(&self) -> u64 {
        self.side.as_ref().map_or(0, |side| side.lock().begun)
    }

    /// The number of the latest group for which the queue waits: it waits for those before it too.
    pub(crate) fn joined_beside(&self) -> u64 {
        self.side.as_ref().map_or(0, |side| side.joined.load(Ordering::Acquire))
    }

    /// The latest group that uses some of this memory, where the queue does not wait for it yet.
    pub(crate) fn last_user(&self, span: Span) -> Option<u64> {
        let side = self.side.as_ref().filter(|side| side.outstanding.load(Ordering::Acquire))?;
        side.lock().last_user(span)
    }

    /// Has all work enqueued on the queue itself while a graph is recorded, behind what was beside it before.
    pub(super) fn set_recording(&self, op: &'static str, recording: bool) -> Result<()> {
        let Some(side) = &self.side else { return Ok(()) };
        let mut groups = side.lock();
        if recording {
            self.check(op, side.join(&mut groups, self.main_stream(), u64::MAX))?;
        }
        groups.recording = recording;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(groups: &mut Groups, spans: &[Span]) -> u64 {
        groups.begun += 1;
        groups.waiting.push_back(Group { number: groups.begun, spans: Vec::new(), done: None });
        groups.add(spans.iter().copied());
        groups.begun
    }

    #[test]
    fn the_latest_group_that_shares_a_byte_is_found() {
        let mut groups = Groups::default();
        let first = group(&mut groups, &[Span::at(1000, 100), Span::at(5000, 8)]);
        let second = group(&mut groups, &[Span::at(1050, 10), Span::at(3000, 0)]);
        for (ptr, bytes, user) in [
            (1000, 50, Some(first)),
            (1000, 51, Some(second)),
            (1059, 1, Some(second)),
            (1060, 1, Some(first)),
            (1099, 1, Some(first)),
            (1100, 100, None),
            (900, 100, None),
            (900, 101, Some(first)),
            (0, 10_000, Some(second)),
            // Nothing is of no memory.
            (1010, 0, None),
            (2990, 100, None),
        ] {
            assert_eq!(groups.last_user(Span::at(ptr, bytes)), user, "{ptr} + {bytes}");
        }
        groups.remove(first);
        assert_eq!(groups.last_user(Span::at(5000, 8)), None);
        assert_eq!(groups.last_user(Span::at(1000, 51)), Some(second));
        groups.remove(u64::MAX);
        assert!(groups.waiting.is_empty());
    }

    #[test]
    fn memory_that_a_group_has_named_is_kept_once() {
        let mut groups = Groups::default();
        let (whole, part, next) = (Span::at(1000, 100), Span::at(1020, 80), Span::at(1020, 81));
        group(&mut groups, &[whole, part, whole, next]);
        assert_eq!(groups.waiting[0].spans.len(), 2);
    }
}
