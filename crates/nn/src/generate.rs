//! Generation: prompts go in, then each token that is chosen is the next input. Time and memory of a token do not depend on how
//! many there were before.

use crate::{
    feed::Feed,
    generated_steps::GeneratedSteps,
    model::Model,
    prefill::Prefill,
    stepper::{Stepper, StreamSizes},
};
use s4_backend::{Backend, Code, Error, RESULTS, Result, Sampling, host_memory};

/// Options of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens of each sequence.
    pub max_tokens: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the random numbers. Each depends on it, on the number of the sequence and on that of the token alone.
    pub seed: u64,
    /// Sequences of tokens after which a sequence ends. They must be among what was generated, the last token included.
    pub stop: Vec<Vec<i32>>,
}

/// Tokens of some steps of a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// (steps, sequences): the tokens; −1 where a sequence has ended before.
    pub tokens: Vec<i32>,
    /// (steps, sequences): the logarithm of the probability that the model gives each token; NaN where there is none.
    pub log_probabilities: Vec<f64>,
    /// Whether every sequence has ended.
    pub done: bool,
}

/// What is known of one sequence.
struct Sequence {
    /// Its number, as the caller counts.
    number: usize,
    /// The last tokens that were generated, as many as the longest stop sequence has.
    recent: Vec<i32>,
    ended: bool,
}

/// A generation under way.
pub struct Generation<B: Backend> {
    stream: Stepper<B>,
    feed: Feed<B::Scalar>,
    options: GenerateOptions,
    /// The prompts, until they have been taken.
    prefill: Prefill<B::Scalar>,
    /// The sequences in the order of the stream, that of their prompts' lengths.
    sequences: Vec<Sequence>,
    /// Logits after the prompts, (sequences, vocabulary).
    logits: Vec<B::Scalar>,
    /// The steps on the device, which may be ahead of what has been read. Those after the end of all sequences are not read.
    steps: GeneratedSteps<B>,
    /// Tokens of each sequence so far.
    count: u64,
}

const OP: &str = "SequenceModel.generate";

impl<B: Backend> Generation<B> {
    /// A generation after `prompts`, from zero states or from those of a stream, which stays as it is: one of one sequence is
    /// continued by every prompt, one of as many as there are prompts each by its own.
    pub fn new(
        model: &Model<B>,
        feed: Feed<B::Scalar>,
        prompts: Vec<Vec<i32>>,
        options: GenerateOptions,
        from: Option<&Stepper<B>>,
        rate: f64,
    ) -> Result<Self> {
        let op = OP;
        let batch = prompts.len();
        prompts.iter().try_for_each(|prompt| feed.check(op, "prompt", prompt))?;
        if batch == 0 {
            return Err(Error::shape(op, "at least one prompt", "none"));
        }
        let mut order: Vec<usize> = (0..batch).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(prompts[i].len()));
        let rate = from.map_or(rate, |stream| stream.rate);
        let mut stream = Stepper::new(model, batch, rate)?;
        if let Some(from) = from {
            continue_stream(&mut stream, from, model, &order)?;
        }
        let logits = host_memory::zeros(op, "the logits", batch * feed.vocabulary)?;
        let has_penalty = options.sampling.repetition_penalty != 1.0;
        let mut seen: Vec<i32> =
            host_memory::zeros(op, "the tokens seen", if has_penalty { logits.len() } else { 0 })?;
        let mut prompts = prompts.into_iter().map(Some).collect::<Vec<_>>();
        let sorted: Vec<Vec<i32>> = order.iter().filter_map(|&i| prompts[i].take()).collect();
        if has_penalty {
            for (seen, prompt) in seen.chunks_exact_mut(feed.vocabulary).zip(&sorted) {
                prompt.iter().for_each(|&token| seen[token as usize] = 1);
            }
        }
        let prefill = Prefill::new(sorted);
        let longest_stop = options.stop.iter().map(Vec::len).max().unwrap_or(0);
        let sampling = (options.sampling, options.seed);
        let steps = GeneratedSteps::new(op, &mut stream, &feed, &order, &seen, sampling)?;
        let sequences = order.into_iter().map(|number| Sequence {
            number,
            recent: Vec::with_capacity(longest_stop + 1),
            ended: false,
        });
        Ok(Generation {
            sequences: sequences.collect(),
            stream,
            feed,
            options,
            prefill,
            logits,
            steps,
            count: 0,
        })
    }

    /// Goes on until every sequence has ended or `go_on` says no; it is asked after the tokens that are read
    /// together, and after every chunk of the prompts. The tokens since the last call.
    pub fn advance(&mut self, model: &mut Model<B>, mut go_on: impl FnMut() -> bool) -> Result<Generated> {
        let mut out = Generated::default();
        if StreamSizes::of(&model.config) != self.stream.sizes {
            return Err(Error::value(OP, "the model that the generation was made of", "another"));
        }
        while !self.prefill.is_done() {
            self.prefill.advance(OP, &mut self.stream, model, &self.feed, &mut self.logits)?;
            if !go_on() {
                return Ok(out);
            }
        }
        if self.steps.is_new() {
            self.stream.upload_output(&self.logits)?;
        }
        let mut goes_on = true;
        while !self.is_over() && (goes_on || self.steps.is_under_way()) {
            // What is under way is read before this returns, so that parameters may change meanwhile.
            if goes_on {
                self.steps.enqueue(&mut self.stream, model, self.options.max_tokens)?;
            }
            self.read(&mut out)?;
            goes_on = goes_on && go_on();
        }
        out.done = self.is_over();
        Ok(out)
    }

    fn is_over(&self) -> bool {
        self.count >= self.options.max_tokens || self.sequences.iter().all(|s| s.ended)
    }

    /// Takes the tokens of the steps that were enqueued first.
    fn read(&mut self, out: &mut Generated) -> Result<()> {
        let be = self.stream.be.clone();
        let Generation { steps, sequences, options, count, .. } = self;
        let rows = sequences.len();
        for results in steps.read(&be)?.chunks_exact(rows * RESULTS) {
            if sequences.iter().all(|s| s.ended) {
                break;
            }
            let from = out.tokens.len();
            out.tokens.resize(from + rows, -1);
            out.log_probabilities.resize(from + rows, f64::NAN);
            for (sequence, result) in sequences.iter_mut().zip(results.chunks_exact(RESULTS)) {
                let Some((token, log_probability)) = GeneratedSteps::<B>::choice(result) else {
                    return Err(Error::new(Code::NonFinite, OP, "finite outputs", "NaN or infinity"));
                };
                if sequence.ended {
                    continue;
                }
                sequence.take(token, &options.stop);
                out.tokens[from + sequence.number] = token;
                out.log_probabilities[from + sequence.number] = log_probability;
            }
            *count += 1;
        }
        Ok(())
    }
}

