//! The arguments by which kernels take a dropout (`kernels/dense/dropout.cuh`).

use s4_backend::{MixCall, random::DropKey};

/// One of the two dropouts of a mix call.
pub(super) struct DropoutKey {
    pub(super) key: DropKey,
    /// Elements whose random word is below it are dropped; 0: none.
    pub(super) threshold: u32,
    /// 1/(1 − p)
    pub(super) scale: f32,
    /// One draw for all time steps of a feature.
    pub(super) tied: bool,
}

impl DropoutKey {
    /// The dropout after the activation (`site` 0) or after the gate (1).
    pub(super) fn new(call: &MixCall, site: u32) -> DropoutKey {
        let p = call.spec.dropout;
        let threshold = if p > 0.0 { DropKey::threshold(p) } else { 0 };
        DropoutKey {
            key: DropKey { site: call.key.site + site, ..call.key },
            threshold,
            scale: (1.0 / (1.0 - p)) as f32,
            tied: call.spec.tied,
        }
    }
}

/// `args![x, …]` followed by the arguments of dropout `$d`.
macro_rules! drop_args {
    ($d:expr; $($x:expr),* $(,)?) => {
        args![$($x),*, $d.key.seed, $d.key.step, $d.key.site, $d.threshold, $d.scale, $d.tied]
    };
}
pub(super) use drop_args;
