//! The second stream of a queue, and which work on it the queue does not wait for yet (`beside.rs`).

use super::span::Span;
use cudarc::driver::{result, result::DriverError, sys};
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
pub(super) struct Groups {
    waiting: VecDeque<Group>,
    /// Groups that have begun so far; the number of the latest.
    pub(super) begun: u64,
    /// What [`SideStream::enqueued`] was when the latest began.
    began_at: u64,
    /// Whether the queue records a graph: all work is the queue's own then.
    pub(super) recording: bool,
    /// Whether the queue gathers its work (`gathering.rs`): the groups are of that then.
    pub(super) gathering: bool,
    /// Events that may be recorded again.
    events: Vec<sys::CUevent>,
}

impl Groups {
    /// The number of the latest group that uses some of this memory.
    pub(super) fn last_user(&self, span: Span) -> Option<u64> {
        let uses = |group: &&Group| group.spans.iter().any(|s| s.overlaps(span));
        self.waiting.iter().rev().find(uses).map(|group| group.number)
    }

    /// The number of the latest group, while the queue does not wait for it.
    pub(super) fn latest_waiting(&self) -> Option<u64> {
        self.waiting.back().map(|group| group.number)
    }

    /// Adds memory to what the latest group uses.
    pub(super) fn add(&mut self, spans: impl Iterator<Item = Span>) {
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
    pub(super) stream: sys::CUstream,
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are groups for which the queue does not wait yet.
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Counts that something was enqueued on the queue.
    pub(super) fn count_enqueued(&self) {
        self.enqueued.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of the latest group for which the queue waits.
    pub(super) fn joined(&self) -> u64 {
        self.joined.load(Ordering::Acquire)
    }

    /// Begins a group where the queue was given something since the latest began. Nothing has changed where that fails.
    pub(super) fn begin_group(
        &self,
        groups: &mut Groups,
        main: sys::CUstream,
    ) -> std::result::Result<(), DriverError> {
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

    /// Begins a group of gathered work, and gives its number.
    pub(super) fn begin_gathered_group(&self, groups: &mut Groups) -> u64 {
        groups.begun += 1;
        groups.waiting.push_back(Group { number: groups.begun, spans: Vec::new(), done: None });
        self.outstanding.store(true, Ordering::Release);
        groups.begun
    }

    /// Notes that the queue waits for the groups of gathered work up to `number`.
    pub(super) fn note_joined(&self, groups: &mut Groups, number: u64) {
        groups.remove(number);
        self.outstanding.store(!groups.waiting.is_empty(), Ordering::Release);
        self.joined.fetch_max(number.min(groups.begun), Ordering::AcqRel);
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
    pub(super) fn join(
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
        self.count_enqueued();
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
