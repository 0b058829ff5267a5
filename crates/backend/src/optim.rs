//! Updates of flat parameter buffers.

use crate::{Memory, Result};

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

/// Optimiser families.
pub trait OptimOps: Memory {
    /// acc[0] += Σ x². Deterministic whatever the number of threads.
    fn sum_squares(&self, acc: Self::Mut<'_>, x: Self::Ref<'_>, ws: &mut Self::Workspace) -> Result<()>;

    /// One AdamW update of a flat buffer. `guard` is [loss, Σ g² over all groups]: unless both are finite the
    /// parameters and moments are left as they are (decided on the device, without a host round trip).
    fn adamw(
        &self,
        value: Self::Mut<'_>,
        m: Self::Mut<'_>,
        v: Self::Mut<'_>,
        grad: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        hyper: &AdamW,
        clip: &Clip,
    ) -> Result<()>;

    /// average ← decay·average + (1 − decay)·value, under the same guard.
    fn ema(
        &self,
        average: Self::Mut<'_>,
        value: Self::Ref<'_>,
        guard: Self::Ref<'_>,
        decay: f64,
    ) -> Result<()>;
}
