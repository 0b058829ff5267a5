//! The state of one handle (a layer or a model), and the thread that computes its asynchronous calls.
//!
//! A synchronous call computes on the JavaScript thread. An asynchronous one is a job for the handle's own thread, which
//! starts with the first of them and ends when the handle is disposed or collected, or when its JavaScript environment
//! ends.

use crate::{
    error::{disposed_error, panic_error, to_js},
    process_exit::JobUnderWay,
};
use napi::{
    Env,
    bindgen_prelude::{Object, ToNapiValue},
};
use s4_backend::{Code, Error, Result};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

/// Set when a job is cancelled: a job that has not begun then never does.
pub(crate) type CancelFlag = Arc<AtomicBool>;

/// Work for a handle's thread. It is given the handle's state, which is `None` before it is made and after disposal.
type Job<S> = Box<dyn FnOnce(&mut Option<S>) + Send>;

/// The thread of a handle, and the queue of its jobs.
enum Queue<S> {
    /// There was no asynchronous call yet, and so there is no thread.
    Idle,
    /// The thread runs, and takes jobs from the channel.
    Running { jobs: Sender<Job<S>>, thread: JoinHandle<()> },
    /// The handle was disposed, or its JavaScript environment has ended.
    Closed,
}

/// The state of a handle, locked by one call at a time, and the queue of its thread.
pub(crate) struct Worker<S> {
    handle_state: Arc<Mutex<Option<S>>>,
    queue: Arc<Mutex<Queue<S>>>,
    /// Set when the JavaScript environment ends: jobs that have not begun then never do.
    stop: CancelFlag,
    /// Bytes of native memory that V8 was told of.
    reported_bytes: AtomicI64,
    /// Jobs that the thread has been given.
    sent: AtomicU64,
}

/// Locks a mutex, even after a panic while it was locked: panics within jobs are caught, and leave a consistent value.
fn lock<T>(x: &Mutex<T>) -> MutexGuard<'_, T> {
    x.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `body`, and gives a panic as an error.
pub(crate) fn catch_panic<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|p| Err(panic_error(p)))
}

