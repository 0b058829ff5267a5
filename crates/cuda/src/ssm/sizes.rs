//! Sizes of the chunk kernels.

use s4_backend::{Error, Result, SsmSpec};

/// Time steps of a chunk, as in `kernels/ssm/chunk.cuh`.
pub(super) const T: usize = 64;

/// Largest N/2 of the chunk kernels.
const MAX_PAIRS: usize = 64;

/// Sizes of one layer's chunk kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    /// N/2.
    pub(super) pairs: usize,
    pub(super) rank: usize,
    /// Convolution kernels per head: channels, twice as many in a bidirectional layer.
    pub(super) kc: usize,
    /// N padded to a size that the kernels are compiled for.
    pub(super) np: usize,
}

impl Sizes {
    pub(super) fn new(op: &'static str, spec: &SsmSpec) -> Result<Sizes> {
        if spec.pairs() > MAX_PAIRS {
            return Err(Error::unsupported(
                op,
                format!("a state of at most {} on CUDA", 2 * MAX_PAIRS),
                spec.state,
            ));
        }
        let np = spec.state.next_power_of_two().max(32);
        Ok(Sizes { heads: spec.heads, pairs: spec.pairs(), rank: spec.rank, kc: spec.kernel_channels(), np })
    }

    /// Whether a warp holds a state with one pair a lane and sums up one rank at most: then the sequences of a chunk are computed where they are
    /// needed (`kernels/ssm/four_steps.cuh`).
    pub(super) fn one_pair_a_lane(&self) -> bool {
        self.rank <= 1 && self.pairs <= 32
    }

    /// Elements of one (NP, NP) matrix of every head.
    pub(super) fn transition_len(&self) -> usize {
        self.heads * self.np * self.np
    }

    /// Rows and columns of the gradient of a chunk's matrices, [dToep, dW; dV, dQ].
    pub(super) fn side(&self) -> usize {
        T + self.np
    }
}

/// Bytes of the states that enter the chunks, of one direction (`chunk_states.rs`).
pub(super) struct StateBytes {
    pub(super) values: usize,
    /// Powers of two of states in f16.
    pub(super) exponents: usize,
}

impl StateBytes {
    pub(super) fn new(np: usize, heads: usize, batch: usize, chunks: usize, in_f16: bool) -> StateBytes {
        let rows = heads * batch * chunks;
        StateBytes {
            values: rows * np * if in_f16 { 2 } else { 4 },
            // As many of a head as begin at multiples of 16 bytes (`exponents_of_head` of kernels/ssm/chunk.cuh).
            exponents: if in_f16 { 4 * heads * (batch * chunks).next_multiple_of(4) } else { 0 },
        }
    }
}

/// f32 numbers that the states in f16 of a whole call take, and its input in f16.
pub(super) fn saved_states_len(s: Sizes, directions: usize, batch: usize, chunks: usize) -> usize {
    let bytes = |n: usize| {
        let StateBytes { values, exponents } = StateBytes::new(n, s.heads, batch, chunks, true);
        values + exponents
    };
    (directions * bytes(s.np) + bytes(T)) / 4 + 4 * s.heads
}
