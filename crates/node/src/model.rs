//! The class `NativeModel` of the addon, which a SequenceModel of the API calls. Its methods for training and for streams
//! are in `training.rs` and `streams.rs`, those for checkpoints of the official code in `official.rs`.

use crate::{
    buffer::{Bytes, Data, DataIn, Real, copied_bytes},
    device::{HostOptions, Recipe},
    error::{parse_json, to_js, to_js_result},
    model_ops::{BoxedModel, boxed_model},
    native_push::SlotQueues,
    objects::{BatchInput, CallOptions, Cancel, Counters, Forward, ParameterInfo, Sums, cancel_flag},
    worker::{Worker, live_state},
};
use napi::{
    Env,
    bindgen_prelude::{Object, ObjectFinalize, Uint8Array},
};
use napi_derive::napi;
use s4_backend::{Backend, Result};
use s4_nn::{Model, ModelConfig, TrainingSession, check_initialization};
use std::path::PathBuf;

/// Recipe of a new model: its options as JSON.
#[derive(Clone, Copy)]
struct NewModel<'a> {
    config: &'a str,
}
impl Recipe for NewModel<'_> {
    type Made = BoxedModel;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedModel> {
        let config = ModelConfig::from_json(self.config)?;
        check_initialization("SequenceModel.create", &config, &be)?;
        Ok(boxed_model(TrainingSession::new(Model::new(be, config)?)))
    }
}

/// Recipe of a model from the bytes of a checkpoint.
#[derive(Clone, Copy)]
struct LoadCheckpoint<'a> {
    bytes: &'a [u8],
}

impl LoadCheckpoint<'_> {
    /// Loads the model into `slot`, in the number format of the checkpoint unless the options name another. Gives the
    /// caller's own JSON text in the checkpoint.
    fn fill(self, slot: &mut Option<BoxedModel>, host: &HostOptions) -> Result<Option<String>> {
        let (_, dtype) = s4_nn::inspect_bytes(self.bytes)?;
        let (model, extra) = host.make(self, Some(&dtype))?;
        *slot = Some(model);
        Ok(extra)
    }
}

impl Recipe for LoadCheckpoint<'_> {
    type Made = (BoxedModel, Option<String>);
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<Self::Made> {
        let loaded = s4_nn::load_bytes(be, self.bytes)?;
        Ok((boxed_model(TrainingSession::loaded(loaded.model, loaded.trainer)), loaded.extra))
    }
}

/// A model of the addon. It holds nothing until `create`, `load`, `loadBytes` or `loadOfficial` has succeeded.
#[napi(custom_finalize)]
pub struct NativeModel {
    pub(crate) worker: Worker<BoxedModel>,
    pub(crate) slot_queues: SlotQueues,
}

impl ObjectFinalize for NativeModel {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.worker.report_bytes(&env, 0);
        Ok(())
    }
}

