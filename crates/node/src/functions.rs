//! What needs no handle: matrices, convolution, files, diagnosis.

use crate::{
    buffer::{Data, DataIn, Real},
    error::guard,
};
use napi_derive::napi;
use s4_backend::{Code, ConvOps, ConvShape, Error, Memory, Result, Scalar};
use s4_cpu::Cpu;
use s4_ssm::{C64, Measure};
use std::collections::HashMap;

/// A named array coming in.
#[napi(object, object_to_js = false)]
pub struct NamedArray {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: DataIn,
}

/// A named array going out.
#[napi(object, object_from_js = false)]
pub struct NamedData {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Values.
    pub data: Data,
}

fn named(name: &str, shape: &[usize], data: Vec<f64>) -> NamedData {
    NamedData { name: name.into(), shape: shape.iter().map(|&n| n as u32).collect(), data: Data::F64(data) }
}

fn measure(op: &'static str, kind: &str, n: u32, even: bool) -> Result<(Measure, usize)> {
    let measure = match kind {
        "legs" => Measure::LegS,
        "legt" => Measure::LegT,
        "fourier" => Measure::Fourier,
        other => return Err(Error::value(op, "'legs', 'legt' or 'fourier'", other)),
    };
    let even = even || measure == Measure::Fourier;
    if n == 0 || n > 4096 || (even && n % 2 != 0) {
        return Err(Error::value(
            op,
            if even { "an even size from 2 to 4096" } else { "a size from 1 to 4096" },
            n,
        ));
    }
    Ok((measure, n as usize))
}

/// HiPPO matrices A (N, N), B (N), P (R, N).
#[napi]
pub fn hippo(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    guard(|| {
        let (measure, n) = measure("hippo", &kind, n, false)?;
        let h = s4_ssm::hippo(measure, n);
        Ok(vec![named("A", &[n, n], h.a), named("B", &[n], h.b), named("P", &[h.p.len(), n], h.p.concat())])
    })
}

/// The diagonalised normal plus low-rank form: lambda, p, b, b_unclipped; complex as trailing pairs.
#[napi]
pub fn nplr(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    guard(|| {
        let (measure, n) = measure("nplr", &kind, n, true)?;
        let form = s4_ssm::nplr(measure, n);
        let flat = |z: &[C64]| z.iter().flat_map(|z| [z.re, z.im]).collect::<Vec<f64>>();
        Ok(vec![
            named("lambda", &[n / 2, 2], flat(&form.lambda)),
            named("p", &[form.p.len(), n / 2, 2], flat(&form.p.concat())),
            named("b", &[n / 2, 2], flat(&form.b)),
            named("b_unclipped", &[n / 2, 2], flat(&form.b_unclipped)),
        ])
    })
}

fn conv<T: Real>(u: Data, kernel: Data, d: Option<Data>, shape: &ConvShape) -> Result<Data> {
    let be = Cpu::<T>::new(0)?;
    let (u, kernel) = (u.real::<T>()?, kernel.real::<T>()?);
    let d = d.map(Data::real::<T>).transpose()?;
    let finite = |x: &[T]| x.iter().all(|x| x.is_finite());
    if !(finite(&u) && finite(&kernel) && d.as_deref().is_none_or(finite)) {
        return Err(Error::value("fftConv", "finite numbers", "NaN or Inf"));
    }
    let rows = shape.channels * if shape.two_sided { 2 } else { 1 };
    let check = |what: &str, expected: usize, got: usize| match expected == got {
        true => Ok(()),
        false => Err(Error::shape("fftConv", format!("{expected} elements of {what}"), got)),
    };
    check("u", shape.batch * shape.heads * shape.len, u.len())?;
    check("kernel", rows * shape.heads * shape.kernel_len, kernel.len())?;
    if let Some(d) = &d {
        check("d", shape.channels * shape.heads, d.len())?;
    }
    // Public layout is (batch, len, features); the contract's is (batch, features, len).
    let mut inside = vec![T::zero(); u.len()];
    be.transpose(&mut inside, &u, shape.batch, shape.len, shape.heads)?;
    let outputs = shape.channels * shape.heads;
    let mut y = vec![T::zero(); shape.batch * outputs * shape.len];
    be.conv_forward(&mut y, &inside, &kernel, d.as_deref(), shape, &mut be.workspace())?;
    let mut out = vec![T::zero(); y.len()];
    be.transpose(&mut out, &y, shape.batch, outputs, shape.len)?;
    Ok(T::give(out))
}

/// y = K∗u + D·u, (batch, len, channels·heads).
#[napi]
pub fn fft_conv(
    u: DataIn,
    kernel: DataIn,
    d: Option<DataIn>,
    batch: u32,
    heads: u32,
    channels: u32,
    len: u32,
    kernel_len: u32,
    two_sided: bool,
) -> napi::Result<Data> {
    guard(|| {
        let shape = ConvShape {
            batch: batch as usize,
            heads: heads as usize,
            channels: channels as usize,
            len: len as usize,
            kernel_len: kernel_len as usize,
            two_sided,
        };
        if batch == 0 || heads == 0 || channels == 0 || len == 0 || kernel_len == 0 || kernel_len > len {
            return Err(Error::shape(
                "fftConv",
                "sizes of 1 or more and a kernel no longer than u",
                format!("{shape:?}"),
            ));
        }
        let (u, kernel, d) = (Data::copy(&u), Data::copy(&kernel), d.as_ref().map(Data::copy));
        match u {
            Data::F64(_) => conv::<f64>(u, kernel, d, &shape),
            _ => conv::<f32>(u, kernel, d, &shape),
        }
    })
}

