//! Updates of parameters, all parameters of a group at once in one flat buffer.

use crate::{Error, Memory, Result, checks, checks::ViewChecks};

/// Settings of an AdamW update (Loshchilov and Hutter 2019): decoupled weight decay, bias-corrected moments.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Number of this update, from 1.
    pub step: u64,
}

/// Clipping by global norm: gradients are scaled by min(1, max_norm/‖g‖).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Largest norm; `f64::INFINITY` for none.
    pub max_norm: f64,
}

/// One AdamW update of `value` with the first and second moments `m` and `v`, all of one length.
#[allow(missing_docs)]
pub struct AdamWUpdate<'a, B: Memory> {
    pub value: B::Mut<'a>,
    pub m: B::Mut<'a>,
    pub v: B::Mut<'a>,
    pub grad: B::Ref<'a>,
    /// [loss, Σ g² over all groups]: unless both are finite the update leaves parameters and moments as they are. The
    /// device decides, so that the host need not wait for these numbers.
    pub guard: B::Ref<'a>,
    pub hyper: AdamW,
    pub clip: Clip,
}

/// Update of an exponential moving average, average ← decay·average + (1 − decay)·value. As in [`AdamWUpdate`], nothing
/// changes unless both numbers of `guard`, [loss, Σ g²], are finite.
#[allow(missing_docs)]
pub struct EmaUpdate<'a, B: Memory> {
    pub average: B::Mut<'a>,
    pub value: B::Ref<'a>,
    pub guard: B::Ref<'a>,
    pub decay: f64,
}

fn check_guard<B: Memory>(v: &ViewChecks<'_, B>, guard: B::Ref<'_>) -> Result<()> {
    match v.backend.ref_len(guard) {
        len if len >= 2 => Ok(()),
        len => Err(Error::shape(v.op, "a guard of [loss, squared norm]", len)),
    }
}

impl<B: Memory> AdamWUpdate<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (n, v) = (backend.mut_len(&self.value), ViewChecks { backend, op: "adamw" });
        v.output("m", &self.m, n)?;
        v.output("v", &self.v, n)?;
        v.input("grad", self.grad, n)?;
        check_guard(&v, self.guard)
    }
}

impl<B: Memory> EmaUpdate<'_, B> {
    /// Refuses views whose numbers of elements do not fit the sizes of the call: `ERR_S4_SHAPE`.
    pub fn check(&self, backend: &B) -> Result<()> {
        let (n, v) = (backend.mut_len(&self.average), ViewChecks { backend, op: "ema" });
        v.input("value", self.value, n)?;
        check_guard(&v, self.guard)
    }
}

/// Refuses a `sum` of `sum_squares` that is not one element.
pub fn check_sum_squares<B: Memory>(backend: &B, sum: &B::Mut<'_>) -> Result<()> {
    checks::same_len("sum_squares", "the sum", 1, backend.mut_len(sum))
}

/// Refuses a divisor of `scale` that is not one element.
pub fn check_scale<B: Memory>(backend: &B, divisor: Option<B::Ref<'_>>) -> Result<()> {
    let len = divisor.map_or(1, |divisor| backend.ref_len(divisor));
    checks::same_len("scale", "the divisor", 1, len)
}

/// The operations of the optimiser.
pub trait OptimOps: Memory {
    /// sum[0] += Σ x², the same to the last bit whatever the number of threads.
    fn sum_squares(&self, sum: Self::Mut<'_>, x: Self::Ref<'_>, ws: &mut Self::Workspace) -> Result<()>;
    /// See [`AdamWUpdate`].
    fn adamw(&self, args: AdamWUpdate<'_, Self>) -> Result<()>;
    /// x ← x·factor, or x·(factor/divisor[0]): the device divides by a number that the host does not know. By 0 the results are not
    /// finite.
    fn scale(&self, x: Self::Mut<'_>, factor: f64, divisor: Option<Self::Ref<'_>>) -> Result<()>;
    /// See [`EmaUpdate`].
    fn ema(&self, args: EmaUpdate<'_, Self>) -> Result<()>;
}
