//! The methods of `NativeModel` for generation and for the scores of tokens. JavaScript names a generation by the number that
//! `generateOpen` gives.

use crate::{
    buffer::{Data, DataIn, copied},
    error::{to_js, to_js_result},
    model::NativeModel,
    objects::{Cancel, cancel_flag},
    worker::{CancelFlag, live_state},
};
use napi::{
    Env,
    bindgen_prelude::{Int32Array, Object},
};
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_nn::{GenerateOptions, Sampling};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// What a generation starts from, and how it chooses tokens.
#[napi(object, object_to_js = false)]
pub struct GenerateCall {
    /// The tokens of all prompts, one prompt after the other.
    pub prompts: Int32Array,
    /// Number of tokens of each prompt.
    pub lengths: Int32Array,
    /// Number of the stream whose state the prompts continue; zero states without.
    pub stream: Option<u32>,
    /// Input values of each class, (classes, input), of a model that takes no tokens.
    #[napi(ts_type = "Floats")]
    pub inputs: Option<DataIn>,
    /// What every step size Δ is multiplied by.
    pub rate: f64,
    /// Most tokens of each sequence.
    pub max_tokens: f64,
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// How many of the most probable tokens are kept; 0 for all.
    pub top_k: f64,
    /// The probability that the tokens kept must reach; 1 for all.
    pub top_p: f64,
    /// The part of the largest probability that tokens kept must reach; 0 for all.
    pub min_p: f64,
    /// Makes tokens that were there before less probable; 1 does not.
    pub repetition_penalty: f64,
    /// Seed of the random numbers.
    pub seed: f64,
    /// The tokens of all stop sequences, one after the other.
    pub stop: Int32Array,
    /// Number of tokens of each stop sequence.
    pub stop_lengths: Int32Array,
}

/// [`GenerateCall`] with copies of its arrays.
pub(crate) struct OwnedGenerateCall {
    pub prompts: Vec<Vec<i32>>,
    pub stream: Option<u32>,
    pub inputs: Option<Data>,
    pub rate: f64,
    pub options: GenerateOptions,
}

impl GenerateCall {
    fn copy(&self) -> Result<OwnedGenerateCall> {
        Ok(OwnedGenerateCall {
            prompts: sequences(&self.prompts, &self.lengths)?,
            stream: self.stream,
            inputs: self.inputs.as_ref().map(Data::copy).transpose()?,
            rate: self.rate,
            options: GenerateOptions {
                max_tokens: self.max_tokens as u64,
                sampling: Sampling {
                    temperature: self.temperature,
                    top_k: self.top_k as usize,
                    top_p: self.top_p,
                    min_p: self.min_p,
                    repetition_penalty: self.repetition_penalty,
                },
                seed: self.seed as u64,
                stop: sequences(&self.stop, &self.stop_lengths)?,
            },
        })
    }
}

/// Cuts joined tokens into sequences of these lengths.
fn sequences(tokens: &[i32], lengths: &[i32]) -> Result<Vec<Vec<i32>>> {
    let mut rest = tokens;
    let cut = lengths.iter().map(|&length| {
        let whole = || Error::shape("s4-node", "sequences of the given lengths", rest.len());
        let (first, after) = rest.split_at_checked(length as usize).ok_or_else(whole)?;
        rest = after;
        copied(first)
    });
    cut.collect()
}

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

/// Whether a call was not cancelled.
pub(crate) fn is_wanted(cancel: &Option<CancelFlag>) -> bool {
    cancel.as_ref().is_none_or(|flag| !flag.load(Ordering::Acquire))
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
        let open = move |slot: &mut _| live_state(slot)?.generate_open(call);
        self.worker.promise(env, cancel_flag(cancel), open, |id| id)
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
