//! Batch norm over the joint batch of several ranks, in the parts between which the ranks exchange numbers (synchronised batch norm):
//! moments of a rank's own batch, statistics of all of them together, [`crate::BatchNormRecompute`] with these; and in backward the
//! sums of a rank's own batch, and the gradient of the input from the sums of all.

use crate::{Memory, Result, SeqShape, checks::ViewChecks};

/// Numbers of a rank's moments and of its sums in backward: two for each head, and the number of its time steps.
pub fn joint_norm_len(heads: usize) -> usize {
    2 * heads + 1
}

/// The moments of one rank's batch: the mean of each head, Σ(x − mean)² of each head, and the number of time steps that count, which are
/// those within each sequence's length.
#[allow(missing_docs)]
pub struct BatchNormMoments<'a, B: Memory> {
    /// (2·heads + 1), overwritten.
    pub moments: B::Mut<'a>,
    /// (batch, heads, len)
    pub x: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub shape: SeqShape,
}

/// The statistics of the joint batch from the moments of all ranks. Ranks whose number of time steps is 0 do not count.
#[allow(missing_docs)]
pub struct BatchNormJoint<'a, B: Memory> {
    /// (2, heads): mean and rstd = 1/√(variance + eps), overwritten.
    pub stats: B::Mut<'a>,
    /// (2, heads): running mean and unbiased variance, moved towards those of the joint batch by the share `momentum`.
    pub running: B::Mut<'a>,
    /// (ranks, 2·heads + 1)
    pub moments: B::Ref<'a>,
    pub ranks: usize,
    pub heads: usize,
    pub eps: f64,
    pub momentum: f64,
}

/// The sums of one rank's batch in backward: Σ dy of each head, Σ dy·x̂ of each head with x̂ = (x − mean)·rstd, and the number of time steps
/// that count. They are added to dbeta and dgamma too.
#[allow(missing_docs)]
pub struct BatchNormGradientSums<'a, B: Memory> {
    /// (2·heads + 1), overwritten.
    pub sums: B::Mut<'a>,
    /// (heads), added to.
    pub dgamma: B::Mut<'a>,
    /// (heads), added to.
    pub dbeta: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    /// (2, heads)
    pub stats: B::Ref<'a>,
    pub lengths: Option<&'a B::Ints>,
    pub shape: SeqShape,
}

/// The gradient of one rank's input from the sums of all ranks: dx = γ·rstd·(dy − Σdy/n − x̂·Σ(dy·x̂)/n) plus `residual`, with n the
/// number of time steps of all; `residual` alone beyond a sequence's length.
#[allow(missing_docs)]
pub struct BatchNormInputGradient<'a, B: Memory> {
    pub dx: B::Mut<'a>,
    pub dy: B::Ref<'a>,
    pub x: B::Ref<'a>,
    /// (2, heads)
    pub stats: B::Ref<'a>,
    /// (2·heads + 1)
    pub sums: B::Ref<'a>,
    pub gamma: B::Ref<'a>,
    pub residual: Option<B::Ref<'a>>,
    pub lengths: Option<&'a B::Ints>,
    pub shape: SeqShape,
}

impl<B: Memory> BatchNormMoments<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "batch_norm_moments" });
        v.output("moments", &self.moments, joint_norm_len(s.heads))?;
        v.input("x", self.x, s.elements())?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> BatchNormJoint<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let v = ViewChecks { backend, op: "batch_norm_joint" };
        v.output("statistics", &self.stats, 2 * self.heads)?;
        v.output("running statistics", &self.running, 2 * self.heads)?;
        v.input("moments", self.moments, self.ranks * joint_norm_len(self.heads))
    }
}

impl<B: Memory> BatchNormGradientSums<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "batch_norm_gradient_sums" });
        v.output("sums", &self.sums, joint_norm_len(s.heads))?;
        v.output("dgamma", &self.dgamma, s.heads)?;
        v.output("dbeta", &self.dbeta, s.heads)?;
        v.input("dy", self.dy, s.elements())?;
        v.input("x", self.x, s.elements())?;
        v.input("statistics", self.stats, 2 * s.heads)?;
        v.lengths(self.lengths, s.batch, s.len)
    }
}

impl<B: Memory> BatchNormInputGradient<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "batch_norm_input_gradient" });
        v.output("dx", &self.dx, s.elements())?;
        v.input("dy", self.dy, s.elements())?;
        v.input("x", self.x, s.elements())?;
        v.input("statistics", self.stats, 2 * s.heads)?;
        v.input("sums", self.sums, joint_norm_len(s.heads))?;
        v.input("gamma", self.gamma, s.heads)?;
        v.lengths(self.lengths, s.batch, s.len)?;
        v.optional_input("residual", self.residual, s.elements())
    }
}
