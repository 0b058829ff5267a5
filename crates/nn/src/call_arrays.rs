//! The arrays among the options of a call: as the host gives them, and their copies on the device.

use crate::growable_buffer::{GrowableBuffer, GrowableInts};
use s4_backend::{Backend, CallOptions, Memory, Result};

/// The options of a call with arrays of the host.
pub type HostOptions<'a, T> = CallOptions<'a, [i32], [T]>;

/// The options of a call with arrays of a device.
pub(crate) type DeviceOptions<'a, B> = CallOptions<'a, <B as Memory>::Ints, <B as Memory>::Buf>;

/// Device copies of the lengths and the intervals of the last call that gave any.
pub(crate) struct CallArrays<B: Backend> {
    lengths: GrowableInts<B>,
    intervals: GrowableBuffer<B>,
}

impl<B: Backend> CallArrays<B> {
    /// Empty buffers, which grow with the first call.
    pub fn new(be: &B) -> Result<Self> {
        Ok(CallArrays { lengths: GrowableInts::new(be)?, intervals: GrowableBuffer::new(be)? })
    }

    /// Copies the arrays of a call that has been checked.
    pub fn upload(&mut self, be: &B, call: &HostOptions<'_, B::Scalar>) -> Result<()> {
        if let Some(lengths) = call.lengths {
            self.lengths.upload(be, lengths)?;
        }
        if let Some(intervals) = call.intervals {
            self.intervals.ensure(be, intervals.len())?;
            be.upload(self.intervals.get_mut(be, intervals.len()), intervals)?;
        }
        Ok(())
    }

    /// The options of the call that was uploaded, with the arrays of the device.
    pub fn options<L: ?Sized, V: ?Sized>(&self, call: &CallOptions<'_, L, V>) -> DeviceOptions<'_, B> {
        self.options_with(call, (call.lengths.is_some(), call.intervals.is_some()))
    }

    /// As [`CallArrays::options`], where it is known apart which of the two arrays the call had.
    pub fn options_with<L: ?Sized, V: ?Sized>(
        &self,
        call: &CallOptions<'_, L, V>,
        (has_lengths, has_intervals): (bool, bool),
    ) -> DeviceOptions<'_, B> {
        let lengths = has_lengths.then_some(self.lengths.get());
        call.with_arrays(lengths, has_intervals.then_some(self.intervals.buffer()))
    }
}