#[napi]
impl NativeModel {
    /// A handle that holds no model yet: `create`, `load`, `loadBytes` or `loadOfficial` makes it.
    #[napi(constructor)]
    pub fn new() -> napi::Result<Self> {
        to_js_result(|| Ok(NativeModel { worker: Worker::new(), slot_queues: SlotQueues::default() }))
    }
    /// Makes a new model from options as JSON.
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
                *slot = Some(host.make(NewModel { config: &config }, None)?);
                Ok(())
            },
            |()| (),
        )
    }
    /// Loads a checkpoint file; gives the caller's own JSON text in it.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn load<'env>(&self, env: &'env Env, path: String, host: HostOptions) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| {
                let file = s4_nn::read_whole("SequenceModel.load", &PathBuf::from(path))?;
                LoadCheckpoint { bytes: &file }.fill(slot, &host)
            },
            |extra| extra,
        )
    }
    /// Loads the bytes of a checkpoint; gives the caller's own JSON text in it.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn load_bytes<'env>(
        &self,
        env: &'env Env,
        file: Uint8Array,
        host: HostOptions,
    ) -> napi::Result<Object<'env>> {
        let file = copied_bytes(&file).map_err(to_js)?;
        self.worker.promise(
            env,
            None,
            move |slot| LoadCheckpoint { bytes: &file }.fill(slot, &host),
            |extra| extra,
        )
    }
    /// Writes a checkpoint: to a temporary file, which is then renamed. With `optimizer` it holds the state of training
    /// too.
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
            move |slot| live_state(slot)?.save(&PathBuf::from(path), optimizer, extra.as_deref()),
            |()| (),
        )
    }
    /// The bytes of the checkpoint that `save` would write.
    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn save_bytes<'env>(
        &self,
        env: &'env Env,
        optimizer: bool,
        extra: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| live_state(slot)?.save_bytes(optimizer, extra.as_deref()),
            Bytes,
        )
    }
    /// A description of the model as JSON: config, dtype, device, hasState.
    #[napi]
    pub fn describe(&self, env: Env) -> napi::Result<String> {
        to_js_result(|| {
            let (text, bytes) = self.worker.call(|m| {
                let description = serde_json::json!({
                    "config": parse_json(&m.config()), "dtype": m.dtype(), "device": m.device(), "hasState": m.has_state(),
                });
                Ok((description.to_string(), m.bytes()))
            })?;
            self.worker.report_bytes(&env, bytes);
            Ok(text)
        })
    }
    /// Shape of the output for `batch` sequences of `len` time steps.
    #[napi]
    pub fn output_shape(&self, batch: u32, len: u32) -> napi::Result<Vec<u32>> {
        to_js_result(|| {
            let shape = self.worker.call(move |m| Ok(m.output_shape(batch as usize, len as usize)))?;
            Ok(shape.into_iter().map(|n| n as u32).collect())
        })
    }
    /// Outputs for whole sequences: values (batch, len, input) or tokens (batch, len).
    #[napi]
    pub fn predict(&self, x: DataIn, batch: u32, len: u32, options: CallOptions) -> napi::Result<Forward> {
        to_js_result(|| {
            let (x, call) = (Data::copy(&x)?, options.copy()?);
            self.worker.call(move |m| m.predict(x, batch as usize, len as usize, call))
        })
    }
    /// As `predict`, on the handle's own thread.
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
        let (x, call) = (Data::copy(&x).map_err(to_js)?, options.copy().map_err(to_js)?);
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.predict(x, batch as usize, len as usize, call),
            |out| out,
        )
    }
    /// The convolution kernel K̄ of a block, (kernel channels, features, len).
    #[napi(ts_return_type = "Floats")]
    pub fn kernel(&self, block: u32, len: u32, rate: f64) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |m| m.kernel(block as usize, len as usize, rate)))
    }
    /// Sums of losses and metrics over the targets of a batch; labels are looked for among the `topK` largest outputs.
    #[napi(ts_return_type = "Promise<Sums>")]
    pub fn evaluate<'env>(
        &self,
        env: &'env Env,
        batch: BatchInput,
        top_k: u32,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let batch = batch.copy().map_err(to_js)?;
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.evaluate(batch, top_k as usize),
            Sums::from,
        )
    }
    /// Names, shapes and groups of all parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        to_js_result(|| self.worker.call(|m| Ok(m.infos())))
    }
    /// A copy of a parameter's value.
    #[napi(ts_return_type = "Floats")]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |m| m.parameter(&name)))
    }
    /// A copy of a parameter's accumulated gradient.
    #[napi(ts_return_type = "Floats")]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |m| m.gradient(&name)))
    }
    /// Replaces a parameter's value.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        to_js_result(|| {
            let value = Data::copy(&value)?;
            self.worker.call(move |m| m.set_parameter(&name, value))
        })
    }
    /// Zeroes all gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        to_js_result(|| self.worker.call(|m| m.zero_grad()))
    }
    /// Counts of memory requests and of waits for the device so far, and the memory held now.
    #[napi]
    pub fn counters(&self) -> napi::Result<Counters> {
        to_js_result(|| self.worker.call(|m| Ok(m.counters())))
    }
    /// Frees the native memory of the handle, after the work under way.
    #[napi]
    pub fn dispose(&self, env: Env) -> napi::Result<()> {
        to_js_result(|| {
            self.worker.dispose(&env);
            Ok(())
        })
    }
}
