//! Files that need no handle: safetensors and columns of CSV.

use crate::{
    buffer::{Data, FileNumbers},
    error::guard,
};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use s4_backend::{Code, Error, Result, host_memory};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{collections::HashMap, io::Write};

/// A tensor of a file.
#[napi(object, object_from_js = false)]
pub struct FileTensor {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<f64>,
    /// The file's word for its type: `F32`, `BF16`, `I64`, …
    pub dtype: String,
    /// Values; nothing where the type is not read here.
    #[napi(
        ts_type = "Float32Array | Float64Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array"
    )]
    pub data: Option<FileNumbers>,
}

/// Tensors and metadata of a safetensors file.
#[napi(object, object_from_js = false)]
pub struct TensorFile {
    /// By name.
    pub tensors: Vec<FileTensor>,
    /// Strings of the header.
    pub metadata: HashMap<String, String>,
}

/// A tensor to be written, as the bytes of its values.
#[napi(object, object_to_js = false)]
pub struct BytesTensor {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<f64>,
    /// The file's word for its type.
    pub dtype: String,
    /// Little-endian, row-major.
    pub bytes: Uint8Array,
}

fn bad_file(path: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::Checkpoint, "readSafetensors", "a sound safetensors file", format!("{path}: {reason}"))
}

/// Numbers of `N` bytes each.
fn each<const N: usize, T>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let (chunks, _) = raw.as_chunks::<N>();
    let mut out = host_memory::reserved("readSafetensors", "a tensor", chunks.len(), chunks.len())?;
    out.extend(chunks.iter().map(|b| from(*b)));
    Ok(out)
}

/// F16 in F32, exactly.
fn from_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0f32 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

/// Values of a type, each exactly; nothing for a type that is not read here.
fn numbers(dtype: Dtype, raw: &[u8]) -> Result<Option<FileNumbers>> {
    let reals = |x: Vec<f32>| FileNumbers::Data(Data::F32(x));
    let integers = |x: Vec<i32>| FileNumbers::Data(Data::I32(x));
    Ok(Some(match dtype {
        Dtype::F16 => reals(each(raw, |b| from_f16(u16::from_le_bytes(b)))?),
        Dtype::BF16 => reals(each(raw, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))?),
        Dtype::F32 => reals(each(raw, f32::from_le_bytes)?),
        Dtype::F64 => FileNumbers::Data(Data::F64(each(raw, f64::from_le_bytes)?)),
        Dtype::BOOL | Dtype::U8 => integers(each(raw, |b| i32::from(u8::from_le_bytes(b)))?),
        Dtype::I8 => integers(each(raw, |b| i32::from(i8::from_le_bytes(b)))?),
        Dtype::U16 => integers(each(raw, |b| i32::from(u16::from_le_bytes(b)))?),
        Dtype::I16 => integers(each(raw, |b| i32::from(i16::from_le_bytes(b)))?),
        Dtype::I32 => integers(each(raw, i32::from_le_bytes)?),
        Dtype::U32 => FileNumbers::U32(each(raw, u32::from_le_bytes)?),
        Dtype::I64 => {
            let x = each(raw, i64::from_le_bytes)?;
            match x.iter().all(|&x| i32::try_from(x).is_ok()) {
                true => integers(each(raw, |b| i64::from_le_bytes(b) as i32)?),
                false => FileNumbers::I64(x),
            }
        }
        Dtype::U64 => FileNumbers::U64(each(raw, u64::from_le_bytes)?),
        _ => return Ok(None),
    }))
}

