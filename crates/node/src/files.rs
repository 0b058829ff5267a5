//! Reads and writes files without a layer or model: safetensors, and columns of CSV files.

use crate::{
    background::{Background, in_background},
    buffer::{Data, FileNumbers, copied_bytes},
    error::to_js_result,
};
use napi::bindgen_prelude::{AsyncTask, Uint8Array};
use napi_derive::napi;
use s4_backend::{Code, Error, Result, host_memory};
use s4_nn::{FileMetadata, TensorFile as WrittenFile, TensorToWrite, WriteError, read_whole};
use safetensors::{Dtype, SafeTensors};
use std::{collections::HashMap, path::Path};

/// A tensor that was read from a safetensors file.
#[napi(object, object_from_js = false)]
pub struct FileTensor {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<f64>,
    /// Type of its elements in the file: `F32`, `BF16`, `I64`, …
    pub dtype: String,
    /// Its elements; nothing where JavaScript has no array for their type.
    #[napi(
        ts_type = "Float32Array | Float64Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array"
    )]
    pub data: Option<FileNumbers>,
}

/// What a safetensors file holds.
#[napi(object, object_from_js = false)]
pub struct TensorFile {
    /// Its tensors, sorted by name.
    pub tensors: Vec<FileTensor>,
    /// The metadata in its header.
    pub metadata: HashMap<String, String>,
}

/// A tensor to be written to a safetensors file, as the bytes of its elements.
#[napi(object, object_to_js = false)]
pub struct BytesTensor {
    /// Name.
    pub name: String,
    /// Sizes.
    pub shape: Vec<f64>,
    /// Type of its elements in the file.
    pub dtype: String,
    /// Its elements, little-endian, the last size running fastest.
    pub bytes: Uint8Array,
}

/// `ERR_S4_CHECKPOINT` for a file that cannot be read as safetensors.
fn bad_file(path: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::Checkpoint, "readSafetensors", "a sound safetensors file", format!("{path}: {reason}"))
}

/// Converts each group of `N` bytes to a number by `from`.
fn convert_each<const N: usize, T>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let (chunks, _) = raw.as_chunks::<N>();
    let mut elements = host_memory::reserved("readSafetensors", "a tensor", chunks.len(), chunks.len())?;
    elements.extend(chunks.iter().map(|b| from(*b)));
    Ok(elements)
}

/// The number of 16 bits (one of sign, five of exponent, ten of fraction) as f32, which holds it exactly.
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

/// The elements in a file's bytes, each exactly; `None` for a type that no array of JavaScript holds.
fn elements_of(dtype: Dtype, raw: &[u8]) -> Result<Option<FileNumbers>> {
    let reals = |x: Vec<f32>| FileNumbers::Data(Data::F32(x));
    let integers = |x: Vec<i32>| FileNumbers::Data(Data::I32(x));
    Ok(Some(match dtype {
        Dtype::F16 => reals(convert_each(raw, |b| from_f16(u16::from_le_bytes(b)))?),
        Dtype::BF16 => reals(convert_each(raw, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))?),
        Dtype::F32 => reals(convert_each(raw, f32::from_le_bytes)?),
        Dtype::F64 => FileNumbers::Data(Data::F64(convert_each(raw, f64::from_le_bytes)?)),
        Dtype::BOOL | Dtype::U8 => integers(convert_each(raw, |b| i32::from(u8::from_le_bytes(b)))?),
        Dtype::I8 => integers(convert_each(raw, |b| i32::from(i8::from_le_bytes(b)))?),
        Dtype::U16 => integers(convert_each(raw, |b| i32::from(u16::from_le_bytes(b)))?),
        Dtype::I16 => integers(convert_each(raw, |b| i32::from(i16::from_le_bytes(b)))?),
        Dtype::I32 => integers(convert_each(raw, i32::from_le_bytes)?),
        Dtype::U32 => FileNumbers::U32(convert_each(raw, u32::from_le_bytes)?),
        Dtype::I64 => {
            let x = convert_each(raw, i64::from_le_bytes)?;
            match x.iter().all(|&x| i32::try_from(x).is_ok()) {
                true => integers(convert_each(raw, |b| i64::from_le_bytes(b) as i32)?),
                false => FileNumbers::I64(x),
            }
        }
        Dtype::U64 => FileNumbers::U64(convert_each(raw, u64::from_le_bytes)?),
        _ => return Ok(None),
    }))
}

