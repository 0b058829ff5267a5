//! Pooling: one value for each head of a sequence, from all its time steps.

use crate::{Memory, Result, SeqShape, checks::ViewChecks, choices::choices};

choices! {
    /// (batch, heads, len) → (batch, heads), over each sequence's own length.
    pub enum Pooling {
        /// The mean over time.
        Mean = "mean",
        /// The last time step.
        Last = "last",
        /// The first time step.
        First = "first",
        /// The largest value, head by head.
        Max = "max",
        /// The sum over time.
        Sum = "sum",
        /// log of the mean of eˣ over time: between the mean and the largest value, smooth.
        LogMeanExp = "logMeanExp",
    }
}

/// The map x ↦ scale·x + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Affine {
    pub scale: f64,
    pub offset: f64,
}

impl Affine {
    /// The map x ↦ x.
    pub const IDENTITY: Affine = Affine { scale: 1.0, offset: 0.0 };
}

/// How the number that a stream carries from time step to time step for pooling changes with the next input x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carry {
    /// carried ← carried + x
    Add,
    /// carried ← the map, applied to the pool of a sequence of the two values carried and x
    Pool(Affine),
}

/// Pooling of a stream, one time step after the other. One number per head is carried: at first x of the first time
/// step; `carry()` says how each further x enters it; `of_carried(count)` maps it to the pool of `count` time steps.
impl Pooling {
    /// How one more time step changes the carried number, which is the sum for the mean.
    pub fn carry(self) -> Carry {
        match self {
            Pooling::Mean | Pooling::Sum => Carry::Add,
            // The carried number is log Σ eˣ. Pooling two values gives the log of their mean, too small by log 2.
            Pooling::LogMeanExp => Carry::Pool(Affine { scale: 1.0, offset: std::f64::consts::LN_2 }),
            _ => Carry::Pool(Affine::IDENTITY),
        }
    }
    /// Whether [`PoolBackward`] reads the values of its `x`. Where it does not, any array of that size will do.
    pub fn backward_reads_input(self) -> bool {
        match self {
            Pooling::Max | Pooling::LogMeanExp => true,
            Pooling::Mean | Pooling::Sum | Pooling::First | Pooling::Last => false,
        }
    }
    /// The map from the number carried after `count` time steps to their pooled value.
    pub fn of_carried(self, count: u64) -> Affine {
        match self {
            Pooling::Mean => Affine { scale: 1.0 / count as f64, offset: 0.0 },
            Pooling::LogMeanExp => Affine { scale: 1.0, offset: -(count as f64).ln() },
            _ => Affine::IDENTITY,
        }
    }
}

/// y = pooling of x over the time steps within each sequence's length.
#[allow(missing_docs)]
pub struct PoolForward<'a, B: Memory> {
    /// (batch, heads)
    pub y: B::Mut<'a>,
    /// (batch, heads, len)
    pub x: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub pooling: Pooling,
    pub shape: SeqShape,
}

/// Gradient of [`PoolForward`]: overwrites all of dx, with 0 beyond each sequence's length.
#[allow(missing_docs)]
pub struct PoolBackward<'a, B: Memory> {
    /// (batch, heads, len)
    pub dx: B::Mut<'a>,
    /// (batch, heads)
    pub dy: B::Ref<'a>,
    /// (batch, heads, len); read only where [`Pooling::backward_reads_input`] says so.
    pub x: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub pooling: Pooling,
    pub shape: SeqShape,
}

/// Sets x to 0 at the time steps beyond each sequence's length.
#[allow(missing_docs)]
pub struct ZeroBeyondLengths<'a, B: Memory> {
    /// (batch, heads, len)
    pub x: B::Mut<'a>,
    pub lengths: &'a B::Ints,
    pub shape: SeqShape,
}

impl<B: Memory> PoolForward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "pool_forward" });
        v.output("y", &self.y, s.batch * s.heads)?;
        v.input("x", self.x, s.elements())?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> PoolBackward<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "pool_backward" });
        v.output("dx", &self.dx, s.elements())?;
        v.input("dy", self.dy, s.batch * s.heads)?;
        v.input("x", self.x, s.elements())?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> ZeroBeyondLengths<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "zero_beyond_lengths" });
        v.output("x", &self.x, s.elements())?;
        v.lengths(Some(self.lengths), s.batch, s.len)
    }
}
