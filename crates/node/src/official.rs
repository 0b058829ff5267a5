//! The methods of `NativeModel` for checkpoints of the official PyTorch code.

use crate::{
    buffer::{Bytes, Real},
    device::{HostOptions, Recipe},
    model::NativeModel,
    model_ops::{BoxedModel, boxed_model},
    worker::live_state,
};
use napi::{Env, bindgen_prelude::Object};
use napi_derive::napi;
use s4_backend::{Backend, Result};
use s4_nn::{TrainingSession, model_from_official};
use std::path::Path;

/// Recipe of a model from an official checkpoint: its file, and its configuration as JSON where the file holds none.
#[derive(Clone, Copy)]
struct OfficialModel<'a> {
    path: &'a Path,
    config: Option<&'a str>,
}

impl Recipe for OfficialModel<'_> {
    type Made = (BoxedModel, Vec<String>);
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<Self::Made> {
        let imported = model_from_official(be, self.path, self.config)?;
        Ok((boxed_model(TrainingSession::new(imported.model)), imported.notes))
    }
}

#[napi]
impl NativeModel {
    /// Loads an official checkpoint file; gives a sentence on each thing that was assumed. `config` is JSON.
    #[napi(ts_return_type = "Promise<Array<string>>")]
    pub fn load_official<'env>(
        &self,
        env: &'env Env,
        path: String,
        config: Option<String>,
        host: HostOptions,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| {
                let recipe = OfficialModel { path: Path::new(&path), config: config.as_deref() };
                let (model, notes) = host.make(recipe, None)?;
                *slot = Some(model);
                Ok(notes)
            },
            |notes| notes,
        )
    }
    /// The model as a state dict with the names, shapes and types of the official checkpoint `original`, in the bytes of a
    /// safetensors file.
    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn to_official<'env>(
        &self,
        env: &'env Env,
        original: String,
        config: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.worker.promise(
            env,
            None,
            move |slot| live_state(slot)?.to_official(Path::new(&original), config.as_deref()),
            Bytes,
        )
    }
}
