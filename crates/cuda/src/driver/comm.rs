//! A rank's membership in a group of GPUs. NCCL's calls are made on a thread of their own, and no wait for the device is a blocking
//! call while there are other ranks: where one of them does not come, or the caller asks for it, the group is aborted, so that the
//! device goes on and the wait ends.

use super::{
    nccl::{Collective, Comm, Floats, Nccl},
    queue::Queue,
};
use cudarc::driver::{result, sys};
use s4_backend::{CommCall, Error, Result, group_error, peer_error};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

/// How often a wait looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A wait for the device first asks without a pause for so long, and then with pauses.
const SPIN: Duration = Duration::from_micros(100);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_micros(30);
/// How long the device may take to go on after an abort. Then it counts as lost.
const GRACE: Duration = Duration::from_secs(10);

/// A communicator, to be passed to another thread.
struct SentComm(Comm);
// SAFETY: NCCL's communicators may be used from any thread, one call at a time; `abort` and `async_error` from others meanwhile.
unsafe impl Send for SentComm {}

/// What is under way in a group.
#[derive(Default)]
struct State {
    /// `None` before all ranks have joined, and after an abort.
    comm: Option<SentComm>,
    /// When a call of NCCL began that has not returned.
    calling_since: Option<Instant>,
    /// When a collective was enqueued that the device may not have finished.
    enqueued_at: Option<Instant>,
    /// Why the group is of no more use.
    failure: Option<Error>,
}

/// What a wait needs to know of the group: shared by its queue, its thread and its owner.
pub(crate) struct CommWatch {
    nccl: &'static Nccl,
    call: CommCall,
    state: Mutex<State>,
    /// Recorded behind each collective.
    done_event: sys::CUevent,
}

// SAFETY: the event is used by driver calls alone, which any thread may make; it is destroyed with this value.
unsafe impl Send for CommWatch {}
// SAFETY: as above.
unsafe impl Sync for CommWatch {}

impl Drop for CommWatch {
    fn drop(&mut self) {
        // SAFETY: the event is live, and nobody has it any more. It fails where the context is not current, and is freed with it then.
        let _ = unsafe { result::event::destroy(self.done_event) };
    }
}

impl CommWatch {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last collective has run on the device.
    fn is_done(&self) -> bool {
        // SAFETY: the event is live; the query changes nothing.
        unsafe { result::event::query(self.done_event) }.is_ok()
    }

