//! The methods of `NativeModel` for training by several ranks. Who the ranks are, and how they tell each other the id of their group,
//! is the matter of `api/group.ts`.

use crate::{
    buffer::{Bytes, copied_bytes},
    error::{to_js, to_js_result},
    model::NativeModel,
    worker::live_state,
};
use napi::{
    Env,
    bindgen_prelude::{Object, Uint8Array},
};
use napi_derive::napi;
use s4_backend::{CommCall, CommId, CommStop, group_error};
use std::time::Duration;

/// Ends a model's waits for other ranks, while the model's thread is in one.
#[napi]
pub struct PeerStop {
    stop: CommStop,
}

#[napi]
impl PeerStop {
    /// One that has not been used.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        PeerStop { stop: CommStop::default() }
    }
    /// Ends all waits, now and later; `reason` says what has happened to which rank.
    #[napi]
    pub fn stop(&self, reason: String) {
        self.stop.stop(reason);
    }
}

/// How a model joins a group.
#[napi(object)]
pub struct PeerOptions {
    /// This rank, from 0.
    pub rank: u32,
    /// Number of ranks.
    pub world_size: u32,
    /// Milliseconds that a rank waits for the others.
    pub timeout: f64,
}

#[napi]
impl NativeModel {
    /// A new id for a group of ranks on this kind of device.
    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn peer_id<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, |slot| live_state(slot)?.peer_id(), Bytes)
    }
    /// The options and counts of the run as JSON, for other ranks to begin with.
    #[napi]
    pub fn run_state(&self) -> napi::Result<String> {
        to_js_result(|| self.worker.call(|m| m.run_state()))
    }
    /// Begins a run that is where rank 0 is, as `runState` says.
    #[napi]
    pub fn begin_shared_run(&self, run_state: String) -> napi::Result<()> {
        to_js_result(|| self.worker.call(move |m| m.begin_shared_run(&run_state)))
    }
    /// Makes each further update of the run together with the other ranks of the group `id`, from the parameters of rank 0. Ends when all
    /// ranks have joined.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn join_peers<'env>(
        &self,
        env: &'env Env,
        id: Uint8Array,
        options: PeerOptions,
        stop: &PeerStop,
    ) -> napi::Result<Object<'env>> {
        let bytes = copied_bytes(&id).map_err(to_js)?;
        let id = CommId::try_from(bytes.as_slice())
            .map_err(|_| to_js(group_error("the id of a group", format!("{} bytes", bytes.len()))))?;
        let call = CommCall {
            id,
            rank: options.rank as usize,
            world_size: options.world_size as usize,
            timeout: Duration::from_secs_f64(options.timeout.clamp(1.0, 1e10) / 1000.0),
            stop: stop.stop.clone(),
        };
        let promise =
            self.worker.promise(env, None, move |slot| live_state(slot)?.join_peers(&call), |()| ())?;
        // A wait must not hold up the end of the JavaScript environment. Hooks run from the last to the first, and this one before
        // that of the worker's thread.
        let stop = stop.stop.clone();
        env.add_env_cleanup_hook(stop, |stop| stop.stop("this process ends"))?;
        Ok(promise)
    }
    /// Makes the updates alone again.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn leave_peers<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, |slot| live_state(slot)?.leave_peers(), |()| ())
    }
    /// Enqueues an update in which this rank has no batch, and others may have one.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn train_step_without_batch<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, |slot| live_state(slot)?.train_step_without_batch(), |()| ())
    }
}
