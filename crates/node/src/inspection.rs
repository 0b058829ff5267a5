//! The methods of `NativeModel` that say what a model has learned.

use crate::{
    buffer::{Data, DataIn, copied},
    error::to_js,
    model::NativeModel,
    objects::{CallOptions, Cancel, cancel_flag, is_wanted},
    worker::live_state,
};
use napi::{
    Env,
    bindgen_prelude::{Float64Array, Object},
};
use napi_derive::napi;

/// One layer; its arrays are as in `LayerInspection` of crates/nn.
#[napi(object, object_from_js = false)]
pub struct LayerFigures {
    /// Δ of each head.
    #[napi(ts_type = "Float64Array")]
    pub dt: Data,
    /// Λ, (SSMs, N/2, 2).
    #[napi(ts_type = "Float64Array")]
    pub lambda: Data,
    /// (heads, 3): time steps that hold 50, 90 and 99 % of a kernel's energy.
    #[napi(ts_type = "Float64Array")]
    pub memory: Data,
    /// (heads, frequencies): the gain of each kernel.
    #[napi(ts_type = "Float64Array")]
    pub gain: Data,
    /// Part of the modes that turn or decay by more than π in a time step.
    pub unresolved: f64,
    /// Of each head the size of what it sends on.
    #[napi(ts_type = "Float64Array")]
    pub strength: Data,
}

/// What a model does with data.
#[napi(object, object_from_js = false)]
pub struct DataFigures {
    /// ‖change‖/‖input‖ of each block with a residual.
    #[napi(ts_type = "Float64Array")]
    pub change: Data,
    /// (batch, len): how much the last output depends on each time step.
    #[napi(ts_type = "Float64Array")]
    pub influence: Data,
}

#[napi]
impl NativeModel {
    /// What does not change with data, of every layer. `frequencies`: in cycles a time step.
    #[napi(ts_return_type = "Promise<Array<LayerFigures>>")]
    pub fn inspect_layers<'env>(
        &self,
        env: &'env Env,
        frequencies: Float64Array,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let frequencies = copied(&frequencies).map_err(to_js)?;
        let cancel = cancel_flag(cancel);
        let flag = cancel.clone();
        self.worker.promise(
            env,
            cancel,
            move |slot| live_state(slot)?.inspect_layers(&frequencies, &mut || is_wanted(&flag)),
            |layers| {
                let figures = layers.into_iter().map(|layer| LayerFigures {
                    dt: Data::F64(layer.dt),
                    lambda: Data::F64(layer.lambda),
                    memory: Data::F64(layer.memory),
                    gain: Data::F64(layer.gain),
                    unresolved: layer.unresolved,
                    strength: Data::F64(layer.strength),
                });
                figures.collect::<Vec<_>>()
            },
        )
    }
    /// What the model does with data: values (batch, len, input) or tokens (batch, len).
    #[napi(ts_return_type = "Promise<DataFigures>")]
    pub fn inspect_data<'env>(
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
            move |slot| live_state(slot)?.inspect_data(x, batch as usize, len as usize, call),
            |data| DataFigures { change: Data::F64(data.change), influence: Data::F64(data.influence) },
        )
    }
}
