//! The state of one handle and its worker thread.
//!
//! A synchronous call computes in place on the JavaScript thread; an asynchronous one goes to the handle's own thread,
//! which starts with the first of them and ends when the handle is disposed, collected, or its environment ends.

use crate::error::{disposed, panicked, to_js};
use napi::{
    Env,
    bindgen_prelude::{Object, ToNapiValue},
};
use s4_backend::{Code, Error, Result};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

/// A cancelled job never begins.
pub(crate) type Flag = Arc<AtomicBool>;

type Job<S> = Box<dyn FnOnce(&mut Option<S>) + Send>;

/// The thread and the way to it.
enum Queue<S> {
    /// No asynchronous call yet.
    Idle,
    Running {
        jobs: Sender<Job<S>>,
        thread: JoinHandle<()>,
    },
    /// Disposed, or its environment ended.
    Closed,
}

/// One handle's state, held by one call at a time, and its queue.
pub(crate) struct Worker<S> {
    state: Arc<Mutex<Option<S>>>,
    queue: Arc<Mutex<Queue<S>>>,
    stop: Flag,
    /// Native bytes that V8 knows of.
    reported: AtomicI64,
}

/// Locks whether or not the lock is poisoned: panics inside a job are caught, so the value behind it is consistent.
fn lock<T>(x: &Mutex<T>) -> MutexGuard<'_, T> {
    x.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn caught<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|p| Err(panicked(p)))
}

impl<S: Send + 'static> Worker<S> {
    /// Empty; no thread yet.
    pub(crate) fn new() -> Self {
        Worker {
            state: Arc::default(),
            queue: Arc::new(Mutex::new(Queue::Idle)),
            stop: Flag::default(),
            reported: AtomicI64::new(0),
        }
    }

    /// Reports to V8 how many native bytes the handle holds now, so that it collects forgotten handles in time.
    pub(crate) fn report_bytes(&self, env: &Env, bytes: usize) {
        let before = self.reported.swap(bytes as i64, Ordering::Relaxed);
        drop(env.adjust_external_memory(bytes as i64 - before));
    }

    /// Computes in place. The caller has seen to it that no job is under way; if one is, this waits for it.
    pub(crate) fn call<R>(&self, body: impl FnOnce(&mut S) -> Result<R>) -> Result<R> {
        self.call_slot(|slot| body(live(slot)?))
    }

    /// As [`Worker::call`], with the place of the state itself.
    pub(crate) fn call_slot<R>(&self, body: impl FnOnce(&mut Option<S>) -> Result<R>) -> Result<R> {
        let mut slot = lock(&self.state);
        caught(|| body(&mut slot))
    }

    /// Computes on the worker's thread and settles a promise; a job whose flag is set before it begins does not run.
    pub(crate) fn promise<'env, R, V>(
        &self,
        env: &'env Env,
        cancel: Option<Flag>,
        body: impl FnOnce(&mut Option<S>) -> Result<R> + Send + 'static,
        convert: fn(R) -> V,
    ) -> napi::Result<Object<'env>>
    where
        R: Send + 'static,
        V: ToNapiValue + 'static,
    {
        let jobs = self.jobs(env).map_err(to_js)?;
        let (deferred, promise) =
            env.create_deferred::<V, Box<dyn FnOnce(Env) -> napi::Result<V> + Send>>()?;
        let stop = self.stop.clone();
        let job: Job<S> = Box::new(move |slot| {
            let set = |flag: &Flag| flag.load(Ordering::Acquire);
            if set(&stop) || cancel.as_ref().is_some_and(set) {
                let error = Error::new(Code::Aborted, "s4-node", "to run", "an abort");
                deferred.reject(to_js(error));
                return;
            }
            match caught(|| body(slot)) {
                // Arrays are made on the JavaScript thread, inside the resolver.
                Ok(value) => deferred.resolve(Box::new(move |_| Ok(convert(value)))),
                Err(error) => deferred.reject(to_js(error)),
            }
        });
        jobs.send(job).map_err(|_| to_js(disposed()))?;
        Ok(promise)
    }

    /// The way to the thread, which starts here at first.
    fn jobs(&self, env: &Env) -> Result<Sender<Job<S>>> {
        let mut queue = lock(&self.queue);
        match &*queue {
            Queue::Running { jobs, .. } => return Ok(jobs.clone()),
            Queue::Closed => return Err(disposed()),
            Queue::Idle => {}
        }
        let (jobs, list) = channel::<Job<S>>();
        let state = self.state.clone();
        let thread = std::thread::Builder::new()
            .name("s4-model".into())
            .spawn(move || {
                while let Ok(job) = list.recv() {
                    job(&mut lock(&state));
                }
            })
            .map_err(|e| Error::new(Code::Internal, "s4-node", "a thread", e))?;
        *queue = Queue::Running { jobs: jobs.clone(), thread };
        // When the environment (a worker thread, the process) ends, nothing of ours outlives it. The hook holds
        // the queue weakly: a handle that was collected before has already ended its thread.
        let (weak, stop) = (Arc::downgrade(&self.queue), self.stop.clone());
        env.add_env_cleanup_hook((), move |()| {
            stop.store(true, Ordering::Release);
            if let Some(queue) = weak.upgrade() {
                let ended = std::mem::replace(&mut *lock(&queue), Queue::Closed);
                if let Queue::Running { jobs, thread } = ended {
                    drop(jobs);
                    // A job under way ends within one optimiser step or batch. The thread never panics.
                    drop(thread.join());
                }
            }
        })
        .map_err(|e| Error::new(Code::Internal, "s4-node", "an environment hook", e))?;
        Ok(jobs)
    }

    /// Frees something within the state, after the jobs before it, without waiting for them; of a disposed handle it is
    /// free already.
    pub(crate) fn release(&self, body: impl FnOnce(&mut S) + Send + 'static) {
        // Nobody waits to hear how it went.
        let job = |slot: &mut Option<S>| {
            drop(caught(|| {
                if let Some(state) = slot {
                    body(state);
                }
                Ok(())
            }));
        };
        match &*lock(&self.queue) {
            Queue::Running { jobs, .. } => drop(jobs.send(Box::new(job))),
            Queue::Idle => job(&mut lock(&self.state)),
            Queue::Closed => {}
        }
    }

    /// Frees the state, after the jobs before it, without waiting for them; the thread then ends.
    pub(crate) fn dispose(&self, env: &Env) {
        match std::mem::replace(&mut *lock(&self.queue), Queue::Closed) {
            Queue::Running { jobs, .. } => drop(jobs.send(Box::new(|slot| *slot = None))),
            Queue::Idle => *lock(&self.state) = None,
            Queue::Closed => {}
        }
        self.report_bytes(env, 0);
    }
}

/// The state, unless the handle was disposed.
pub(crate) fn live<S>(slot: &mut Option<S>) -> Result<&mut S> {
    slot.as_mut().ok_or_else(disposed)
}
