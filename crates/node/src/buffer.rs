//! Arrays across the edge. Inputs are copied before they leave the JavaScript thread, and read in place by calls that
//! do not leave it; outputs are arrays that JavaScript allocates and Rust fills (Electron forbids external memory).
//! The only file here with `unsafe`.

use napi::bindgen_prelude::{
    Either, Either3, Float32Array, Float64Array, Int32Array, ToNapiValue, TypeName, Uint8Array, ValueType,
};
use napi::sys;
use napi_derive::napi;
use s4_backend::{Code, Error, Result, Scalar, host_memory};

/// Numbers as JavaScript passes them.
#[napi(js_name = "Data")]
pub type DataIn = Either3<Float32Array, Float64Array, Int32Array>;

/// A copy of it.
#[derive(Clone, Debug)]
pub enum Data {
    /// Float32Array
    F32(Vec<f32>),
    /// Float64Array
    F64(Vec<f64>),
    /// Int32Array
    I32(Vec<i32>),
}

/// An array of JavaScript's, read in place: for synchronous calls, during which no JavaScript runs.
#[derive(Clone, Copy)]
pub(crate) enum InputSlice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I32,
}

impl<'a> InputSlice<'a> {
    pub(crate) fn of(input: &'a DataIn) -> InputSlice<'a> {
        match input {
            Either3::A(x) => InputSlice::F32(x),
            Either3::B(x) => InputSlice::F64(x),
            Either3::C(_) => InputSlice::I32,
        }
    }
    /// As the model's own type.
    pub(crate) fn real<T: Real>(self) -> Result<&'a [T]> {
        let name = match self {
            InputSlice::F32(_) => "Float32Array",
            InputSlice::F64(_) => "Float64Array",
            InputSlice::I32 => "Int32Array",
        };
        T::input(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

/// A caller's own output array, written in place by a synchronous call.
pub(crate) enum OutputSlice<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
}

impl<'a> OutputSlice<'a> {
    pub(crate) fn of(out: &'a mut FloatsOut) -> OutputSlice<'a> {
        // SAFETY: this is the JavaScript thread, which runs nothing else during the call; the array is one that
        // `api/*.ts` has just made for this result, so no other view of it exists.
        unsafe {
            match out {
                Either::A(x) => OutputSlice::F32(x.as_mut()),
                Either::B(x) => OutputSlice::F64(x.as_mut()),
            }
        }
    }
    /// As the model's own type.
    pub(crate) fn real<T: Real>(self) -> Result<&'a mut [T]> {
        let name = match self {
            OutputSlice::F32(_) => "Float32Array",
            OutputSlice::F64(_) => "Float64Array",
        };
        T::output(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

fn wrong_type<T: Real>(got: &'static str) -> Error {
    Error::new(Code::Dtype, "s4-node", format!("an array of {}", T::DTYPE.as_str()), got)
}

impl Data {
    pub(crate) fn copy(input: &DataIn) -> Result<Data> {
        match input {
            Either3::A(x) => copied(x).map(Data::F32),
            Either3::B(x) => copied(x).map(Data::F64),
            Either3::C(x) => copied(x).map(Data::I32),
        }
    }
    fn name(&self) -> &'static str {
        match self {
            Data::F32(_) => "Float32Array",
            Data::F64(_) => "Float64Array",
            Data::I32(_) => "Int32Array",
        }
    }
    /// As the model's own type.
    pub(crate) fn real<T: Real>(self) -> Result<Vec<T>> {
        let name = self.name();
        T::from_data(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

/// `f32` or `f64` with its arrays.
pub(crate) trait Real: Scalar {
    fn from_data(data: Data) -> Option<Vec<Self>>;
    fn into_data(data: Vec<Self>) -> Data;
    fn input(slice: InputSlice<'_>) -> Option<&[Self]>;
    fn output(slice: OutputSlice<'_>) -> Option<&mut [Self]>;
}
impl Real for f32 {
    fn from_data(data: Data) -> Option<Vec<f32>> {
        if let Data::F32(x) = data { Some(x) } else { None }
    }
    fn into_data(data: Vec<f32>) -> Data {
        Data::F32(data)
    }
    fn input(slice: InputSlice<'_>) -> Option<&[f32]> {
        if let InputSlice::F32(x) = slice { Some(x) } else { None }
    }
    fn output(slice: OutputSlice<'_>) -> Option<&mut [f32]> {
        if let OutputSlice::F32(x) = slice { Some(x) } else { None }
    }
}
impl Real for f64 {
    fn from_data(data: Data) -> Option<Vec<f64>> {
        if let Data::F64(x) = data { Some(x) } else { None }
    }
    fn into_data(data: Vec<f64>) -> Data {
        Data::F64(data)
    }
    fn input(slice: InputSlice<'_>) -> Option<&[f64]> {
        if let InputSlice::F64(x) = slice { Some(x) } else { None }
    }
    fn output(slice: OutputSlice<'_>) -> Option<&mut [f64]> {
        if let OutputSlice::F64(x) = slice { Some(x) } else { None }
    }
}

/// Elements that can be copied byte for byte.
trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for i32 {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}

impl TypeName for Data {
    fn type_name() -> &'static str {
        "TypedArray"
    }
    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ToNapiValue for Data {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        use sys::TypedarrayType as Kind;
        // SAFETY: `env` is the live environment that napi-rs passed in.
        unsafe {
            match value {
                Data::F32(x) => fill(env, &x, Kind::float32_array),
                Data::F64(x) => fill(env, &x, Kind::float64_array),
                Data::I32(x) => fill(env, &x, Kind::int32_array),
            }
        }
    }
}

/// Numbers of a file, in the narrowest array that holds each of them exactly.
pub enum FileNumbers {
    /// F16, BF16, F32, F64; I8, I16, I32, U8, U16, BOOL.
    Data(Data),
    /// U32
    U32(Vec<u32>),
    /// I64
    I64(Vec<i64>),
    /// U64
    U64(Vec<u64>),
}
impl TypeName for FileNumbers {
    fn type_name() -> &'static str {
        "TypedArray"
    }
    fn value_type() -> ValueType {
        ValueType::Object
    }
}
impl ToNapiValue for FileNumbers {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        use sys::TypedarrayType as Kind;
        // SAFETY: `env` is the live environment that napi-rs passed in.
        unsafe {
            match value {
                FileNumbers::Data(x) => ToNapiValue::to_napi_value(env, x),
                FileNumbers::U32(x) => fill(env, &x, Kind::uint32_array),
                FileNumbers::I64(x) => fill(env, &x, Kind::bigint64_array),
                FileNumbers::U64(x) => fill(env, &x, Kind::biguint64_array),
            }
        }
    }
}

/// Bytes as a Uint8Array of JavaScript's own.
pub struct Bytes(pub(crate) Vec<u8>);
impl TypeName for Bytes {
    fn type_name() -> &'static str {
        "Uint8Array"
    }
    fn value_type() -> ValueType {
        ValueType::Object
    }
}
impl ToNapiValue for Bytes {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` is the live environment that napi-rs passed in.
        unsafe { fill(env, &value.0, sys::TypedarrayType::uint8_array) }
    }
}

fn check(status: sys::napi_status) -> napi::Result<()> {
    if status == sys::Status::napi_ok {
        return Ok(());
    }
    Err(crate::error::to_js(Error::new(
        Code::Memory,
        "s4-node",
        "JavaScript to allocate the result",
        format!("N-API status {status}"),
    )))
}

/// # Safety
/// `env` is live and this is its thread; `kind` is the array type of `T`.
unsafe fn fill<T: Plain>(
    env: sys::napi_env,
    data: &[T],
    kind: sys::napi_typedarray_type,
) -> napi::Result<sys::napi_value> {
    let bytes = std::mem::size_of_val(data);
    let mut memory = std::ptr::null_mut();
    let mut buffer = std::ptr::null_mut();
    let mut array = std::ptr::null_mut();
    // SAFETY: out pointers are valid for the call.
    check(unsafe { sys::napi_create_arraybuffer(env, bytes, &mut memory, &mut buffer) })?;
    if bytes > 0 {
        // SAFETY: `memory` has `bytes` bytes just allocated by JavaScript, `data` as many, and they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr().cast::<u8>(), memory.cast::<u8>(), bytes) };
    }
    // SAFETY: `buffer` is the array buffer made above, with `data.len()` elements of this type at offset 0.
    check(unsafe { sys::napi_create_typedarray(env, kind, data.len(), buffer, 0, &mut array) })?;
    Ok(array)
}

/// Real numbers in the number format of their handle.
#[napi(js_name = "Floats")]
pub type FloatsOut = Either<Float32Array, Float64Array>;

/// Writes into a caller's own array of the same type and length.
pub(crate) fn write_out(out: &mut FloatsOut, data: Data) -> Result<()> {
    let wrong = |expected: usize, got: usize| {
        Error::shape("s4-node", format!("an output of {expected} elements"), got)
    };
    match (out, data) {
        (Either::A(out), Data::F32(x)) => {
            if out.len() != x.len() {
                return Err(wrong(x.len(), out.len()));
            }
            // SAFETY: this is the JavaScript thread and no other view of the array is in use during the copy.
            unsafe { out.as_mut() }.copy_from_slice(&x);
            Ok(())
        }
        (Either::B(out), Data::F64(x)) => {
            if out.len() != x.len() {
                return Err(wrong(x.len(), out.len()));
            }
            // SAFETY: as above.
            unsafe { out.as_mut() }.copy_from_slice(&x);
            Ok(())
        }
        (_, x) => {
            Err(Error::new(Code::Dtype, "s4-node", format!("an output {}", x.name()), "another array type"))
        }
    }
}

/// A copy of bytes from JavaScript.
pub(crate) fn bytes(input: &Uint8Array) -> Result<Vec<u8>> {
    copied(input)
}

/// A copy of numbers from JavaScript; `ERR_S4_MEMORY` where there is no memory for it.
pub(crate) fn copied<T: Copy>(input: &[T]) -> Result<Vec<T>> {
    host_memory::copied("s4-node", "a copy of an input", input)
}
