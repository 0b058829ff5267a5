//! `NativeModel`: a SequenceModel with its trainer and streams.

use crate::{
    buffer::{Bytes, Data, DataIn, FloatsOut, Real, bytes, write_out},
    error::{guard, to_js},
    host::{BoxedModel, HostOptions, Make},
    layer::{
        Backward, CallOptions, Cancel, Counters, Forward, ParameterInfo, backward, forward, infos, live,
    },
    ops::{self, ModelBox, OwnedBatch},
    worker::Worker,
};
use napi::{
    Env,
    bindgen_prelude::{Int32Array, Object, ObjectFinalize, Uint8Array},
};
use napi_derive::napi;
use s4_backend::{Backend, Result};
use s4_nn::{Evaluation, Model, ModelConfig};
use std::path::PathBuf;

/// One batch of training or evaluation.
#[napi(object, object_to_js = false)]
pub struct BatchInput {
    /// Values or tokens.
    pub input: DataIn,
    /// Values or labels.
    pub target: DataIn,
    /// Rows.
    pub batch: u32,
    /// Samples a row.
    pub len: u32,
    /// Length of each row.
    pub lengths: Option<Int32Array>,
    /// Weight of each output row.
    pub weights: Option<DataIn>,
    /// Multiplies every Δ.
    pub rate: Option<f64>,
    /// `auto`, `fft`, `chunk`.
    pub algorithm: Option<String>,
}

impl BatchInput {
    fn copy(&self) -> Result<OwnedBatch> {
        Ok(OwnedBatch {
            input: Data::copy(&self.input),
            target: Data::copy(&self.target),
            batch: self.batch as usize,
            len: self.len as usize,
            lengths: self.lengths.as_ref().map(|x| x.to_vec()),
            weights: self.weights.as_ref().map(Data::copy),
            rate: self.rate.unwrap_or(1.0),
            algorithm: ops::algorithm(self.algorithm.as_deref())?,
        })
    }
}

/// How an update went.
#[napi(object, object_from_js = false)]
pub struct StepStats {
    /// Updates so far.
    pub step: f64,
    /// Before the update.
    pub loss: f64,
    /// Rows whose label was the largest output.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Of the main group.
    pub lr: f64,
}

/// Sums of an evaluation.
#[napi(object, object_from_js = false)]
pub struct Sums {
    /// Loss times rows.
    pub loss: f64,
    /// Rows whose label was the largest output.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
}

fn stats(s: s4_nn::StepStats) -> StepStats {
    StepStats {
        step: s.step as f64,
        loss: s.loss,
        correct: s.correct as f64,
        rows: s.rows as f64,
        grad_norm: s.grad_norm,
        lr: s.lr,
    }
}
fn sums(e: Evaluation) -> Sums {
    Sums { loss: e.loss, correct: e.correct, rows: e.rows }
}

#[derive(Clone, Copy)]
struct New<'a>(&'a str);
impl Make for New<'_> {
    type Out = BoxedModel;
    fn on<B: Backend>(self, be: B) -> Result<BoxedModel>
    where
        B::Scalar: Real,
    {
        Ok(Box::new(ModelBox::new(Model::new(be, ModelConfig::from_json(self.0)?)?, None)))
    }
}

/// A checkpoint's bytes.
#[derive(Clone, Copy)]
struct Load<'a>(&'a [u8]);

impl Load<'_> {
    /// Fills the place of the model, in the number format of the checkpoint unless another was asked for; gives the
    /// caller's own JSON.
    fn fill(self, slot: &mut Option<BoxedModel>, host: &HostOptions) -> Result<Option<String>> {
        let (_, dtype) = s4_nn::inspect_bytes(self.0)?;
        let (model, extra) = host.make(self, Some(&dtype))?;
        *slot = Some(model);
        Ok(extra)
    }
}

impl Make for Load<'_> {
    type Out = (BoxedModel, Option<String>);
    fn on<B: Backend>(self, be: B) -> Result<Self::Out>
    where
        B::Scalar: Real,
    {
        let loaded = s4_nn::load_bytes(be, self.0)?;
        Ok((Box::new(ModelBox::new(loaded.model, loaded.trainer)), loaded.extra))
    }
}

/// The addon's model; `create` or `load` fills it.
#[napi(custom_finalize)]
pub struct NativeModel {
    worker: Worker<BoxedModel>,
}

