//! Batches with more time steps than the caller gave, as padding: a length that is no multiple of what a device's fast kernels read and
//! write at a time would go through its general ones, which take more than twice as long.

use crate::{
    batch::{Batch, Input, OwnedArray, OwnedBatch, TargetData},
    config::ModelConfig,
};
use num_traits::{One, Zero};
use s4_backend::{Backend, Result, host_memory};

/// Shorter sequences stay as they are: padding would be a large part of them.
const LEAST_LEN: usize = 64;
/// What lengths are a multiple of where dropout draws for each time step.
const OF_DRAWS: usize = 8;

/// The number of time steps to which sequences of `len` are padded, or `None` where they stay as they are. With dropout that draws for
/// each time step it is the same for every device, because the padding is part of what is drawn for: all devices drop the same units.
pub(crate) fn padded_len<B: Backend>(
    be: &B,
    config: &ModelConfig,
    len: usize,
    training: bool,
) -> Option<usize> {
    let block = &config.block;
    let draws = training && block.dropout > 0.0 && !block.tied_dropout;
    let multiple = if draws { OF_DRAWS.max(be.time_multiple()) } else { be.time_multiple() };
    let padded = len.next_multiple_of(multiple);
    // A kernel as long as the sequences is whole; beside padding it would be a truncated one, which not all algorithms compute.
    let would_truncate = block.layer.truncate.is_some_and(|kernel| len <= kernel && kernel < padded);
    (len >= LEAST_LEN && padded != len && !would_truncate).then_some(padded)
}

/// x (rows, len, any width) as (rows, to, width), with `value` at the new time steps.
pub(crate) fn stretched<T: Copy>(
    x: &[T],
    rows: usize,
    (len, to): (usize, usize),
    value: T,
) -> Result<Vec<T>> {
    let row = x.len() / rows.max(1);
    let longer = row / len * to;
    let mut out = host_memory::reserved("s4-node", "a padded batch", rows * longer, rows * longer)?;
    for sequence in x.chunks_exact(row.max(1)) {
        out.extend_from_slice(sequence);
        out.resize(out.len() + longer - row, value);
    }
    Ok(out)
}

/// Lengths (rows) of sequences that had `len` time steps.
pub(crate) fn padded_lengths(lengths: Option<&[i32]>, rows: usize, len: usize) -> Result<Vec<i32>> {
    match lengths {
        Some(lengths) => host_memory::copied("s4-node", "the lengths of a padded batch", lengths),
        None => {
            let mut all = host_memory::zeros("s4-node", "the lengths of a padded batch", rows)?;
            all.fill(len as i32);
            Ok(all)
        }
    }
}

/// An input (rows, len, …) as (rows, to, …), with zeros at the new time steps.
pub(crate) fn padded_input<T: Copy + Zero>(
    x: Input<'_, T>,
    rows: usize,
    lens: (usize, usize),
) -> Result<OwnedArray<T>> {
    Ok(match x {
        Input::Values(x) => OwnedArray::Values(stretched(x, rows, lens, T::zero())?),
        Input::Tokens(x) => OwnedArray::Integers(stretched(x, rows, lens, 0)?),
    })
}

impl<T: Copy + Zero + One> Batch<'_, T> {
    /// The batch, which has been checked, with `to` time steps, those beyond its own as padding. `per_step`: there is a target for each time
    /// step.
    pub(crate) fn padded(&self, to: usize, per_step: bool) -> Result<OwnedBatch<T>> {
        let &Batch { input, target, batch, len, weights, call } = self;
        let lens = (len, to);
        let copied = |x: &[T]| host_memory::copied("s4-node", "a padded batch", x);
        Ok(OwnedBatch {
            input: padded_input(input, batch, lens)?,
            target: match (target, per_step) {
                (TargetData::Values(x), true) => OwnedArray::Values(stretched(x, batch, lens, T::zero())?),
                (TargetData::Labels(x), true) => OwnedArray::Integers(stretched(x, batch, lens, -1)?),
                (TargetData::Values(x), false) => OwnedArray::Values(copied(x)?),
                (TargetData::Labels(x), false) => {
                    OwnedArray::Integers(host_memory::copied("s4-node", "a padded batch", x)?)
                }
            },
            batch,
            len: to,
            lengths: Some(padded_lengths(call.lengths, batch, len)?),
            intervals: call.intervals.map(|x| stretched(x, batch, lens, T::one())).transpose()?,
            weights: match (weights, per_step) {
                (Some(x), true) => Some(stretched(x, batch, lens, T::zero())?),
                (Some(x), false) => Some(copied(x)?),
                (None, _) => None,
            },
            call: call.with_arrays(None, None),
        })
    }
}

/// An output (rows, to, width) without the time steps beyond `len`, in place.
pub(crate) fn trim<T: Copy>(y: &mut Vec<T>, rows: usize, (len, to): (usize, usize)) {
    let row = y.len() / rows.max(1);
    let shorter = row / to * len;
    for i in 0..rows {
        y.copy_within(i * row..i * row + shorter, i * shorter);
    }
    y.truncate(rows * shorter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_stretched_and_trimmed() {
        let x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut longer = stretched(&x, 2, (3, 5), -1).unwrap();
        assert_eq!(longer, [1, 2, 3, 4, 5, 6, -1, -1, -1, -1, 7, 8, 9, 10, 11, 12, -1, -1, -1, -1]);
        trim(&mut longer, 2, (3, 5));
        assert_eq!(longer, x);
        assert_eq!(padded_lengths(None, 2, 7).unwrap(), [7, 7]);
        assert_eq!(padded_lengths(Some(&[3, 7]), 2, 7).unwrap(), [3, 7]);
    }
}
