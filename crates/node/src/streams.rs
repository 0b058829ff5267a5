//! `NativeModel`'s streams, which JavaScript holds by number.

use crate::{
    buffer::{Bytes, Data, DataIn, FloatsOut, bytes, write_out},
    error::{guard, to_js},
    model::NativeModel,
    objects::{Cancel, flag},
    worker::live,
};
use napi::{
    Env,
    bindgen_prelude::{Object, Uint8Array},
};
use napi_derive::napi;

#[napi]
impl NativeModel {
    /// A stream of `batch` rows from zero states; gives its number.
    #[napi]
    pub fn stream_open(&self, batch: u32, rate: f64) -> napi::Result<u32> {
        guard(|| self.worker.call(move |m| m.stream_open(batch as usize, rate)))
    }
    /// The next samples (batch, len, input), or tokens (batch, len): outputs into the caller's own array.
    #[napi]
    pub fn stream_push(
        &self,
        id: u32,
        x: DataIn,
        len: u32,
        interval: Option<DataIn>,
        mut out: FloatsOut,
    ) -> napi::Result<()> {
        guard(|| {
            let (x, interval) = (Data::copy(&x)?, interval.as_ref().map(Data::copy).transpose()?);
            let y = self.worker.call(move |m| m.stream_push(id, x, len as usize, interval))?;
            write_out(&mut out, y)
        })
    }
    /// As `streamPush`, off the event loop, into a new array.
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
            flag(cancel),
            move |slot| live(slot)?.stream_push(id, x, len as usize, interval),
            |y| y,
        )
    }
    /// The whole state as bytes, for `streamRestore`.
    #[napi(ts_return_type = "Uint8Array")]
    pub fn stream_save(&self, id: u32) -> napi::Result<Bytes> {
        guard(|| self.worker.call(move |m| m.stream_save(id)).map(Bytes))
    }
    /// Goes back to what `streamSave` gave.
    #[napi]
    pub fn stream_restore(&self, id: u32, state: Uint8Array) -> napi::Result<()> {
        guard(|| {
            let state = bytes(&state)?;
            self.worker.call(move |m| m.stream_restore(id, &state))
        })
    }
    /// A second stream that starts from this one's state; gives its number.
    #[napi]
    pub fn stream_fork(&self, id: u32) -> napi::Result<u32> {
        guard(|| self.worker.call(move |m| m.stream_fork(id)))
    }
    /// Back to zero states.
    #[napi]
    pub fn stream_reset(&self, id: u32) -> napi::Result<()> {
        guard(|| self.worker.call(move |m| m.stream_reset(id)))
    }
    /// Samples seen.
    #[napi]
    pub fn stream_position(&self, id: u32) -> napi::Result<f64> {
        guard(|| self.worker.call(move |m| m.stream_position(id)).map(|n| n as f64))
    }
    /// Frees it, behind the calls under way.
    #[napi]
    pub fn stream_close(&self, id: u32) -> napi::Result<()> {
        guard(|| {
            self.worker.release(move |m| m.stream_close(id));
            Ok(())
        })
    }
}
