//! Describes the devices of this machine.

use crate::error::to_js_result;
use napi_derive::napi;
use s4_backend::Scalar;
use s4_cpu::Cpu;

/// The devices of this machine as JSON: CPU threads and instruction set, GPUs, and the reason where there is no GPU.
#[napi]
pub fn diagnose() -> napi::Result<String> {
    to_js_result(|| {
        let cpu = Cpu::<f32>::new(1)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut devices = vec![
            serde_json::json!({ "id": "cpu", "kind": "cpu", "threads": cores, "simd": cpu.level().as_str() }),
        ];
        if let Ok(found) = s4_cuda::probe() {
            for d in found {
                devices.push(serde_json::json!({
                    "id": format!("cuda:{}", d.ordinal),
                    "kind": "cuda",
                    "name": d.name,
                    "memory": d.memory,
                    "capability": format!("{}.{}", d.capability.0, d.capability.1),
                    "driver": format!("{}.{}", d.driver.0, d.driver.1),
                }));
            }
        }
        let diagnosis = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "platform": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "dtypes": [<f32 as Scalar>::DTYPE.as_str(), <f64 as Scalar>::DTYPE.as_str()],
            "devices": devices,
            "cuda": s4_cuda::diagnose_text(),
            "kernels": s4_cuda::architectures().split(' ').filter(|_| s4_cuda::available()).collect::<Vec<_>>(),
        });
        Ok(diagnosis.to_string())
    })
}
