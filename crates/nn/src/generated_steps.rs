//! The steps of a generation on the device: the network, and the choice of the token that is its next input. Nothing of a step
//! waits for the host, which reads the tokens of some steps while the next ones run.

use crate::{
    feed::Feed,
    growable_buffer::{GrowableBuffer, GrowableInts},
    model::Model,
    stepper::Stepper,
};
use s4_backend::{
    Backend, EmbeddingForward, PROGRESS, RESULTS, Result, SampleTokens, Sampling, Scalar, SeqShape,
    host_memory,
};
use std::collections::VecDeque;

/// Steps that are read together, and enqueued while others before them run.
const STEPS_OF_PART: usize = 8;
/// Parts that are enqueued at a time.
const PARTS: usize = 2;

/// What the choice of tokens reads and writes on the device, and the parts that are under way.
pub(crate) struct GeneratedSteps<B: Backend> {
    progress: GrowableInts<B>,
    seen: GrowableInts<B>,
    /// (parts, steps of a part, sequences, 3), as [`SampleTokens::results`].
    results: GrowableBuffer<B>,
    /// Input values of each token, where the model takes no tokens.
    inputs: GrowableBuffer<B>,
    downloads: Vec<B::AsyncDownload>,
    recorded: B::Graph,
    /// Steps of a part.
    part: usize,
    /// Sequences.
    rows: usize,
    vocabulary: usize,
    width: usize,
    sampling: Sampling,
    seed: u64,
    /// Steps that were enqueued, and of each part that has not been read how many.
    enqueued: u64,
    unread: VecDeque<usize>,
    /// Parts that were read.
    parts_read: usize,
}

impl<B: Backend> GeneratedSteps<B> {
    /// Steps of the sequences with these numbers. `seen` (sequences, vocabulary): not 0 where a token was there before; without a
    /// repetition penalty it has no elements.
    pub fn new(
        op: &'static str,
        stream: &mut Stepper<B>,
        feed: &Feed<B::Scalar>,
        numbers: &[usize],
        seen: &[i32],
        (sampling, seed): (Sampling, u64),
    ) -> Result<Self> {
        let be = stream.be.clone();
        let (rows, vocabulary) = (numbers.len(), feed.vocabulary);
        let (part, parts) = if be.runs_ahead() { (STEPS_OF_PART, PARTS) } else { (1, 1) };
        let mut steps = GeneratedSteps {
            progress: GrowableInts::new(&be)?,
            seen: GrowableInts::new(&be)?,
            results: GrowableBuffer::new(&be)?,
            inputs: GrowableBuffer::new(&be)?,
            downloads: Vec::new(),
            recorded: B::Graph::default(),
            part,
            rows,
            vocabulary,
            width: feed.values().map_or(0, |values| values.len() / vocabulary),
            sampling,
            seed,
            enqueued: 0,
            unread: VecDeque::new(),
            parts_read: 0,
        };
        steps.set_parts(&be, part, parts)?;
        let progress: Vec<i32> = numbers.iter().flat_map(|&number| [number as i32, 0, 0]).collect();
        debug_assert_eq!(progress.len(), rows * PROGRESS);
        steps.progress.upload(&be, &progress)?;
        steps.seen.upload(&be, seen)?;
        if let Some(values) = feed.values() {
            steps.inputs.ensure(&be, values.len())?;
            be.upload(steps.inputs.get_mut(&be, values.len()), values)?;
            stream.input.ensure(&be, rows * steps.width)?;
        }
        host_memory::check(op, "the tokens", (rows * size_of::<i32>()) as u128)?;
        stream.tokens.ensure(&be, rows)?;
        Ok(steps)
    }

    /// Makes room for so many parts of so many steps.
    fn set_parts(&mut self, be: &B, part: usize, parts: usize) -> Result<()> {
        let len = part * self.rows * RESULTS;
        self.part = part;
        self.results.ensure(be, parts * len)?;
        self.downloads = (0..parts).map(|_| be.async_download(len)).collect::<Result<_>>()?;
        Ok(())
    }