/// Reads all tensors and the metadata of a safetensors file.
fn read_tensor_file(path: &str) -> Result<TensorFile> {
    let bytes = read_whole("readSafetensors", Path::new(path))?;
    let unsound = |e: safetensors::SafeTensorError| match s4_nn::foreign_kind(&bytes) {
        Some(kind) => bad_file(path, kind),
        None => bad_file(path, e),
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unsound)?;
    let file = SafeTensors::deserialize(&bytes).map_err(unsound)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        tensors.push(FileTensor {
            name: name.to_string(),
            shape: view.shape().iter().map(|&n| n as f64).collect(),
            dtype: format!("{:?}", view.dtype()),
            data: elements_of(view.dtype(), view.data())?,
        });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(TensorFile { tensors, metadata: header.metadata().clone().unwrap_or_default() })
}

/// Reads all tensors and the metadata of a safetensors file.
#[napi]
pub fn read_safetensors(path: String) -> napi::Result<TensorFile> {
    to_js_result(|| read_tensor_file(&path))
}

/// As `readSafetensors`, away from the JavaScript thread.
#[napi(ts_return_type = "Promise<TensorFile>")]
pub fn read_safetensors_async(path: String) -> AsyncTask<Background<TensorFile>> {
    in_background(move || read_tensor_file(&path))
}

