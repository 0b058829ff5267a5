//! The states that enter the chunks of a pass over whole sequences (`kernels/ssm/bidirectional_pass_sm90.cu`), for the gradients.
//!
//! With products of one f16 number they are f16, each chunk of a sequence with a power of two of its own, and forward keeps them for
//! backward, with its input in the same form. With exact products they are f32, and backward computes them again: they would take twice
//! as much memory as the activations.

use super::{
    chunk_call::ChunkCall,
    chunk_rows::rows_from_head,
    sizes::{StateBytes, T},
};
use crate::{device::Cuda, driver::Span, memory::DeviceBlock};
use s4_backend::{Result, SsmCall};

/// Arrays of the states, one per direction.
#[derive(Clone, Copy, Default)]
pub(super) struct ChunkStates {
    /// (H, B, chunks, NP).
    pub(super) values: [Option<Span>; 2],
    /// (H, B·chunks, to a multiple of 4): the powers of two of states in f16; none of those in f32.
    pub(super) exponents: [Option<Span>; 2],
    /// (H, B, chunks, T): the pass's input as f16, and its powers of two; with states in f16.
    pub(super) input: Option<[Span; 2]>,
    /// (H, 4): the bits of the largest |x| and of the largest |state| of each direction, of states in f16.
    pub(super) largest: Option<Span>,
}

/// Where forward has kept states for backward: the saved values of which call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SavedStatesKey {
    saved: u64,
    batch: usize,
    len: usize,
}

impl SavedStatesKey {
    /// The key of a call whose states these saved values hold.
    pub(super) fn of(call: &SsmCall<'_, Cuda>, saved: Span) -> SavedStatesKey {
        SavedStatesKey { saved: saved.ptr(), batch: call.batch, len: call.len }
    }
}

impl ChunkCall<'_> {
    /// The part of `saved` for states in f16: behind those that enter the segments.
    pub(super) fn saved_states(&self, saved: Span) -> ChunkStates {
        let directions = 1 + self.layer.spec.bidirectional as usize;
        let bytes =
            StateBytes::new(self.sizes.np, self.sizes.heads, self.batch, self.segment_split.chunks, true);
        let mut at = self.entering_bytes();
        let mut next = |bytes: usize| {
            at += bytes;
            saved.part(at - bytes, bytes)
        };
        let mut states = ChunkStates::default();
        for to in states.values.iter_mut().take(directions) {
            *to = Some(next(bytes.values));
        }
        // All values before all exponents, whose number may be odd: rows begin at multiples of 16 bytes.
        let input = StateBytes::new(T, self.sizes.heads, self.batch, self.segment_split.chunks, true);
        let input_values = next(input.values);
        for to in states.exponents.iter_mut().take(directions) {
            *to = Some(next(bytes.exponents));
        }
        states.input = Some([input_values, next(input.exponents)]);
        states.largest = Some(next(4 * 4 * self.sizes.heads));
        states
    }
}

impl ChunkStates {
    /// Of arrays of all heads, what begins at head `from`; `largest` stays that of all heads.
    pub(super) fn from_head(self, from: usize, c: &ChunkCall<'_>) -> ChunkStates {
        let skipped =
            StateBytes::new(c.sizes.np, from, c.batch, c.segment_split.chunks, self.largest.is_some());
        let rest = |x: Option<Span>, bytes: usize| x.map(|x| x.part(bytes, x.bytes() - bytes));
        ChunkStates {
            values: self.values.map(|x| rest(x, skipped.values)),
            exponents: self.exponents.map(|x| rest(x, skipped.exponents)),
            input: self.input.map(|rows| rows_from_head(rows, from, (c.batch, c.segment_split.chunks))),
            largest: self.largest,
        }
    }
}

/// Memory for the states of some heads.
pub(super) struct StatesScratch {
    values: Vec<DeviceBlock>,
    exponents: Vec<DeviceBlock>,
    /// The input and its exponents, with states in f16.
    input: Option<[DeviceBlock; 2]>,
    /// (H, 4) of all heads.
    largest: Option<DeviceBlock>,
}

impl StatesScratch {
    pub(super) fn states(&self) -> ChunkStates {
        let spans = |v: &[DeviceBlock]| [0, 1].map(|dir| v.get(dir).map(|b| b.span()));
        ChunkStates {
            values: spans(&self.values),
            exponents: spans(&self.exponents),
            input: self.input.as_ref().map(|[values, exponents]| [values.span(), exponents.span()]),
            largest: self.largest.as_ref().map(|b| b.span()),
        }
    }
}

impl Cuda {
    /// Whether states are f16.
    pub(super) fn states_in_f16(&self) -> bool {
        self.precision().products() == 1
    }

    /// Scratch for the states of `heads` heads at a time. with_input: and for the input in f16, where states are f16.
    pub(super) fn states_scratch(
        &self,
        c: &ChunkCall<'_>,
        heads: usize,
        with_input: bool,
    ) -> Result<StatesScratch> {
        let in_f16 = self.states_in_f16();
        let bytes = StateBytes::new(c.sizes.np, heads, c.batch, c.segment_split.chunks, in_f16);
        let directions = 1 + c.layer.spec.bidirectional as usize;
        let blocks = |count: usize, bytes: usize| {
            (0..count).map(|_| self.block(c.op, bytes)).collect::<Result<Vec<_>>>()
        };
        let input_bytes = StateBytes::new(T, heads, c.batch, c.segment_split.chunks, true);
        let input = match in_f16 && with_input {
            true => Some([self.block(c.op, input_bytes.values)?, self.block(c.op, input_bytes.exponents)?]),
            false => None,
        };
        let largest = (in_f16 && with_input).then(|| self.block(c.op, 4 * 4 * c.sizes.heads)).transpose()?;
        if let Some(largest) = &largest {
            self.zero(largest.span())?;
        }
        Ok(StatesScratch {
            values: blocks(directions, bytes.values)?,
            exponents: blocks(if in_f16 { directions } else { 0 }, bytes.exponents)?,
            input,
            largest,
        })
    }
}
