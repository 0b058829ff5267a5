//! A push into slots between JavaScript and a model: its arrays, and the promise of what it gives.

use crate::{
    buffer::{Data, InputSlice, Real},
    error::{panic_error, to_js},
    objects::SlotResults,
};
use napi::{Env, JsDeferred};
use s4_backend::{Code, Error, Result};
use s4_nn::{Input, PushQueue, QueuedPush, SlotArguments, SlotPush, SlotResult};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// The pushes that wait for each set of slots.
pub(crate) type SlotQueues = Mutex<HashMap<u32, Arc<PushQueue<NativePush>>>>;

/// Makes the results on the JavaScript thread, which allocates their arrays.
pub(crate) type MakeResults = Box<dyn FnOnce(Env) -> napi::Result<SlotResults> + Send>;

pub(crate) struct NativePush {
    pub(crate) reset: Vec<usize>,
    pub(crate) pushes: Vec<SlotPush>,
    pub(crate) x: Data,
    pub(crate) intervals: Option<Data>,
    /// Until it is settled.
    pub(crate) results: Option<JsDeferred<SlotResults, MakeResults>>,
}

impl NativePush {
    /// Rejects the promise.
    pub(crate) fn refuse(mut self, error: Error) {
        self.reject(error);
    }

    fn reject(&mut self, error: Error) {
        if let Some(results) = self.results.take() {
            results.reject(to_js(error));
        }
    }
}

impl Drop for NativePush {
    /// A promise is settled whatever becomes of the push.
    fn drop(&mut self) {
        self.reject(Error::new(Code::Internal, "s4-node", "the end of a push", "none"));
    }
}

impl<T: Real> QueuedPush<T> for NativePush {
    fn reset(&self) -> &[usize] {
        &self.reset
    }

    fn arguments(&self) -> Result<SlotArguments<'_, T>> {
        let x = match &self.x {
            Data::I32(tokens) => Input::Tokens(tokens),
            values => Input::Values(InputSlice::of_data(values).real()?),
        };
        let intervals = self.intervals.as_ref().map(|intervals| InputSlice::of_data(intervals).real());
        Ok((&self.pushes, x, intervals.transpose()?))
    }

    fn end(mut self, result: SlotResult<T>) {
        match result.unwrap_or_else(|panic| Err(panic_error(panic))) {
            Ok(pushed) => {
                let made = SlotResults::new(T::into_data(pushed.outputs), pushed.errors);
                if let Some(results) = self.results.take() {
                    results.resolve(Box::new(move |_| Ok(made)));
                }
            }
            Err(error) => self.refuse(error),
        }
    }
}
