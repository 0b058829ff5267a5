//! What the kernels that write f16 copies of operands do (`kernels/dense/mix_f16_copies_sm90.cu`, `product_copies_sm90.cu`); `compile/codes.rs` makes the kernel's constants of it.

/// What one launch of such a kernel does. It writes operands of products on Hopper, of a mix a = dropout(f(s)) and W, as f16
/// copies, single numbers or pairs, each array multiplied by a power of two that brings its values into the range of f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum F16CopiesMode {
    /// Writes both arrays, by the powers of two that most networks need; draws the dropout masks and finds the largest
    /// magnitudes.
    Guess,
    /// Writes again each array that did not fit, by a power of two from its largest magnitude.
    Fit,
    /// Writes a again, for backward; pairs of f16 numbers with the masks, and W where it was not kept.
    Recompute,
}

impl F16CopiesMode {
    /// The kernel's number of this mode.
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}
