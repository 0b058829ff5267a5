//! Takes a stream through prompts, of which only the outputs after their last tokens are wanted: chunk by chunk through the
//! forward of whole sequences, whose decoder then runs at one time step of each sequence.

use crate::{
    batch::Input,
    feed::Feed,
    model::Model,
    pass_options::PassContext,
    recurrent_states::RecurrentStates,
    stepper::{MIN_LEN_OF_FORWARD, StepOptions, Stepper},
};
use num_traits::Zero;
use s4_backend::{Backend, CallOptions, Result, host_memory};

/// Features of the chunk of a prefill, as many as a CPU computes in some milliseconds, so that an abort need not wait.
const FEATURES_OF_CHUNK: usize = 1 << 18;
/// The same on a device that computes more at once.
const FEATURES_OF_DEVICE_CHUNK: usize = 1 << 24;

/// Prompts on their way into a stream, the longest first: those that go on at a time step are then the first ones.
pub(crate) struct Prefill<T> {
    prompts: Vec<Vec<i32>>,
    /// Time steps taken.
    done: usize,
    /// Tokens of a chunk, and their input values.
    tokens: Vec<i32>,
    values: Vec<T>,
    /// Outputs of a chunk.
    outputs: Vec<T>,
}

impl<T: s4_backend::Scalar> Prefill<T> {
    /// `prompts`: none empty, sorted by descending length.
    pub fn new(prompts: Vec<Vec<i32>>) -> Self {
        Prefill { prompts, done: 0, tokens: Vec::new(), values: Vec::new(), outputs: Vec::new() }
    }
    /// Whether every prompt has been taken.
    pub fn is_done(&self) -> bool {
        self.prompts.first().is_none_or(|longest| self.done == longest.len())
    }

    /// Takes one chunk. Writes the outputs of the prompts that end in it to their places in `outputs` (prompts, outputs).
    pub fn advance<B: Backend<Scalar = T>>(
        &mut self,
        op: &'static str,
        stream: &mut Stepper<B>,
        model: &mut Model<B>,
        feed: &Feed<T>,
        outputs: &mut [T],
    ) -> Result<()> {
        let at = self.done;
        let is_open = |prompt: &&Vec<i32>| prompt.len() > at;
        let rows = self.prompts.iter().take_while(is_open).count();
        let features = rows * model.config.features();
        let most = if stream.be.device_id() == "cpu" { FEATURES_OF_CHUNK } else { FEATURES_OF_DEVICE_CHUNK };
        let left = self.prompts[0].len() - at;
        let len = left.min((most / features).max(MIN_LEN_OF_FORWARD));
        let lengths: Vec<i32> = self.prompts[..rows].iter().map(|p| (p.len() - at).min(len) as i32).collect();
        let is_even = lengths.iter().all(|&n| n as usize == len);
        host_memory::resize(op, "the tokens of a chunk", &mut self.tokens, rows * len)?;
        for (row, prompt) in self.tokens.chunks_exact_mut(len).zip(&self.prompts) {
            let part = &prompt[at..prompt.len().min(at + len)];
            row[..part.len()].copy_from_slice(part);
            row[part.len()..].fill(0);
        }
        let width = outputs.len() / self.prompts.len();
        host_memory::resize(op, "the outputs of a chunk", &mut self.outputs, rows * width)?;
        let x = feed.input(op, &self.tokens, &mut self.values)?;
        if is_even && rows == self.prompts.len() && len < MIN_LEN_OF_FORWARD {
            let last = &mut self.outputs[..];
            for t in 0..len {
                stream.push_time_step(model, x, (t, len), &StepOptions::default(), None)?;
            }
            stream.download_output(last)?;
        } else {
            let lengths = (!is_even).then_some(&lengths[..]);
            stream.push_to_last_step(model, x, (rows, len), lengths, &mut self.outputs)?;
        }
        for row in (0..rows).filter(|&row| self.prompts[row].len() <= at + len) {
            let place = row * width..(row + 1) * width;
            outputs[place.clone()].copy_from_slice(&self.outputs[place]);
        }
        self.done += len;
        Ok(())
    }
}

impl<B: Backend> Stepper<B> {
    /// The outputs of the last time step, (batch, outputs), of a push by recurrence.
    pub(crate) fn download_output(&self, output: &mut [B::Scalar]) -> Result<()> {
        self.be.download(output, self.output.get(&self.be, output.len()))
    }

    /// Sets the outputs of the last time step, (batch, outputs), for work on the device that goes on from there.
    pub(crate) fn upload_output(&mut self, output: &[B::Scalar]) -> Result<()> {
        let (be, n) = (self.be.clone(), self.batch * self.sizes.features);
        self.features.iter_mut().try_for_each(|x| x.ensure(&be, n))?;
        self.output.ensure(&be, output.len())?;
        be.upload(self.output.get_mut(&be, output.len()), output)
    }

    /// Takes the first `rows` sequences through a push of `len` time steps, or each through as many as `lengths` says, and
    /// writes their last outputs (rows, outputs). The stream is not to be used after an error.
    fn push_to_last_step(
        &mut self,
        model: &mut Model<B>,
        x: Input<'_, B::Scalar>,
        (rows, len): (usize, usize),
        lengths: Option<&[i32]>,
        outputs: &mut [B::Scalar],
    ) -> Result<()> {
        let be = self.be.clone();
        self.journal.end();
        let call = CallOptions { rate: self.rate, lengths, ..Default::default() };
        model.upload_input(x, rows, len, &call)?;
        let mut next = match self.next_or_kept_states.take() {
            Some(states) => states,
            None => RecurrentStates::new(&be, &model.config, self.batch)?,
        };
        self.states.take_first(rows);
        next.take_first(rows);
        let options = model.call_arrays.options(&call);
        let pass = PassContext::inference(&be, &model.store, (rows, len), options);
        model.net.forward_last_step(&pass, &self.states, &mut next)?;
        self.states.copy_from(&be, &next)?;
        self.states.take_first(self.batch);
        next.take_first(self.batch);
        self.next_or_kept_states = Some(next);
        self.position += len as u64;
        outputs.fill(Zero::zero());
        be.download(outputs, model.net.output_stage.output_of_every_step(&be, rows, 1))
    }
}
