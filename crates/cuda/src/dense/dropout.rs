//! Dropout, as kernels take it (`kernels/dense/dropout.cuh`).

use s4_backend::{MixCall, random::DropKey};

/// One dropout of a call.
pub(super) struct Drop {
    pub(super) key: DropKey,
    /// Draws below it are dropped; 0 for none.
    pub(super) threshold: u32,
    /// 1/(1 − p)
    pub(super) scale: f32,
    /// One mask element for all of time.
    pub(super) tied: bool,
}

impl Drop {
    /// The first (`site` 0) or the second (1) dropout of a mix.
    pub(super) fn new(call: &MixCall, site: u32) -> Drop {
        let p = call.spec.dropout;
        let threshold = if p > 0.0 { DropKey::threshold(p) } else { 0 };
        Drop {
            key: DropKey { site: call.key.site + site, ..call.key },
            threshold,
            scale: (1.0 / (1.0 - p)) as f32,
            tied: call.spec.tied,
        }
    }
}

/// Appends a dropout's arguments.
macro_rules! drop_args {
    ($d:expr; $($x:expr),* $(,)?) => {
        args![$($x),*, $d.key.seed, $d.key.step, $d.key.site, $d.threshold, $d.scale, $d.tied]
    };
}
pub(super) use drop_args;
