//! `NativeLayer`: an S4Layer or an S4Block.

use crate::{
    buffer::{Data, DataIn, FloatsOut, InputSlice, OutputSlice, Real},
    device::{HostOptions, Make, check_memory},
    error::{guard, json, to_js},
    layer_ops::{BoxedLayer, LayerBox},
    objects::{CallOptions, Cancel, Counters, Forward, NamedArray, ParameterInfo, flag},
    worker::{Worker, live},
};
use napi::{
    Env,
    bindgen_prelude::{Object, ObjectFinalize},
};
use napi_derive::napi;
use s4_backend::{Backend, Error, Result};
use s4_nn::{
    Block, BlockConfig, Layer, LayerConfig, NamedTensor, block_from_official, block_from_official_file,
};
use std::{collections::HashMap, path::PathBuf};

/// A layer made from a configuration.
#[derive(Clone, Copy)]
struct New<'a>(&'a str, &'a str);
impl Make for New<'_> {
    type Out = BoxedLayer;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedLayer> {
        match self.0 {
            "layer" => {
                let config = LayerConfig::from_json(self.1)?;
                check_memory("S4Layer", &config, &be)?;
                Ok(LayerBox::boxed(Layer::new(be, config)?))
            }
            "block" => {
                let config = BlockConfig::from_json(self.1)?;
                check_memory("S4Block", &config, &be)?;
                Ok(LayerBox::boxed(Block::new(be, config)?))
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
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedLayer> {
        let block = match self {
            Official::File(path, config) => block_from_official_file(be, &path, config.as_deref())?,
            Official::Tensors(tensors, config) => block_from_official(be, &tensors, &config)?,
        };
        Ok(LayerBox::boxed(block))
    }
}

/// The addon's layer or block.
#[napi(custom_finalize)]
pub struct NativeLayer {
    worker: Worker<BoxedLayer>,
}

impl ObjectFinalize for NativeLayer {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.worker.report_bytes(&env, 0);
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
            worker.report_bytes(env, bytes);
            Ok(NativeLayer { worker })
        })
    }
}

#[napi]
impl NativeLayer {
    /// `kind`: `layer` or `block`.
    #[napi(constructor)]
    pub fn new(
        env: Env,
        #[napi(ts_arg_type = "'layer' | 'block'")] kind: String,
        config: String,
        host: HostOptions,
    ) -> napi::Result<Self> {
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
                    let data = match Data::copy(&t.data)? {
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
                let all = serde_json::json!({
                    "kernelChannels": l.kernel_channels(),
                    "config": json(&l.config()),
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
    #[napi(ts_return_type = "Floats | null")]
    pub fn forward(
        &self,
        u: DataIn,
        batch: u32,
        len: u32,
        options: CallOptions,
        mut y: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        guard(|| {
            let (u, call, y) = (InputSlice::of(&u), options.copy()?, OutputSlice::of(&mut y));
            self.worker.call(move |l| l.forward_into(y, u, (batch as usize, len as usize), call))
        })
    }
    /// As `forward`, off the event loop, into new arrays.
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
        let (u, call) = (Data::copy(&u).map_err(to_js)?, options.copy().map_err(to_js)?);
        self.worker.promise(
            env,
            flag(cancel),
            move |slot| live(slot)?.forward(u, batch as usize, len as usize, call),
            |out| out,
        )
    }
    /// Gradients of the last saved forward: the input's into the caller's own array, the state's as the result.
    #[napi(ts_return_type = "Floats | null")]
    pub fn backward(
        &self,
        dy: DataIn,
        dstate: Option<DataIn>,
        mut du: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        guard(|| {
            let dstate = dstate.as_ref().map(Data::copy).transpose()?;
            let (dy, du) = (InputSlice::of(&dy), OutputSlice::of(&mut du));
            self.worker.call(move |l| l.backward_into(du, dy, dstate))
        })
    }
    /// As `backward`, off the event loop, into new arrays.
    #[napi(ts_return_type = "Promise<Backward>")]
    pub fn backward_async<'env>(
        &self,
        env: &'env Env,
        dy: DataIn,
        dstate: Option<DataIn>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let dstate = dstate.as_ref().map(Data::copy).transpose().map_err(to_js)?;
        let dy = Data::copy(&dy).map_err(to_js)?;
        self.worker.promise(env, flag(cancel), move |slot| live(slot)?.backward(dy, dstate), |out| out)
    }
    /// One sample a row, u (batch, features); gives the output and the next state.
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
            let interval = interval.as_ref().map(Data::copy).transpose()?;
            let (u, state) = (Data::copy(&u)?, Data::copy(&state)?);
            self.worker.call(move |l| l.step(u, state, interval, batch as usize, rate))
        })
    }
    /// K̄, (kernel channels, features, len).
    #[napi(ts_return_type = "Floats")]
    pub fn kernel(&self, len: u32, rate: f64) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.kernel(len as usize, rate)))
    }
    /// A zero state, (batch, features, state/2, 2).
    #[napi(ts_return_type = "Floats")]
    pub fn initial_state(&self, batch: u32) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.initial_state(batch as usize)))
    }
    /// Names, shapes and groups of all parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        guard(|| self.worker.call(|l| Ok(l.infos())))
    }
    /// A copy of a parameter's value.
    #[napi(ts_return_type = "Floats")]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.parameter(&name)))
    }
    /// A copy of a parameter's accumulated gradient.
    #[napi(ts_return_type = "Floats")]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        guard(|| self.worker.call(move |l| l.gradient(&name)))
    }
    /// Replaces a parameter's value.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        guard(|| {
            let value = Data::copy(&value)?;
            self.worker.call(move |l| l.set_parameter(&name, value))
        })
    }
    /// Zeroes all gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        guard(|| self.worker.call(|l| l.zero_grad()))
    }
    /// An AdamW on this layer's parameters (JSON of its options); gives its number.
    #[napi]
    pub fn adam_open(&self, config: String) -> napi::Result<u32> {
        guard(|| self.worker.call(move |l| l.adam_open(&config)))
    }
    /// One update with learning rates times `scale`; gives the gradients' norm.
    #[napi]
    pub fn adam_update(&self, id: u32, scale: f64) -> napi::Result<f64> {
        guard(|| self.worker.call(move |l| l.adam_update(id, scale)))
    }
    /// Frees an AdamW's moments, behind the calls under way.
    #[napi]
    pub fn adam_close(&self, id: u32) -> napi::Result<()> {
        guard(|| {
            self.worker.release(move |l| l.adam_close(id));
            Ok(())
        })
    }
    /// Requests for memory, waits and memory held, so far.
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
