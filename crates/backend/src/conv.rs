//! Convolution of sequences with given kernels.

use crate::{Error, Memory, Result, checks::ViewChecks};

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Number of sequences.
    pub batch: usize,
    /// H: features of the input.
    pub heads: usize,
    /// Output channels per head.
    pub channels: usize,
    /// Length of input and output.
    pub len: usize,
    /// Length of the kernel, 1 ≤ kernel_len ≤ len.
    pub kernel_len: usize,
    /// Whether outputs depend on later inputs as well, y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}: the kernel is then
    /// (2·channels, H, kernel_len), the causal kernels k0 first.
    pub bidirectional: bool,
}

impl ConvShape {
    /// Kernels per head: `channels`, doubled when bidirectional.
    pub fn kernel_channels(&self) -> usize {
        self.channels * if self.bidirectional { 2 } else { 1 }
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

/// The convolution y = K̄∗u + D·u of sequences u with kernels K̄.
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
    /// Refuses sizes of 0 and views whose numbers of elements do not fit the sizes of the call.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "conv_forward" });
        s.check(v.op)?;
        v.output("y", &self.y, s.batch * s.channels * s.heads * s.len)?;
        v.input("u", self.u, s.batch * s.heads * s.len)?;
        v.input("kernel", self.kernel, s.kernel_channels() * s.heads * s.kernel_len)?;
        v.optional_input("D", self.d, s.channels * s.heads)
    }
}

/// The gradients of sum(y·dy): `du` is overwritten, `dkernel` and `dd` accumulate. `ssm_backward` of a backend uses it
/// before [`KernelBackward`](crate::KernelBackward), which takes dkernel to the parameters.
#[allow(missing_docs)]
pub struct ConvBackward<'a, B: Memory> {
    /// (batch, H, len)
    pub du: Option<B::Mut<'a>>,
    /// In the shape of `kernel`.
    pub dkernel: B::Mut<'a>,
    /// In the shape of `d`; given exactly when `d` is.
    pub dd: Option<B::Mut<'a>>,
    /// (batch, channels·H, len)
    pub dy: B::Ref<'a>,
    pub u: B::Ref<'a>,
    pub kernel: B::Ref<'a>,
    pub d: Option<B::Ref<'a>>,
    pub shape: ConvShape,
}

impl<B: Memory> ConvBackward<'_, B> {
    /// Refuses sizes of 0 and views whose numbers of elements do not fit the sizes of the call.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (s, v) = (&self.shape, ViewChecks { backend, op: "conv_backward" });
        s.check(v.op)?;
        let kernel_elements = s.kernel_channels() * s.heads * s.kernel_len;
        v.optional_output("du", self.du.as_ref(), s.batch * s.heads * s.len)?;
        v.output("dkernel", &self.dkernel, kernel_elements)?;
        v.optional_output("dD", self.dd.as_ref(), s.channels * s.heads)?;
        v.input("dy", self.dy, s.batch * s.channels * s.heads * s.len)?;
        v.input("u", self.u, s.batch * s.heads * s.len)?;
        v.input("kernel", self.kernel, kernel_elements)?;
        v.optional_input("D", self.d, s.channels * s.heads)?;
        if self.d.is_some() == self.dd.is_some() {
            return Ok(());
        }
        Err(Error::value(v.op, "D and dD together", "one of them"))
    }
}

/// Linear (not circular) convolution y = K̄∗u + D·u, by FFT.
pub trait ConvOps: Memory {
    /// Overwrites `args.y`.
    fn conv_forward(&self, args: ConvForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
}
