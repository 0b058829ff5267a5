//! Arrays between JavaScript and Rust. Inputs of asynchronous calls are copied before they leave the JavaScript thread;
//! synchronous calls read them in place. Outputs are arrays that JavaScript allocates and Rust fills, because Electron
//! forbids arrays of memory that is not its own. The only file of this crate with `unsafe`.

use napi::bindgen_prelude::{
    Either, Either3, Float32Array, Float64Array, Int32Array, ToNapiValue, TypeName, Uint8Array, ValueType,
};
use napi::sys;
use napi_derive::napi;
use s4_backend::{Code, Error, Result, Scalar, host_memory};

/// An array of numbers that JavaScript passes in.
#[napi(js_name = "Data")]
pub type DataIn = Either3<Float32Array, Float64Array, Int32Array>;

/// An array of numbers of Rust's own, in one of the types that JavaScript passes.
#[derive(Clone, Debug)]
pub enum Data {
    /// Float32Array
    F32(Vec<f32>),
    /// Float64Array
    F64(Vec<f64>),
    /// Int32Array
    I32(Vec<i32>),
}

/// An array of JavaScript's that is read in place, by a synchronous call, during which no JavaScript can change it.
/// Integers are not read in this way, only recognised.
#[derive(Clone, Copy)]
pub(crate) enum InputSlice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I32,
}