/// The element types that JavaScript has arrays of, by their names in safetensors files.
const WRITABLE_DTYPES: [(&str, Dtype); 10] = [
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

/// A tensor on its way to a file: name, type of its elements, sizes, and their bytes.
struct StoredTensor<T> {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: T,
}

impl<T> StoredTensor<T> {
    /// A tensor of JavaScript's, with its bytes as `bytes` gives them.
    fn of(tensor: BytesTensor, bytes: impl FnOnce(Uint8Array) -> Result<T>) -> Result<Self> {
        let shape = tensor.shape.iter().map(|&n| n as usize).collect();
        Ok(StoredTensor { name: tensor.name, dtype: tensor.dtype, shape, bytes: bytes(tensor.bytes)? })
    }
}

/// Writes a safetensors file: to a temporary file, which is then renamed.
fn write_tensor_file<T: AsRef<[u8]>>(
    path: &str,
    tensors: &[StoredTensor<T>],
    metadata: HashMap<String, String>,
) -> Result<()> {
    let write_error = |reason: String| {
        Error::new(Code::Checkpoint, "writeSafetensors", "to write the file", format!("{path}: {reason}"))
    };
    let target = Path::new(path);
    s4_nn::check_target(target).map_err(|e| write_error(e.to_string()))?;
    let mut written = Vec::new();
    for t in tensors {
        let dtype = WRITABLE_DTYPES.iter().find(|(name, _)| *name == t.dtype).map(|(_, dtype)| *dtype);
        let dtype =
            dtype.ok_or_else(|| Error::new(Code::Dtype, "writeSafetensors", "a type of a file", &t.dtype))?;
        // The sizes were compared with the number of elements before.
        let bytes = Box::new(|| Ok(std::borrow::Cow::Borrowed(t.bytes.as_ref())));
        written.push(TensorToWrite { name: t.name.clone(), dtype, shape: t.shape.clone(), bytes });
    }
    let file =
        WrittenFile::new("writeSafetensors", written, &metadata.into_iter().collect::<FileMetadata>())?;
    s4_nn::write_whole(target, |out| file.write_to(out)).map_err(|error| match error {
        WriteError::Io(error) => write_error(error.to_string()),
        WriteError::Contents(error) => error,
    })
}

/// Writes a safetensors file: to a temporary file, which is then renamed.
#[napi]
pub fn write_safetensors(
    path: String,
    tensors: Vec<BytesTensor>,
    metadata: HashMap<String, String>,
) -> napi::Result<()> {
    to_js_result(|| {
        let tensors = tensors.into_iter().map(|t| StoredTensor::of(t, Ok)).collect::<Result<Vec<_>>>()?;
        write_tensor_file(&path, &tensors, metadata)
    })
}

/// As `writeSafetensors`, away from the JavaScript thread; the elements are copied first.
#[napi(ts_return_type = "Promise<void>")]
pub fn write_safetensors_async(
    path: String,
    tensors: Vec<BytesTensor>,
    metadata: HashMap<String, String>,
) -> napi::Result<AsyncTask<Background<()>>> {
    to_js_result(|| {
        let tensors = tensors
            .into_iter()
            .map(|t| StoredTensor::of(t, |bytes| copied_bytes(&bytes)))
            .collect::<Result<Vec<_>>>()?;
        Ok(in_background(move || write_tensor_file(&path, &tensors, metadata)))
    })
}

/// Refuses the path of a checkpoint that is to be replaced after every epoch where no file could be: a folder, a device, a
/// file in a folder that does not exist or takes none.
#[napi]
pub fn check_checkpoint_path(path: String) -> napi::Result<()> {
    to_js_result(|| {
        s4_nn::check_replaceable_target(Path::new(&path)).map_err(|e| {
            Error::new(
                Code::Checkpoint,
                "SequenceModel.train",
                "a file for 'checkpoint'",
                format!("{path}: {e}"),
            )
        })
    })
}

/// Bytes of memory that this process may still have; nothing where the system does not say.
#[napi]
pub fn memory_left() -> Option<f64> {
    host_memory::memory_left().map(|bytes| bytes as f64)
}

/// One column of a CSV file, by its name in the header or its place from 0, the last without either; `gaps`: `error` or
/// `linear`. `header`: whether the first line holds names; nothing: it is found out.
fn column_of_csv(
    path: &str,
    name: Option<&str>,
    place: Option<u32>,
    gaps: &str,
    header: Option<bool>,
) -> Result<Data> {
    let gaps = match gaps {
        "error" => s4_data::Gaps::Error,
        "linear" => s4_data::Gaps::Linear,
        other => return Err(Error::value("readCsv", "gaps 'error' or 'linear'", other)),
    };
    let column = match (name, place) {
        (Some(name), _) => s4_data::Column::Name(name.into()),
        (None, Some(place)) => s4_data::Column::Index(place as usize),
        (None, None) => s4_data::Column::Last,
    };
    let options = s4_data::CsvOptions { column: column.clone(), gaps, header, ..Default::default() };
    s4_data::read_csv(path, &options)
        .map(Data::F64)
        .map_err(|e| Error::new(Code::Data, "readCsv", "a column of numbers", csv_message(&column, e)))
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
    to_js_result(|| column_of_csv(&path, name.as_deref(), place, &gaps, header))
}

/// As `readColumn`, away from the JavaScript thread.
#[napi(ts_return_type = "Promise<Float64Array>")]
pub fn read_column_async(
    path: String,
    name: Option<String>,
    place: Option<u32>,
    #[napi(ts_arg_type = "'error' | 'linear'")] gaps: String,
    header: Option<bool>,
) -> AsyncTask<Background<Data>> {
    in_background(move || column_of_csv(&path, name.as_deref(), place, &gaps, header))
}

/// The message of a CSV error in terms of the caller's options: columns are counted from 0 as in the option `column`, and
/// the option `gaps` is named where it would help.
fn csv_message(column: &s4_data::Column, mut error: s4_data::DataError) -> String {
    // The reader of CSV names a column that has no name by its number from 1.
    let is_numbered = error.column.as_deref().is_some_and(|name| name.parse::<usize>().is_ok());
    match column {
        s4_data::Column::Index(place) if is_numbered => error.column = Some(format!("{place} (from 0)")),
        s4_data::Column::Last if is_numbered => error.column = Some("the last".into()),
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
