//! Arrays of numbers in files: NumPy's, IDX, CIFAR-10's.

use crate::{
    background::{Background, in_background},
    buffer::{Bytes, Data, FileNumbers, copied_bytes},
    datasets::refused,
    error::to_js_result,
};
use napi::bindgen_prelude::{AsyncTask, Either, Uint8Array};
use napi_derive::napi;

use s4_data::{DataError, NumberArray, Numbers};
use std::path::Path;

/// An array of a file.
#[napi(object, object_from_js = false)]
pub struct ArrayData {
    /// Its name in a `.npz` file; empty in others.
    pub name: String,
    /// Sizes; none of a single number.
    pub shape: Vec<f64>,
    /// The numbers, the last size running fastest.
    #[napi(
        ts_type = "Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | BigUint64Array | BigInt64Array | Float32Array | Float64Array"
    )]
    pub data: FileNumbers,
}

fn array_data(name: String, array: NumberArray) -> ArrayData {
    let data = match array.values {
        Numbers::U8(x) => FileNumbers::U8(x),
        Numbers::I8(x) => FileNumbers::I8(x),
        Numbers::U16(x) => FileNumbers::U16(x),
        Numbers::I16(x) => FileNumbers::I16(x),
        Numbers::U32(x) => FileNumbers::U32(x),
        Numbers::I32(x) => FileNumbers::Data(Data::I32(x)),
        Numbers::U64(x) => FileNumbers::U64(x),
        Numbers::I64(x) => FileNumbers::I64(x),
        Numbers::F32(x) => FileNumbers::Data(Data::F32(x)),
        Numbers::F64(x) => FileNumbers::Data(Data::F64(x)),
    };
    ArrayData { name, shape: array.shape.iter().map(|n| *n as f64).collect(), data }
}

/// The arrays of a file: of a `.npz` all by name, of others the one.
#[napi(ts_return_type = "Promise<Array<ArrayData>>")]
pub fn read_arrays(
    source: Either<String, Uint8Array>,
    #[napi(ts_arg_type = "'npy' | 'npz' | 'idx'")] format: String,
) -> napi::Result<AsyncTask<Background<Vec<ArrayData>>>> {
    let (op, expected) = match format.as_str() {
        "npz" => ("readNpz", "a .npz file"),
        "idx" => ("readIdx", "an IDX file"),
        _ => ("readNpy", "a .npy file"),
    };
    let bytes = to_js_result(|| match &source {
        Either::A(_) => Ok(None),
        Either::B(bytes) => copied_bytes(bytes).map(Some),
    })?;
    let path = match source {
        Either::A(path) => path,
        Either::B(_) => String::new(),
    };
    Ok(in_background(move || {
        let single = |array: s4_data::Result<NumberArray>| array.map(|a| vec![(String::new(), a)]);
        let read = match (op, &bytes) {
            ("readNpz", None) => s4_data::read_npz(&path),
            ("readNpz", Some(bytes)) => s4_data::parse_npz(bytes),
            ("readIdx", None) => single(s4_data::read_idx(&path)),
            ("readIdx", Some(bytes)) => single(s4_data::parse_idx(&bytes[..])),
            (_, None) => single(s4_data::read_npy(&path)),
            (_, Some(bytes)) => single(s4_data::parse_npy(&bytes[..])),
        };
        let arrays = read.map_err(|e| refused(op, expected, e))?;
        Ok(arrays.into_iter().map(|(name, array)| array_data(name, array)).collect())
    }))
}

/// Pictures of CIFAR-10's binary files.
#[napi(object, object_from_js = false)]
pub struct LabelledPictures {
    /// (count, 32, 32, 3).
    #[napi(ts_type = "Uint8Array")]
    pub pixels: Bytes,
    /// (count), 0 to 9.
    #[napi(ts_type = "Uint8Array")]
    pub labels: Bytes,
}

/// The pictures of CIFAR-10's binary files, one after the other.
#[napi(ts_return_type = "Promise<LabelledPictures>")]
pub fn read_cifar10(paths: Vec<String>) -> AsyncTask<Background<LabelledPictures>> {
    in_background(move || {
        let mut joined = LabelledPictures { pixels: Bytes(Vec::new()), labels: Bytes(Vec::new()) };
        for path in &paths {
            let read = s4_data::read_cifar10(path).and_then(|pictures| {
                let memory = joined.pixels.0.try_reserve(pictures.pixels.len());
                memory.map_err(|_| DataError::new("no memory for its pictures").in_file(Path::new(path)))?;
                Ok(pictures)
            });
            let pictures = read.map_err(|e| refused("readCifar10", "binary files of CIFAR-10", e))?;
            joined.pixels.0.extend_from_slice(&pictures.pixels);
            joined.labels.0.extend_from_slice(&pictures.labels);
        }
        Ok(joined)
    })
}
