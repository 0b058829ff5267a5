//! The choice of the next token from a model's logits.

use crate::{Memory, Result, checks::ViewChecks};

/// How the next token is chosen: repetition penalty, temperature, top-k, top-p and min-p in this order, as in Hugging Face's
/// `transformers`, then a draw from what is left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps this many of the most probable tokens, and those as probable as the last of them; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest of the most probable tokens whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f64,
    /// Keeps tokens of at least this part of the largest probability; 0 keeps all.
    pub min_p: f64,
    /// Divides the logits above 0 of tokens that were there before, and multiplies those below 0 (Keskar et al.,
    /// arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

/// Numbers of [`SampleTokens::progress`] for each row.
pub const PROGRESS: usize = 3;
/// Numbers of [`SampleTokens::results`] for each row.
pub const RESULTS: usize = 3;

/// Chooses a token for each row of logits. All that it reads and writes lies on the device, so that the steps of a generation
/// follow one another without the host: `tokens` is the next input, and the host reads `results` some steps later.
#[allow(missing_docs)]
pub struct SampleTokens<'a, B: Memory> {
    /// (rows): the tokens; 0 where logits are not finite.
    pub tokens: &'a mut B::Ints,
    /// (rows, 3): the number of the row's sequence, and how many tokens it has: the low and the high 32 bits. With the seed these
    /// determine the random number ([`sampling_uniform`](crate::random::sampling_uniform)); the count is raised by one.
    pub progress: &'a mut B::Ints,
    /// (rows, vocabulary): not 0 where a token was there before. Read and written where there is a repetition penalty; else it may
    /// have no elements.
    pub seen: &'a mut B::Ints,
    /// (window, rows, 3): of a row with n tokens before at place n mod window, where the others stay as they were: the token, −1
    /// where logits are not finite; and the logarithm of the probability that the model itself gives it (the log-softmax of the
    /// logits, before penalty, temperature and filters), as the sum of two numbers.
    pub results: B::Mut<'a>,
    /// (rows, vocabulary)
    pub logits: B::Ref<'a>,
    pub sampling: Sampling,
    pub seed: u64,
    pub rows: usize,
    pub vocabulary: usize,
    pub window: usize,
}

impl<B: Memory> SampleTokens<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let v = ViewChecks { backend, op: "sample_tokens" };
        let &SampleTokens { rows, vocabulary, window, .. } = self;
        v.sizes(&[("rows", rows), ("vocabulary", vocabulary), ("window", window)])?;
        v.room("tokens", self.tokens, rows)?;
        v.room("progress", self.progress, rows * PROGRESS)?;
        if self.sampling.repetition_penalty != 1.0 {
            v.room("tokens seen", self.seen, rows * vocabulary)?;
        }
        v.output("results", &self.results, window * rows * RESULTS)?;
        v.input("logits", self.logits, rows * vocabulary)
    }
}
