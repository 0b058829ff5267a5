//! Convolution with a given kernel.

use crate::{Error, Memory, Result, checks::Views};

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Sequences.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// Output channels per head.
    pub channels: usize,
    /// Length of input and output.
    pub len: usize,
    /// Length of the kernel, 1 ≤ kernel_len ≤ len.
    pub kernel_len: usize,
    /// Kernel is (2·channels, H, kernel_len), forward half first:
    /// y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
    pub two_sided: bool,
}

impl ConvShape {
    /// Kernels per head: `channels`, doubled when two-sided.
    pub fn kernel_channels(&self) -> usize {
        self.channels * if self.two_sided { 2 } else { 1 }
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let &ConvShape { batch, heads, channels, len, kernel_len, .. } = self;
        if [batch, heads, channels, len].contains(&0) {
            return Err(Error::shape(op, "sizes of 1 or more", format!("{self:?}")));
        }
        if kernel_len == 0 || kernel_len > len {
            return Err(Error::shape(op, format!("a kernel of 1 to {len} samples"), kernel_len));
        }
        Ok(())
    }
}

/// y = K̄∗u + D·u.
#[allow(missing_docs)]
pub struct ConvForward<'a, B: Memory> {
    /// (batch, channels·H, len)
    pub y: B::Mut<'a>,
    /// (batch, H, len)
    pub u: B::Ref<'a>,
    /// (channels or 2·channels, H, kernel_len)
    pub kernel: B::Ref<'a>,
    /// (channels, H)
    pub d: Option<B::Ref<'a>>,
    pub shape: ConvShape,
}

impl<B: Memory> ConvForward<'_, B> {
    /// Refuses sizes and views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "conv_forward" });
        s.check(v.op)?;
        v.output("y", &self.y, s.batch * s.channels * s.heads * s.len)?;
        v.input("u", self.u, s.batch * s.heads * s.len)?;
        v.input("kernel", self.kernel, s.kernel_channels() * s.heads * s.kernel_len)?;
        v.optional_input("D", self.d, s.channels * s.heads)
    }
}

/// The gradients of sum(y·dy): `du` overwrites, `dkernel` and `dd` accumulate. Backends compose it with the gradient of
/// their kernels in `ssm_backward`.
#[allow(missing_docs)]
pub struct ConvBackward<'a, B: Memory> {
    /// (batch, H, len)
    pub du: Option<B::Mut<'a>>,
    /// As `kernel`.
    pub dkernel: B::Mut<'a>,
    /// As `d`; the two come together.
    pub dd: Option<B::Mut<'a>>,
    /// (batch, channels·H, len)
    pub dy: B::Ref<'a>,
    pub u: B::Ref<'a>,
    pub kernel: B::Ref<'a>,
    pub d: Option<B::Ref<'a>>,
    pub shape: ConvShape,
}

impl<B: Memory> ConvBackward<'_, B> {
    /// Refuses sizes and views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (s, v) = (&self.shape, Views { be, op: "conv_backward" });
        s.check(v.op)?;
        let kernel = s.kernel_channels() * s.heads * s.kernel_len;
        v.optional_output("du", self.du.as_ref(), s.batch * s.heads * s.len)?;
        v.output("dkernel", &self.dkernel, kernel)?;
        v.optional_output("dD", self.dd.as_ref(), s.channels * s.heads)?;
        v.input("dy", self.dy, s.batch * s.channels * s.heads * s.len)?;
        v.input("u", self.u, s.batch * s.heads * s.len)?;
        v.input("kernel", self.kernel, kernel)?;
        v.optional_input("D", self.d, s.channels * s.heads)?;
        if self.d.is_some() == self.dd.is_some() {
            return Ok(());
        }
        Err(Error::value(v.op, "D and dD together", "one of them"))
    }
}

/// Linear (not circular) convolution y = K̄∗u + D·u, by FFT.
pub trait ConvOps: Memory {
    /// y overwrites.
    fn conv_forward(&self, args: ConvForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
}
