//! What a process waits for when it exits. `process.exit` does not run the hooks of JavaScript environments, so that the thread of a handle
//! may be in the middle of a job, such as the freeing of a disposed model. The C library then takes the CUDA driver down, and a call of the
//! driver that is under way ends in a fault of memory. So once a GPU is in use the process waits for the job under way, and no other begins (on
//! Unix; elsewhere the system has ended the threads by then).

use s4_backend::CommStop;
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The longest wait. Most jobs are one update, one batch or one piece of a stream; those that may be longer (a score, generation) ask
/// [`is_exiting`]. Longer than a group of ranks has for its end (`GRACE` of crates/cuda).
const LONGEST: Duration = Duration::from_secs(15);

struct Jobs {
    under_way: usize,
    /// Set when the process exits: until when it waits.
    exits_at: Option<Instant>,
}

static JOBS: (Mutex<Jobs>, Condvar) = (Mutex::new(Jobs { under_way: 0, exits_at: None }), Condvar::new());

fn lock() -> MutexGuard<'static, Jobs> {
    JOBS.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job of a thread that is not JavaScript's.
pub(crate) struct JobUnderWay(());

impl JobUnderWay {
    /// Begins a job; `None` where the process exits: then nothing may begin.
    pub(crate) fn begin() -> Option<JobUnderWay> {
        let mut jobs = lock();
        if jobs.exits_at.is_some() {
            return None;
        }
        jobs.under_way += 1;
        Some(JobUnderWay(()))
    }
}

impl Drop for JobUnderWay {
    fn drop(&mut self) {
        lock().under_way -= 1;
        JOBS.1.notify_all();
    }
}

/// Whether the process exits, so that a job is to end early.
pub(crate) fn is_exiting() -> bool {
    lock().exits_at.is_some()
}

/// What is to be there still while a process waits: the driver, its context of a GPU, NCCL.
#[derive(Clone, Copy)]
pub(crate) enum StillThere {
    Driver,
    Context,
    Nccl,
}

/// Groups that an exit ends, so that no job waits for other ranks then.
static GROUPS: Mutex<Vec<CommStop>> = Mutex::new(Vec::new());

/// Has an exit end this group.
pub(crate) fn end_at_exit(group: CommStop) {
    let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    groups.retain(CommStop::is_shared);
    groups.push(group);
}

/// Has the process wait, from here on. Called when it is there: what is registered later runs earlier, so the wait is over before it is taken
/// down.
pub(crate) fn wait_at_exit(what: StillThere) {
    #[cfg(unix)]
    {
        static ONCE: [std::sync::Once; 3] = [const { std::sync::Once::new() }; 3];
        unsafe extern "C" {
            fn atexit(f: extern "C" fn()) -> std::ffi::c_int;
        }
        extern "C" fn wait() {
            let mut jobs = lock();
            let until = *jobs.exits_at.get_or_insert_with(|| Instant::now() + LONGEST);
            for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                group.stop("this process ends");
            }
            drop(JOBS.1.wait_timeout_while(jobs, until.saturating_duration_since(Instant::now()), |jobs| {
                jobs.under_way > 0
            }));
        }
        ONCE[what as usize].call_once(|| {
            // SAFETY: the function does not unwind, and is there as long as the addon: what an addon has registered is called before it
            // is unloaded.
            let _ = unsafe { atexit(wait) };
        });
    }
    #[cfg(not(unix))]
    let _ = what;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_until_they_end() {
        let first = JobUnderWay::begin().unwrap();
        let second = JobUnderWay::begin().unwrap();
        assert_eq!(lock().under_way, 2);
        drop(first);
        drop(second);
        assert_eq!(lock().under_way, 0);
    }
}
