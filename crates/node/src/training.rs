//! `NativeModel`'s training: the steps of a session, one call each.

use crate::{
    error::{guard, to_js},
    model::NativeModel,
    objects::{BatchInput, Cancel, StepStats, TrainState, flag},
    worker::live,
};
use napi::{Env, bindgen_prelude::Object};
use napi_derive::napi;

#[napi]
impl NativeModel {
    /// A new run; with `resume`, the one that is there goes on.
    #[napi]
    pub fn train_begin(&self, config: String, resume: bool) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.train_begin(&config, resume)))
    }
    /// Options of a loop of the caller's own.
    #[napi]
    pub fn configure(&self, config: String) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.configure(&config)))
    }
    /// How far the run is.
    #[napi]
    pub fn train_state(&self) -> napi::Result<TrainState> {
        guard(|| self.worker.call(|m| Ok(m.train_state())))
    }
    /// Refuses a batch that training could not take.
    #[napi]
    pub fn check_batch(&self, batch: BatchInput) -> napi::Result<()> {
        let batch = batch.copy().map_err(to_js)?;
        guard(|| self.worker.call(move |m| m.check_batch(batch)))
    }
    /// One update, enqueued, of so many items of the dataset; without a batch, of the one given to `trainAhead`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn train_step<'env>(
        &self,
        env: &'env Env,
        batch: Option<BatchInput>,
        items: u32,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.map(|b| b.copy()).transpose().map_err(to_js)?;
        self.worker.promise(
            env,
            flag(cancel),
            move |slot| live(slot)?.train_step(batch, items.into()),
            |()| (),
        )
    }
    /// Begins the next update behind the one under way: its gradients, which change no parameter.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn train_ahead<'env>(&self, env: &'env Env, batch: BatchInput) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(env, None, move |slot| live(slot)?.train_ahead(batch), |()| ())
    }
    /// Waits for the last update.
    #[napi(ts_return_type = "Promise<StepStats>")]
    pub fn train_stats<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, |slot| live(slot)?.train_stats(), StepStats::from)
    }
    /// Drops what was begun and not updated.
    #[napi]
    pub fn train_end(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|m| m.train_end()))
    }
    /// Forward and backward without an update.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn accumulate<'env>(
        &self,
        env: &'env Env,
        batch: BatchInput,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(env, flag(cancel), move |slot| live(slot)?.accumulate(batch), |()| ())
    }
    /// The update after accumulated batches.
    #[napi(ts_return_type = "Promise<StepStats>")]
    pub fn update<'env>(&self, env: &'env Env, cancel: Option<&Cancel>) -> napi::Result<Object<'env>> {
        self.worker.promise(env, flag(cancel), move |slot| live(slot)?.update(), StepStats::from)
    }
    /// Ends an epoch, whose metric a plateau schedule follows.
    #[napi]
    pub fn end_epoch(&self, metric: f64) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.end_epoch(metric)))
    }
    /// Forgets carried states.
    #[napi]
    pub fn reset_state(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|m| m.reset_state()))
    }
    /// Swaps parameters and their running average.
    #[napi]
    pub fn swap_average(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|m| m.swap_average()))
    }
}
