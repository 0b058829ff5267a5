//! What goes into a model and what its output is compared with, as host arrays.

use num_traits::Zero;
use s4_backend::CallOptions;

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, T> {
    /// (batch, len, input)
    Values(&'a [T]),
    /// (batch, len), with encoder `embedding`.
    Tokens(&'a [i32]),
}

/// What a batch is compared with.
#[derive(Clone, Copy, Debug)]
pub enum TargetData<'a, T> {
    /// (batch, output) when pooled, else (batch, len, output).
    Values(&'a [T]),
    /// (batch) when pooled, else (batch, len); a negative label is left out.
    Labels(&'a [i32]),
}

/// One batch of training or evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// (batch, len, input) or tokens.
    pub input: Input<'a, T>,
    /// What should come out.
    pub target: TargetData<'a, T>,
    /// Rows.
    pub batch: usize,
    /// Samples a row.
    pub len: usize,
    /// Weight of each output row: (batch) when pooled, else (batch, len).
    pub weights: Option<&'a [T]>,
    /// Lengths, rate, algorithm; whether it trains is the operation's.
    pub call: CallOptions<'a, [i32]>,
}

impl<'a, T> Batch<'a, T> {
    /// A batch without lengths or weights, at rate 1.
    pub fn new(input: Input<'a, T>, target: TargetData<'a, T>, batch: usize, len: usize) -> Self {
        Batch { input, target, batch, len, weights: None, call: CallOptions::default() }
    }
}

/// Reals, or integers that are tokens or labels, by their place.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedArray<T> {
    /// Input values or real targets.
    Values(Vec<T>),
    /// Tokens or labels.
    Integers(Vec<i32>),
}

impl<T> OwnedArray<T> {
    /// As an input.
    pub fn input(&self) -> Input<'_, T> {
        match self {
            OwnedArray::Values(x) => Input::Values(x),
            OwnedArray::Integers(x) => Input::Tokens(x),
        }
    }
    /// As a target.
    pub fn target(&self) -> TargetData<'_, T> {
        match self {
            OwnedArray::Values(x) => TargetData::Values(x),
            OwnedArray::Integers(x) => TargetData::Labels(x),
        }
    }
}

/// A [`Batch`] that owns its arrays.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedBatch<T> {
    /// (batch, len, input) or tokens.
    pub input: OwnedArray<T>,
    /// What should come out.
    pub target: OwnedArray<T>,
    /// Rows.
    pub batch: usize,
    /// Samples a row.
    pub len: usize,
    /// Length of each row.
    pub lengths: Option<Vec<i32>>,
    /// Weight of each output row.
    pub weights: Option<Vec<T>>,
    /// Rate and algorithm; lengths are those above.
    pub call: CallOptions<'static, [i32]>,
}

impl<T: Copy + Zero> OwnedArray<T> {
    /// Zeroes what lies beyond each row's length, `len` samples a row: it is never looked at, and may be NaN.
    pub fn clear_padding(&mut self, lengths: &[i32], len: usize) {
        match self {
            OwnedArray::Values(x) => clear_padding(x, lengths, len),
            OwnedArray::Integers(x) => clear_padding(x, lengths, len),
        }
    }
}

fn clear_padding<T: Copy + Zero>(x: &mut [T], lengths: &[i32], len: usize) {
    // Other sizes are refused where the model's are known.
    if lengths.is_empty() || len == 0 || !x.len().is_multiple_of(lengths.len() * len) {
        return;
    }
    let each = x.len() / lengths.len();
    for (row, &length) in x.chunks_exact_mut(each).zip(lengths) {
        let from = usize::try_from(length).unwrap_or(len).min(len) * (each / len);
        row[from..].fill(T::zero());
    }
}

impl<T: Copy + Zero + PartialEq> OwnedBatch<T> {
    /// Zeroes what does not count, which may hold anything: input, target and weights beyond each row's length, real
    /// targets of weight 0. `per_step`: a row of the output is a step.
    pub fn clear_uncounted(&mut self, per_step: bool) {
        if let Some(lengths) = &self.lengths {
            self.input.clear_padding(lengths, self.len);
            if per_step {
                if let OwnedArray::Values(target) = &mut self.target {
                    clear_padding(target, lengths, self.len);
                }
                if let Some(weights) = &mut self.weights {
                    clear_padding(weights, lengths, self.len);
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
    /// Borrowed.
    pub fn batch(&self) -> Batch<'_, T> {
        Batch {
            input: self.input.input(),
            target: self.target.target(),
            batch: self.batch,
            len: self.len,
            weights: self.weights.as_deref(),
            call: self.call.with_lengths(self.lengths.as_deref()),
        }
    }
}
