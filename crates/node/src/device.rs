//! Chooses the backend (CPU or GPU, and number format) that a handle computes on.

use crate::{
    buffer::Real,
    process_exit::{StillThere, wait_at_exit},
};
use napi_derive::napi;
use s4_backend::{Backend, Code, Error, Result};
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Options};

/// Options of where and in which number format a handle computes.
#[napi(object)]
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// `cpu`, `cuda` (the first GPU), `cuda:1` and so on, or `auto` (default), which takes the first GPU where there is one.
    pub device: Option<String>,
    /// Number format. The default is `f32`, or that of a checkpoint which is loaded.
    #[napi(ts_type = "'f32' | 'f64'")]
    pub dtype: Option<String>,
    /// Number of CPU threads; 0 or nothing takes one for each core.
    pub threads: Option<u32>,
    /// How exactly the GPU multiplies. The CPU does not read it.
    #[napi(ts_type = "'highest' | 'high' | 'bf16'")]
    pub precision: Option<String>,
    /// Most bytes of GPU memory that the handle may take. The CPU does not read it.
    pub memory_limit: Option<f64>,
}

/// The recipe of a layer, block or model that can be made on any backend.
pub(crate) trait Recipe: Clone {
    /// The layer, block or model.
    type Made;
    /// Makes the layer, block or model on this backend.
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<Self::Made>;
}

impl HostOptions {
    /// Chooses a backend by these options and makes a layer, block or model on it. `dtype`: number format of a checkpoint,
    /// which is taken where the options name none.
    pub(crate) fn make<M: Recipe>(&self, recipe: M, dtype: Option<&str>) -> Result<M::Made> {
        let threads = self.threads.unwrap_or(0) as usize;
        let dtype = self.dtype.as_deref().or(dtype).unwrap_or("f32");
        match self.device.as_deref().unwrap_or("auto") {
            "cuda" => return recipe.on(self.gpu(dtype, 0)?),
            // The GPU if there is one that can do what was asked for, else the CPU. There is no warning: `diagnose()` says
            // the reason.
            "auto" => {
                if let Ok(gpu) = self.gpu(dtype, 0) {
                    match recipe.clone().on(gpu) {
                        Err(e) if e.code == Code::Unsupported => {}
                        made => return made,
                    }
                }
            }
            "cpu" => {}
            other => match other.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()) {
                Some(ordinal) => return recipe.on(self.gpu(dtype, ordinal)?),
                None => return Err(Error::value("device", "'cpu', 'cuda', 'cuda:1' or 'auto'", other)),
            },
        }
        match dtype {
            "f32" => recipe.on(Cpu::<f32>::new(threads)?),
            "f64" => recipe.on(Cpu::<f64>::new(threads)?),
            other => Err(Error::new(Code::Dtype, "dtype", "'f32' or 'f64'", other)),
        }
    }

    /// A backend on GPU `ordinal`, or the reason why there is none for this number format.
    fn gpu(&self, dtype: &str, ordinal: usize) -> Result<Cuda> {
        s4_cuda::probe()?;
        wait_at_exit(StillThere::Driver);
        if dtype != "f32" {
            return Err(Error::new(Code::Dtype, "device 'cuda'", "dtype 'f32'", dtype));
        }
        let precision = self.precision.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        // The environment variable S4_CUDA_ARCH chooses the kernels compiled for another generation of chips, for tests.
        let architecture = std::env::var("S4_CUDA_ARCH").ok();
        let memory_limit = self.memory_limit.map(|bytes| bytes as usize);
        let options = Options { memory_limit, architecture, precision, ..Options::default() };
        let gpu = Cuda::with(ordinal, &options)?;
        wait_at_exit(StillThere::Context);
        Ok(gpu)
    }
}
