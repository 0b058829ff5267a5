//! How one call runs, from the API to the operation.

use crate::choices::choices;

choices! {
    /// How an SSM is applied to a whole sequence. All mean the same numbers.
    pub enum Algorithm {
        /// The backend picks `Fft` or `Chunk` by shape, from measurements.
        Auto = "auto",
        /// The kernel by blocks of powers, then FFT convolution: for many short sequences.
        Fft = "fft",
        /// Chunked state passing, no kernel of the sequence's length: long sequences at constant cost per time step.
        Chunk = "chunk",
        /// The paper's Algorithm 1 (the kernel by four Cauchy sums, Woodbury and an inverse FFT), then FFT convolution:
        /// to follow the paper, and an independent check of the others. Bilinear layers only; `Auto` never picks it.
        Cauchy = "cauchy",
    }
}

/// The options of one call. `L` is what lengths are at that place: `[i32]` on the host, `Memory::Ints` on a device.
#[derive(Debug, PartialEq)]
pub struct CallOptions<'a, L: ?Sized> {
    /// (batch): time steps of each sequence, 1 to len; outputs beyond them are 0. `None`: all have len.
    pub lengths: Option<&'a L>,
    /// Multiplies every Δ.
    pub rate: f64,
    /// How the SSM is applied.
    pub algorithm: Algorithm,
    /// Dropout and batch statistics on.
    pub training: bool,
}

impl<L: ?Sized> Clone for CallOptions<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: ?Sized> Copy for CallOptions<'_, L> {}

impl<L: ?Sized> Default for CallOptions<'_, L> {
    fn default() -> Self {
        CallOptions { lengths: None, rate: 1.0, algorithm: Algorithm::Auto, training: false }
    }
}

impl<L: ?Sized> CallOptions<'_, L> {
    /// The same call with its lengths somewhere else, for example uploaded.
    pub fn with_lengths<'b, M: ?Sized>(&self, lengths: Option<&'b M>) -> CallOptions<'b, M> {
        let &CallOptions { lengths: _, rate, algorithm, training } = self;
        CallOptions { lengths, rate, algorithm, training }
    }
}
