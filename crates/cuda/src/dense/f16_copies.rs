//! What the kernel `mix_f16_copies` does; `compile/codes.rs` makes the kernel's constants of it.

/// f16 planes of a mix's operands on Hopper are scaled by powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum F16CopiesMode {
    /// Both planes by the powers of two that most networks need, and the largest magnitudes.
    Guess,
    /// Those that did not fit, by powers of two that do.
    Fit,
    /// a for backward.
    Recompute,
}

impl F16CopiesMode {
    /// The kernel's number of this mode.
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}
