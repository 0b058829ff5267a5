//! The methods of `NativeModel` for training: one call for each step of the loop in `api/training.ts`.

use crate::{
    error::{to_js, to_js_result},
    model::NativeModel,
    objects::{BatchInput, Cancel, StepStats, TrainState, cancel_flag},
    worker::live_state,
};
use napi::{Env, bindgen_prelude::Object};
use napi_derive::napi;

#[napi]
impl NativeModel {
    /// Begins a training run with options as JSON; with `resume` the present run goes on.
    #[napi]
    pub fn train_begin(&self, config: String, resume: bool) -> napi::Result<()> {
        to_js_result(|| self.worker.call(move |m| m.train_begin(&config, resume)))
    }
    /// How far the training run is.
    #[napi]
    pub fn train_state(&self) -> napi::Result<TrainState> {
        to_js_result(|| self.worker.call(|m| Ok(m.train_state())))
    }
    /// Refuses a batch that training could not take.
    #[napi]
    pub fn check_batch(&self, batch: BatchInput) -> napi::Result<()> {
        let batch = batch.copy().map_err(to_js)?;
        to_js_result(|| self.worker.call(move |m| m.check_batch(batch)))
    }
    /// Enqueues one update from a batch, or without it from the batch that was given to `trainAhead`. `items`: number of
    /// items of the dataset that the batch consists of.
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
            cancel_flag(cancel),
            move |slot| live_state(slot)?.train_step(batch, items.into()),
            |()| (),
        )
    }
    /// Enqueues the gradients of the next update's batch, behind the update under way. They change no parameter.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn train_ahead<'env>(&self, env: &'env Env, batch: BatchInput) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(env, None, move |slot| live_state(slot)?.train_ahead(batch), |()| ())
    }
    /// Waits for the last update and gives its figures.
    #[napi(ts_return_type = "Promise<StepStats>")]
    pub fn train_stats<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, |slot| live_state(slot)?.train_stats(), StepStats::from)
    }
    /// Ends the loop over an epoch: drops gradients that no update has used; `cut_short` where an error or the caller ended it.
    #[napi]
    pub fn train_end(&self, cut_short: bool) -> napi::Result<()> {
        to_js_result(|| self.worker.call(|m| m.train_end(cut_short)))
    }
    /// Adds the gradients of a batch, without an update.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn accumulate<'env>(
        &self,
        env: &'env Env,
        batch: BatchInput,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.accumulate(batch),
            |()| (),
        )
    }
    /// Makes the update from all batches accumulated since the last, with the options that `config` (JSON) names replaced.
    #[napi(ts_return_type = "Promise<StepStats>")]
    pub fn update<'env>(
        &self,
        env: &'env Env,
        config: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.update(&config),
            StepStats::from,
        )
    }
    /// Ends an epoch, and tells a plateau schedule its metric.
    #[napi]
    pub fn end_epoch(&self, metric: f64) -> napi::Result<()> {
        to_js_result(|| self.worker.call(move |m| m.end_epoch(metric)))
    }
    /// Zeroes the states that are carried from batch to batch.
    #[napi]
    pub fn reset_state(&self) -> napi::Result<()> {
        to_js_result(|| self.worker.call(|m| m.reset_state()))
    }
    /// Exchanges the parameters with their running average.
    #[napi]
    pub fn swap_average(&self) -> napi::Result<()> {
        to_js_result(|| self.worker.call(|m| m.swap_average()))
    }
}