/// Reads a safetensors file.
#[napi]
pub fn read_safetensors(path: String) -> napi::Result<TensorFile> {
    guard(|| {
        let bytes = std::fs::read(&path).map_err(|e| bad_file(&path, e))?;
        let unsound = |e: safetensors::SafeTensorError| match s4_nn::foreign_kind(&bytes) {
            Some(kind) => bad_file(&path, kind),
            None => bad_file(&path, e),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unsound)?;
        let file = SafeTensors::deserialize(&bytes).map_err(unsound)?;
        let mut tensors = Vec::new();
        for (name, view) in file.iter() {
            tensors.push(FileTensor {
                name: name.to_string(),
                shape: view.shape().iter().map(|&n| n as f64).collect(),
                dtype: format!("{:?}", view.dtype()),
                data: numbers(view.dtype(), view.data())?,
            });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(TensorFile { tensors, metadata: header.metadata().clone().unwrap_or_default() })
    })
}

/// Types that JavaScript has arrays of, by the file's word.
const WRITTEN: [(&str, Dtype); 10] = [
    ("F32", Dtype::F32),
    ("F64", Dtype::F64),
    ("I8", Dtype::I8),
    ("U8", Dtype::U8),
    ("I16", Dtype::I16),
    ("U16", Dtype::U16),
    ("I32", Dtype::I32),
    ("U32", Dtype::U32),
    ("I64", Dtype::I64),
    ("U64", Dtype::U64),
];

/// Writes a safetensors file: a temporary file, then a rename.
#[napi]
pub fn write_safetensors(
    path: String,
    tensors: Vec<BytesTensor>,
    metadata: HashMap<String, String>,
) -> napi::Result<()> {
    guard(|| {
        let fail = |reason: String| {
            Error::new(Code::Checkpoint, "writeSafetensors", "to write the file", format!("{path}: {reason}"))
        };
        let target = std::path::Path::new(&path);
        s4_nn::check_target(target).map_err(|e| fail(e.to_string()))?;
        let mut views = Vec::new();
        for t in &tensors {
            let dtype = WRITTEN.iter().find(|(name, _)| *name == t.dtype).map(|(_, dtype)| *dtype);
            let dtype = dtype
                .ok_or_else(|| Error::new(Code::Dtype, "writeSafetensors", "a type of a file", &t.dtype))?;
            let shape = t.shape.iter().map(|&n| n as usize).collect();
            let view =
                TensorView::new(dtype, shape, &t.bytes).map_err(|e| fail(format!("'{}': {e}", t.name)))?;
            views.push((t.name.as_str(), view));
        }
        // Before the file of that size is made in memory.
        let size: u128 = views.iter().map(|(_, view)| view.data().len() as u128).sum();
        host_memory::check("writeSafetensors", "the file", size)?;
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))?;
        s4_nn::write_whole(target, |file| file.write_all(&bytes)).map_err(|e| fail(e.to_string()))
    })
}

/// One column of a CSV file, by its name in the header or its place from 0, the last without either; `gaps`: `error` or
/// `linear`. `header`: whether the first line holds names; nothing: it is found out.
#[napi(ts_return_type = "Float64Array")]
pub fn read_column(
    path: String,
    name: Option<String>,
    place: Option<u32>,
    #[napi(ts_arg_type = "'error' | 'linear'")] gaps: String,
    header: Option<bool>,
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
        let options = s4_data::CsvOptions { column: column.clone(), gaps, header, ..Default::default() };
        s4_data::read_csv(&path, &options)
            .map(Data::F64)
            .map_err(|e| Error::new(Code::Data, "readCsv", "a column of numbers", csv_words(&column, e)))
    })
}

/// What is wrong, in the words of the options: columns counted from 0 as `column` counts them, `gaps` named where it helps.
fn csv_words(column: &s4_data::Column, mut error: s4_data::DataError) -> String {
    // A column without a name comes with its number from 1.
    let numbered = error.column.as_deref().is_some_and(|name| name.parse::<usize>().is_ok());
    match column {
        s4_data::Column::Index(place) if numbered => error.column = Some(format!("{place} (from 0)")),
        s4_data::Column::Last if numbered => error.column = Some("the last".into()),
        _ => {}
    }
    if error.reason.contains("an empty field") {
        error.reason.push_str("; the option gaps: 'linear' fills such a gap");
    }
    if error.reason.contains("say whether the first line is a header") {
        error.reason.push_str(" by the option header: true or false");
    }
    error.to_string()
}
