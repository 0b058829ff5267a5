//! How one pass through a layer, block or network runs: what the caller asks for, what holds for every block of the
//! pass, and what a saved forward leaves for its backward.

use crate::{growable::GrowableInts, param::{Flats, ParamStore}};
use s4_backend::{Algorithm, Backend, Error, Result, random::DropKey};

/// The options of one call, the same from JavaScript to the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallOptions {
    /// Multiplies every Δ.
    pub rate: f64,
    /// How the SSM is applied.
    pub algorithm: Algorithm,
    /// Dropout and batch statistics on.
    pub training: bool,
}

impl Default for CallOptions {
    fn default() -> Self {
        CallOptions { rate: 1.0, algorithm: Algorithm::Auto, training: false }
    }
}

/// How one forward runs, with host arrays. Lengths: one a row, 1..=len.
#[derive(Clone, Copy, Debug)]
pub struct ForwardOptions<'a, T> {
    /// State before the first sample, (batch, H, N/2, 2); for a model: its blocks' states one after another
    /// (layers, batch, H, N/2, 2).
    pub state: Option<&'a [T]>,
    /// Length of each row; outputs beyond it are 0.
    pub lengths: Option<&'a [i32]>,
    /// Rate, algorithm, training (which also saves values for backward).
    pub call: CallOptions,
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
            lengths: None,
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
    pub options: CallOptions,
    /// Of the parameters.
    pub version: u64,
    pub lengths: Option<&'a B::Ints>,
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
        batch: usize,
        len: usize,
        options: CallOptions,
    ) -> Self {
        Pass {
            be,
            values: &store.values,
            batch,
            len,
            options: CallOptions { training: false, ..options },
            version: store.version(),
            lengths: None,
            key: DropKey { seed: 0, step: 0, site: 0 },
        }
    }
}

/// What a saved forward ran with; its backward runs with the same.
#[derive(Clone, Copy)]
pub(crate) struct Saved {
    pub batch: usize,
    pub len: usize,
    pub options: CallOptions,
    /// Of the parameters.
    pub version: u64,
    /// Rows had lengths of their own.
    pub lengths: bool,
    pub key: DropKey,
    /// It started from a given state.
    pub state_start: bool,
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
            options: options.call,
            version,
            lengths: options.lengths.is_some(),
            key: DropKey { seed, step, site: 0 },
            state_start: options.state.is_some(),
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
            options: self.options,
            version: self.version,
            lengths: self.lengths.then_some(lengths.get()),
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
            false => Err(Error::value(op, "the parameters of the forward before", "parameters changed since")),
        }
    }
}
