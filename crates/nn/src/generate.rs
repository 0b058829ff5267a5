//! Generation: prompts go in, then each token that is chosen is the next input. Time and memory of a token do not depend on how
//! many there were before.

use crate::{
    feed::Feed,
    model::Model,
    prefill::Prefill,
    sampling::{Sampler, Sampling},
    stepper::{StepOptions, Stepper, StreamSizes},
};
use s4_backend::{Backend, Code, Error, Result, host_memory, random};

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
    /// The last token, the next input.
    last: i32,
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
    /// Logits of the next token, (sequences, vocabulary), once the prompts have been taken.
    logits: Vec<B::Scalar>,
    /// Whether `logits` are those before the last tokens, which the stream has not been given.
    is_behind: bool,
    /// Whether each token was there before, (sequences, vocabulary). Kept for a repetition penalty.
    seen: Vec<bool>,
    /// Tokens of each sequence so far.
    count: u64,
    sampler: Sampler,
    next_tokens: Vec<i32>,
    values: Vec<B::Scalar>,
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
        let mut seen = host_memory::zeros(op, "the tokens seen", if has_penalty { logits.len() } else { 0 })?;
        let mut prompts = prompts.into_iter().map(Some).collect::<Vec<_>>();
        let sorted: Vec<Vec<i32>> = order.iter().filter_map(|&i| prompts[i].take()).collect();
        if has_penalty {
            for (seen, prompt) in seen.chunks_exact_mut(feed.vocabulary).zip(&sorted) {
                prompt.iter().for_each(|&token| seen[token as usize] = true);
            }
        }
        let prefill = Prefill::new(sorted);
        let longest_stop = options.stop.iter().map(Vec::len).max().unwrap_or(0);
        let sequences = order.into_iter().zip(prefill.last_tokens());
        let sequences = sequences.map(|(number, last)| Sequence {
            number,
            last,
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
            is_behind: false,
            seen,
            count: 0,
            sampler: Sampler::default(),
            next_tokens: vec![0; batch],
            values: Vec::new(),
        })
    }

    /// Goes on until every sequence has ended or `go_on` says no; it is asked after every token, and after every chunk of the
    /// prompts. The tokens since the last call.
    pub fn advance(&mut self, model: &mut Model<B>, mut go_on: impl FnMut() -> bool) -> Result<Generated> {
        let mut out = Generated::default();
        if StreamSizes::of(model) != self.stream.sizes {
            return Err(Error::value(OP, "the model that the generation was made of", "another"));
        }
        while !self.prefill.is_done() {
            self.prefill.advance(OP, &mut self.stream, model, &self.feed, &mut self.logits)?;
            if !go_on() {
                return Ok(out);
            }
        }
        while !self.is_over() {
            if self.is_behind {
                self.push_last_tokens(model)?;
            }
            self.choose(&mut out)?;
            if !go_on() {
                break;
            }
        }
        out.done = self.is_over();
        Ok(out)
    }

    fn is_over(&self) -> bool {
        self.count >= self.options.max_tokens || self.sequences.iter().all(|s| s.ended)
    }

    /// The logits after the last tokens.
    fn push_last_tokens(&mut self, model: &mut Model<B>) -> Result<()> {
        for (token, sequence) in self.next_tokens.iter_mut().zip(&self.sequences) {
            *token = sequence.last;
        }
        let x = self.feed.input(OP, &self.next_tokens, &mut self.values)?;
        let logits = Some(&mut self.logits[..]);
        self.stream.push_time_step(model, x, (0, 1), &StepOptions::default(), logits)?;
        self.is_behind = false;
        Ok(())
    }

    /// Chooses the next token of every sequence that goes on.
    fn choose(&mut self, out: &mut Generated) -> Result<()> {
        if !self.stream.be.all_finite(&self.logits) {
            return Err(Error::new(Code::NonFinite, OP, "finite outputs", "NaN or infinity"));
        }
        let (from, vocabulary) = (out.tokens.len(), self.feed.vocabulary);
        let count = self.sequences.len();
        out.tokens.resize(from + count, -1);
        out.log_probabilities.resize(from + count, f64::NAN);
        for (i, sequence) in self.sequences.iter_mut().enumerate().filter(|(_, s)| !s.ended) {
            let place = i * vocabulary..(i + 1) * vocabulary;
            let (options, number) = (&self.options, sequence.number);
            let uniform = random::sampling_uniform(options.seed, number as u32, self.count);
            let seen: &mut [bool] = match self.seen.is_empty() {
                true => &mut [],
                false => &mut self.seen[place.clone()],
            };
            let choice = self.sampler.choose(&self.logits[place], &options.sampling, seen, uniform);
            if let Some(seen) = seen.get_mut(choice.token) {
                *seen = true;
            }
            sequence.take(choice.token as i32, &options.stop);
            out.tokens[from + number] = choice.token as i32;
            out.log_probabilities[from + number] = choice.log_probability;
        }
        self.count += 1;
        self.is_behind = true;
        Ok(())
    }
}

impl Sequence {
    /// One more token, which may end it.
    fn take(&mut self, token: i32, stop: &[Vec<i32>]) {
        self.last = token;
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
    if StreamSizes::of(model) != from.sizes {
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
