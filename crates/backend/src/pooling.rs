//! Reduction over time.

use crate::{Memory, Result, SeqShape, checks::Views, choices::choices};

choices! {
    /// (batch, heads, len) → (batch, heads), over each row's own length.
    pub enum Pooling {
        /// The mean over time.
        Mean = "mean",
        /// The last sample.
        Last = "last",
        /// The first sample.
        First = "first",
        /// The largest value, head by head.
        Max = "max",
        /// The sum over time.
        Sum = "sum",
    }
}

/// y = pooling(x).
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

/// Overwrites all of dx.
#[allow(missing_docs)]
pub struct PoolBackward<'a, B: Memory> {
    pub dx: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub pooling: Pooling,
    pub shape: SeqShape,
}

/// x ← 0 beyond each row's length.
#[allow(missing_docs)]
pub struct Mask<'a, B: Memory> {
    /// (batch, heads, len)
    pub x: B::Mut<'a>,
    pub lengths: &'a B::Ints,
    pub shape: SeqShape,
}

impl<B: Memory> PoolForward<'_, B> {
    /// Refuses views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "pool_forward" });
        v.output("y", &self.y, s.batch * s.heads)?;
        v.input("x", self.x, s.elements())?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> PoolBackward<'_, B> {
    /// Refuses views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "pool_backward" });
        v.output("dx", &self.dx, s.elements())?;
        v.input("dy", self.dy, s.batch * s.heads)?;
        v.input("x", self.x, s.elements())?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> Mask<'_, B> {
    /// Refuses views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "mask" });
        v.output("x", &self.x, s.elements())?;
        v.lengths(Some(self.lengths), s.batch, s.len)
    }
}
