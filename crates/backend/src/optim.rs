//! Updates of flat parameter buffers.

use crate::{Error, Memory, Result, checks, checks::Views};

/// AdamW (Loshchilov and Hutter 2019): decoupled decay, bias correction.
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

/// One AdamW update of a flat buffer.
#[allow(missing_docs)]
pub struct AdamWUpdate<'a, B: Memory> {
    pub value: B::Mut<'a>,
    pub m: B::Mut<'a>,
    pub v: B::Mut<'a>,
    pub grad: B::Ref<'a>,
    /// [loss, Σ g² over all groups]: unless both are finite the parameters and moments are left as they are (decided
    /// on the device, without a host round trip).
    pub guard: B::Ref<'a>,
    pub hyper: AdamW,
    pub clip: Clip,
}

/// average ← decay·average + (1 − decay)·value, under the same guard.
#[allow(missing_docs)]
pub struct EmaUpdate<'a, B: Memory> {
    pub average: B::Mut<'a>,
    pub value: B::Ref<'a>,
    pub guard: B::Ref<'a>,
    pub decay: f64,
}

fn check_guard<B: Memory>(v: &Views<'_, B>, guard: B::Ref<'_>) -> Result<()> {
    match v.be.ref_len(guard) {
        len if len >= 2 => Ok(()),
        len => Err(Error::shape(v.op, "a guard of [loss, squared norm]", len)),
    }
}

impl<B: Memory> AdamWUpdate<'_, B> {
    /// Refuses views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (n, v) = (be.mut_len(&self.value), Views { be, op: "adamw" });
        v.output("m", &self.m, n)?;
        v.output("v", &self.v, n)?;
        v.input("grad", self.grad, n)?;
        check_guard(&v, self.guard)
    }
}

impl<B: Memory> EmaUpdate<'_, B> {
    /// Refuses views that do not fit.
    pub fn check(&self, be: &B) -> Result<()> {
        let (n, v) = (be.mut_len(&self.average), Views { be, op: "ema" });
        v.input("value", self.value, n)?;
        check_guard(&v, self.guard)
    }
}

/// Refuses an accumulator of `sum_squares` that has no element.
pub fn check_sum_squares<B: Memory>(be: &B, acc: &B::Mut<'_>) -> Result<()> {
    checks::same_len("sum_squares", "the sum", 1, be.mut_len(acc))
}

/// Optimiser families.
pub trait OptimOps: Memory {
    /// acc[0] += Σ x². Deterministic whatever the number of threads.
    fn sum_squares(&self, acc: Self::Mut<'_>, x: Self::Ref<'_>, ws: &mut Self::Workspace) -> Result<()>;
    /// See [`AdamWUpdate`].
    fn adamw(&self, args: AdamWUpdate<'_, Self>) -> Result<()>;
    /// See [`EmaUpdate`].
    fn ema(&self, args: EmaUpdate<'_, Self>) -> Result<()>;
}
