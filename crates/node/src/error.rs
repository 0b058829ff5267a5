//! Errors and panics of Rust as errors of JavaScript. N-API has only a message: it is JSON after a prefix, of which
//! `api/error.ts` makes an `S4Error`.

use s4_backend::{Code, Error};
use std::any::Any;

/// The error that JavaScript is thrown.
pub(crate) fn to_js(error: Error) -> napi::Error {
    let mut json = serde_json::json!({
        "code": error.code.as_str(),
        "op": error.op,
        "expected": error.expected,
        "got": error.got,
    });
    if let Some(step) = error.step {
        json["step"] = step.into();
    }
    if let Some(tensor) = error.tensor {
        json["tensor"] = tensor.into();
    }
    napi::Error::from_reason(format!("S4:{json}"))
}

/// The error for a caught panic: `ERR_S4_INTERNAL` with the panic's message. A panic whose payload is an error (scratch
/// memory that could not be allocated, deep within an operation) becomes that error.
pub(crate) fn panic_error(payload: Box<dyn Any + Send>) -> Error {
    let payload = match payload.downcast::<Error>() {
        Ok(error) => return *error,
        Err(payload) => payload,
    };
    let message = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()))
        .unwrap_or_else(|| "no message".into());
    Error::new(Code::Internal, "s4-node", "no panic", message)
}

/// Runs the body of a native function and converts its error, or its panic, to an error of JavaScript.
pub(crate) fn to_js_result<R>(body: impl FnOnce() -> s4_backend::Result<R>) -> napi::Result<R> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(to_js),
        Err(payload) => Err(to_js(panic_error(payload))),
    }
}

/// The error for a call of a handle after its `dispose()`.
pub(crate) fn disposed_error() -> Error {
    Error::new(Code::Disposed, "s4-node", "a live handle", "a disposed one")
}

/// Parses JSON that Rust code of this project has written, and that is therefore valid.
pub(crate) fn parse_json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}
