//! Which backend a handle computes on.

use crate::ops::{LayerOps, ModelOps};
use napi_derive::napi;
use s4_backend::{Backend, Code, Error, Result};
use s4_cpu::Cpu;

/// Device, number format, threads, precision.
#[napi(object)]
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// `cpu`, `cuda` or `auto`.
    pub device: Option<String>,
    /// `f32` or `f64`.
    pub dtype: Option<String>,
    /// CPU threads, 0 or nothing for all cores.
    pub threads: Option<u32>,
    /// `highest`, `high`, `bf16`: CUDA only.
    pub precision: Option<String>,
}

/// Something that can be made on any backend.
pub(crate) trait Make {
    type Out;
    fn on<B: Backend>(self, be: B) -> Result<Self::Out>
    where
        B::Scalar: crate::buffer::Real;
}

impl HostOptions {
    /// Chooses the backend and makes the thing on it. `dtype` of a checkpoint stands where none was asked for.
    pub(crate) fn make<M: Make>(&self, make: M, dtype: Option<&str>) -> Result<M::Out> {
        let threads = self.threads.unwrap_or(0) as usize;
        match self.device.as_deref().unwrap_or("auto") {
            "cpu" | "auto" => {}
            "cuda" => return Err(cuda_reason()),
            other => return Err(Error::value("device", "'cpu', 'cuda' or 'auto'", other)),
        }
        match self.dtype.as_deref().or(dtype).unwrap_or("f32") {
            "f32" => make.on(Cpu::<f32>::new(threads)?),
            "f64" => make.on(Cpu::<f64>::new(threads)?),
            other => Err(Error::new(Code::Dtype, "dtype", "'f32' or 'f64'", other)),
        }
    }
}

/// Why there is no GPU to compute on.
fn cuda_reason() -> Error {
    match s4_cuda::probe() {
        Err(reason) => reason.into(),
        Ok(_) => Error::new(Code::Device, "device 'cuda'", "a backend for it in this build", "none"),
    }
}

/// A boxed layer or block.
pub(crate) type BoxedLayer = Box<dyn LayerOps>;
/// A boxed model.
pub(crate) type BoxedModel = Box<dyn ModelOps>;
