//! `NativeModel`: a SequenceModel; its training and streams are in files of their own.

use crate::{
    buffer::{Bytes, Data, DataIn, Real, bytes},
    device::{HostOptions, Make, check_memory},
    error::{guard, json, to_js},
    model_ops::{BoxedModel, boxed},
    objects::{BatchInput, CallOptions, Cancel, Counters, Forward, ParameterInfo, Sums, flag},
    worker::{Worker, live},
};
use napi::{
    Env,
    bindgen_prelude::{Object, ObjectFinalize, Uint8Array},
};
use napi_derive::napi;
use s4_backend::{Backend, Code, Error, Result};
use s4_nn::{Model, ModelConfig, Session};
use std::path::PathBuf;

#[derive(Clone, Copy)]
struct New<'a>(&'a str);
impl Make for New<'_> {
    type Out = BoxedModel;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedModel> {
        let config = ModelConfig::from_json(self.0)?;
        check_memory("SequenceModel.create", &config, &be)?;
        Ok(boxed(Session::new(Model::new(be, config)?)))
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
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<Self::Out> {
        let loaded = s4_nn::load_bytes(be, self.0)?;
        Ok((boxed(Session::loaded(loaded.model, loaded.trainer)), loaded.extra))
    }
}

/// The addon's model; `create` or `load` fills it.
#[napi(custom_finalize)]
pub struct NativeModel {
    pub(crate) worker: Worker<BoxedModel>,
}

impl ObjectFinalize for NativeModel {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.worker.report_bytes(&env, 0);
        Ok(())
    }
}

#[napi]
impl NativeModel {
    /// Empty until `create`, `load` or `loadBytes` has filled it.
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
                    Error::new(
                        Code::Checkpoint,
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
        let file = bytes(&file).map_err(to_js)?;
        self.worker.promise(env, None, move |slot| Load(&file).fill(slot, &host), |extra| extra)
    }
    /// Writes a checkpoint: to a temporary file, then renamed.
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
    /// The checkpoint that `save` writes, as bytes.
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
                let all = serde_json::json!({
                    "config": json(&m.config()), "dtype": m.dtype(), "device": m.device(), "hasState": m.has_state(),
                });
                Ok((all.to_string(), m.bytes()))
            })?;
            self.worker.report_bytes(&env, bytes);
            Ok(text)
        })
    }
    /// Shape of the output of an input (batch, len).
    #[napi]
    pub fn output_shape(&self, batch: u32, len: u32) -> napi::Result<Vec<u32>> {
        guard(|| {
            let shape = self.worker.call(move |m| Ok(m.output_shape(batch as usize, len as usize)))?;
            Ok(shape.into_iter().map(|n| n as u32).collect())
        })
    }
    /// Outputs for whole sequences, x (batch, len, input) or tokens (batch, len).
    #[napi]
    pub fn predict(&self, x: DataIn, batch: u32, len: u32, options: CallOptions) -> napi::Result<Forward> {
        guard(|| {
            let (x, call) = (Data::copy(&x)?, options.copy()?);
            self.worker.call(move |m| m.predict(x, batch as usize, len as usize, call))
        })
    }
    /// As `predict`, off the event loop.
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
            flag(cancel),
            move |slot| live(slot)?.predict(x, batch as usize, len as usize, call),
            |out| out,
        )
    }
    /// K̄ of a block, (kernel channels, features, len).
    #[napi(ts_return_type = "Floats")]
    pub fn kernel(&self, block: u32, len: u32, rate: f64) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.kernel(block as usize, len as usize, rate)))
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
        self.worker.promise(env, flag(cancel), move |slot| live(slot)?.evaluate(batch), Sums::from)
    }
    /// Names, shapes and groups of all parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        guard(|| self.worker.call(|m| Ok(m.infos())))
    }
    /// A copy of a parameter's value.
    #[napi(ts_return_type = "Floats")]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.parameter(&name)))
    }
    /// A copy of a parameter's accumulated gradient.
    #[napi(ts_return_type = "Floats")]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |m| m.gradient(&name)))
    }
    /// Replaces a parameter's value.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        guard(|| {
            let value = Data::copy(&value)?;
            self.worker.call(move |m| m.set_parameter(&name, value))
        })
    }
    /// Zeroes all gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|m| m.zero_grad()))
    }
    /// Requests for memory, waits and memory held, so far.
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
