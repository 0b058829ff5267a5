//! Files that need no handle: safetensors and columns of CSV.

use crate::{
    buffer::Data,
    error::guard,
    objects::{NamedArray, NamedData},
};
use napi_derive::napi;
use s4_backend::{Code, Error, Result};
use std::collections::HashMap;

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
#[napi(ts_return_type = "Float64Array")]
pub fn read_column(
    path: String,
    name: Option<String>,
    place: Option<u32>,
    #[napi(ts_arg_type = "'error' | 'linear'")] gaps: String,
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
