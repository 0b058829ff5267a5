//! `NativeLayer`: an S4Layer or an S4Block.

use crate::{
    buffer::{Data, DataIn, FloatsOut, Real, Room, View},
    error::{guard, to_js},
    functions::NamedArray,
    host::{BoxedLayer, HostOptions, Make},
    ops::{self, Call, LayerBox},
    worker::{Flag, Worker},
};
use napi::{
    Env,
    bindgen_prelude::{Int32Array, Object, ObjectFinalize},
};
use napi_derive::napi;
use s4_backend::{Backend, Error, Result};
use s4_nn::{
    Block, BlockConfig, Layer, LayerConfig, NamedTensor, block_from_official, block_from_official_file,
};
use std::{collections::HashMap, path::PathBuf, sync::atomic::Ordering};

/// How one call runs.
#[napi(object, object_to_js = false)]
pub struct CallOptions {
    /// State before the first sample.
    pub state: Option<DataIn>,
    /// Length of each row.
    pub lengths: Option<Int32Array>,
    /// Multiplies every Δ.
    pub rate: Option<f64>,
    /// `auto`, `fft`, `chunk`.
    pub algorithm: Option<String>,
    /// Dropout, batch statistics, values saved.
    pub training: Option<bool>,
    /// Give the end state.
    pub want_state: Option<bool>,
    /// Save what backward needs.
    pub save: Option<bool>,
}

impl CallOptions {
    pub(crate) fn copy(&self) -> Result<Call> {
        Ok(Call {
            state: self.state.as_ref().map(Data::copy),
            lengths: self.lengths.as_ref().map(|x| x.to_vec()),
            rate: self.rate.unwrap_or(1.0),
            algorithm: ops::algorithm(self.algorithm.as_deref())?,
            training: self.training.unwrap_or(false),
            want_state: self.want_state.unwrap_or(false),
            save: self.save.unwrap_or(false),
        })
    }
}

/// y and state.
#[napi(object, object_from_js = false)]
pub struct Forward {
    /// Output.
    pub y: Data,
    /// State after the last sample.
    pub state: Option<Data>,
}

/// Gradients of a forward's inputs.
#[napi(object, object_from_js = false)]
pub struct Backward {
    /// Of the input.
    pub du: Option<Data>,
    /// Of the initial state.
    pub dstate: Option<Data>,
}

/// Name, shape, group.
#[napi(object, object_from_js = false)]
pub struct ParameterInfo {
    /// Official name.
    pub name: String,
    /// Official shape.
    pub shape: Vec<u32>,
    /// `main` or `ssm`.
    pub group: String,
}

/// Requests for memory and waits of the host so far, memory held now.
#[napi(object, object_from_js = false)]
pub struct Counters {
    /// Requests.
    pub allocations: f64,
    /// Waits.
    pub host_waits: f64,
    /// Bytes of the GPU that the handle holds, in use or for reuse.
    pub device_memory: f64,
}

pub(crate) fn forward(out: ops::Forward) -> Forward {
    Forward { y: out.y, state: out.state }
}
pub(crate) fn backward(out: ops::Backward) -> Backward {
    Backward { du: out.du, dstate: out.dstate }
}
pub(crate) fn infos(infos: Vec<s4_nn::ParamInfo>) -> Vec<ParameterInfo> {
    infos
        .into_iter()
        .map(|p| ParameterInfo {
            name: p.name,
            shape: p.shape.into_iter().map(|n| n as u32).collect(),
            group: p.slot.group.as_str().into(),
        })
        .collect()
}

/// Cancels a queued call.
#[napi]
#[derive(Default)]
pub struct Cancel {
    pub(crate) flag: Flag,
}

#[napi]
impl Cancel {
    /// Not cancelled.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Cancel { flag: Flag::default() }
    }
    /// A job that has not begun never does.
    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }
}

