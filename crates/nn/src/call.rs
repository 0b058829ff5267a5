//! How one pass through a layer, block or network runs: what the caller asks for, what holds for every block of the
//! pass, and what a saved forward leaves for its backward.

use crate::{
    growable::GrowableInts,
    param::{Flats, ParamStore},
};
use s4_backend::{Backend, CallOptions, Error, Result, random::DropKey};

/// How one forward runs, with host arrays.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions<'a, T> {
    /// State before the first sample, (batch, H, N/2, 2); for a model: its blocks' states one after another
    /// (layers, batch, H, N/2, 2).
    pub state: Option<&'a [T]>,
    /// Lengths, rate, algorithm, training (which also saves values for backward).
    pub call: CallOptions<'a, [i32]>,
    /// Give the end state (layers that have one).
    pub want_state: bool,
    /// Save what backward needs (implied by `training`).
    pub save: bool,
    /// Seed and step that dropout is drawn at; by default the configuration's seed, and a step of its own for each
    /// training forward.
    pub dropout_at: Option<(u64, u64)>,
}

impl<T> Default for ForwardOptions<'_, T> {
    fn default() -> Self {
        ForwardOptions {
            state: None,
            call: CallOptions::default(),
            want_state: false,
            save: false,
            dropout_at: None,
        }
    }
}

/// What a forward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<T> {
    /// (batch, len, outputs): channels·H of a layer, H of a block.
    pub y: Vec<T>,
    /// (batch, H, N/2, 2), when asked for and the layer has one.
    pub state: Option<Vec<T>>,
}

/// What holds for every block of one pass through a network.
pub(crate) struct Pass<'a, B: Backend> {
    pub be: &'a B,
    pub values: &'a Flats<B>,
    pub batch: usize,
    pub len: usize,
    pub options: CallOptions<'a, B::Ints>,
    /// Of the parameters.
    pub version: u64,
    /// Of the dropout; blocks add their own sites.
    pub key: DropKey,
}

impl<B: Backend> Clone for Pass<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Pass<'_, B> {}

impl<'a, B: Backend> Pass<'a, B> {
    /// `len` samples of `batch` rows in inference.
    pub fn inference(
        be: &'a B,
        store: &'a ParamStore<B>,
        (batch, len): (usize, usize),
        options: CallOptions<'a, B::Ints>,
    ) -> Self {
        Pass {
            be,
            values: &store.values,
            batch,
            len,
            options: CallOptions { training: false, ..options },
            version: store.version(),
            key: DropKey { seed: 0, step: 0, site: 0 },
        }
    }
    /// As [`Pass::inference`], at one rate and otherwise by default.
    pub fn at_rate(be: &'a B, store: &'a ParamStore<B>, sizes: (usize, usize), rate: f64) -> Self {
        Self::inference(be, store, sizes, CallOptions { rate, ..Default::default() })
    }
}

/// What a saved forward ran with; its backward runs with the same.
#[derive(Clone, Copy)]
pub(crate) struct Saved {
    pub batch: usize,
    pub len: usize,
    /// Without the lengths, which stay on the device.
    options: CallOptions<'static, [i32]>,
    /// Of the parameters.
    version: u64,
    /// Rows had lengths of their own.
    lengths: bool,
    key: DropKey,
    /// It started from a given state.
    pub state0: bool,
}

impl Saved {
    /// Of a forward over (batch, len) that is about to run.
    pub fn new<T>(
        batch: usize,
        len: usize,
        version: u64,
        options: &ForwardOptions<'_, T>,
        dropout_at: (u64, u64),
    ) -> Self {
        let (seed, step) = options.dropout_at.unwrap_or(dropout_at);
        Saved {
            batch,
            len,
            options: options.call.with_lengths(None),
            version,
            lengths: options.call.lengths.is_some(),
            key: DropKey { seed, step, site: 0 },
            state0: options.state.is_some(),
        }
    }

    /// The pass it ran in, and its backward runs in.
    pub fn pass<'a, B: Backend>(
        &self,
        be: &'a B,
        values: &'a Flats<B>,
        lengths: &'a GrowableInts<B>,
    ) -> Pass<'a, B> {
        Pass {
            be,
            values,
            batch: self.batch,
            len: self.len,
            options: self.options.with_lengths(self.lengths.then_some(lengths.get())),
            version: self.version,
            key: self.key,
        }
    }

    /// The last saved forward, whose parameters must still be the present ones.
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
