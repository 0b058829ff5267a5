//! The methods of `NativeModel` for generation and for the scores of tokens. JavaScript names a generation by the number that
//! `generateOpen` gives.

use crate::{
    buffer::{Data, DataIn, copied},
    error::{to_js, to_js_result},
    generate_call::GenerateCall,
    model::NativeModel,
    objects::{Cancel, cancel_flag, is_wanted},
    worker::live_state,
};
use napi::{
    Env,
    bindgen_prelude::{Int32Array, Object},
};
use napi_derive::napi;
use std::time::{Duration, Instant};

/// Tokens of some steps of a generation.
#[napi(object, object_from_js = false)]
pub struct GeneratedTokens {
    /// (steps, sequences): the tokens; −1 where a sequence has ended before.
    #[napi(ts_type = "Int32Array")]
    pub tokens: Data,
    /// (steps, sequences): the logarithm of the probability of each token.
    #[napi(ts_type = "Float64Array")]
    pub log_probabilities: Data,
    /// Whether every sequence has ended.
    pub done: bool,
}

#[napi]
impl NativeModel {
    /// Prepares a generation; gives its number.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn generate_open<'env>(
        &self,
        env: &'env Env,
        call: GenerateCall,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let call = call.copy().map_err(to_js)?;
        self.worker.promise(
            env,
            cancel_flag(cancel),
            move |slot| live_state(slot)?.generate_open(call),
            |id| id,
        )
    }
    /// The next tokens, as many as come in about so many milliseconds, or until it is cancelled.
    #[napi(ts_return_type = "Promise<GeneratedTokens>")]
    pub fn generate_next<'env>(
        &self,
        env: &'env Env,
        id: u32,
        milliseconds: f64,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let cancel = cancel_flag(cancel);
        let flag = cancel.clone();
        self.worker.promise(
            env,
            cancel,
            move |slot| {
                let end = Instant::now() + Duration::from_secs_f64(milliseconds.clamp(0.0, 1e6) / 1e3);
                let go_on = &mut || is_wanted(&flag) && Instant::now() < end;
                live_state(slot)?.generate_next(id, go_on)
            },
            |generated| GeneratedTokens {
                tokens: Data::I32(generated.tokens),
                log_probabilities: Data::F64(generated.log_probabilities),
                done: generated.done,
            },
        )
    }
    /// Frees a generation, after the calls under way.
    #[napi]
    pub fn generate_close(&self, id: u32) -> napi::Result<()> {
        to_js_result(|| {
            self.worker.enqueue_release(move |m| m.generate_close(id));
            Ok(())
        })
    }
    /// The logarithm of the probability of each token but the first, given those before it. `inputs`: as in `GenerateCall`.
    #[napi(ts_return_type = "Promise<Float64Array>")]
    pub fn score<'env>(
        &self,
        env: &'env Env,
        tokens: Int32Array,
        inputs: Option<DataIn>,
        rate: f64,
        cancel: Option<&Cancel>,
    ) -> napi::Result<Object<'env>> {
        let inputs = inputs.as_ref().map(Data::copy).transpose().map_err(to_js)?;
        let tokens = copied(&tokens).map_err(to_js)?;
        let cancel = cancel_flag(cancel);
        let flag = cancel.clone();
        self.worker.promise(
            env,
            cancel,
            move |slot| live_state(slot)?.score(&tokens, inputs, rate, &mut || is_wanted(&flag)),
            Data::F64,
        )
    }
}
