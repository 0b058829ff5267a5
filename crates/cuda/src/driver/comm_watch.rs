//! Waits for a device while it takes part in a group of ranks: each can end, because a rank that does not come would have the device
//! wait for ever.

use super::nccl::{Comm, Nccl};
use cudarc::driver::{result, sys};
use s4_backend::{CommCall, Error, Result, peer_error};
use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often a wait looks whether it is to end.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A wait for the device first asks without a pause for so long, and then with pauses.
const SPIN: Duration = Duration::from_micros(100);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_micros(30);
/// For how long a call of NCCL that has just been asked for is left alone: its thread may not have entered it yet, and an abort frees the
/// communicator that it is about to use. A call that waits for a rank takes longer, and is in NCCL by then, which may be aborted.
const CALL_BEGINS: Duration = Duration::from_secs(1);
/// How long the device may take to go on after an abort. Then it counts as lost.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long a process that exits waits for what is under way. An abort takes under a second; where a rank's process stands still but is
/// there, NCCL's waits for that process, outside the driver, as long as it stands.
const AT_EXIT: Duration = Duration::from_secs(3);

/// Set when the process exits.
static EXITS: AtomicBool = AtomicBool::new(false);

/// Whether the device of a group that failed at `at` counts as lost by now. A process that exits does not wait for it any longer: a job that
/// frees what it has on the device would keep it for the whole time of grace.
pub(super) fn is_lost_since(at: Instant) -> bool {
    at.elapsed() > GRACE || EXITS.load(Ordering::Relaxed)
}

/// How many aborts, and ends of groups' threads, are under way.
static WORK: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// An abort, or the end of a group's thread, which may free the last of what it holds of the device. A process that exits meanwhile waits for
/// it, for a few seconds at most: what goes on while the libraries of NCCL and the driver are taken down ends in a fault of memory.
pub(super) struct WorkUnderWay;

impl WorkUnderWay {
    pub fn begin() -> WorkUnderWay {
        #[cfg(unix)]
        {
            static ONCE: std::sync::Once = std::sync::Once::new();
            unsafe extern "C" {
                fn atexit(f: extern "C" fn()) -> std::ffi::c_int;
            }
            extern "C" fn wait() {
                EXITS.store(true, Ordering::Relaxed);
                let count = WORK.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(WORK.1.wait_timeout_while(count, AT_EXIT, |count| *count > 0));
            }
            // Functions that are registered later run earlier: NCCL and the driver, which are open already, are taken down after it.
            ONCE.call_once(|| {
                // Where it is refused, for want of memory, an exit does not wait.
                // SAFETY: the function does not unwind, and stays where it is: Node does not unload addons of its main thread, and glibc
                // calls what an addon has registered before it unloads it.
                let _ = unsafe { atexit(wait) };
            });
        }
        *WORK.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        WorkUnderWay
    }
}

impl Drop for WorkUnderWay {
    fn drop(&mut self) {
        *WORK.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        WORK.1.notify_all();
    }
}

/// A communicator, to be passed to another thread.
pub(super) struct SentComm(pub Comm);
// SAFETY: NCCL's communicators may be used from any thread, one call at a time; `abort` and `async_error` from others meanwhile.
unsafe impl Send for SentComm {}

/// What is under way in a group.
#[derive(Default)]
pub(super) struct State {
    /// `None` before all ranks have joined, and after an abort.
    pub comm: Option<SentComm>,
    /// When a call of NCCL began that has not returned.
    pub calling_since: Option<Instant>,
    /// When a collective was enqueued that the device may not have finished.
    pub enqueued_at: Option<Instant>,
    /// Why the group is of no more use.
    pub failure: Option<Error>,
}

/// Why a wait has ended without what it waited for.
pub(super) enum WaitFailure {
    /// The driver's error.
    Driver(result::DriverError),
    /// The group has failed. `lost`: the device has not gone on since.
    Group { error: Error, lost: bool },
}

/// What a wait needs to know of the group: shared by its queue, its thread and its owner.
pub(super) struct CommWatch {
    pub nccl: &'static Nccl,
    pub call: CommCall,
    pub state: Mutex<State>,
    /// Recorded behind each collective.
    pub done_event: sys::CUevent,
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
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last collective has run on the device.
    pub fn is_done(&self) -> bool {
        // SAFETY: the event is live; the query changes nothing.
        unsafe { result::event::query(self.done_event) }.is_ok()
    }

    /// Refuses work with a group that has failed.
    pub fn check(&self) -> Result<()> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// Looks whether the group has failed: because the caller says so, by an error of NCCL's, or because a rank has not come within
    /// the time. Aborts it then, on a thread of its own, because an abort may hang too.
    pub fn look(&self) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        if state.enqueued_at.is_some() && self.is_done() {
            state.enqueued_at = None;
        }
        if state.comm.is_some() && state.calling_since.is_some_and(|since| since.elapsed() < CALL_BEGINS) {
            return;
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
                let under_way = WorkUnderWay::begin();
                // Without a thread for it the device counts as lost after the time of grace.
                drop(std::thread::Builder::new().name("s4-nccl-abort".into()).spawn(move || {
                    // The whole value is moved here, not the pointer in it.
                    let comm: SentComm = comm;
                    nccl.abort(comm.0);
                    drop(under_way);
                }));
            }
        }
    }

    /// Waits until `is_done`, which asks the driver, says so. Where the group fails meanwhile it is aborted, and the error is of the
    /// group even when the device has gone on: what it has computed since is undefined.
    pub fn wait(
        &self,
        is_done: impl Fn() -> std::result::Result<(), result::DriverError>,
    ) -> std::result::Result<(), WaitFailure> {
        let begin = Instant::now();
        let (mut last_look, mut failed_at) = (begin, None);
        let of_group = |lost| move |error| WaitFailure::Group { error, lost };
        loop {
            match is_done() {
                Ok(()) => return self.check().map_err(of_group(false)),
                Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NOT_READY => {}
                Err(e) => {
                    // A fault may be what the loss of a rank has done to this one.
                    self.look();
                    return self.check().map_err(of_group(false)).and(Err(WaitFailure::Driver(e)));
                }
            }
            if last_look.elapsed() > LOOK_EVERY {
                last_look = Instant::now();
                self.look();
                if failed_at.is_none() && self.lock().failure.is_some() {
                    failed_at = Some(last_look);
                }
            }
            if failed_at.is_some_and(is_lost_since) {
                return self.check().map_err(of_group(true));
            }
            if begin.elapsed() > SPIN {
                std::thread::sleep(PAUSE);
            } else {
                std::thread::yield_now();
            }
        }
    }
}
