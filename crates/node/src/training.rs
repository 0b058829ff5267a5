//! `NativeModel`'s training: the steps of a session, one call each.

use crate::{
    error::{guard, to_js},
    model::NativeModel,
    objects::{BatchInput, Cancel, StepStats, flag},
    worker::live,
};
use napi::{Env, bindgen_prelude::Object};
use napi_derive::napi;

#[napi]
impl NativeModel {
    /// A trainer; with `resume`, the one that is there.
    #[napi]
    pub fn train_begin(&self, config: String, resume: bool) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.train_begin(&config, resume)))
    }
    /// One update, enqueued; without a batch, of the one given to `trainAhead`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn train_step<'env>(
        &self,
        env: &'env Env,
        batch: Option<BatchInput>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.map(|b| b.copy()).transpose().map_err(to_js)?;
        self.worker.promise(env, flag(cancel), move |slot| live(slot)?.train_step(batch), |()| ())
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
    /// Tells a plateau schedule how it goes.
    #[napi]
    pub fn observe(&self, metric: f64) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.observe(metric)))
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
