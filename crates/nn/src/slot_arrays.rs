//! The arrays of pushes into slots, as those of one batch.

use crate::{batch::Input, check};
use s4_backend::{Error, Result, Scalar, host_memory};

/// Slots of a group: enough for the matrix products of a time step to read each weight once for many sequences, few enough
/// for all of a group to push together often.
pub(crate) const GROUP: usize = 64;

pub(crate) const OP: &str = "ModelStreams.push";

/// What one slot pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPush {
    /// Number of the slot.
    pub slot: usize,
    /// Time steps.
    pub len: usize,
    /// Whether its time steps have intervals of their own; without they are those of training.
    pub has_intervals: bool,
}

/// The arrays of a push: those of all slots, one after the other, time step by time step.
#[derive(Clone, Copy)]
pub(crate) struct Pushed<'a, T> {
    pub pushes: &'a [SlotPush],
    /// The time step of the arrays with which each push begins.
    pub begins: &'a [usize],
    pub x: Input<'a, T>,
    pub intervals: Option<&'a [T]>,
    /// Input values of a time step.
    pub input: usize,
    /// Outputs of a time step.
    pub output: usize,
}

/// The time step with which each push begins, and how many there are. `ERR_S4_VALUE` where a push has none, or they are too many to be counted.
pub(crate) fn begins_of(pushes: &[SlotPush]) -> Result<(Vec<usize>, usize)> {
    let mut begins = host_memory::reserved(OP, "the pushes", 0, pushes.len())?;
    let mut steps = 0usize;
    for push in pushes {
        begins.push(steps);
        steps = steps
            .checked_add(push.len)
            .filter(|_| push.len > 0)
            .ok_or_else(|| Error::value(OP, "one time step or more", push.len))?;
    }
    Ok((begins, steps))
}

/// The slots of a part's pushes.
pub(crate) fn slots_of<T>(pushed: Pushed<'_, T>, part: &[usize]) -> Vec<usize> {
    part.iter().map(|&i| pushed.pushes[i].slot).collect()
}

/// The time steps of a part's pushes, one push after another, and their outputs.
pub(crate) struct RowsTogether<T> {
    values: Vec<T>,
    tokens: Option<Vec<i32>>,
    /// Outputs of each time step.
    pub outputs: Vec<T>,
}

impl<T: Scalar> RowsTogether<T> {
    /// The input of a part's pushes, and zeros for their outputs.
    pub fn gather(pushed: Pushed<'_, T>, part: &[usize]) -> Result<Self> {
        let steps = part.iter().map(|&i| pushed.pushes[i].len).sum::<usize>();
        let range = |i: usize, width: usize| {
            pushed.begins[i] * width..(pushed.begins[i] + pushed.pushes[i].len) * width
        };
        let (mut values, mut tokens) = (Vec::new(), None);
        match pushed.x {
            Input::Values(x) => {
                values = host_memory::reserved(OP, "the input", 0, steps * pushed.input)?;
                part.iter().for_each(|&i| values.extend_from_slice(&x[range(i, pushed.input)]));
            }
            Input::Tokens(x) => {
                let mut gathered = host_memory::reserved(OP, "the tokens", 0, steps)?;
                part.iter().for_each(|&i| gathered.extend_from_slice(&x[range(i, 1)]));
                tokens = Some(gathered);
            }
        }
        let outputs = host_memory::zeros(OP, "the outputs", steps * pushed.output)?;
        Ok(RowsTogether { values, tokens, outputs })
    }

    /// The input of the push, and where its outputs go.
    pub fn arrays(&mut self) -> (Input<'_, T>, &mut [T]) {
        let input = match &self.tokens {
            Some(tokens) => Input::Tokens(tokens),
            None => Input::Values(&self.values),
        };
        (input, &mut self.outputs)
    }
}

/// The arrays of pushes of equal length as those of one batch: (batch, len, …), zeros (tokens 0, intervals 1) in the rows
/// that no push has.
pub(crate) struct RowArrays<T> {
    values: Vec<T>,
    tokens: Option<Vec<i32>>,
    pub intervals: Option<Vec<T>>,
    pub len: usize,
}

impl<T: Scalar> RowArrays<T> {
    /// The arrays of the pushes of a part.
    pub fn gather(pushed: Pushed<'_, T>, part: &[usize], batch: usize) -> Result<Self> {
        let SlotPush { len, has_intervals, .. } = pushed.pushes[part[0]];
        let rows = |width: usize| {
            part.iter().map(move |&i| pushed.begins[i] * width..(pushed.begins[i] + len) * width)
        };
        let (mut values, mut tokens) = (Vec::new(), None);
        match pushed.x {
            Input::Values(x) => {
                values = host_memory::zeros(OP, "the input", batch * len * pushed.input)?;
                let n = len * pushed.input;
                for (row, range) in rows(pushed.input).enumerate() {
                    values[row * n..][..n].copy_from_slice(&x[range]);
                }
            }
            Input::Tokens(x) => {
                let mut gathered = host_memory::zeros(OP, "the tokens", batch * len)?;
                for (row, range) in rows(1).enumerate() {
                    gathered[row * len..][..len].copy_from_slice(&x[range]);
                }
                tokens = Some(gathered);
            }
        }
        let mut intervals = None;
        if let (Some(given), true) = (pushed.intervals, has_intervals) {
            let mut gathered = host_memory::zeros(OP, "the intervals", batch * len)?;
            gathered.fill(T::from_f64(1.0));
            for (row, range) in rows(1).enumerate() {
                gathered[row * len..][..len].copy_from_slice(&given[range]);
            }
            check::intervals(OP, &gathered, batch * len)?;
            intervals = Some(gathered);
        }
        Ok(RowArrays { values, tokens, intervals, len })
    }

    /// The input of the push.
    pub fn input(&self) -> Input<'_, T> {
        match &self.tokens {
            Some(tokens) => Input::Tokens(tokens),
            None => Input::Values(&self.values),
        }
    }
}