/// Tensors and metadata of a safetensors file.
#[napi(object, object_from_js = false)]
pub struct TensorFile {
    /// F32 and F64 as they are, integers of 32 bits or fewer as Int32Array, I64 too where its values fit.
    pub tensors: Vec<NamedData>,
    /// Strings of the header.
    pub metadata: HashMap<String, String>,
}

fn bad_file(path: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::Checkpoint, "readSafetensors", "a sound safetensors file", format!("{path}: {reason}"))
}

/// Reads a safetensors file.
#[napi]
pub fn read_safetensors(path: String) -> napi::Result<TensorFile> {
    guard(|| {
        let bytes = std::fs::read(&path).map_err(|e| bad_file(&path, e))?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| bad_file(&path, e))?;
        let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| bad_file(&path, e))?;
        let mut tensors = Vec::new();
        for (name, view) in file.iter() {
            use safetensors::Dtype;
            let raw = view.data();
            fn each<const N: usize, T>(raw: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
                raw.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
            }
            let data = match view.dtype() {
                Dtype::F32 => Data::F32(each(raw, f32::from_le_bytes)),
                Dtype::F64 => Data::F64(each(raw, f64::from_le_bytes)),
                Dtype::I32 => Data::I32(each(raw, i32::from_le_bytes)),
                Dtype::U8 | Dtype::BOOL => Data::I32(raw.iter().map(|&b| i32::from(b)).collect()),
                Dtype::I64 => Data::I32(
                    each(raw, i64::from_le_bytes)
                        .into_iter()
                        .map(|x| {
                            i32::try_from(x)
                                .map_err(|_| bad_file(&path, format!("'{name}' holds {x}, beyond 32 bits")))
                        })
                        .collect::<Result<_>>()?,
                ),
                other => {
                    return Err(bad_file(&path, format!("'{name}' is {other:?}, which is not read here")));
                }
            };
            let shape = view.shape().iter().map(|&n| n as u32).collect();
            tensors.push(NamedData { name: name.to_string(), shape, data });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(TensorFile { tensors, metadata: header.metadata().clone().unwrap_or_default() })
    })
}

/// Writes a safetensors file: a temporary file, then a rename.
#[napi]
pub fn write_safetensors(
    path: String,
    tensors: Vec<NamedArray>,
    metadata: HashMap<String, String>,
) -> napi::Result<()> {
    guard(|| {
        let fail = |reason: String| {
            Error::new(Code::Checkpoint, "writeSafetensors", "to write the file", format!("{path}: {reason}"))
        };
        let mut entries = Vec::new();
        for t in &tensors {
            let (dtype, bytes) = match Data::copy(&t.data) {
                Data::F32(x) => {
                    (safetensors::Dtype::F32, x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
                }
                Data::F64(x) => (safetensors::Dtype::F64, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
                Data::I32(x) => (safetensors::Dtype::I32, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            };
            let shape: Vec<usize> = t.shape.iter().map(|&n| n as usize).collect();
            entries.push((t.name.clone(), dtype, shape, bytes));
        }
        let views = entries
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes)
                    .map(|v| (name.clone(), v))
                    .map_err(|e| fail(format!("'{name}': {e}")))
            })
            .collect::<Result<Vec<_>>>()?;
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))?;
        let target = std::path::Path::new(&path);
        let folder =
            target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder).map_err(|e| fail(e.to_string()))?;
        std::fs::write(file.path(), bytes).map_err(|e| fail(e.to_string()))?;
        file.persist(target).map_err(|e| fail(e.to_string()))?;
        Ok(())
    })
}

/// One column of a CSV file, by its name in the header or its place from 0, the last without either; `gaps`: `error` or
/// `linear`.
#[napi]
pub fn read_column(
    path: String,
    name: Option<String>,
    place: Option<u32>,
    gaps: String,
) -> napi::Result<Data> {
    guard(|| {
        let gaps = match gaps.as_str() {
            "error" => s4_data::Gaps::Error,
            "linear" => s4_data::Gaps::Linear,
            other => return Err(Error::value("readCsv", "gaps 'error' or 'linear'", other)),
        };
        let column = match (name, place) {
            (Some(name), _) => s4_data::Column::Name(name),
            (None, Some(place)) => s4_data::Column::Index(place as usize),
            (None, None) => s4_data::Column::Last,
        };
        let options = s4_data::CsvOptions { column, gaps, ..Default::default() };
        s4_data::read_csv(&path, &options)
            .map(Data::F64)
            .map_err(|e| Error::new(Code::Data, "readCsv", "a column of numbers", e))
    })
}

/// JSON: devices, threads, instruction set, why there is no GPU.
#[napi]
pub fn diagnose() -> napi::Result<String> {
    guard(|| {
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
        let all = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "platform": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "dtypes": [<f32 as Scalar>::DTYPE.as_str(), <f64 as Scalar>::DTYPE.as_str()],
            "devices": devices,
            "cuda": s4_cuda::diagnose_text(),
            "kernels": s4_cuda::architectures().split(' ').filter(|_| s4_cuda::available()).collect::<Vec<_>>(),
        });
        Ok(all.to_string())
    })
}
