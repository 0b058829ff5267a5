//! The convolution kernel K̄ of an SSM, and the parameters it is made of.

use crate::{Memory, Result, SsmSpec};

/// The parameters of one SSM, as stored and trained. Shapes in [`SsmSpec`].
pub struct SsmParams<'a, B: Memory> {
    /// (H) or (H, N/2): Δ = t(inv_dt)·rate.
    pub inv_dt: B::Ref<'a>,
    /// (S, N/2)
    pub a_real: B::Ref<'a>,
    /// (S, N/2)
    pub a_imag: B::Ref<'a>,
    /// (S, N/2, 2)
    pub b: B::Ref<'a>,
    /// (kernel channels, H, N/2, 2): C itself, never C̃.
    pub c: B::Ref<'a>,
    /// (R, S, N/2, 2); an empty view for S4D.
    pub p: B::Ref<'a>,
    /// (channels, H)
    pub d: B::Ref<'a>,
}

impl<B: Memory> Clone for SsmParams<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for SsmParams<'_, B> {}

/// Where the gradients of [`SsmParams`] accumulate; same shapes.
#[allow(missing_docs)]
pub struct SsmGrads<'a, B: Memory> {
    pub inv_dt: B::Mut<'a>,
    pub a_real: B::Mut<'a>,
    pub a_imag: B::Mut<'a>,
    pub b: B::Mut<'a>,
    pub c: B::Mut<'a>,
    pub p: B::Mut<'a>,
    pub d: B::Mut<'a>,
}

impl<'a, B: Memory> SsmGrads<'a, B> {
    /// A shorter borrow.
    pub fn reborrow<'b>(&'b mut self, be: &B) -> SsmGrads<'b, B> {
        SsmGrads {
            inv_dt: be.reborrow(&mut self.inv_dt),
            a_real: be.reborrow(&mut self.a_real),
            a_imag: be.reborrow(&mut self.a_imag),
            b: be.reborrow(&mut self.b),
            c: be.reborrow(&mut self.c),
            p: be.reborrow(&mut self.p),
            d: be.reborrow(&mut self.d),
        }
    }
}

/// K̄_l = C Ā^l B̄ (paper eq. 5), by blocks of it, (C Ā^{Ta})·(Ā^b B̄), or by Cauchy sums (S4, Algorithm 1).
pub trait KernelOps: Memory {
    /// `kernel`: (kernel channels, H, len). `spec.truncate` is not applied here.
    fn kernel_forward(
        &self,
        kernel: Self::Mut<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Gradients of sum(kernel·dkernel) for Δ, Λ, P, B, C accumulate into `grads` (`grads.d` is untouched).
    fn kernel_backward(
        &self,
        grads: SsmGrads<'_, Self>,
        dkernel: Self::Ref<'_>,
        params: &SsmParams<'_, Self>,
        spec: &SsmSpec,
        len: usize,
        rate: f64,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
