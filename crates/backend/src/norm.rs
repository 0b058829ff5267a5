//! Layer norm (over heads at each time step of each sequence) and batch norm (over sequences and time steps at each
//! head).

use crate::{Memory, Result, SeqShape, checks::ViewChecks};

/// y = γ(x − μ)·rstd + β, with mean μ and rstd = 1/√(variance + eps) over the heads at each time step of each
/// sequence; the variance is divided by the number of heads.
#[allow(missing_docs)]
pub struct LayerNormForward<'a, B: Memory> {
    /// (batch, heads, len)
    pub y: B::Mut<'a>,
    /// (batch, 2, len): mean and rstd.
    pub stats: B::Mut<'a>,
    /// (batch, heads, len)
    pub x: B::Ref<'a>,
    /// (heads)
    pub gamma: B::Ref<'a>,
    /// (heads)
    pub beta: B::Ref<'a>,
    pub eps: f64,
    pub shape: SeqShape,
}

/// Computes y of a layer norm a second time, from the `stats` that [`LayerNormForward`] wrote: backward needs y, which
/// is not kept.
#[allow(missing_docs)]
pub struct LayerNormRecompute<'a, B: Memory> {
    pub y: B::Mut<'a>,
    pub stats: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub gamma: B::Ref<'a>,
    pub beta: B::Ref<'a>,
    pub shape: SeqShape,
}

/// Gradients of a layer norm. dx is overwritten with the gradient through the norm plus `residual`, the gradient of the
/// residual connection around it; dgamma and dbeta accumulate.
#[allow(missing_docs)]
pub struct LayerNormBackward<'a, B: Memory> {
    pub dx: B::Mut<'a>,
    pub dgamma: B::Mut<'a>,
    pub dbeta: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub stats: B::Ref<'a>,
    pub gamma: B::Ref<'a>,
    pub residual: Option<B::Ref<'a>>,
    pub shape: SeqShape,
}

/// y = γ(x − μ)·rstd + β, with mean and variance of each head over the time steps of all sequences. Time steps beyond
/// a sequence's length do not count, and y is 0 there.
#[allow(missing_docs)]
pub struct BatchNormForward<'a, B: Memory> {
    /// (batch, heads, len); `None` where the statistics alone are wanted.
    pub y: Option<B::Mut<'a>>,
    /// (2, heads): the mean and rstd that were used.
    pub stats: B::Mut<'a>,
    /// (2, heads): running mean and unbiased variance. Training moves them towards those of the batch by the share
    /// `momentum`; inference normalises with them.
    pub running: B::Mut<'a>,
    pub x: B::Ref<'a>,
    /// Moments of x that the mix before has left ([`crate::MixExtras::moments`]), for training; only where `mix_moments_len` gave a length.
    pub moments: Option<B::Ref<'a>>,
    pub gamma: B::Ref<'a>,
    pub beta: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub eps: f64,
    pub momentum: f64,
    pub training: bool,
    pub shape: SeqShape,
}

/// Computes y of a batch norm a second time, from the `stats` that [`BatchNormForward`] wrote: backward needs y, which
/// is not kept.
#[allow(missing_docs)]
pub struct BatchNormRecompute<'a, B: Memory> {
    pub y: B::Mut<'a>,
    pub stats: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub gamma: B::Ref<'a>,
    pub beta: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub shape: SeqShape,
}

/// Gradients of a batch norm. dx is overwritten with the gradient through the norm plus `residual`, the gradient of the
/// residual connection around it; dgamma and dbeta accumulate.
#[allow(missing_docs)]
pub struct BatchNormBackward<'a, B: Memory> {
    pub dx: B::Mut<'a>,
    pub dgamma: B::Mut<'a>,
    pub dbeta: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub stats: B::Ref<'a>,
    pub gamma: B::Ref<'a>,
    pub residual: Option<B::Ref<'a>>,
    pub lengths: Option<&'a B::Ints>,
    /// Whether forward normalised with the mean and variance of the batch itself, through which gradients then flow.
    pub training: bool,
    pub shape: SeqShape,
}

/// Elements of a layer norm's statistics, (batch, 2, len).
fn layer_norm_stats_len(s: &SeqShape) -> usize {
    s.batch * 2 * s.len
}

macro_rules! forward_checks {
    ($name:ident, $op:literal, $stats:ident, $stats_len:expr $(, $lengths:ident)?) => {
        impl<B: Memory> $name<'_, B> {
            /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
            pub fn check(&self, backend: &B) -> Result<()> {
                let (s, v) = (&self.shape, ViewChecks { backend, op: $op });
                v.output("y", &self.y, s.elements())?;
                v.input("x", self.x, s.elements())?;
                forward_checks!(@ $stats, v, self.stats, $stats_len(s));
                v.input("gamma", self.gamma, s.heads)?;
                $(v.lengths(self.$lengths, s.batch, s.len)?;)?
                v.input("beta", self.beta, s.heads)
            }
        }
    };
    (@ output, $v:ident, $stats:expr, $len:expr) => { $v.output("statistics", &$stats, $len)? };
    (@ input, $v:ident, $stats:expr, $len:expr) => { $v.input("statistics", $stats, $len)? };
}

forward_checks!(LayerNormForward, "layer_norm_forward", output, layer_norm_stats_len);
forward_checks!(LayerNormRecompute, "layer_norm_recompute", input, layer_norm_stats_len);
forward_checks!(BatchNormRecompute, "batch_norm_recompute", input, |s: &SeqShape| 2 * s.heads, lengths);

impl<B: Memory> BatchNormForward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "batch_norm_forward" });
        v.optional_output("y", self.y.as_ref(), s.elements())?;
        v.output("statistics", &self.stats, 2 * s.heads)?;
        v.output("running statistics", &self.running, 2 * s.heads)?;
        v.input("x", self.x, s.elements())?;
        v.input("gamma", self.gamma, s.heads)?;
        v.input("beta", self.beta, s.heads)?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

macro_rules! backward_checks {
    ($name:ident, $op:literal, $stats_len:expr $(, $lengths:ident)?) => {
        impl<B: Memory> $name<'_, B> {
            /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
            pub fn check(&self, backend: &B) -> Result<()> {
                let (s, v) = (&self.shape, ViewChecks { backend, op: $op });
                v.output("dx", &self.dx, s.elements())?;
                v.output("dgamma", &self.dgamma, s.heads)?;
                v.output("dbeta", &self.dbeta, s.heads)?;
                v.input("dy", self.dy, s.elements())?;
                v.input("x", self.x, s.elements())?;
                v.input("statistics", self.stats, $stats_len(s))?;
                v.input("gamma", self.gamma, s.heads)?;
                $(v.lengths(self.$lengths, s.batch, s.len)?;)?
                v.optional_input("residual", self.residual, s.elements())
            }
        }
    };
}

backward_checks!(LayerNormBackward, "layer_norm_backward", layer_norm_stats_len);
backward_checks!(BatchNormBackward, "batch_norm_backward", |s: &SeqShape| 2 * s.heads, lengths);
