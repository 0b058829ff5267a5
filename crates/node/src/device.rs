//! Which backend a handle computes on.

use crate::buffer::Real;
use napi_derive::napi;
use s4_backend::{Backend, Code, Error, Result, host_memory};
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Options};
use s4_nn::{Parameters, initialization_bytes};

/// Device, number format, threads, precision.
#[napi(object)]
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// `cpu`, `cuda` or `auto` (default): a GPU where there is one.
    pub device: Option<String>,
    /// Number format; default `f32`, or that of the checkpoint.
    #[napi(ts_type = "'f32' | 'f64'")]
    pub dtype: Option<String>,
    /// CPU threads, 0 or nothing for all cores.
    pub threads: Option<u32>,
    /// How exactly the GPU multiplies; CUDA only.
    #[napi(ts_type = "'highest' | 'high' | 'bf16'")]
    pub precision: Option<String>,
    /// Most bytes of GPU memory that the handle takes; CUDA only.
    pub memory_limit: Option<f64>,
}

/// Refuses what cannot be initialised in the memory that there is, before any of it is made.
pub(crate) fn check_memory<B: Backend>(op: &'static str, config: &impl Parameters, be: &B) -> Result<()> {
    let on_host = be.device_name() == "cpu";
    let bytes = initialization_bytes(config, size_of::<B::Scalar>(), on_host);
    host_memory::check(op, &format!("{} parameters", config.parameters()), bytes)
}

/// Something that can be made on any backend.
pub(crate) trait Make: Clone {
    type Out;
    fn on<B: Backend<Scalar: Real>>(self, be: B) -> Result<Self::Out>;
}

impl HostOptions {
    /// Chooses the backend and makes the thing on it. `dtype` of a checkpoint stands where none was asked for.
    pub(crate) fn make<M: Make>(&self, make: M, dtype: Option<&str>) -> Result<M::Out> {
        let threads = self.threads.unwrap_or(0) as usize;
        let dtype = self.dtype.as_deref().or(dtype).unwrap_or("f32");
        match self.device.as_deref().unwrap_or("auto") {
            "cuda" => return make.on(self.gpu(dtype)?),
            // The GPU wherever it can do what was asked, else the CPU without a word; `diagnose()` says why.
            "auto" => {
                if let Ok(gpu) = self.gpu(dtype) {
                    match make.clone().on(gpu) {
                        Err(e) if e.code == Code::Unsupported => {}
                        made => return made,
                    }
                }
            }
            "cpu" => {}
            other => return Err(Error::value("device", "'cpu', 'cuda' or 'auto'", other)),
        }
        match dtype {
            "f32" => make.on(Cpu::<f32>::new(threads)?),
            "f64" => make.on(Cpu::<f64>::new(threads)?),
            other => Err(Error::new(Code::Dtype, "dtype", "'f32' or 'f64'", other)),
        }
    }

    /// The first GPU, or why there is none for this.
    fn gpu(&self, dtype: &str) -> Result<Cuda> {
        s4_cuda::probe()?;
        if dtype != "f32" {
            return Err(Error::new(Code::Dtype, "device 'cuda'", "dtype 'f32'", dtype));
        }
        let precision = self.precision.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        // S4_CUDA_ARCH names one image of the build, to test the code that other chips would run.
        let architecture = std::env::var("S4_CUDA_ARCH").ok();
        let memory_limit = self.memory_limit.map(|bytes| bytes as usize);
        Cuda::with(0, &Options { memory_limit, architecture, precision })
    }
}
