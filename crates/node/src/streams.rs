//! The methods of `NativeModel` for streams. JavaScript names a stream by the number that `streamOpen` gives.

use crate::{
    buffer::{Bytes, Data, DataIn, FloatsOut, copied_bytes, copy_into},
    error::{to_js, to_js_result},
    model::NativeModel,
    objects::{Cancel, cancel_flag},
    worker::live_state,
};
use napi::{
    Env,
    bindgen_prelude::{Object, Uint8Array},
};
use napi_derive::napi;

#[napi]
impl NativeModel {
    /// Makes a stream over `batch` sequences, from zero states; gives its number.
    #[napi]
    pub fn stream_open(&self, batch: u32, rate: f64) -> napi::Result<u32> {
        to_js_result(|| self.worker.call(move |m| m.stream_open(batch as usize, rate)))
    }
    /// Takes the next time steps, (batch, len, input) or tokens (batch, len), and writes the outputs into the caller's
    /// array.
    #[napi]
    pub fn stream_push(
        &self,
        id: u32,
        x: DataIn,
        len: u32,
        interval: Option<DataIn>,
        mut out: FloatsOut,
    ) -> napi::Result<()> {
        to_js_result(|| {
            let (x, interval) = (Data::copy(&x)?, interval.as_ref().map(Data::copy).transpose()?);
            let y = self.worker.call(move |m| m.stream_push(id, x, len as usize, interval))?;
            copy_into(&mut out, y)
        })
    }
    /// As `streamPush`, on the handle's own thread, with a new array for the outputs.
    #[napi(ts_return_type = "Promise<Floats>")]
    pub fn stream_push_async<'env>(
        &self,
        env: &'env Env,
        id: u32,
        x: DataIn,
        len: u32,
        interval: Option<DataIn>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let interval = interval.as_ref().map(Data::copy).transpose().map_err(to_js)?;
        let x = Data::copy(&x).map_err(to_js)?;
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.stream_push(id, x, len as usize, interval),
            |y| y,
        )
    }
    /// The whole state of a stream as bytes, for `streamRestore`.
    #[napi(ts_return_type = "Uint8Array")]
    pub fn stream_save(&self, id: u32) -> napi::Result<Bytes> {
        to_js_result(|| self.worker.call(move |m| m.stream_save(id)).map(Bytes))
    }
    /// Goes back to a state that `streamSave` gave.
    #[napi]
    pub fn stream_restore(&self, id: u32, state: Uint8Array) -> napi::Result<()> {
        to_js_result(|| {
            let state = copied_bytes(&state)?;
            self.worker.call(move |m| m.stream_restore(id, &state))
        })
    }
    /// Makes another stream that starts from this one's state; gives its number.
    #[napi]
    pub fn stream_fork(&self, id: u32) -> napi::Result<u32> {
        to_js_result(|| self.worker.call(move |m| m.stream_fork(id)))
    }
    /// Sets a stream back to zero states.
    #[napi]
    pub fn stream_reset(&self, id: u32) -> napi::Result<()> {
        to_js_result(|| self.worker.call(move |m| m.stream_reset(id)))
    }
    /// Number of time steps that a stream has taken.
    #[napi]
    pub fn stream_position(&self, id: u32) -> napi::Result<f64> {
        to_js_result(|| self.worker.call(move |m| m.stream_position(id)).map(|n| n as f64))
    }
    /// Frees a stream, after the calls under way.
    #[napi]
    pub fn stream_close(&self, id: u32) -> napi::Result<()> {
        to_js_result(|| {
            self.worker.enqueue_release(move |m| m.stream_close(id));
            Ok(())
        })
    }
}
