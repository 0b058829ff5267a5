//! What JavaScript passes for a generation.

use crate::buffer::{Data, DataIn, copied};
use napi::bindgen_prelude::Int32Array;
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_nn::{GenerateOptions, Sampling};

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
    /// Copies it with its arrays.
    pub(crate) fn copy(&self) -> Result<OwnedGenerateCall> {
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
