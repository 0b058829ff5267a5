//! Options of one pass through a layer, a block or a network: those that a caller gives, what every block of the pass is
//! given, and what a forward records so that its backward runs with the same.

use crate::{
    call_arrays::{CallArrays, DeviceOptions, HostOptions},
    param::{GroupBuffers, ParamStore},
    rank_exchange::SharedExchange,
};
use s4_backend::{Backend, CallOptions, Error, Result, random::DropKey};

/// Options of one forward, with host arrays.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions<'a, T> {
    /// State before the first time step, (batch, H, N/2, 2); of a model, its blocks' states one after another,
    /// (layers, batch, H, N/2, 2). Zero without.
    pub state0: Option<&'a [T]>,
    /// Lengths, intervals, rate, algorithm, and whether the forward is of training, which also saves values for backward.
    pub call: HostOptions<'a, T>,
    /// Whether to give the state after the last time step. Without effect where a layer has no state.
    pub want_state_end: bool,
    /// Whether to save what backward needs. A training forward always does.
    pub save: bool,
    /// Seed and step number from which the dropout masks are drawn. By default the configuration's seed, and the number of
    /// training forwards so far, so that each draws other masks.
    pub dropout_at: Option<(u64, u64)>,
}

impl<T> Default for ForwardOptions<'_, T> {
    fn default() -> Self {
        ForwardOptions {
            state0: None,
            call: CallOptions::default(),
            want_state_end: false,
            save: false,
            dropout_at: None,
        }
    }
}

/// Result of a forward.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<T> {
    /// Output (batch, len, outputs), with channels·H outputs of a layer and H of a block.
    pub y: Vec<T>,
    /// State after the last time step, (batch, H, N/2, 2), where it was asked for and the layer has one.
    pub state_end: Option<Vec<T>>,
}

/// What every block of one pass through a network is given: the backend, the parameters and the options of the call.
pub(crate) struct PassContext<'a, B: Backend> {
    /// The backend.
    pub be: &'a B,
    /// Values of all parameters.
    pub values: &'a GroupBuffers<B>,
    /// Number of sequences.
    pub batch: usize,
    /// Time steps of each sequence.
    pub len: usize,
    /// Lengths and intervals (on the device), rate, algorithm, and whether the pass is of training.
    pub options: DeviceOptions<'a, B>,
    /// Whether a training pass moves the running statistics of batch norms: not where no target of its batch counts.
    pub moves_statistics: bool,
    /// Whether this is the pass of a training step: at most one backward follows, without gradients of states, and what forward has saved is its own.
    pub training_step: bool,
    /// Exchanges with other ranks, where batch norms have the statistics of the joint batch.
    pub exchange: Option<&'a SharedExchange<B>>,
    /// Version of the parameters' values: constants that the backend keeps for one version are not used for another.
    pub version: u64,
    /// Key of the random numbers of dropout; each block adds a number of its own to `site`.
    pub dropout_key: DropKey,
}

impl<B: Backend> Clone for PassContext<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for PassContext<'_, B> {}

impl<'a, B: Backend> PassContext<'a, B> {
    /// A pass in inference over `batch` sequences of `len` time steps.
    pub fn inference(
        be: &'a B,
        store: &'a ParamStore<B>,
        (batch, len): (usize, usize),
        options: DeviceOptions<'a, B>,
    ) -> Self {
        PassContext {
            be,
            values: &store.values,
            batch,
            len,
            options: CallOptions { training: false, ..options },
            moves_statistics: false,
            training_step: false,
            exchange: None,
            version: store.version(),
            dropout_key: DropKey { seed: 0, step: 0, site: 0 },
        }
    }
    /// A pass in inference whose options are the default ones but for the rate.
    pub fn at_rate(be: &'a B, store: &'a ParamStore<B>, sizes: (usize, usize), rate: f64) -> Self {
        Self::inference(be, store, sizes, CallOptions { rate, ..Default::default() })
    }
}

/// Record of a forward that saved its values: its backward runs with the same sizes, options and dropout masks.
#[derive(Clone, Copy)]
pub(crate) struct SavedForward {
    /// Number of sequences.
    pub batch: usize,
    /// Time steps of each sequence.
    pub len: usize,
    /// Options of the call without lengths and intervals, which stay on the device.
    options: HostOptions<'static, f64>,
    /// Version of the parameters' values that the forward used.
    version: u64,
    /// Whether the sequences had lengths of their own, and whether their time steps had intervals.
    has_arrays: (bool, bool),
    /// Key of the random numbers of dropout.
    dropout_key: DropKey,
    /// Whether it started from a state that the caller gave.
    pub has_state0: bool,
}

impl SavedForward {
    /// Record of a forward over `batch` sequences of `len` time steps that is about to run. `dropout_at`: seed and step of
    /// its dropout masks where the options do not name them.
    pub fn new<T>(
        batch: usize,
        len: usize,
        version: u64,
        options: &ForwardOptions<'_, T>,
        dropout_at: (u64, u64),
    ) -> Self {
        let (seed, step) = options.dropout_at.unwrap_or(dropout_at);
        SavedForward {
            batch,
            len,
            options: options.call.with_arrays(None, None),
            version,
            has_arrays: (options.call.lengths.is_some(), options.call.intervals.is_some()),
            dropout_key: DropKey { seed, step, site: 0 },
            has_state0: options.state0.is_some(),
        }
    }

    /// The pass that the forward ran in, and that its backward runs in.
    pub fn pass<'a, B: Backend>(
        &self,
        be: &'a B,
        values: &'a GroupBuffers<B>,
        arrays: &'a CallArrays<B>,
    ) -> PassContext<'a, B> {
        PassContext {
            be,
            values,
            batch: self.batch,
            len: self.len,
            options: arrays.options_with(&self.options, self.has_arrays),
            moves_statistics: true,
            training_step: false,
            exchange: None,
            version: self.version,
            dropout_key: self.dropout_key,
        }
    }

    /// The last saved forward; `ERR_S4_VALUE` where there is none, or where parameters have changed since.
    pub fn last(op: &'static str, saved: Option<Self>, version: u64) -> Result<Self> {
        let Some(saved) = saved else {
            return Err(Error::value(op, "a forward with `save` before", "none"));
        };
        match saved.version == version {
            true => Ok(saved),
            false => {
                Err(Error::value(op, "the parameters of the forward before", "parameters changed since"))
            }
        }
    }
}
