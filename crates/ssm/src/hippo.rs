//! HiPPO matrices: dense A, B and the low-rank P that makes A + P Pᵀ normal.

use std::f64::consts::PI;

/// The measure of a HiPPO matrix: how much weight each moment of the past has in what the state remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Scaled Legendre: all of the past, evenly.
    LegS,
    /// Translated Legendre: a sliding window.
    LegT,
    /// Fourier basis on a sliding window.
    Fourier,
}

/// The matrices of x′ = A x + B u for a HiPPO measure, real and dense.
#[derive(Clone, Debug, PartialEq)]
pub struct Hippo {
    /// N: size of the state.
    pub state: usize,
    /// A: (N, N), row-major.
    pub a: Vec<f64>,
    /// B: (N).
    pub b: Vec<f64>,
    /// `rank` rows of N with A + Σ P Pᵀ normal: 1 for LegS and Fourier, 2 for LegT.
    pub p: Vec<Vec<f64>>,
}

/// The HiPPO matrices of a measure (paper eq. (2) and appendix C.1; Fourier: Gu et al. 2022, "How to train
/// your HiPPO", §4).
///
/// # Panics
/// When `state` is 0, or odd for Fourier.
pub fn hippo(measure: Measure, state: usize) -> Hippo {
    assert!(state > 0, "a HiPPO matrix needs a state of 1 or more");
    let (a, b, p) = match measure {
        Measure::LegS => legs(state),
        Measure::LegT => legt(state),
        Measure::Fourier => fourier(state),
    };
    Hippo { state, a, b, p }
}

/// A (row-major), B, and the rows of P.
type MatricesAbp = (Vec<f64>, Vec<f64>, Vec<Vec<f64>>);

/// The (state, state) matrix, row-major, whose entry at row i and column j is entry(i, j).
fn matrix_of_entries(state: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..state * state).map(|i| entry(i / state, i % state)).collect()
}

/// The factor √(2n+1), which LegS and LegT have in A and B.
fn sqrt_2n_plus_1(n: usize) -> f64 {
    ((2 * n + 1) as f64).sqrt()
}

/// HiPPO-LegS (paper eq. (2)): A_nk = −√((2n+1)(2k+1)) below the diagonal, −(n+1) on it; B_n = √(2n+1); P_n = √(n+½).
fn legs(state: usize) -> MatricesAbp {
    let a = matrix_of_entries(state, |n, k| match n.cmp(&k) {
        std::cmp::Ordering::Greater => -(((2 * n + 1) * (2 * k + 1)) as f64).sqrt(),
        std::cmp::Ordering::Equal => -((n + 1) as f64),
        std::cmp::Ordering::Less => 0.0,
    });
    let b = (0..state).map(sqrt_2n_plus_1).collect();
    let p = (0..state).map(|n| (n as f64 + 0.5).sqrt()).collect();
    (a, b, vec![p])
}

/// HiPPO-LegT: A_nk = −½√((2n+1)(2k+1))·((−1)^{n−k} if n < k else 1); B_n = ½√(2n+1); P has a row with √(n+½) at odd n
/// and zeros at even n, and a row the other way round.
fn legt(state: usize) -> MatricesAbp {
    let a = matrix_of_entries(state, |n, k| {
        let sign = if n < k && (k - n) % 2 == 1 { -1.0 } else { 1.0 };
        -0.5 * (((2 * n + 1) * (2 * k + 1)) as f64).sqrt() * sign
    });
    let b = (0..state).map(|n| 0.5 * sqrt_2n_plus_1(n)).collect();
    let on_parity = |parity: usize| {
        (0..state).map(|n| if n % 2 == parity { (n as f64 + 0.5).sqrt() } else { 0.0 }).collect()
    };
    (a, b, vec![on_parity(1), on_parity(0)])
}

/// HiPPO-Fourier: A = S − B Bᵀ, where S has skew-symmetric 2 × 2 blocks S[2k+1, 2k] = −S[2k, 2k+1] = πk on its
/// diagonal; B = [1, 0, √2, 0, √2, …]; P = B.
fn fourier(state: usize) -> MatricesAbp {
    assert!(state.is_multiple_of(2), "the Fourier basis needs an even state, got {state}");
    let b: Vec<f64> = (0..state)
        .map(|n| match n {
            0 => 1.0,
            n if n.is_multiple_of(2) => std::f64::consts::SQRT_2,
            _ => 0.0,
        })
        .collect();
    let a = matrix_of_entries(state, |n, k| {
        let skew = match (n % 2, k % 2) {
            (1, 0) if n == k + 1 => PI * (k / 2) as f64,
            (0, 1) if k == n + 1 => -PI * (n / 2) as f64,
            _ => 0.0,
        };
        skew - b[n] * b[k]
    });
    (a, b.clone(), vec![b])
}
