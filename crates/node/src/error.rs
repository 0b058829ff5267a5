//! Errors cross as JSON behind a prefix, in the message; `api/error.ts` makes an `S4Error` of it.

use s4_backend::{Code, Error};
use std::any::Any;

/// What JavaScript is thrown.
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

/// `ERR_S4_INTERNAL` for a caught panic, with its message; an error that was thrown as one (memory that scratch could not
/// have) is that error.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Error {
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

/// Runs a body so that neither an error nor a panic leaves it unconverted.
pub(crate) fn guard<R>(body: impl FnOnce() -> s4_backend::Result<R>) -> napi::Result<R> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(to_js),
        Err(payload) => Err(to_js(panicked(payload))),
    }
}

/// A handle after `dispose()`.
pub(crate) fn disposed() -> Error {
    Error::new(Code::Disposed, "s4-node", "a live handle", "a disposed one")
}

/// JSON that this crate's own side has written; anything else would be a defect.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}