    /// Refuses work with a group that has failed.
    fn check(&self) -> Result<()> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// Looks whether the group has failed: because the caller says so, by an error of NCCL's, or because a rank has not come within
    /// the time. Aborts it then, on a thread of its own, because an abort may hang too.
    fn look(&self) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        if state.enqueued_at.is_some() && self.is_done() {
            state.enqueued_at = None;
        }
        let rank = self.call.rank;
        let timeout = self.call.timeout;
        let since = state.calling_since.or(state.enqueued_at);
        let failure = if let Some(reason) = self.call.stop.reason() {
            Some(peer_error(rank, reason))
        } else if let Some(text) = state.comm.as_ref().and_then(|comm| self.nccl.async_error(comm.0)) {
            Some(peer_error(rank, text))
        } else if since.is_some_and(|since| since.elapsed() > timeout) {
            let got = format!("no answer from another rank within {} s", timeout.as_secs_f64());
            Some(peer_error(rank, got))
        } else {
            None
        };
        if failure.is_some() {
            state.failure = failure;
            if let Some(comm) = state.comm.take() {
                let nccl = self.nccl;
                // Without a thread for it the device counts as lost after the time of grace.
                drop(std::thread::Builder::new().name("s4-nccl-abort".into()).spawn(move || {
                    // The whole value is moved here, not the pointer in it.
                    let comm: SentComm = comm;
                    nccl.abort(comm.0);
                }));
            }
        }
    }

    /// Waits until `is_done`, which asks the driver. Where the group fails meanwhile it is aborted, and the error is of the group
    /// even when the device has gone on: what it has computed since is undefined.
    pub(super) fn wait(
        &self,
        queue: &Queue,
        op: &'static str,
        is_done: impl Fn() -> std::result::Result<(), result::DriverError>,
    ) -> Result<()> {
        let begin = Instant::now();
        let (mut last_look, mut failed_at) = (begin, None);
        loop {
            match is_done() {
                Ok(()) => return self.check(),
                Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NOT_READY => {}
                Err(e) => return queue.check(op, Err(e)),
            }
            if last_look.elapsed() > LOOK_EVERY {
                last_look = Instant::now();
                self.look();
                if failed_at.is_none() && self.lock().failure.is_some() {
                    failed_at = Some(last_look);
                }
            }
            if failed_at.is_some_and(|at: Instant| at.elapsed() > GRACE) {
                queue.mark_lost();
                return self.check();
            }
            if begin.elapsed() > SPIN {
                std::thread::sleep(PAUSE);
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// What the thread of a group is asked to do.
enum Request {
    Enqueue { views: Vec<Floats>, collective: Collective },
    Destroy,
}

/// A rank's membership in a group.
pub(crate) struct NcclComm {
    queue: Arc<Queue>,
    watch: Arc<CommWatch>,
    requests: Sender<Request>,
    replies: Receiver<Result<()>>,
}

/// A new id for a group.
pub(crate) fn comm_id() -> Result<s4_backend::CommId> {
    Nccl::open()?.unique_id()
}

impl NcclComm {
    /// Joins a group; returns when all ranks have.
    pub(crate) fn join(queue: &Arc<Queue>, call: &CommCall) -> Result<NcclComm> {
        call.check()?;
        let nccl = Nccl::open()?;
        queue.bind("distributed")?;
        let done_event =
            queue.check("distributed", result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        let watch = CommWatch { nccl, call: call.clone(), state: Mutex::default(), done_event };
        let watch = Arc::new(watch);
        let ((requests, received), (reply, replies)) = (channel(), channel());
        watch.lock().calling_since = Some(Instant::now());
        let of_thread = (queue.clone(), watch.clone());
        std::thread::Builder::new()
            .name("s4-nccl".into())
            .spawn(move || run(&of_thread.0, &of_thread.1, &received, &reply))
            .map_err(|e| group_error("a thread for NCCL", e))?;
        let comm = NcclComm { queue: queue.clone(), watch, requests, replies };
        comm.reply()?;
        queue.watch_by(Some(comm.watch.clone()));
        Ok(comm)
    }

    /// Waits for the answer of the group's thread.
    fn reply(&self) -> Result<()> {
        let mut failed_at = None;
        loop {
            match self.replies.recv_timeout(LOOK_EVERY) {
                Ok(result) => {
                    self.watch.lock().calling_since = None;
                    // What NCCL says after an abort is a consequence.
                    return self.watch.check().and(result);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return self.watch.check().and(Err(group_error("NCCL's thread to answer", "its end")));
                }
            }
            self.watch.look();
            if self.watch.lock().failure.is_some() {
                let at = *failed_at.get_or_insert_with(Instant::now);
                // A call that has no communicator yet cannot be aborted, and nothing is on the device then.
                let connected = self.queue.is_watched();
                if !connected || at.elapsed() > GRACE {
                    if connected {
                        self.queue.mark_lost();
                    }
                    return self.watch.check();
                }
            }
        }
    }

    /// Enqueues a collective.
    pub(crate) fn enqueue(&self, views: Vec<Floats>, collective: Collective) -> Result<()> {
        self.watch.look();
        self.watch.check()?;
        self.watch.lock().calling_since = Some(Instant::now());
        let sent = self.requests.send(Request::Enqueue { views, collective });
        sent.map_err(|_| group_error("NCCL's thread to listen", "its end"))?;
        self.reply()?;
        self.queue.bind("distributed")?;
        // SAFETY: event and stream are live.
        let recorded = unsafe { result::event::record(self.watch.done_event, self.queue.stream()) };
        self.queue.check("distributed", recorded)?;
        self.watch.lock().enqueued_at = Some(Instant::now());
        Ok(())
    }

    pub(crate) fn rank(&self) -> usize {
        self.watch.call.rank
    }

    pub(crate) fn world_size(&self) -> usize {
        self.watch.call.world_size
    }
}

impl Drop for NcclComm {
    fn drop(&mut self) {
        let failed = self.watch.lock().failure.is_some();
        if !failed && self.queue.is_watched() {
            // The last collective ends within the time, or the wait for it fails and aborts the group.
            if self.queue.synchronize().is_ok() && self.requests.send(Request::Destroy).is_ok() {
                // Other ranks need not take part; where it hangs all the same, the thread is left to itself.
                let _ = self.replies.recv_timeout(GRACE);
            }
        }
        self.queue.watch_by(None);
    }
}

/// The thread of a group: connects, and makes the calls that it is asked for.
fn run(queue: &Queue, watch: &CommWatch, requests: &Receiver<Request>, reply: &Sender<Result<()>>) {
    let CommCall { id, rank, world_size, .. } = watch.call;
    let joined = queue.bind("distributed").and_then(|()| watch.nccl.join(id, rank, world_size));
    let comm = match joined {
        Ok(comm) => comm,
        Err(error) => return drop(reply.send(Err(error))),
    };
    {
        let mut state = watch.lock();
        if state.failure.is_some() {
            // Nobody waits for it any more.
            drop(state);
            return watch.nccl.abort(comm);
        }
        state.comm = Some(SentComm(comm));
    }
    if reply.send(Ok(())).is_err() {
        return;
    }
    while let Ok(request) = requests.recv() {
        let result = match request {
            Request::Enqueue { views, collective } => queue
                .bind("distributed")
                .and_then(|()| watch.nccl.enqueue(comm, queue.stream().cast(), &views, collective)),
            Request::Destroy => {
                let owned = watch.lock().comm.take();
                if let Some(comm) = owned {
                    watch.nccl.destroy(comm.0);
                }
                return drop(reply.send(Ok(())));
            }
        };
        if reply.send(result).is_err() {
            return;
        }
    }
}
