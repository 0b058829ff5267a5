//! Options of one call of a layer or model, handed from the API down to every operation.

use crate::choices::choices;

choices! {
    /// How an SSM is applied to a whole sequence. Every algorithm computes the same outputs, up to rounding.
    pub enum Algorithm {
        /// The backend picks `Fft` or `Chunk` by the sizes of the call, as measured to be faster.
        Auto = "auto",
        /// The convolution kernel from blocks of powers of Ā, then FFT convolution: for many short sequences.
        Fft = "fft",
        /// The sequence in chunks of time steps, with the state passed from chunk to chunk and no kernel of the
        /// sequence's length: for long sequences, at constant cost per time step.
        Chunk = "chunk",
        /// The paper's Algorithm 1 (the kernel by four Cauchy sums, Woodbury and an inverse FFT), then FFT convolution:
        /// to follow the paper, and an independent check of the others. Bilinear layers only; `Auto` never picks it.
        Cauchy = "cauchy",
    }
}

/// The options of one call. `L` is the type of the lengths: `[i32]` on the host, `Memory::Ints` on a device; `V` that of
/// the intervals: `[T]` on the host, `Memory::Buf` on a device.
#[derive(Debug, PartialEq)]
pub struct CallOptions<'a, L: ?Sized, V: ?Sized> {
    /// (batch): time steps of each sequence, 1 to len; outputs beyond them are 0. `None`: all have len.
    pub lengths: Option<&'a L>,
    /// (batch, len): the time from the step before to each step, in units of the interval that the layer was trained with;
    /// finite and above 0. A step's Δ is multiplied by its interval. `None`: all are 1.
    pub intervals: Option<&'a V>,
    /// Factor of every step size Δ: 1 for data sampled as in training, 2 for data sampled half as often.
    pub rate: f64,
    /// How SSMs are applied to the sequences.
    pub algorithm: Algorithm,
    /// Whether dropout is active and batch norm uses the statistics of the batch instead of the running ones.
    pub training: bool,
}

impl<L: ?Sized, V: ?Sized> Clone for CallOptions<'_, L, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: ?Sized, V: ?Sized> Copy for CallOptions<'_, L, V> {}

impl<L: ?Sized, V: ?Sized> Default for CallOptions<'_, L, V> {
    fn default() -> Self {
        CallOptions { lengths: None, intervals: None, rate: 1.0, algorithm: Algorithm::Auto, training: false }
    }
}

impl<L: ?Sized, V: ?Sized> CallOptions<'_, L, V> {
    /// The same options with other lengths and intervals, for example those uploaded to a device.
    pub fn with_arrays<'b, M: ?Sized, W: ?Sized>(
        &self,
        lengths: Option<&'b M>,
        intervals: Option<&'b W>,
    ) -> CallOptions<'b, M, W> {
        let &CallOptions { lengths: _, intervals: _, rate, algorithm, training } = self;
        CallOptions { lengths, intervals, rate, algorithm, training }
    }
}