impl ObjectFinalize for NativeModel {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.worker.tell(&env, 0);
        Ok(())
    }
}

#[napi]
impl NativeModel {
    /// Empty.
    #[napi(constructor)]
    pub fn new() -> napi::Result<Self> {
        guard(|| Ok(NativeModel { worker: Worker::new() }))
    }
    /// From a configuration.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn create<'env>(
        &self,
        env: &'env Env,
        config: String,
        host: HostOptions,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| {
                *slot = Some(host.make(New(&config), None)?);
                Ok(())
            },
            |()| (),
        )
    }
    /// From a checkpoint; gives the caller's own JSON.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn load<'env>(&self, env: &'env Env, path: String, host: HostOptions) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| {
                let path = PathBuf::from(path);
                let file = std::fs::read(&path).map_err(|e| {
                    s4_backend::Error::new(
                        s4_backend::Code::Checkpoint,
                        "SequenceModel.load",
                        "a readable file",
                        format!("{}: {e}", path.display()),
                    )
                })?;
                Load(&file).fill(slot, &host)
            },
            |extra| extra,
        )
    }
    /// From a checkpoint in memory.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn load_bytes<'env>(
        &self,
        env: &'env Env,
        file: Uint8Array,
        host: HostOptions,
    ) -> napi::Result<Object<'env>> {
        let file = bytes(&file);
        self.worker.promise(env, None, move |slot| Load(&file).fill(slot, &host), |extra| extra)
    }
    /// Atomically.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save<'env>(
        &self,
        env: &'env Env,
        path: String,
        optimizer: bool,
        extra: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| live(slot)?.save(&PathBuf::from(path), optimizer, extra.as_deref()),
            |()| (),
        )
    }
    /// As bytes.
    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn save_bytes<'env>(
        &self,
        env: &'env Env,
        optimizer: bool,
        extra: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(env, None, move |slot| live(slot)?.save_bytes(optimizer, extra.as_deref()), Bytes)
    }
    /// JSON: config, dtype, device.
    #[napi]
    pub fn describe(&self, env: Env) -> napi::Result<String> {
        guard(|| {
            let (text, bytes) = self.worker.call(|m| {
                let config: serde_json::Value = ops::parse("describe", &m.config())?;
                let all = serde_json::json!({
                    "config": config, "dtype": m.dtype(), "device": m.device(), "hasState": m.has_state(),
                });
                Ok((all.to_string(), m.bytes()))
            })?;
            self.worker.tell(&env, bytes);
            Ok(text)
        })
    }
    /// Of an input (batch, len).
    #[napi]
    pub fn output_shape(&self, batch: u32, len: u32) -> napi::Result<Vec<u32>> {
        guard(|| {
            let shape = self.worker.call(move |m| Ok(m.output_shape(batch as usize, len as usize)))?;
            Ok(shape.into_iter().map(|n| n as u32).collect())
        })
    }
    /// The whole sequence at once.
    #[napi]
    pub fn predict(&self, x: DataIn, batch: u32, len: u32, options: CallOptions) -> napi::Result<Forward> {
        guard(|| {
            let (x, call) = (Data::copy(&x), options.copy()?);
            self.worker.call(move |m| m.predict(x, batch as usize, len as usize, call)).map(forward)
        })
    }
    /// Off the event loop.
    #[napi(ts_return_type = "Promise<Forward>")]
    pub fn predict_async<'env>(
        &self,
        env: &'env Env,
        x: DataIn,
        batch: u32,
        len: u32,
        options: CallOptions,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let (x, call) = (Data::copy(&x), options.copy().map_err(to_js)?);
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.predict(x, batch as usize, len as usize, call),
            forward,
        )
    }
    /// Gradients of the last saved forward.
    #[napi]
    pub fn backward(&self, doutput: DataIn, dstate: Option<DataIn>) -> napi::Result<Backward> {
        guard(|| {
            let (dy, dstate) = (Data::copy(&doutput), dstate.as_ref().map(Data::copy));
            self.worker.call(move |m| m.backward(dy, dstate)).map(backward)
        })
    }
    /// K̄ of a block.
    #[napi]
    pub fn kernel(&self, block: u32, len: u32, rate: f64) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.kernel(block as usize, len as usize, rate)))
    }
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
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.train_step(batch),
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
        self.worker.promise(env, None, |slot| live(slot)?.train_stats(), stats)
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
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.accumulate(batch),
            |()| (),
        )
    }
    /// The update after accumulated batches.
    #[napi(ts_return_type = "Promise<StepStats>")]
    pub fn update<'env>(&self, env: &'env Env, cancel: Option<&Cancel>) -> napi::Result<Object<'env>> {
        self.worker.promise(env, cancel.map(|c| c.flag.clone()), move |slot| live(slot)?.update(), stats)
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
    /// Loss and hits of a batch.
    #[napi(ts_return_type = "Promise<Sums>")]
    pub fn evaluate<'env>(
        &self,
        env: &'env Env,
        batch: BatchInput,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.evaluate(batch),
            sums,
        )
    }
    /// A stream from zero states.
    #[napi]
    pub fn stream_open(&self, batch: u32, rate: f64) -> napi::Result<u32> {
        guard(|| self.worker.call(move |m| m.stream_open(batch as usize, rate)))
    }
    /// Into the caller's own array.
    #[napi]
    pub fn stream_push(
        &self,
        id: u32,
        x: DataIn,
        len: u32,
        interval: Option<DataIn>,
        mut out: FloatsOut,
    ) -> napi::Result<()> {
        guard(|| {
            let (x, interval) = (Data::copy(&x), interval.as_ref().map(Data::copy));
            let y = self.worker.call(move |m| m.stream_push(id, x, len as usize, interval))?;
            write_out(&mut out, y)
        })
    }
    /// Off the event loop.
    #[napi(ts_return_type = "Promise<Float32Array | Float64Array>")]
    pub fn stream_push_async<'env>(
        &self,
        env: &'env Env,
        id: u32,
        x: DataIn,
        len: u32,
        interval: Option<DataIn>,
        _out_len: u32,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let (x, interval) = (Data::copy(&x), interval.as_ref().map(Data::copy));
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.stream_push(id, x, len as usize, interval),
            |y| y,
        )
    }
    /// The whole state.
    #[napi]
    pub fn stream_save(&self, id: u32) -> napi::Result<Bytes> {
        guard(|| self.worker.call(move |m| m.stream_save(id)).map(Bytes))
    }
    /// From [`NativeModel::stream_save`].
    #[napi]
    pub fn stream_restore(&self, id: u32, state: Uint8Array) -> napi::Result<()> {
        guard(|| {
            let state = bytes(&state);
            self.worker.call(move |m| m.stream_restore(id, &state))
        })
    }
    /// A copy that goes its own way.
    #[napi]
    pub fn stream_fork(&self, id: u32) -> napi::Result<u32> {
        guard(|| self.worker.call(move |m| m.stream_fork(id)))
    }
    /// Zero states.
    #[napi]
    pub fn stream_reset(&self, id: u32) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.stream_reset(id)))
    }
    /// Samples seen.
    #[napi]
    pub fn stream_position(&self, id: u32) -> napi::Result<f64> {
        guard(|| self.worker.call(move |m| m.stream_position(id)).map(|n| n as f64))
    }
    /// Frees it, behind the calls under way.
    #[napi]
    pub fn stream_close(&self, id: u32) -> napi::Result<()> {
        guard(|| {
            self.worker.release(move |m| m.stream_close(id));
            Ok(())
        })
    }
    /// All parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        guard(|| self.worker.call(|m| Ok(m.infos())).map(infos))
    }
    /// A copy.
    #[napi]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.parameter(&name)))
    }
    /// A copy.
    #[napi]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.gradient(&name)))
    }
    /// Replaces one.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        guard(|| {
            let value = Data::copy(&value);
            self.worker.call(move |m| m.set_parameter(&name, value))
        })
    }
    /// Zeroes gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|m| m.zero_grad()))
    }
    /// Counters of its backend.
    #[napi]
    pub fn counters(&self) -> napi::Result<Counters> {
        guard(|| self.worker.call(|m| Ok(m.counters())))
    }
    /// Frees native memory after the work under way.
    #[napi]
    pub fn dispose(&self, env: Env) -> napi::Result<()> {
        guard(|| {
            self.worker.dispose(&env);
            Ok(())
        })
    }
}
