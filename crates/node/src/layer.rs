//! The class `NativeLayer` of the addon: what an S4Layer or an S4Block of the API calls.

use crate::{
    buffer::{Data, DataIn, FloatsOut, InputSlice, OutputSlice, Real},
    device::{HostOptions, Recipe},
    error::{parse_json, to_js, to_js_result},
    layer_ops::{BoxedLayer, LayerBox},
    objects::{CallOptions, Cancel, Counters, Forward, NamedArray, NamedData, ParameterInfo, cancel_flag},
    optimizers::{MomentsIn, OpenedAdam, copied_moments},
    worker::{Worker, live_state},
};
use napi::{
    Env,
    bindgen_prelude::{Object, ObjectFinalize},
};
use napi_derive::napi;
use s4_backend::{Backend, Error, Result};
use s4_nn::{
    Block, BlockConfig, Layer, LayerConfig, StateDict, block_from_official, block_from_official_file,
    check_initialization, official_tensor,
};
use std::path::PathBuf;

/// Recipe of a new layer or block: what it is, `layer` or `block`, and its options as JSON.
#[derive(Clone, Copy)]
struct NewLayer<'a> {
    kind: &'a str,
    config: &'a str,
}
impl Recipe for NewLayer<'_> {
    type Made = BoxedLayer;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedLayer> {
        match self.kind {
            "layer" => {
                let config = LayerConfig::from_json(self.config)?;
                check_initialization("S4Layer", &config, &be)?;
                Ok(LayerBox::boxed(Layer::new(be, config)?))
            }
            "block" => {
                let config = BlockConfig::from_json(self.config)?;
                check_initialization("S4Block", &config, &be)?;
                Ok(LayerBox::boxed(Block::new(be, config)?))
            }
            other => Err(Error::value("NativeLayer", "'layer' or 'block'", other)),
        }
    }
}

/// Recipe of a block from an official state dict, given as a file or as tensors, with the configuration as JSON.
#[derive(Clone)]
enum OfficialBlock {
    File(PathBuf, Option<String>),
    Tensors(StateDict, String),
}
impl Recipe for OfficialBlock {
    type Made = BoxedLayer;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<BoxedLayer> {
        let block = match self {
            OfficialBlock::File(path, config) => block_from_official_file(be, &path, config.as_deref())?,
            OfficialBlock::Tensors(tensors, config) => block_from_official(be, tensors, &config)?,
        };
        Ok(LayerBox::boxed(block))
    }
}

