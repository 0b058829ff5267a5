//! How probable a model finds sequences of tokens: the log-softmax of its outputs, at the tokens that follow.

use crate::{feed::Feed, model::Model, stepper::Stepper};
use s4_backend::{Backend, Code, Error, Result, Scalar, host_memory};

/// Logits that are on the host at a time.
const LOGITS_OF_CHUNK: usize = 1 << 19;
/// Most time steps at a time, so that an abort need not wait.
const MOST_TIME_STEPS: usize = 2048;

impl<B: Backend> Model<B> {
    /// The logarithm of the probability of each token but the first, given those before it: element i is that of token i + 1.
    /// Memory does not grow with the number of tokens but for the result. `go_on` is asked from time to time;
    /// `ERR_S4_ABORTED` where it says no.
    pub fn score(
        &mut self,
        feed: &Feed<B::Scalar>,
        tokens: &[i32],
        rate: f64,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Vec<f64>> {
        let op = "SequenceModel.score";
        feed.check(op, "tokens", tokens)?;
        let vocabulary = feed.vocabulary;
        let chunk = (LOGITS_OF_CHUNK / vocabulary).clamp(1, MOST_TIME_STEPS);
        let mut stream = Stepper::new(self, 1, rate)?;
        let mut scores = host_memory::reserved(op, "a result", tokens.len(), tokens.len())?;
        let (mut logits, mut values) = (Vec::new(), Vec::new());
        // The outputs after the last token are of none.
        for (part, next) in tokens[..tokens.len() - 1].chunks(chunk).zip(tokens[1..].chunks(chunk)) {
            if !go_on() {
                return Err(Error::new(Code::Aborted, op, "to end", "an abort"));
            }
            host_memory::resize(op, "the logits", &mut logits, part.len() * vocabulary)?;
            let x = feed.input(op, part, &mut values)?;
            stream.push_by_forward(self, x, part.len(), &mut logits)?;
            let rows = logits.chunks_exact(vocabulary).zip(next);
            scores.extend(rows.map(|(row, &token)| Scalar::to_f64(row[token as usize]) - log_sum_exp(row)));
        }
        Ok(scores)
    }
}

/// log Σ eˣ.
fn log_sum_exp<T: Scalar>(x: &[T]) -> f64 {
    let most = x.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(Scalar::to_f64(x)));
    most + x.iter().map(|&x| (Scalar::to_f64(x) - most).exp()).sum::<f64>().ln()
}
