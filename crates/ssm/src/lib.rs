//! The S4 paper (Gu, Goel, Ré, arXiv 2111.00396) on the host, in f64: HiPPO matrices and their normal plus
//! low-rank forms, the diagonal initialisations of S4D, timescales, discretisation, C and C̃, and slow
//! oracles that everything fast is compared with.
//!
//! # Notation
//!
//! One table for code, documentation and tests.
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | B, H, L, N | `batch, heads, len, state` | | sizes are words in code, so that `b` and `c` stay matrices. `state` is N; N/2 conjugate pairs are stored |
//! | Λ | `lambda` (from `a_real`, `a_imag`) | (S, N/2) complex | diagonal part; Λ = −f(a_real) − i·g(a_imag) |
//! | P | `p` | (R, S, N/2) complex | low-rank part, A = diag(Λ) − P P* over the full conjugate-symmetric state |
//! | B | `b` | (S, N/2) complex | input vector |
//! | C | `c` | (channels, H, N/2) complex | output vector. The trained parameter is C, never C̃ |
//! | D | `d` | (channels, H) | skip |
//! | Δ | `dt` (from `inv_dt`) | (H) or (H, N/2) | step size, Δ = t(inv_dt)·rate |
//! | Ā, B̄ | `a_bar, b_bar` | | discretised |
//! | K̄ | `kernel` | (channels, H, L) | convolution kernel |
//!
//! S = `n_ssm` independent (A, B); head h uses SSM h mod S. f, g, t are `exp`, `softplus`, `relu` (+1e-4),
//! `sigmoid` or `none`. With a half-stored state, a sum over the state is 2·Re of the sum over the half.
//!
//! # From equation to function
//!
//! | paper | function |
//! |---|---|
//! | eq. (2), HiPPO-LegS; appendix, LegT | [`hippo()`] |
//! | Theorem 1, NPLR form | [`nplr()`] |
//! | S4D (arXiv 2206.11893) §4 | [`diagonal`]; several SSMs: [`combination`] |
//! | Theorem 3, appendix C.2, the recurrence in O(N) | [`Recurrence`] |
//! | Δ at the start | [`log_uniform`] |
//! | eq. (3), bilinear; S4D eq. (3), ZOH | [`bilinear_diagonal`], [`zoh_diagonal`], [`Ssm::discretize`] |
//! | eq. (3), recurrence | [`recurrence`] and its transpose [`recurrence_adjoint`] |
//! | eq. (4), (5), kernel and convolution | [`kernel_by_powers`], [`conv_causal`], [`conv_two_sided`] |
//! | §3.3, appendix C.3, truncated generating function | [`kernel_by_generating_function`] |
//! | Algorithm 1, Cauchy sums and Woodbury | [`kernel_by_cauchy`] |
//! | Algorithm 1, C̃ = C(I − Ā^L) | [`c_tilde`], [`c_from_tilde`] |
//! | §2.4 without structure, as the LSSL computes it | [`lssl_kernel`] |
#![forbid(unsafe_code)]

mod discretize;
mod hippo;
mod nplr;
mod reference;
mod s4d;
mod timescale;

pub use discretize::*;
pub use hippo::*;
pub use nplr::*;
pub use reference::*;
pub use s4d::*;
pub use timescale::*;

/// Complex f64.
pub type C64 = num_complex::Complex<f64>;