    /// As on a device that runs ahead of the host.
    #[cfg(test)]
    pub fn run_ahead(&mut self, be: &B) -> Result<()> {
        self.set_parts(be, 3, PARTS)
    }

    /// Whether nothing has been enqueued yet: the first step chooses from logits that stand in the stream's output.
    pub fn is_new(&self) -> bool {
        self.enqueued == 0
    }

    /// Whether there are steps that have not been read.
    pub fn is_under_way(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Enqueues parts until as many are under way as may be, of `most` steps in all.
    pub fn enqueue(&mut self, stream: &mut Stepper<B>, model: &mut Model<B>, most: u64) -> Result<()> {
        let be = stream.be.clone();
        while self.unread.len() < self.downloads.len() && self.enqueued < most {
            let count = (most - self.enqueued).min(self.part as u64) as usize;
            for _ in 0..count {
                self.enqueue_step(stream, model)?;
            }
            let number = (self.parts_read + self.unread.len()) % self.downloads.len();
            let len = self.part * self.rows * RESULTS;
            let results = self.results.range(&be, number * len..(number + 1) * len);
            be.start_download(&mut self.downloads[number], results)?;
            self.unread.push_back(count);
        }
        Ok(())
    }

    /// Waits for the part that was enqueued first, and gives its results: (steps, sequences, 3).
    pub fn read(&mut self, be: &B) -> Result<&[B::Scalar]> {
        let Some(count) = self.unread.pop_front() else { return Ok(&[]) };
        let number = self.parts_read % self.downloads.len();
        self.parts_read += 1;
        Ok(&be.wait_download(&mut self.downloads[number])?[..count * self.rows * RESULTS])
    }

    /// Enqueues one step: the network at the last tokens, and the choice of the next.
    fn enqueue_step(&mut self, stream: &mut Stepper<B>, model: &mut Model<B>) -> Result<()> {
        let be = stream.be.clone();
        if self.is_new() {
            self.choose(stream)?;
        } else {
            let mut recorded = std::mem::take(&mut self.recorded);
            let key = [model.store.version(), stream.state_exchanges % 2];
            let replayed = be.replay(&mut recorded, key, &mut || {
                if self.width > 0 {
                    let shape = SeqShape { batch: self.rows, heads: self.width, len: 1 };
                    be.embedding_forward(EmbeddingForward {
                        y: stream.input.get_mut(&be, self.rows * self.width),
                        table: self.inputs.get(&be, self.vocabulary * self.width),
                        tokens: stream.tokens.get(),
                        vocabulary: self.vocabulary,
                        shape,
                    })?;
                }
                stream.enqueue_time_step(model, false)?;
                self.choose(stream)
            });
            self.recorded = recorded;
            replayed?;
            stream.position += 1;
        }
        self.enqueued += 1;
        Ok(())
    }

    /// Enqueues the choice of tokens from the logits in the stream's output.
    fn choose(&mut self, stream: &mut Stepper<B>) -> Result<()> {
        let be = stream.be.clone();
        let (rows, vocabulary, window) = (self.rows, self.vocabulary, self.part * self.downloads.len());
        be.sample_tokens(SampleTokens {
            tokens: stream.tokens.get_mut(),
            progress: self.progress.get_mut(),
            seen: self.seen.get_mut(),
            results: self.results.get_mut(&be, window * rows * RESULTS),
            logits: stream.output.get(&be, rows * vocabulary),
            sampling: self.sampling,
            seed: self.seed,
            rows,
            vocabulary,
            window,
        })
    }

    /// The token and the log-probability of one result; `None` where logits were not finite.
    pub fn choice(result: &[B::Scalar]) -> Option<(i32, f64)> {
        let [token, high, low] = [0, 1, 2].map(|i| result[i].to_f64());
        (token >= 0.0).then_some((token as i32, high + low))
    }
}