impl<'a> InputSlice<'a> {
    /// The elements of an array that JavaScript has passed.
    pub(crate) fn of(input: &'a DataIn) -> InputSlice<'a> {
        match input {
            Either3::A(x) => InputSlice::F32(x),
            Either3::B(x) => InputSlice::F64(x),
            Either3::C(_) => InputSlice::I32,
        }
    }
    /// The elements of an array of Rust's own.
    pub(crate) fn of_data(data: &'a Data) -> InputSlice<'a> {
        match data {
            Data::F32(x) => InputSlice::F32(x),
            Data::F64(x) => InputSlice::F64(x),
            Data::I32(_) => InputSlice::I32,
        }
    }
    /// The array, if its elements have the type of the handle; `ERR_S4_DTYPE` otherwise.
    pub(crate) fn real<T: Real>(self) -> Result<&'a [T]> {
        let name = match self {
            InputSlice::F32(_) => "Float32Array",
            InputSlice::F64(_) => "Float64Array",
            InputSlice::I32 => "Int32Array",
        };
        T::from_input(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

/// An array of JavaScript's that a synchronous call writes its result into.
pub(crate) enum OutputSlice<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
}

impl<'a> OutputSlice<'a> {
    /// The elements of an array that JavaScript has passed to be written.
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
    /// The array, if its elements have the type of the handle; `ERR_S4_DTYPE` otherwise.
    pub(crate) fn real<T: Real>(self) -> Result<&'a mut [T]> {
        let name = match self {
            OutputSlice::F32(_) => "Float32Array",
            OutputSlice::F64(_) => "Float64Array",
        };
        T::from_output(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

/// `ERR_S4_DTYPE` for an array of another type than the handle's numbers.
fn wrong_type<T: Real>(got: &'static str) -> Error {
    Error::new(Code::Dtype, "s4-node", format!("an array of {}", T::DTYPE.as_str()), got)
}

impl Data {
    /// A copy of an array that JavaScript has passed; `ERR_S4_MEMORY` where there is no memory for it.
    pub(crate) fn copy(input: &DataIn) -> Result<Data> {
        match input {
            Either3::A(x) => copied(x).map(Data::F32),
            Either3::B(x) => copied(x).map(Data::F64),
            Either3::C(x) => copied(x).map(Data::I32),
        }
    }
    /// Name of the array's type in JavaScript, for errors.
    fn array_type(&self) -> &'static str {
        match self {
            Data::F32(_) => "Float32Array",
            Data::F64(_) => "Float64Array",
            Data::I32(_) => "Int32Array",
        }
    }
    /// The array, if its elements have the type of the handle; `ERR_S4_DTYPE` otherwise.
    pub(crate) fn real<T: Real>(self) -> Result<Vec<T>> {
        let name = self.array_type();
        T::from_data(self).ok_or_else(|| wrong_type::<T>(name))
    }
}

/// The number format of a handle, `f32` or `f64`, with its arrays in JavaScript.
pub(crate) trait Real: Scalar {
    /// The elements, if they are of this type.
    fn from_data(data: Data) -> Option<Vec<Self>>;
    /// An array for JavaScript.
    fn into_data(data: Vec<Self>) -> Data;
    /// The elements to be read, if they are of this type.
    fn from_input(slice: InputSlice<'_>) -> Option<&[Self]>;
    /// The elements to be written, if they are of this type.
    fn from_output(slice: OutputSlice<'_>) -> Option<&mut [Self]>;
}
impl Real for f32 {
    fn from_data(data: Data) -> Option<Vec<f32>> {
        if let Data::F32(x) = data { Some(x) } else { None }
    }
    fn into_data(data: Vec<f32>) -> Data {
        Data::F32(data)
    }
    fn from_input(slice: InputSlice<'_>) -> Option<&[f32]> {
        if let InputSlice::F32(x) = slice { Some(x) } else { None }
    }
    fn from_output(slice: OutputSlice<'_>) -> Option<&mut [f32]> {
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
    fn from_input(slice: InputSlice<'_>) -> Option<&[f64]> {
        if let InputSlice::F64(x) = slice { Some(x) } else { None }
    }
    fn from_output(slice: OutputSlice<'_>) -> Option<&mut [f64]> {
        if let OutputSlice::F64(x) = slice { Some(x) } else { None }
    }
}

/// Types of array elements that can be copied byte for byte.
trait PlainNumber: Copy {}
impl PlainNumber for f32 {}
impl PlainNumber for f64 {}
impl PlainNumber for i32 {}
impl PlainNumber for u8 {}
impl PlainNumber for i8 {}
impl PlainNumber for u16 {}
impl PlainNumber for i16 {}
impl PlainNumber for u32 {}
impl PlainNumber for i64 {}
impl PlainNumber for u64 {}

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
        // SAFETY: `env` is the environment that napi-rs has passed to this call, and so it is live.
        unsafe {
            match value {
                Data::F32(x) => new_typed_array(env, &x, Kind::float32_array),
                Data::F64(x) => new_typed_array(env, &x, Kind::float64_array),
                Data::I32(x) => new_typed_array(env, &x, Kind::int32_array),
            }
        }
    }
}

/// The elements of a file's tensor, in the narrowest of these arrays that holds each of them exactly.
pub enum FileNumbers {
    /// Elements of the types F16, BF16, F32, F64, I8, I16, I32, U8, U16 or BOOL.
    Data(Data),
    /// U8, of files whose arrays keep it
    U8(Vec<u8>),
    /// I8, of files whose arrays keep it
    I8(Vec<i8>),
    /// U16, of files whose arrays keep it
    U16(Vec<u16>),
    /// I16, of files whose arrays keep it
    I16(Vec<i16>),
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
        // SAFETY: `env` is the environment that napi-rs has passed to this call, and so it is live.
        unsafe {
            match value {
                FileNumbers::Data(x) => ToNapiValue::to_napi_value(env, x),
                FileNumbers::U8(x) => new_typed_array(env, &x, Kind::uint8_array),
                FileNumbers::I8(x) => new_typed_array(env, &x, Kind::int8_array),
                FileNumbers::U16(x) => new_typed_array(env, &x, Kind::uint16_array),
                FileNumbers::I16(x) => new_typed_array(env, &x, Kind::int16_array),
                FileNumbers::U32(x) => new_typed_array(env, &x, Kind::uint32_array),
                FileNumbers::I64(x) => new_typed_array(env, &x, Kind::bigint64_array),
                FileNumbers::U64(x) => new_typed_array(env, &x, Kind::biguint64_array),
            }
        }
    }
}

/// Bytes that become a Uint8Array allocated by JavaScript.
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
        // SAFETY: `env` is the environment that napi-rs has passed to this call, and so it is live.
        unsafe { new_typed_array(env, &value.0, sys::TypedarrayType::uint8_array) }
    }
}

/// An error unless a call of N-API has succeeded.
fn check_status(status: sys::napi_status) -> napi::Result<()> {
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

/// A new typed array, allocated by JavaScript, with a copy of `data`.
///
/// # Safety
/// `env` is live and this is its thread; `kind` is the array type of `T`.
unsafe fn new_typed_array<T: PlainNumber>(
    env: sys::napi_env,
    data: &[T],
    kind: sys::napi_typedarray_type,
) -> napi::Result<sys::napi_value> {
    let bytes = std::mem::size_of_val(data);
    // V8 ends the process where it cannot have the memory of an array that N-API asks for.
    drop(
        host_memory::reserved::<u8>("s4-node", "JavaScript's copy of the result", bytes, bytes)
            .map_err(crate::error::to_js)?,
    );
    let mut memory = std::ptr::null_mut();
    let mut buffer = std::ptr::null_mut();
    let mut array = std::ptr::null_mut();
    // SAFETY: the two pointers that the call writes to are those of local variables.
    check_status(unsafe { sys::napi_create_arraybuffer(env, bytes, &mut memory, &mut buffer) })?;
    if bytes > 0 {
        // SAFETY: `memory` has `bytes` bytes just allocated by JavaScript, `data` as many, and they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr().cast::<u8>(), memory.cast::<u8>(), bytes) };
    }
    // SAFETY: `buffer` is the array buffer made above, with `data.len()` elements of this type at offset 0.
    check_status(unsafe { sys::napi_create_typedarray(env, kind, data.len(), buffer, 0, &mut array) })?;
    Ok(array)
}

/// An array of JavaScript's with real numbers, in the number format of its handle.
#[napi(js_name = "Floats")]
pub type FloatsOut = Either<Float32Array, Float64Array>;

/// Copies a result into an array of JavaScript's, which must have the same type and length.
pub(crate) fn copy_into(out: &mut FloatsOut, data: Data) -> Result<()> {
    let wrong_len = |expected: usize, got: usize| {
        Error::shape("s4-node", format!("an output of {expected} elements"), got)
    };
    match (out, data) {
        (Either::A(out), Data::F32(x)) => {
            if out.len() != x.len() {
                return Err(wrong_len(x.len(), out.len()));
            }
            // SAFETY: this is the JavaScript thread and no other view of the array is in use during the copy.
            unsafe { out.as_mut() }.copy_from_slice(&x);
            Ok(())
        }
        (Either::B(out), Data::F64(x)) => {
            if out.len() != x.len() {
                return Err(wrong_len(x.len(), out.len()));
            }
            // SAFETY: this is the JavaScript thread and no other view of the array is in use during the copy.
            unsafe { out.as_mut() }.copy_from_slice(&x);
            Ok(())
        }
        (_, x) => Err(Error::new(
            Code::Dtype,
            "s4-node",
            format!("an output {}", x.array_type()),
            "another array type",
        )),
    }
}

/// A copy of bytes that JavaScript has passed.
pub(crate) fn copied_bytes(input: &Uint8Array) -> Result<Vec<u8>> {
    copied(input)
}

/// A copy of an array that JavaScript has passed; `ERR_S4_MEMORY` where there is no memory for it.
pub(crate) fn copied<T: Copy>(input: &[T]) -> Result<Vec<T>> {
    host_memory::copied("s4-node", "a copy of an input", input)
}
