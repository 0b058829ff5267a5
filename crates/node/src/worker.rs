//! One thread a handle with a queue of jobs; it ends when the handle is disposed, collected, or its environment ends.

use crate::error::{disposed, panicked, to_js};
use napi::{
    Env,
    bindgen_prelude::{Object, ToNapiValue},
};
use s4_backend::{Code, Error, Result};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

/// A cancelled job never begins.
pub(crate) type Flag = Arc<AtomicBool>;

type Job<S> = Box<dyn FnOnce(&mut Option<S>) + Send>;

struct Inner<S> {
    jobs: Option<Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// The queue of one handle.
pub(crate) struct Worker<S> {
    inner: Arc<Mutex<Inner<S>>>,
    stop: Flag,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Worker { inner: self.inner.clone(), stop: self.stop.clone() }
    }
}

fn lock<S>(inner: &Mutex<Inner<S>>) -> std::sync::MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<S: Send + 'static> Worker<S> {
    /// Starts the thread; its state is made by the first job.
    pub(crate) fn start(env: &Env) -> Result<Self> {
        let (jobs, queue) = channel::<Job<S>>();
        let thread = std::thread::Builder::new()
            .name("s4-model".into())
            .spawn(move || {
                let mut state: Option<S> = None;
                while let Ok(job) = queue.recv() {
                    job(&mut state);
                }
            })
            .map_err(|e| Error::new(Code::Internal, "s4-node", "a thread", e))?;
        let worker = Worker {
            inner: Arc::new(Mutex::new(Inner { jobs: Some(jobs), thread: Some(thread) })),
            stop: Flag::default(),
        };
        // When the environment (a worker thread, the process) ends, nothing of ours outlives it. The hook holds
        // the queue weakly: a handle that was collected before has already ended its thread.
        let (inner, stop) = (Arc::downgrade(&worker.inner), worker.stop.clone());
        env.add_env_cleanup_hook((), move |()| {
            stop.store(true, Ordering::Release);
            if let Some(inner) = inner.upgrade() {
                let thread = {
                    let mut inner = lock(&inner);
                    inner.jobs = None;
                    inner.thread.take()
                };
                if let Some(thread) = thread {
                    // A job under way ends within one optimiser step or batch. The thread never panics.
                    drop(thread.join());
                }
            }
        })
        .map_err(|e| Error::new(Code::Internal, "s4-node", "an environment hook", e))?;
        Ok(worker)
    }

    fn post(&self, job: Job<S>) -> Result<()> {
        match &lock(&self.inner).jobs {
            Some(jobs) => jobs.send(job).map_err(|_| disposed()),
            None => Err(disposed()),
        }
    }

    /// Runs on the worker's thread and waits.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        body: impl FnOnce(&mut S) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.call_slot(|slot| body(slot.as_mut().ok_or_else(disposed)?))
    }

    /// As [`Worker::call`], with the place of the state itself.
    pub(crate) fn call_slot<R: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Option<S>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = channel();
        self.post(Box::new(move |slot| {
            let result = catch_unwind(AssertUnwindSafe(|| body(slot))).unwrap_or_else(|p| Err(panicked(p)));
            drop(reply.send(result));
        }))?;
        answer.recv().unwrap_or_else(|_| Err(disposed()))
    }

    /// Runs on the worker's thread and settles a promise; a job whose flag is set before it begins does not run.
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
            match catch_unwind(AssertUnwindSafe(|| body(slot))).unwrap_or_else(|p| Err(panicked(p))) {
                // Arrays are made on the JavaScript thread, inside the resolver.
                Ok(value) => deferred.resolve(Box::new(move |_| Ok(convert(value)))),
                Err(error) => deferred.reject(to_js(error)),
            }
        });
        self.post(job).map_err(to_js)?;
        Ok(promise)
    }

    /// Frees the state after the jobs before it and lets the thread end.
    pub(crate) fn dispose(&self) {
        drop(self.post(Box::new(|slot| *slot = None)));
        lock(&self.inner).jobs = None;
    }
}
