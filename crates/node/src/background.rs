//! Work that belongs to no handle, done away from the JavaScript thread by Node's own threads.

use crate::error::to_js_result;
use napi::{
    Env, Task,
    bindgen_prelude::{AsyncTask, ToNapiValue, TypeName},
};
use s4_backend::{Code, Error, Result};

/// Work whose result settles a promise. It runs once.
pub struct Background<T>(Option<Box<dyn FnOnce() -> Result<T> + Send>>);

impl<T: Send + ToNapiValue + TypeName + 'static> Task for Background<T> {
    type Output = T;
    type JsValue = T;

    fn compute(&mut self) -> napi::Result<T> {
        to_js_result(|| match self.0.take() {
            Some(work) => work(),
            None => Err(Error::new(Code::Internal, "s4-node", "work that runs once", "a second run")),
        })
    }

    fn resolve(&mut self, _: Env, result: T) -> napi::Result<T> {
        Ok(result)
    }
}

/// A promise of what `work` gives.
pub(crate) fn in_background<T: Send + ToNapiValue + TypeName + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> AsyncTask<Background<T>> {
    AsyncTask::new(Background(Some(Box::new(work))))
}
