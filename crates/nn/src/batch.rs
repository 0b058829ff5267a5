//! The inputs of a model and the targets that its outputs are compared with, as host arrays.

use crate::call_arrays::HostOptions;
use num_traits::{One, Zero};
use s4_backend::CallOptions;

/// The input of a model, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, T> {
    /// Real numbers, (batch, len, input).
    Values(&'a [T]),
    /// Token numbers (batch, len), for a model whose encoder is an embedding.
    Tokens(&'a [i32]),
}

/// The targets that the outputs of a batch are compared with, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum TargetData<'a, T> {
    /// Real numbers: (batch, output) where the model pools over time, else (batch, len, output).
    Values(&'a [T]),
    /// Class labels: (batch) where the model pools over time, else (batch, len). A negative label is left out of the loss.
    Labels(&'a [i32]),
}

/// One batch of training or evaluation, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// Values (batch, len, input), or tokens (batch, len).
    pub input: Input<'a, T>,
    /// What the model should give for it.
    pub target: TargetData<'a, T>,
    /// Number of sequences.
    pub batch: usize,
    /// Time steps of each sequence, padding included.
    pub len: usize,
    /// Weight of each target in the loss: (batch) where the model pools over time, else (batch, len). 1 without.
    pub weights: Option<&'a [T]>,
    /// Lengths, intervals, rate and algorithm of the call; its field `training` is not read, because training and evaluation set it.
    pub call: HostOptions<'a, T>,
}

impl<'a, T> Batch<'a, T> {
    /// A batch of whole sequences, all of weight 1, at rate 1.
    pub fn new(input: Input<'a, T>, target: TargetData<'a, T>, batch: usize, len: usize) -> Self {
        Batch { input, target, batch, len, weights: None, call: CallOptions::default() }
    }
}

/// An array that is an input or a target: real numbers, or integers (tokens in an input, labels in a target).
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedArray<T> {
    /// Real numbers: input values or real targets.
    Values(Vec<T>),
    /// Integers: tokens of an input, or labels of a target.
    Integers(Vec<i32>),
}

impl<T> OwnedArray<T> {
    /// Borrows it as an input.
    pub fn input(&self) -> Input<'_, T> {
        match self {
            OwnedArray::Values(x) => Input::Values(x),
            OwnedArray::Integers(x) => Input::Tokens(x),
        }
    }
    /// Borrows it as a target.
    pub fn target(&self) -> TargetData<'_, T> {
        match self {
            OwnedArray::Values(x) => TargetData::Values(x),
            OwnedArray::Integers(x) => TargetData::Labels(x),
        }
    }
}

/// A [`Batch`] that owns its arrays, so that it can outlive the caller's.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedBatch<T> {
    /// Values (batch, len, input), or tokens (batch, len).
    pub input: OwnedArray<T>,
    /// What the model should give for it.
    pub target: OwnedArray<T>,
    /// Number of sequences.
    pub batch: usize,
    /// Time steps of each sequence, padding included.
    pub len: usize,
    /// Length of each sequence, where they are not all `len`.
    pub lengths: Option<Vec<i32>>,
    /// Interval of each time step, (batch, len), where they are not all 1.
    pub intervals: Option<Vec<T>>,
    /// Weight of each target in the loss, as in [`Batch::weights`].
    pub weights: Option<Vec<T>>,
    /// Rate and algorithm of the call. Its own `lengths` and `intervals` are empty: those above hold.
    pub call: HostOptions<'static, f64>,
}

impl<T: Copy + Zero> OwnedArray<T> {
    /// Zeroes the padding beyond each sequence's length, for sequences of `len` time steps. The model does not look at it,
    /// and so a caller may leave anything there; a NaN would fail the check for finite numbers.
    pub fn clear_padding(&mut self, lengths: &[i32], len: usize) {
        match self {
            OwnedArray::Values(x) => fill_padding(x, T::zero(), lengths, len),
            OwnedArray::Integers(x) => fill_padding(x, 0, lengths, len),
        }
    }
}

/// Sets x (batch, len, any width) to `value` beyond the length of each sequence. Leaves an array that does not have this
/// form alone.
pub fn fill_padding<T: Copy>(x: &mut [T], value: T, lengths: &[i32], len: usize) {
    // An array of a wrong size is left as it is: the model's own check refuses it.
    if lengths.is_empty() || len == 0 || !x.len().is_multiple_of(lengths.len() * len) {
        return;
    }
    let sequence_len = x.len() / lengths.len();
    for (sequence, &length) in x.chunks_exact_mut(sequence_len).zip(lengths) {
        let from = usize::try_from(length).unwrap_or(len).min(len) * (sequence_len / len);
        sequence[from..].fill(value);
    }
}

impl<T: Copy + Zero + One + PartialEq> OwnedBatch<T> {
    /// Zeroes all that has no part in the loss, where a caller may leave anything, NaN too: input, targets and weights
    /// beyond each sequence's length, and real targets of weight 0; intervals beyond a length become 1. `per_step`: there is a target for each time step (no
    /// pooling).
    pub fn clear_uncounted(&mut self, per_step: bool) {
        if let Some(lengths) = &self.lengths {
            self.input.clear_padding(lengths, self.len);
            if let Some(intervals) = &mut self.intervals {
                fill_padding(intervals, T::one(), lengths, self.len);
            }
            if per_step {
                if let OwnedArray::Values(target) = &mut self.target {
                    fill_padding(target, T::zero(), lengths, self.len);
                }
                if let Some(weights) = &mut self.weights {
                    fill_padding(weights, T::zero(), lengths, self.len);
                }
            }
        }
        if let (OwnedArray::Values(target), Some(weights)) = (&mut self.target, &self.weights)
            && !weights.is_empty()
            && target.len().is_multiple_of(weights.len())
            && !target.is_empty()
        {
            let width = target.len() / weights.len();
            let rows = target.chunks_exact_mut(width).zip(weights);
            rows.filter(|(_, w)| w.is_zero()).for_each(|(row, _)| row.fill(T::zero()));
        }
    }
}

impl<T> OwnedBatch<T> {
    /// Borrows all of it as a [`Batch`].
    pub fn batch(&self) -> Batch<'_, T> {
        Batch {
            input: self.input.input(),
            target: self.target.target(),
            batch: self.batch,
            len: self.len,
            weights: self.weights.as_deref(),
            call: self.call.with_arrays(self.lengths.as_deref(), self.intervals.as_deref()),
        }
    }
}
