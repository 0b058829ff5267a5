//! The SSMs (Λ, P, B) that layers are initialised with: diagonal ones of S4D, NPLR forms of HiPPO, random ones, and
//! several of these in one layer.

use crate::{C64, Measure, nplr};
use std::f64::consts::PI;

/// Diagonal initialisations (Gu et al. 2022, arXiv 2206.11893, §4) for a state of N real numbers. Of each conjugate
/// pair λ_n is the one with the negative imaginary part; that paper writes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiagonalInit {
    /// λ_n = −½ − iπn, n = 0 … N/2 − 1
    Lin,
    /// λ_n = −½ − i(N/π)(N/(2n+1) − 1), n = 0 … N/2 − 1
    Inv,
    /// Λ and the clipped B of LegS, without P.
    LegS,
    /// λ_n = −(n+1), n = 0 … N/2 − 1
    Real,
}

/// An SSM that a layer is initialised with: (Λ, P, B), one of each conjugate pair stored.
#[derive(Clone, Debug, PartialEq)]
pub struct InitialSsm {
    /// Λ: N/2 entries, whose imaginary parts are 0 or negative.
    pub lambda: Vec<C64>,
    /// P: `rank` rows of N/2 entries; none for S4D.
    pub p: Vec<Vec<C64>>,
    /// B: N/2 entries.
    pub b: Vec<C64>,
}

/// S4D-Lin, S4D-Inv, S4D-LegS, S4D-Real for a state of N = `state`.
///
/// # Panics
/// When `state` is 0 or odd.
pub fn diagonal_ssm(init: DiagonalInit, state: usize) -> InitialSsm {
    assert!(state > 0 && state.is_multiple_of(2), "an even state of 2 or more, got {state}");
    let (pairs, state_size) = (state / 2, state as f64);
    if init == DiagonalInit::LegS {
        let legs = nplr(Measure::LegS, state);
        return InitialSsm { lambda: legs.lambda, p: vec![], b: legs.b };
    }
    let lambda = (0..pairs).map(|n| {
        let n = n as f64;
        match init {
            DiagonalInit::Lin => C64::new(-0.5, -PI * n),
            DiagonalInit::Inv => C64::new(-0.5, -(state_size / PI) * (state_size / (2.0 * n + 1.0) - 1.0)),
            _ => C64::new(-(n + 1.0), 0.0),
        }
    });
    InitialSsm { lambda: lambda.collect(), p: vec![], b: vec![C64::new(1.0, 0.0); pairs] }
}

/// A random initialisation, with which the paper's ablation (§4.4) compares HiPPO: Λ = −½ − i·e^ξ with ξ standard
/// normal, P of `rank` rows complex normal with variance ½ per part (diagonal with rank 0), B = 1. `normal` gives
/// standard normal numbers.
pub fn random_ssm(state: usize, rank: usize, mut normal: impl FnMut() -> f64) -> InitialSsm {
    let pairs = state / 2;
    let lambda = (0..pairs).map(|_| C64::new(-0.5, -normal().exp())).collect();
    let mut normal_part = || normal() * std::f64::consts::FRAC_1_SQRT_2;
    let p = (0..rank).map(|_| (0..pairs).map(|_| C64::new(normal_part(), normal_part())).collect()).collect();
    InitialSsm { lambda, p, b: vec![C64::new(1.0, 0.0); pairs] }
}

/// The NPLR form of a HiPPO measure, of the measure's own rank or `rank`, whichever is larger: rows of zeros are added to P.
///
/// # Panics
/// When `state` is 0 or odd.
pub fn nplr_ssm(measure: Measure, state: usize, rank: usize) -> InitialSsm {
    let form = nplr(measure, state);
    let mut p = form.p;
    p.resize_with(p.len().max(rank), || vec![C64::new(0.0, 0.0); state / 2]);
    InitialSsm { lambda: form.lambda, p, b: form.b }
}

/// The measures that the initialisation `hippo` combines.
pub const HIPPO_MEASURES: [Measure; 2] = [Measure::LegS, Measure::Fourier];

/// `n_ssm` SSMs: n_ssm / measures.len() copies of the first measure's SSM, then as many of the next (for LegS and
/// Fourier and four SSMs: LegS, LegS, Fourier, Fourier). All have one rank, the largest of `rank` and of the measures' own; P of the others
/// is filled up with rows of zeros.
///
/// # Panics
/// When `n_ssm` is no positive multiple of the number of measures, or `state` is 0 or odd.
pub fn combined_ssms(measures: &[Measure], state: usize, n_ssm: usize, rank: usize) -> Vec<InitialSsm> {
    assert!(
        !measures.is_empty() && n_ssm > 0 && n_ssm.is_multiple_of(measures.len()),
        "{n_ssm} SSMs cannot be dealt evenly to {} measures",
        measures.len()
    );
    let measure_ssms: Vec<InitialSsm> = measures.iter().map(|&m| nplr_ssm(m, state, rank)).collect();
    let rank = measure_ssms.iter().map(|f| f.p.len()).max().unwrap_or(rank);
    let copies = n_ssm / measures.len();
    let mut ssms = Vec::with_capacity(n_ssm);
    for mut ssm in measure_ssms {
        ssm.p.resize_with(rank, || vec![C64::new(0.0, 0.0); state / 2]);
        ssms.extend(std::iter::repeat_n(ssm, copies));
    }
    ssms
}
