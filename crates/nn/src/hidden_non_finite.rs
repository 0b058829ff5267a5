//! Where a network hides that a state is not finite.

use s4_backend::{Activation, Pooling};

/// Whether a number that is not finite may be lost on its way from a state to the output: these activations map an infinity
/// to a finite number, and these pools leave out what is not the first, not the largest, or −∞.
pub(crate) fn may_hide_nonfinite_states(
    activation: Activation,
    last: Activation,
    pooling: Option<Pooling>,
) -> bool {
    let shows = |f| matches!(f, Activation::Identity | Activation::Gelu | Activation::Silu);
    let passes = matches!(pooling, None | Some(Pooling::Last | Pooling::Mean | Pooling::Sum));
    !(shows(activation) && shows(last) && passes)
}
