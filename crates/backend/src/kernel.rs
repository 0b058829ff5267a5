//! The convolution kernel K̄ of an SSM, and the parameters it is made of.

use crate::{Error, Memory, Result, SsmSpec, checks, checks::ViewChecks};

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

impl<B: Memory> SsmParams<'_, B> {
    /// The parameters under a shorter borrow.
    pub fn shorten<'short>(&'short self, be: &B) -> SsmParams<'short, B> {
        let &SsmParams { inv_dt, a_real, a_imag, b, c, p, d } = self;
        let [inv_dt, a_real, a_imag, b, c, p, d] =
            [inv_dt, a_real, a_imag, b, c, p, d].map(|view| be.shorten(view));
        SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
    }
    pub(crate) fn check(&self, v: &ViewChecks<'_, B>, spec: &SsmSpec) -> Result<()> {
        v.input("inv_dt", self.inv_dt, spec.inv_dt_len())?;
        v.input("A_real", self.a_real, spec.a_len())?;
        v.input("A_imag", self.a_imag, spec.a_len())?;
        v.input("B", self.b, spec.b_len())?;
        v.input("C", self.c, spec.c_len())?;
        v.input("P", self.p, spec.p_len())?;
        v.input("D", self.d, spec.d_len())
    }
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
    pub(crate) fn check(&self, v: &ViewChecks<'_, B>, spec: &SsmSpec) -> Result<()> {
        v.output("the gradient of inv_dt", &self.inv_dt, spec.inv_dt_len())?;
        v.output("the gradient of A_real", &self.a_real, spec.a_len())?;
        v.output("the gradient of A_imag", &self.a_imag, spec.a_len())?;
        v.output("the gradient of B", &self.b, spec.b_len())?;
        v.output("the gradient of C", &self.c, spec.c_len())?;
        v.output("the gradient of P", &self.p, spec.p_len())?;
        v.output("the gradient of D", &self.d, spec.d_len())
    }

    /// The same views, borrowed for a shorter time.
    pub fn reborrow<'b>(&'b mut self, backend: &B) -> SsmGrads<'b, B> {
        SsmGrads {
            inv_dt: backend.reborrow(&mut self.inv_dt),
            a_real: backend.reborrow(&mut self.a_real),
            a_imag: backend.reborrow(&mut self.a_imag),
            b: backend.reborrow(&mut self.b),
            c: backend.reborrow(&mut self.c),
            p: backend.reborrow(&mut self.p),
            d: backend.reborrow(&mut self.d),
        }
    }
}

/// The convolution kernel K̄_l = C Ā^l B̄ (paper eq. 5) for l in 0..len; `spec.truncate` is ignored.
#[allow(missing_docs)]
pub struct KernelForward<'a, B: Memory> {
    /// (kernel channels, H, len)
    pub kernel: B::Mut<'a>,
    pub params: SsmParams<'a, B>,
    pub spec: SsmSpec,
    pub len: usize,
    /// Factor of every step size Δ.
    pub rate: f64,
}

/// The gradients of sum(kernel·dkernel) for Δ, Λ, P, B, C accumulate into `grads` (`grads.d` is untouched). Backends
/// compose it with the gradient of their convolution in `ssm_backward`.
#[allow(missing_docs)]
pub struct KernelBackward<'a, B: Memory> {
    pub grads: SsmGrads<'a, B>,
    /// (kernel channels, H, len)
    pub dkernel: B::Ref<'a>,
    pub params: SsmParams<'a, B>,
    pub spec: SsmSpec,
    pub len: usize,
    pub rate: f64,
}

fn check_len(op: &'static str, len: usize) -> Result<()> {
    if (1..=1 << 30).contains(&len) {
        return Ok(());
    }
    Err(Error::shape(op, "a kernel of 1 to 2^30 samples", len))
}

impl<B: Memory> KernelForward<'_, B> {
    /// Refuses sizes of 0 and views whose numbers of elements do not fit the sizes of the call.
    pub fn check(&self, backend: &B) -> Result<()> {
        let v = ViewChecks { backend, op: "kernel_forward" };
        self.spec.check(v.op)?;
        check_len(v.op, self.len)?;
        checks::rate(v.op, self.rate)?;
        v.output("kernel", &self.kernel, self.spec.kernel_channels() * self.spec.heads * self.len)?;
        self.params.check(&v, &self.spec)
    }
}

impl<B: Memory> KernelBackward<'_, B> {
    /// Refuses sizes of 0 and views whose numbers of elements do not fit the sizes of the call.
    pub fn check(&self, backend: &B) -> Result<()> {
        let v = ViewChecks { backend, op: "kernel_backward" };
        self.spec.check(v.op)?;
        check_len(v.op, self.len)?;
        checks::rate(v.op, self.rate)?;
        v.input("dkernel", self.dkernel, self.spec.kernel_channels() * self.spec.heads * self.len)?;
        self.params.check(&v, &self.spec)?;
        self.grads.check(&v, &self.spec)
    }
}

/// The convolution kernel by blocks of powers: K̄_{Ta+b} = (C Ā^{Ta})·(Ā^b B̄), for all a and b < T one matrix product.
pub trait KernelOps: Memory {
    /// Overwrites `args.kernel`.
    fn kernel_forward(&self, args: KernelForward<'_, Self>, ws: &mut Self::Workspace) -> Result<()>;
}
