//! Convolution with a given kernel.

use crate::{Memory, Result};

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Independent rows.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// Output channels a head.
    pub channels: usize,
    /// Length of input and output.
    pub len: usize,
    /// Length of the kernel, 1 ≤ kernel_len ≤ len.
    pub kernel_len: usize,
    /// Kernel is (2·channels, H, kernel_len), forward half first:
    /// y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
    pub two_sided: bool,
}

/// Linear (not circular) convolution y = K̄∗u + D·u, by FFT.
pub trait ConvOps: Memory {
    /// `y`: (batch, channels·H, len); `u`: (batch, H, len); `kernel`: (channels or 2·channels, H, kernel_len);
    /// `d`: (channels, H).
    fn conv_forward(
        &self,
        y: Self::Mut<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// `du` overwrites; `dkernel` and `dd` accumulate. `d` and `dd` come together.
    fn conv_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dkernel: Self::Mut<'_>,
        dd: Option<Self::Mut<'_>>,
        dy: Self::Ref<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