/// A layer or a block of the addon.
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
    /// A handle around what `make` gives; tells V8 how much memory that holds.
    fn from_recipe(
        env: &Env,
        make: impl FnOnce() -> Result<BoxedLayer> + Send + 'static,
    ) -> napi::Result<Self> {
        to_js_result(|| {
            let worker = Worker::new();
            let bytes = worker.call_with_slot(move |slot| {
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
    /// A new layer or block. `config` is JSON of its options.
    #[napi(constructor)]
    pub fn new(
        env: Env,
        #[napi(ts_arg_type = "'layer' | 'block'")] kind: String,
        config: String,
        host: HostOptions,
    ) -> napi::Result<Self> {
        Self::from_recipe(&env, move || host.make(NewLayer { kind: &kind, config: &config }, None))
    }
    /// A block from an official checkpoint file.
    #[napi(factory)]
    pub fn from_official_file(
        env: Env,
        path: String,
        config: Option<String>,
        host: HostOptions,
    ) -> napi::Result<Self> {
        Self::from_recipe(&env, move || host.make(OfficialBlock::File(path.into(), config), None))
    }
    /// A block from tensors of an official state dict.
    #[napi(factory)]
    pub fn from_official(
        env: Env,
        tensors: Vec<NamedArray>,
        config: String,
        host: HostOptions,
    ) -> napi::Result<Self> {
        let tensors = to_js_result(|| {
            tensors
                .iter()
                .map(|t| {
                    let data = match Data::copy(&t.data)? {
                        Data::F32(x) => x.into_iter().map(f64::from).collect(),
                        Data::F64(x) => x,
                        Data::I32(x) => x.into_iter().map(f64::from).collect(),
                    };
                    let shape = t.shape.iter().map(|&n| n as usize).collect();
                    Ok((t.name.clone(), official_tensor(shape, &data)?))
                })
                .collect::<Result<StateDict>>()
        })?;
        Self::from_recipe(&env, move || host.make(OfficialBlock::Tensors(tensors, config), None))
    }
    /// A description of it as JSON: config, dtype, device, outputs, kernelChannels, hasState.
    #[napi]
    pub fn describe(&self) -> napi::Result<String> {
        to_js_result(|| {
            self.worker.call(|l| {
                let description = serde_json::json!({
                    "kernelChannels": l.kernel_channels(),
                    "config": parse_json(&l.config()),
                    "dtype": l.dtype(),
                    "device": l.device(),
                    "outputs": l.outputs(),
                    "hasState": l.has_state(),
                });
                Ok(description.to_string())
            })
        })
    }
    /// Computes the output for u (batch, len, features) into the caller's array `y`; gives the state after the last time
    /// step.
    #[napi(ts_return_type = "Floats | null")]
    pub fn forward(
        &self,
        u: DataIn,
        batch: u32,
        len: u32,
        options: CallOptions,
        mut y: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        to_js_result(|| {
            let (u, call, y) = (InputSlice::of(&u), options.copy()?, OutputSlice::of(&mut y));
            self.worker.call(move |l| l.forward_into(y, u, (batch as usize, len as usize), call))
        })
    }
    /// As `forward`, on the handle's own thread, with a new array for the output.
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
            cancel_flag(cancel),
            move |slot| live_state(slot)?.forward(u, batch as usize, len as usize, call),
            |out| out,
        )
    }
    /// Gradients for the last forward that saved its values: writes that of the input into the caller's array `du` and
    /// gives that of the start state.
    #[napi(ts_return_type = "Floats | null")]
    pub fn backward(
        &self,
        dy: DataIn,
        dstate: Option<DataIn>,
        mut du: FloatsOut,
    ) -> napi::Result<Option<Data>> {
        to_js_result(|| {
            let dstate = dstate.as_ref().map(Data::copy).transpose()?;
            let (dy, du) = (InputSlice::of(&dy), OutputSlice::of(&mut du));
            self.worker.call(move |l| l.backward_into(du, dy, dstate))
        })
    }
    /// As `backward`, on the handle's own thread, with a new array for the input's gradient.
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
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.backward(dy, dstate),
            |out| out,
        )
    }
    /// One time step of every sequence, u (batch, features); gives the output and the state after it.
    #[napi]
    pub fn step(
        &self,
        u: DataIn,
        state: DataIn,
        interval: Option<DataIn>,
        batch: u32,
        rate: f64,
    ) -> napi::Result<Forward> {
        to_js_result(|| {
            let interval = interval.as_ref().map(Data::copy).transpose()?;
            let (u, state) = (Data::copy(&u)?, Data::copy(&state)?);
            self.worker.call(move |l| l.step(u, state, interval, batch as usize, rate))
        })
    }
    /// The convolution kernel K̄, (kernel channels, features, len).
    #[napi(ts_return_type = "Floats")]
    pub fn kernel(&self, len: u32, rate: f64) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |l| l.kernel(len as usize, rate)))
    }
    /// As `kernel`, on the handle's own thread.
    #[napi(ts_return_type = "Promise<Floats>")]
    pub fn kernel_async<'env>(
        &self,
        env: &'env Env,
        len: u32,
        rate: f64,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.kernel(len as usize, rate),
            |kernel| kernel,
        )
    }
    /// A zero state, (batch, features, state/2, 2).
    #[napi(ts_return_type = "Floats")]
    pub fn initial_state(&self, batch: u32) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |l| l.initial_state(batch as usize)))
    }
    /// Names, shapes and groups of all parameters.
    #[napi]
    pub fn parameters(&self) -> napi::Result<Vec<ParameterInfo>> {
        to_js_result(|| self.worker.call(|l| Ok(l.infos())))
    }
    /// A copy of a parameter's value.
    #[napi(ts_return_type = "Floats")]
    pub fn parameter(&self, name: String) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |l| l.parameter(&name)))
    }
    /// A copy of a parameter's accumulated gradient.
    #[napi(ts_return_type = "Floats")]
    pub fn gradient(&self, name: String) -> napi::Result<Data> {
        to_js_result(|| self.worker.call(move |l| l.gradient(&name)))
    }
    /// Replaces a parameter's value.
    #[napi]
    pub fn set_parameter(&self, name: String, value: DataIn) -> napi::Result<()> {
        to_js_result(|| {
            let value = Data::copy(&value)?;
            self.worker.call(move |l| l.set_parameter(&name, value))
        })
    }
    /// Running means and variances of a batch norm, (2, features); nothing without one.
    #[napi(ts_return_type = "Floats | null")]
    pub fn running_statistics(&self) -> napi::Result<Option<Data>> {
        to_js_result(|| self.worker.call(|l| l.running_statistics()))
    }
    /// Replaces the running means and variances of a batch norm.
    #[napi]
    pub fn set_running_statistics(&self, values: DataIn) -> napi::Result<()> {
        to_js_result(|| {
            let values = Data::copy(&values)?;
            self.worker.call(move |l| l.set_running_statistics(values))
        })
    }
    /// Zeroes all gradients.
    #[napi]
    pub fn zero_grad(&self) -> napi::Result<()> {
        to_js_result(|| self.worker.call(|l| l.zero_grad()))
    }
    /// Makes an AdamW for this layer's parameters, with options as JSON, in whose groups `prefix` may stand before the names.
    #[napi]
    pub fn adam_open(&self, config: String, prefix: String) -> napi::Result<OpenedAdam> {
        to_js_result(|| self.worker.call(move |l| l.adam_open(&config, &prefix)))
    }
    /// Σ g² over the gradients that AdamW number `id` does not leave out.
    #[napi]
    pub fn adam_squared_norm(&self, id: u32) -> napi::Result<f64> {
        to_js_result(|| self.worker.call(move |l| l.adam_squared_norm(id)))
    }
    /// One update by AdamW number `id`, with the learning rates multiplied by `scale`. `squaredNorm`: Σ g² of all that is clipped
    /// together.
    #[napi]
    pub fn adam_update(&self, id: u32, scale: f64, squared_norm: f64) -> napi::Result<()> {
        to_js_result(|| self.worker.call(move |l| l.adam_update(id, scale, squared_norm)))
    }
    /// The moments of AdamW number `id`: of each parameter first ones, then second ones.
    #[napi(ts_return_type = "Array<NamedArray>")]
    pub fn adam_moments(&self, id: u32) -> napi::Result<Vec<NamedData>> {
        to_js_result(|| self.worker.call(move |l| l.adam_moments(id)))
    }
    /// Other moments for AdamW number `id`, in the order of the parameters, and the number of updates that they are from.
    #[napi]
    pub fn adam_restore(&self, id: u32, step: f64, moments: Vec<MomentsIn>) -> napi::Result<()> {
        to_js_result(|| {
            let moments = copied_moments(&moments)?;
            self.worker.call(move |l| l.adam_restore(id, step, moments))
        })
    }
    /// Number of updates of AdamW number `id`.
    #[napi]
    pub fn adam_steps(&self, id: u32) -> napi::Result<f64> {
        to_js_result(|| self.worker.call(move |l| l.adam_steps(id)))
    }
    /// Frees the moments of AdamW number `id`, after the calls under way.
    #[napi]
    pub fn adam_close(&self, id: u32) -> napi::Result<()> {
        to_js_result(|| {
            self.worker.enqueue_release(move |l| l.adam_close(id));
            Ok(())
        })
    }
    /// Counts of memory requests and of waits for the device so far, and the memory held now.
    #[napi]
    pub fn counters(&self) -> napi::Result<Counters> {
        to_js_result(|| self.worker.call(|l| Ok(l.counters())))
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
