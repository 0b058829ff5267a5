//! A rank's membership in a group of GPUs. NCCL's calls are made on a thread of their own, and no wait for the device is a blocking
//! call while there are other ranks (comm_watch.rs): where one of them does not come, or the caller asks for it, the group is aborted,
//! so that the device goes on and the wait ends.

use super::{
    comm_watch::{CommWatch, GRACE, LOOK_EVERY, SentComm, WorkUnderWay, is_lost_since},
    nccl::{Collective, Floats, Nccl},
    queue::Queue,
};
use cudarc::driver::{result, sys};
use s4_backend::{CommCall, Result, group_error};
use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Instant,
};

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
            .spawn(move || {
                let _until_all_is_freed = run(&of_thread.0, &of_thread.1, &received, &reply);
                drop(of_thread);
            })
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
                if !connected || is_lost_since(at) {
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
        // The thread of the group enqueues on the queue before it replies.
        self.queue.enqueue_behind_all("distributed", |stream| {
            let sent = self.requests.send(Request::Enqueue { views, collective });
            sent.map_err(|_| group_error("NCCL's thread to listen", "its end"))?;
            self.reply()?;
            self.queue.bind("distributed")?;
            // SAFETY: event and stream are live.
            let recorded = unsafe { result::event::record(self.watch.done_event, stream) };
            self.queue.check("distributed", recorded)
        })?;
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

/// The thread of a group: connects, and makes the calls that it is asked for. What it returns is held until the thread has freed what it has
/// of the device.
fn run(
    queue: &Queue,
    watch: &CommWatch,
    requests: &Receiver<Request>,
    reply: &Sender<Result<()>>,
) -> WorkUnderWay {
    let CommCall { id, rank, world_size, .. } = watch.call;
    let joined = queue.bind("distributed").and_then(|()| watch.nccl.join(id, rank, world_size));
    let comm = match joined {
        Ok(comm) => comm,
        Err(error) => {
            let end = WorkUnderWay::begin();
            drop(reply.send(Err(error)));
            return end;
        }
    };
    {
        let mut state = watch.lock();
        if state.failure.is_some() {
            // Nobody waits for it any more.
            drop(state);
            let end = WorkUnderWay::begin();
            watch.nccl.abort(comm);
            return end;
        }
        state.comm = Some(SentComm(comm));
    }
    if reply.send(Ok(())).is_err() {
        return WorkUnderWay::begin();
    }
    while let Ok(request) = requests.recv() {
        let result = match request {
            Request::Enqueue { views, collective } => queue
                .bind("distributed")
                .and_then(|()| watch.nccl.enqueue(comm, queue.main_stream().cast(), &views, collective)),
            Request::Destroy => {
                let end = WorkUnderWay::begin();
                let owned = watch.lock().comm.take();
                if let Some(comm) = owned {
                    watch.nccl.destroy(comm.0);
                }
                drop(reply.send(Ok(())));
                return end;
            }
        };
        if reply.send(result).is_err() {
            break;
        }
    }
    WorkUnderWay::begin()
}