/// A layer made from a configuration.
#[derive(Clone, Copy)]
struct New<'a>(&'a str, &'a str);
impl Make for New<'_> {
    type Out = BoxedLayer;
    fn on<B: Backend>(self, be: B) -> Result<BoxedLayer>
    where
        B::Scalar: Real,
    {
        match self.0 {
            "layer" => {
                let config = LayerConfig::from_json(self.1)?;
                Ok(Box::new(LayerBox::<B, Layer<B>>::new(Layer::new(be, config)?)))
            }
            "block" => {
                let config = BlockConfig::from_json(self.1)?;
                Ok(Box::new(LayerBox::<B, Block<B>>::new(Block::new(be, config)?)))
            }
            other => Err(Error::value("NativeLayer", "'layer' or 'block'", other)),
        }
    }
}

/// A block from an official state dict, by file or by tensors.
#[derive(Clone)]
enum Official {
    File(PathBuf, Option<String>),
    Tensors(HashMap<String, NamedTensor>, String),
}
impl Make for Official {
    type Out = BoxedLayer;
    fn on<B: Backend>(self, be: B) -> Result<BoxedLayer>
    where
        B::Scalar: Real,
    {
        let block = match self {
            Official::File(path, config) => block_from_official_file(be, &path, config.as_deref())?,
            Official::Tensors(tensors, config) => block_from_official(be, &tensors, &config)?,
        };
        Ok(Box::new(LayerBox::<B, Block<B>>::new(block)))
    }
}

/// The addon's layer or block.
#[napi(custom_finalize)]
pub struct NativeLayer {
    worker: Worker<BoxedLayer>,
}

impl ObjectFinalize for NativeLayer {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.worker.tell(&env, 0);
        Ok(())
    }
}

impl NativeLayer {
    fn made(env: &Env, make: impl FnOnce() -> Result<BoxedLayer> + Send + 'static) -> napi::Result<Self> {
        guard(|| {
            let worker = Worker::new();
            let bytes = worker.call_slot(move |slot| {
                let layer = make()?;
                let bytes = layer.bytes();
                *slot = Some(layer);
                Ok(bytes)
            })?;
            worker.tell(env, bytes);
            Ok(NativeLayer { worker })
        })
    }
}

