//! Starting points of a layer: the diagonal ones of S4D, and combinations of several SSMs.

use crate::{C64, Measure, nplr};
use std::f64::consts::PI;

/// Diagonal initialisations (Gu et al. 2022, arXiv 2206.11893, §4). N is the size of the state; the values are the
/// conjugates of the paper's: of each pair the one with the negative imaginary part is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Diagonal {
    /// λ_n = −½ − iπn, n = 0 … N/2 − 1
    Lin,
    /// λ_n = −½ − i(N/π)(N/(2n+1) − 1), n = 0 … N/2 − 1
    Inv,
    /// Λ and the clipped B of LegS, without P.
    LegS,
    /// λ_n = −(n+1), n = 0 … N/2 − 1
    Real,
}

/// One SSM to start from: (Λ, P, B), one of each conjugate pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Λ: N/2. Imaginary parts are 0 or negative.
    pub lambda: Vec<C64>,
    /// P: `rank` rows of N/2; none for S4D.
    pub p: Vec<Vec<C64>>,
    /// B: N/2.
    pub b: Vec<C64>,
}

/// S4D-Lin, S4D-Inv, S4D-LegS, S4D-Real for a state of N = `state`.
///
/// # Panics
/// When `state` is 0 or odd.
pub fn diagonal(init: Diagonal, state: usize) -> Start {
    assert!(state > 0 && state.is_multiple_of(2), "an even state of 2 or more, got {state}");
    let (pairs, n_all) = (state / 2, state as f64);
    if init == Diagonal::LegS {
        let legs = nplr(Measure::LegS, state);
        return Start { lambda: legs.lambda, p: vec![], b: legs.b };
    }
    let lambda = (0..pairs).map(|n| {
        let n = n as f64;
        match init {
            Diagonal::Lin => C64::new(-0.5, -PI * n),
            Diagonal::Inv => C64::new(-0.5, -(n_all / PI) * (n_all / (2.0 * n + 1.0) - 1.0)),
            _ => C64::new(-(n + 1.0), 0.0),
        }
    });
    Start { lambda: lambda.collect(), p: vec![], b: vec![C64::new(1.0, 0.0); pairs] }
}

/// No measure at all: Λ = −½ − i·e^ξ with ξ standard normal, P of `rank` rows complex normal with variance ½ per part,
/// B = 1; what the paper's ablation of initialisations (§4.4) compares HiPPO with, in NPLR form or, with rank 0,
/// diagonal. `normal` gives standard normal numbers.
pub fn random(state: usize, rank: usize, mut normal: impl FnMut() -> f64) -> Start {
    let pairs = state / 2;
    let lambda = (0..pairs).map(|_| C64::new(-0.5, -normal().exp())).collect();
    let mut normal_part = || normal() * std::f64::consts::FRAC_1_SQRT_2;
    let p = (0..rank).map(|_| (0..pairs).map(|_| C64::new(normal_part(), normal_part())).collect()).collect();
    Start { lambda, p, b: vec![C64::new(1.0, 0.0); pairs] }
}

/// The NPLR form of a measure with P of at least `rank` rows (zeros beyond its own).
///
/// # Panics
/// When `state` is 0 or odd.
pub fn start(measure: Measure, state: usize, rank: usize) -> Start {
    let form = nplr(measure, state);
    let mut p = form.p;
    p.resize_with(p.len().max(rank), || vec![C64::new(0.0, 0.0); state / 2]);
    Start { lambda: form.lambda, p, b: form.b }
}

/// The measures of init `hippo`.
pub const HIPPO: [Measure; 2] = [Measure::LegS, Measure::Fourier];

/// `n_ssm` SSMs dealt to `measures` in equal runs, in order (`hippo` with two SSMs: SSM 0 is LegS, SSM 1 is
/// Fourier). All get the rank of the highest, zeros below.
///
/// # Panics
/// When `n_ssm` is no positive multiple of the number of measures, or `state` is 0 or odd.
pub fn combination(measures: &[Measure], state: usize, n_ssm: usize, rank: usize) -> Vec<Start> {
    assert!(
        !measures.is_empty() && n_ssm > 0 && n_ssm.is_multiple_of(measures.len()),
        "{n_ssm} SSMs cannot be dealt evenly to {} measures",
        measures.len()
    );
    let forms: Vec<Start> = measures.iter().map(|&m| start(m, state, rank)).collect();
    let rank = forms.iter().map(|f| f.p.len()).max().unwrap_or(rank);
    let run = n_ssm / measures.len();
    let mut starts = Vec::with_capacity(n_ssm);
    for mut form in forms {
        form.p.resize_with(rank, || vec![C64::new(0.0, 0.0); state / 2]);
        starts.extend(std::iter::repeat_n(form, run));
    }
    starts
}