impl<S: Send + 'static> Worker<S> {
    /// A handle without a state and without a thread.
    pub(crate) fn new() -> Self {
        Worker {
            handle_state: Arc::default(),
            queue: Arc::new(Mutex::new(Queue::Idle)),
            stop: CancelFlag::default(),
            reported_bytes: AtomicI64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Tells V8 how many bytes of native memory the handle holds now, so that it collects handles that are no longer used
    /// in time.
    pub(crate) fn report_bytes(&self, env: &Env, bytes: usize) {
        let before = self.reported_bytes.swap(bytes as i64, Ordering::Relaxed);
        drop(env.adjust_external_memory(bytes as i64 - before));
    }

    /// Computes on the calling thread. It waits for a job under way, but `api/access.ts` allows no synchronous call then.
    pub(crate) fn call<R>(&self, body: impl FnOnce(&mut S) -> Result<R>) -> Result<R> {
        self.call_with_slot(|slot| body(live_state(slot)?))
    }

    /// As [`Worker::call`], for a body that may set the state or find none.
    pub(crate) fn call_with_slot<R>(&self, body: impl FnOnce(&mut Option<S>) -> Result<R>) -> Result<R> {
        let mut slot = lock(&self.handle_state);
        catch_panic(|| body(&mut slot))
    }

    /// Computes on the handle's thread and gives a promise of the result, which `convert` makes a value for JavaScript. A
    /// job that is cancelled before it begins does not run.
    pub(crate) fn promise<'env, R, V>(
        &self,
        env: &'env Env,
        cancel: Option<CancelFlag>,
        body: impl FnOnce(&mut Option<S>) -> Result<R> + Send + 'static,
        convert: fn(R) -> V,
    ) -> napi::Result<Object<'env>>
    where
        R: Send + 'static,
        V: ToNapiValue + 'static,
    {
        let jobs = self.job_sender(env).map_err(to_js)?;
        let (deferred, promise) =
            env.create_deferred::<V, Box<dyn FnOnce(Env) -> napi::Result<V> + Send>>()?;
        let stop = self.stop.clone();
        let job: Job<S> = Box::new(move |slot| {
            let is_set = |flag: &CancelFlag| flag.load(Ordering::Acquire);
            if is_set(&stop) || cancel.as_ref().is_some_and(is_set) {
                let error = Error::new(Code::Aborted, "s4-node", "to run", "an abort");
                deferred.reject(to_js(error));
                return;
            }
            match catch_panic(|| body(slot)) {
                // The result's arrays are made in this closure, which runs on the JavaScript thread: JavaScript allocates
                // them.
                Ok(value) => deferred.resolve(Box::new(move |_| Ok(convert(value)))),
                Err(error) => deferred.reject(to_js(error)),
            }
        });
        self.send(&jobs, job).map_err(to_js)?;
        Ok(promise)
    }

    /// Gives the handle's thread a job that may find its work done: by the job before it, where nothing else was to be done in between. `add` puts the
    /// work where both find it, and is told the number of the job, by which the numbers of two jobs follow each other; so is `body`, and whether
    /// the JavaScript environment has ended.
    pub(crate) fn shared_job<R>(
        &self,
        env: &Env,
        add: impl FnOnce(u64) -> napi::Result<R>,
        body: impl FnOnce(u64, &mut Option<S>, bool) + Send + 'static,
    ) -> napi::Result<R> {
        let jobs = self.job_sender(env).map_err(to_js)?;
        let number = self.sent.load(Ordering::Relaxed);
        let added = add(number)?;
        let stop = self.stop.clone();
        let job = move |slot: &mut Option<S>| body(number, slot, stop.load(Ordering::Acquire));
        self.send(&jobs, Box::new(job)).map_err(to_js)?;
        Ok(added)
    }

    fn send(&self, jobs: &Sender<Job<S>>, job: Job<S>) -> Result<()> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        jobs.send(job).map_err(|_| disposed_error())
    }

    /// The sender of jobs to the handle's thread, which the first call starts.
    fn job_sender(&self, env: &Env) -> Result<Sender<Job<S>>> {
        let mut queue = lock(&self.queue);
        match &*queue {
            Queue::Running { jobs, .. } => return Ok(jobs.clone()),
            Queue::Closed => return Err(disposed_error()),
            Queue::Idle => {}
        }
        let (jobs, received_jobs) = channel::<Job<S>>();
        let state = self.handle_state.clone();
        let thread = std::thread::Builder::new()
            .name("s4-model".into())
            .spawn(move || {
                while let Ok(job) = received_jobs.recv() {
                    let Some(_under_way) = JobUnderWay::begin() else {
                        return std::mem::forget((job, state));
                    };
                    job(&mut lock(&state));
                }
                // The state may be freed here, where its handle was collected before.
                match JobUnderWay::begin() {
                    Some(_under_way) => drop(state),
                    None => std::mem::forget(state),
                }
            })
            .map_err(|e| Error::new(Code::Memory, "s4-node", "a thread with its stack", e))?;
        *queue = Queue::Running { jobs: jobs.clone(), thread };
        // The thread must end before its JavaScript environment (a worker thread, the process) does. The hook does not keep
        // the queue alive: the thread of a handle that was collected before has ended already.
        let (weak, stop) = (Arc::downgrade(&self.queue), self.stop.clone());
        env.add_env_cleanup_hook((), move |()| {
            stop.store(true, Ordering::Release);
            if let Some(queue) = weak.upgrade() {
                let ended_queue = std::mem::replace(&mut *lock(&queue), Queue::Closed);
                if let Queue::Running { jobs, thread } = ended_queue {
                    drop(jobs);
                    // The thread ends after the job under way, which takes one update or one batch. An error means that the
                    // thread has panicked, which jobs do not do.
                    drop(thread.join());
                }
            }
        })
        .map_err(|e| Error::new(Code::Internal, "s4-node", "an environment hook", e))?;
        Ok(jobs)
    }

    /// Frees a part of the state, such as a stream, after the jobs before it and without waiting for them. There is nothing
    /// to free in a handle that was disposed.
    pub(crate) fn enqueue_release(&self, body: impl FnOnce(&mut S) + Send + 'static) {
        // Nobody waits for the end of freeing, so an error or a panic in it has no one to go to.
        let job = |slot: &mut Option<S>| {
            drop(catch_panic(|| {
                if let Some(state) = slot {
                    body(state);
                }
                Ok(())
            }));
        };
        match &*lock(&self.queue) {
            Queue::Running { jobs, .. } => drop(self.send(jobs, Box::new(job))),
            Queue::Idle => job(&mut lock(&self.handle_state)),
            Queue::Closed => {}
        }
    }

    /// Frees the state after the jobs before it, without waiting for them; then the thread ends.
    pub(crate) fn dispose(&self, env: &Env) {
        match std::mem::replace(&mut *lock(&self.queue), Queue::Closed) {
            Queue::Running { jobs, .. } => drop(self.send(&jobs, Box::new(|slot| *slot = None))),
            Queue::Idle => *lock(&self.handle_state) = None,
            Queue::Closed => {}
        }
        self.report_bytes(env, 0);
    }
}

/// The state of a handle; `ERR_S4_DISPOSED` where there is none.
pub(crate) fn live_state<S>(slot: &mut Option<S>) -> Result<&mut S> {
    slot.as_mut().ok_or_else(disposed_error)
}