#[napi]
impl NativeLayer {
    /// `kind`: `layer` or `block`.
    #[napi(constructor)]
    pub fn new(env: Env, kind: String, config: String, host: HostOptions) -> napi::Result<Self> {
        Self::made(&env, move || host.make(New(&kind, &config), None))
    }
    /// A block from an official safetensors file.
    #[napi(factory)]
    pub fn from_official_file(
        env: Env,
        path: String,
        config: Option<String>,
        host: HostOptions,
    ) -> napi::Result<Self> {
        Self::made(&env, move || host.make(Official::File(path.into(), config), None))
    }
    /// A block from tensors of an official state dict.
    #[napi(factory)]
    pub fn from_official(
        env: Env,
        tensors: Vec<NamedArray>,
        config: String,
        host: HostOptions,
    ) -> napi::Result<Self> {
        let tensors = guard(|| {
            tensors
                .iter()
                .map(|t| {
                    let data = match Data::copy(&t.data) {
                        Data::F32(x) => x.into_iter().map(f64::from).collect(),
                        Data::F64(x) => x,
                        Data::I32(x) => x.into_iter().map(f64::from).collect(),
                    };
                    let shape = t.shape.iter().map(|&n| n as usize).collect();
                    Ok((t.name.clone(), NamedTensor { shape, data }))
                })
                .collect::<Result<HashMap<_, _>>>()
        })?;
        Self::made(&env, move || host.make(Official::Tensors(tensors, config), None))
    }
    /// JSON: config, dtype, device, outputs, kernelChannels, hasState.
    #[napi]
    pub fn describe(&self) -> napi::Result<String> {
        guard(|| {
            self.worker.call(|l| {
                let config: serde_json::Value = ops::parse("describe", &l.config())?;
                let sides = if config["bidirectional"] == true { 2 } else { 1 };
                let all = serde_json::json!({
                    "kernelChannels": config["channels"].as_u64().map_or(1, |c| c * sides),
                    "config": config,
                    "dtype": l.dtype(),
                    "device": l.device(),
                    "outputs": l.outputs(),
                    "hasState": l.has_state(),
                });
                Ok(all.to_string())
            })
        })
    }
    /// y of u (batch, len, features), into the caller's own array; gives the state after the last sample.
    #[napi]
    pub fn forward(
        &self,
        u: DataIn,
        batch: u32,
        len: u32,
        options: CallOptions,
        mut y: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        guard(|| {
            let (u, call, y) = (View::of(&u), options.copy()?, Room::of(&mut y));
            self.worker.call(move |l| l.forward_into(y, u, batch as usize, len as usize, call))
        })
    }
    /// Off the event loop.
    #[napi(ts_return_type = "Promise<Forward>")]
    pub fn forward_async<'env>(
        &self,
        env: &'env Env,
        u: DataIn,
        batch: u32,
        len: u32,
        options: CallOptions,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let (u, call) = (Data::copy(&u), options.copy().map_err(to_js)?);
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.forward(u, batch as usize, len as usize, call),
            forward,
        )
    }
    /// Gradients of the last saved forward: the input's into the caller's own array, the state's as the result.
    #[napi]
    pub fn backward(
        &self,
        dy: DataIn,
        dstate: Option<DataIn>,
        mut du: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        guard(|| {
            let (dy, dstate, du) = (View::of(&dy), dstate.as_ref().map(Data::copy), Room::of(&mut du));
            self.worker.call(move |l| l.backward_into(du, dy, dstate))
        })
    }
    /// Off the event loop.
    #[napi(ts_return_type = "Promise<Backward>")]
    pub fn backward_async<'env>(
        &self,
        env: &'env Env,
        dy: DataIn,
        dstate: Option<DataIn>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let (dy, dstate) = (Data::copy(&dy), dstate.as_ref().map(Data::copy));
        self.worker.promise(
            env,
            cancel.map(|c| c.flag.clone()),
            move |slot| live(slot)?.backward(dy, dstate),
            backward,
        )
    }
    /// One sample a row.
    #[napi]
    pub fn step(
        &self,
        u: DataIn,
        state: DataIn,
        interval: Option<DataIn>,
        batch: u32,
        rate: f64,
    ) -> napi::Result<Forward> {
        guard(|| {
            let (u, state, interval) =
                (Data::copy(&u), Data::copy(&state), interval.as_ref().map(Data::copy));
            self.worker.call(move |l| l.step(u, state, interval, batch as usize, rate)).map(forward)
        })
    }
    /// K̄.
    #[napi]
    pub fn kernel(&self, len: u32, rate: f64) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.kernel(len as usize, rate)))
    }
    /// Zeros.
    #[napi]
    pub fn initial_state(&self, batch: u32) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.initial_state(batch as usize)))
    }
    /// All parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        guard(|| self.worker.call(|l| Ok(l.infos())).map(infos))
    }
    /// A copy.
    #[napi]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.parameter(&name)))
    }
    /// A copy.
    #[napi]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.gradient(&name)))
    }
    /// Replaces one.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        guard(|| {
            let value = Data::copy(&value);
            self.worker.call(move |l| l.set_parameter(&name, value))
        })
    }
    /// Zeroes gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|l| l.zero_grad()))
    }
    /// An optimiser on this layer's parameters.
    #[napi]
    pub fn adam_open(&self, config: String) -> napi::Result<u32> {
        guard(|| self.worker.call(move |l| l.adam_open(&config)))
    }
    /// One update; the gradients' norm.
    #[napi]
    pub fn adam_update(&self, id: u32, scale: f64) -> napi::Result<f64> {
        guard(|| self.worker.call(move |l| l.adam_update(id, scale)))
    }
    /// Frees its moments, behind the calls under way.
    #[napi]
    pub fn adam_close(&self, id: u32) -> napi::Result<()> {
        guard(|| {
            self.worker.release(move |l| l.adam_close(id));
            Ok(())
        })
    }
    /// Counters of its backend.
    #[napi]
    pub fn counters(&self) -> napi::Result<Counters> {
        guard(|| self.worker.call(|l| Ok(l.counters())))
    }
    /// Frees native memory.
    #[napi]
    pub fn dispose(&self, env: Env) -> napi::Result<()> {
        guard(|| {
            self.worker.dispose(&env);
            Ok(())
        })
    }
}

/// The state, unless the handle was disposed.
pub(crate) fn live<S>(slot: &mut Option<S>) -> Result<&mut S> {
    slot.as_mut().ok_or_else(crate::error::disposed)
}