impl Sequence {
    /// One more token, which may end it.
    fn take(&mut self, token: i32, stop: &[Vec<i32>]) {
        let longest = stop.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 {
            return;
        }
        if self.recent.len() == longest {
            self.recent.remove(0);
        }
        self.recent.push(token);
        self.ended = stop.iter().any(|stop| !stop.is_empty() && self.recent.ends_with(stop));
    }
}

/// Gives `stream` the states of another stream of the same model; `order[i]` is the number of its sequence i there.
fn continue_stream<B: Backend>(
    stream: &mut Stepper<B>,
    from: &Stepper<B>,
    model: &Model<B>,
    order: &[usize],
) -> Result<()> {
    from.refuse_torn(OP)?;
    if StreamSizes::of(&model.config) != from.sizes {
        return Err(Error::value(OP, "a stream of this model", "one of another"));
    }
    if from.batch != 1 && from.batch != order.len() {
        return Err(Error::shape(
            OP,
            format!("a prompt for each of the stream's {} sequences", from.batch),
            order.len(),
        ));
    }
    let be = stream.be.clone();
    for (to, &number) in order.iter().enumerate() {
        let number = if from.batch == 1 { 0 } else { number };
        stream.states.copy_sequences(&be, to, (&from.states, number), 1)?;
    }
    stream.position = from.position;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;
    use s4_cpu::Cpu;

    /// The tokens of generations whose steps run one by one, and ahead of the host.
    #[test]
    fn steps_ahead_of_the_host_give_the_same_tokens() {
        let embedding = r#"{"encoder": "embedding", "vocabulary": 9, "output": 9, "features": 8, "layers": 2, "state": 8}"#;
        let linear =
            r#"{"input": 2, "output": 9, "features": 8, "layers": 2, "state": 8, "loss": "crossEntropy"}"#;
        for (json, values) in
            [(embedding, None), (linear, Some((0..18).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>()))]
        {
            let mut model =
                Model::new(Cpu::<f32>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap();
            let sampling =
                Sampling { temperature: 0.8, top_p: 0.95, repetition_penalty: 1.3, ..Default::default() };
            let mut run = |max_tokens, stop: &[Vec<i32>], ahead: bool, pieces: bool| {
                let feed = Feed::new("test", &model, values.clone()).unwrap();
                let options = GenerateOptions { max_tokens, sampling, seed: 7, stop: stop.to_vec() };
                let prompts = vec![vec![1, 2, 3], vec![4], vec![5, 6]];
                let mut generation = Generation::new(&model, feed, prompts, options, None, 1.0).unwrap();
                let be = model.be.clone();
                if ahead {
                    generation.steps.run_ahead(&be).unwrap();
                }
                let mut all = Generated::default();
                while !all.done {
                    let some = generation.advance(&mut model, || !pieces).unwrap();
                    all.tokens.extend(some.tokens);
                    all.log_probabilities.extend(some.log_probabilities);
                    all.done = some.done;
                }
                all
            };
            for max_tokens in [1, 2, 3, 7, 40] {
                let plain = run(max_tokens, &[], false, false);
                assert_eq!(plain.tokens.len() as u64, 3 * max_tokens);
                assert!(plain.tokens.iter().all(|token| (0..9).contains(token)));
                for pieces in [false, true] {
                    assert_eq!(run(max_tokens, &[], true, pieces), plain, "{max_tokens} {pieces}");
                }
            }
            // Each sequence ends where its own two tokens come; what was computed beyond is not given.
            let free = run(40, &[], false, false);
            let stop: Vec<Vec<i32>> =
                (0..3).map(|i| [5, 6].map(|step| free.tokens[3 * step + i]).to_vec()).collect();
            let plain = run(40, &stop, false, false);
            assert!(plain.tokens.len() <= 3 * 7 && plain.tokens[..3] == free.tokens[..3]);
            assert!(
                plain
                    .log_probabilities
                    .iter()
                    .zip(&plain.tokens)
                    .all(|(p, token)| p.is_nan() == (*token < 0))
            );
            let ahead = run(40, &stop, true, false);
            assert_eq!((ahead.tokens, ahead.done), (plain.tokens, true));
        }
    }
}
