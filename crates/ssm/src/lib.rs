//! The S4 paper (Gu, Goel, Ré, arXiv 2111.00396) on the host, in f64: HiPPO matrices and their normal plus
//! low-rank forms, the diagonal initialisations of S4D, step sizes, discretisation, C and C̃, and slow
//! implementations of every equation (oracles), with which tests compare the fast ones.
//!
//! # Notation
//!
//! One table for code, documentation and tests, in every crate and kernel: one letter and one word for one thing.
//!
//! | word | meaning |
//! |---|---|
//! | sequence | one member of the batch, (features, L); it may end before L, at a length of its own |
//! | time step | one moment of a sequence |
//! | head | one feature of the SSM's input, with an SSM and a Δ of its own |
//! | channel | one of the outputs that each head has; feature `channel·H + head` of y |
//! | chunk | T time steps that one pair of matrix products takes through the SSM |
//! | segment | consecutive chunks of one sequence that one block of threads goes through |
//! | state | the N real numbers that the recurrence of one head carries from time step to time step |
//! | pair | two conjugate complex entries of a state, of which one is stored |
//! | row | a row of a matrix, and nothing else |
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | B, H, L, N | `batch, heads, len, state` | | sizes are words in code, so that `b` and `c` stay matrices. `state` is N; N/2 conjugate pairs are stored |
//! | S | `n_ssm` | | independent (A, B); head h uses SSM h mod S |
//! | Λ | `lambda` (from `a_real`, `a_imag`) | (S, N/2) complex | diagonal part; Λ = −f(a_real) − i·g(a_imag) |
//! | P | `p` | (rank, S, N/2) complex | low-rank part, A = diag(Λ) − P P* over the full conjugate-symmetric state |
//! | B | `b` | (S, N/2) complex | input vector |
//! | C | `c` | (channels, H, N/2) complex | output vector. The trained parameter is C, never C̃ |
//! | D | `d` | (channels, H) | skip |
//! | Δ | `dt` (from `inv_dt`) | (H) or (H, N/2) | step size, Δ = t(inv_dt)·rate |
//! | u, x, y | `u`, `x` or `state`, `y` | (batch, H, L), (batch, H, N/2) complex, (batch, channels·H, L) | input, state, output |
//! | Ā, B̄ | `a_bar, b_bar` | | discretised: x_t = Ā x_{t−1} + B̄ u_t, y_t = C x_t + D u_t |
//! | K̄ | `kernel` | (channels, H, L) | convolution kernel, K̄_l = C Ā^l B̄ |
//!
//! f, g, t are `exp`, `softplus`, `relu` (+1e-4), `sigmoid` or `none`. With a half-stored state, a sum over the
//! state is 2·Re of the sum over the stored pairs.
//!
//! The bilinear recurrence of one head (Theorem 2), and Ā as a diagonal and a low-rank part:
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | Dg | `dg` | (N/2) complex | 1/(2/Δ − Λ) |
//! | E | `e` | (N/2) complex | 2/Δ + Λ |
//! | M, M⁻¹ | `m, m_inv` | (rank, rank) real | I + 2Re(P* Dg P), and its inverse |
//! | R | `r` | (rank, N/2) complex | the Woodbury row, M⁻¹ P* Dg |
//! | D₀ | `d0` | (N/2) complex | diagonal part of Ā: E·Dg, or e^{ΔΛ} by zero-order hold |
//! | u_r, v_r | `u, v` with a row for each rank | (rank, N/2) complex | low-rank part: Ā = D₀ + Σ_r u_r v_r*, u_r = −Dg P_r, v_r* = (4/Δ) R_r |
//!
//! The kernel at the roots of unity (Theorem 3, Algorithm 1):
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | ω, θ | `omega, theta` | (L) | ω_j = e^{−iθ_j}, θ_j = 2πj/L |
//! | C̃ | `c_tilde` | (channels, N/2) complex | C(I − Ā^L) |
//! | ρ_xy | `rho` | | Cauchy sum Σ_n x_n y_n/(i(2/Δ) sin θ/2 − λ_n cos θ/2) over the full state |
//! | K̂ | `spectrum` | (L) complex | transform of K̄ |
//!
//! Chunks of T time steps (one head, real coordinates: columns are [Re; Im], rows are [2Re, −2Im]):
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | T | `chunk` | | time steps of a chunk |
//! | Toep | `toep` | (channels·T, T) | `Toep[t, j]` = K̄_{t−j} for t ≥ j, D added where t = j: from a chunk's inputs to its outputs |
//! | W | `w` | (channels·T, N) | `W[t]` = C Ā^{t+1}: from the state before the chunk to its outputs |
//! | V | `v` | (N, T) | `V[:, j]` = Ā^{T−1−j} B̄: from the chunk's inputs to the state after it |
//! | Q | `q` | (N, N) | Ā^T: from the state before the chunk to the state after it |
//! | Φ | `phi` | (channels·T + N, T + N) | `[Toep, W; V, Q]`: one chunk as one matrix |
//!
//! # From equation to function
//!
//! The paper's map: each equation, the slow form of this crate that proves it, and what runs. Production names have
//! their crate before them; without one they are of this crate.
//!
//! | paper | oracle | what runs in production (cpu, cuda) |
//! |---|---|---|
//! | eq. (2), HiPPO-LegS; appendix C.1, LegT | [`hippo()`] | [`hippo()`], once, at initialisation |
//! | Theorem 1, NPLR form | [`nplr()`] | [`nplr_ssm`], [`combined_ssms`], at initialisation |
//! | S4D (arXiv 2206.11893) §4 | [`diagonal_ssm`] | [`diagonal_ssm`], at initialisation |
//! | Δ at the start (arXiv 2206.12037) | [`log_uniform`] | [`log_uniform`], at initialisation |
//! | eq. (3), bilinear; S4D eq. (3), ZOH | [`bilinear_diagonal`], [`zoh_diagonal`], [`Ssm::discretize`] | `cpu::discretize`, `cuda::discretize` |
//! | eq. (3), the recurrence | [`recurrence`], its transpose [`recurrence_adjoint`] | as Theorem 2 |
//! | Theorem 2, appendix C.2, the recurrence in O(N) | [`Recurrence`] | `cpu::ssm_step`, `cuda::ssm_step` |
//! | eq. (4), convolution | [`conv_causal`], [`conv_bidirectional`], their transposes [`conv_causal_adjoint`], [`conv_bidirectional_adjoint`] | `cpu::conv_forward`, `cuda::conv_forward` |
//! | eq. (5), kernel | [`kernel_by_powers`] | `cpu::kernel_forward` by blocks of powers, `cuda::impulse_kernel` by chunks on an impulse |
//! | §3.3, appendix C.3, truncated generating function | [`kernel_by_generating_function`] | – |
//! | Theorem 3, Algorithm 1, Cauchy sums and Woodbury | [`kernel_by_cauchy`] | `cpu::kernel_by_cauchy`, `cuda::kernel_by_cauchy` |
//! | Algorithm 1, C̃ = C(I − Ā^L) | [`c_tilde`], [`c_from_tilde`] | `cpu::c_tilde`; [`c_from_tilde`] for official checkpoints |
//! | §3.1, the LSSL's naive algorithm | [`lssl_kernel`] | – |
//! | chunks of time (not in the paper) | [`recurrence`], [`kernel_by_powers`] | `cpu::ssm_forward`, `cuda::ssm_forward` |
#![forbid(unsafe_code)]

mod discretize;
mod hippo;
mod initial;
mod memory;
mod nplr;
mod reference;
mod timescale;

pub use discretize::*;
pub use hippo::*;
pub use initial::*;
pub use memory::*;
pub use nplr::*;
pub use reference::*;
pub use timescale::*;

/// Complex f64.
pub type C64 = num_complex::Complex<f64>;
