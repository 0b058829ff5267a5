//! Discretisation of an SSM, bilinear and by zero-order hold, with diagonal and with diagonal plus low-rank A; the
//! recurrence in O(N); C and C̃.

use crate::C64;
use nalgebra::{DMatrix, DVector};

/// How the matrices of continuous time become those of time steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discretization {
    /// Ā = (I − ΔA/2)⁻¹(I + ΔA/2), B̄ = (I − ΔA/2)⁻¹ΔB.
    Bilinear,
    /// Ā = e^{ΔΛ}, B̄ = Λ⁻¹(e^{ΔΛ} − 1)B; diagonal A only.
    Zoh,
}

/// The SSM of one head in f64, with one of each pair of conjugate entries stored. The slow oracles of this crate take
/// it and add the conjugates where they need them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssm {
    /// Λ: N/2 entries.
    pub lambda: Vec<C64>,
    /// P: `rank` rows of N/2 entries; none for S4D. A = diag(Λ) − P P* over the full state.
    pub p: Vec<Vec<C64>>,
    /// B: N/2 entries.
    pub b: Vec<C64>,
    /// C: one row of N/2 entries per output channel.
    pub c: Vec<Vec<C64>>,
    /// Δ: one, or one per pair; already multiplied by the rate. With several, ΔA means diag(Δ)·A.
    pub dt: Vec<f64>,
    /// How Ā and B̄ are computed; bilinear where P is not empty.
    pub discretization: Discretization,
}

/// Ā and B̄ over the full state: the stored pairs, then their conjugates.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscretizedMatrices {
    /// (N, N)
    pub a_bar: DMatrix<C64>,
    /// (N)
    pub b_bar: DVector<C64>,
}

/// The full state vector: the stored entries, then their conjugates.
pub fn with_conjugates(pairs: &[C64]) -> DVector<C64> {
    DVector::from_iterator(2 * pairs.len(), pairs.iter().copied().chain(pairs.iter().map(|x| x.conj())))
}

impl Ssm {
    /// N/2: the number of stored entries.
    pub fn pairs(&self) -> usize {
        self.lambda.len()
    }

    /// Δ of pair n.
    pub fn dt_of(&self, n: usize) -> f64 {
        self.dt[if self.dt.len() == 1 { 0 } else { n }]
    }

    /// diag(Δ)·(diag(Λ) − P P*), dense over the full state.
    pub fn dt_a(&self) -> DMatrix<C64> {
        let mut a = DMatrix::from_diagonal(&with_conjugates(&self.lambda));
        for p in &self.p {
            let p = with_conjugates(p);
            a -= &p * p.adjoint();
        }
        for (n, mut row) in a.row_iter_mut().enumerate() {
            row *= C64::from(self.dt_of(n % self.pairs()));
        }
        a
    }

    /// Ā and B̄ as dense matrices (paper eq. (3)). NaN throughout where I − ΔA/2 is singular, which only an A with an
    /// eigenvalue of 2/Δ makes it, as a hostile file may hold: there is no discretisation then.
    ///
    /// # Panics
    /// For zero-order hold with P, which S4 never uses and which has no cheap form.
    pub fn discretize(&self) -> DiscretizedMatrices {
        let pairs = self.pairs();
        match self.discretization {
            Discretization::Zoh => {
                assert!(self.p.is_empty(), "zero-order hold is for diagonal SSMs");
                let diagonal_entries: Vec<(C64, C64)> =
                    (0..pairs).map(|n| zoh_diagonal(self.lambda[n], self.b[n], self.dt_of(n))).collect();
                let (a, b): (Vec<C64>, Vec<C64>) = diagonal_entries.into_iter().unzip();
                DiscretizedMatrices {
                    a_bar: DMatrix::from_diagonal(&with_conjugates(&a)),
                    b_bar: with_conjugates(&b),
                }
            }
            Discretization::Bilinear => {
                let half_dt_a = self.dt_a() * C64::from(0.5);
                let dt_b = DVector::from_fn(2 * pairs, |n, _| {
                    let b = self.b[n % pairs] * self.dt_of(n % pairs);
                    if n < pairs { b } else { b.conj() }
                });
                let identity = DMatrix::<C64>::identity(2 * pairs, 2 * pairs);
                let lu = (&identity - &half_dt_a).lu();
                let undefined = C64::new(f64::NAN, f64::NAN);
                let a_bar = lu.solve(&(identity + half_dt_a));
                let b_bar = lu.solve(&dt_b);
                DiscretizedMatrices {
                    a_bar: a_bar.unwrap_or_else(|| DMatrix::from_element(2 * pairs, 2 * pairs, undefined)),
                    b_bar: b_bar.unwrap_or_else(|| DVector::from_element(2 * pairs, undefined)),
                }
            }
        }
    }
}

/// (Ā, B̄) of one diagonal entry by the bilinear transform, paper eq. (3):
/// Ā = (1 + Δλ/2)/(1 − Δλ/2), B̄ = Δb/(1 − Δλ/2).
pub fn bilinear_diagonal(lambda: C64, b: C64, dt: f64) -> (C64, C64) {
    let z = lambda * (0.5 * dt);
    ((1.0 + z) / (1.0 - z), b * dt / (1.0 - z))
}

/// (Ā, B̄) of one diagonal entry by zero-order hold (S4D eq. (3)): Ā = e^{Δλ}, B̄ = b·expm1(Δλ)/λ.
/// λ = 0 gives the limit B̄ = Δb.
pub fn zoh_diagonal(lambda: C64, b: C64, dt: f64) -> (C64, C64) {
    let z = lambda * dt;
    let ratio = if z.norm() == 0.0 { C64::from(dt) } else { exp_m1(z) / lambda };
    (z.exp(), b * ratio)
}

/// e^z − 1 without cancellation near 0: with z = x + iy,
/// Re = expm1(x) cos y − 2 sin²(y/2), Im = eˣ sin y.
pub fn exp_m1(z: C64) -> C64 {
    let sine = (0.5 * z.im).sin();
    C64::new(z.re.exp_m1() * z.im.cos() - 2.0 * sine * sine, z.re.exp() * z.im.sin())
}

/// The bilinear recurrence in O(N) (paper Theorem 2 and appendix C.2), P of any rank.
///
/// Dg = 1/(2/Δ − Λ), E = 2/Δ + Λ, M = I + P*Dg P, R = M⁻¹ P*Dg;
/// x′ = Dg∘(t − P(R t)) with t = E∘x − P(P*x) + 2Bu, inner products over conjugate pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    /// Dg: N/2.
    pub dg: Vec<C64>,
    /// E: N/2.
    pub e: Vec<C64>,
    /// P: `rank` rows of N/2.
    pub p: Vec<Vec<C64>>,
    /// R, the Woodbury row: `rank` rows of N/2.
    pub r: Vec<Vec<C64>>,
    /// B: N/2.
    pub b: Vec<C64>,
}

/// The sum of a_n x_n over the full state, from the stored entries of a and x: 2·Re of the sum over these.
fn pair_sum(a: impl Iterator<Item = C64>, x: &[C64]) -> f64 {
    2.0 * a.zip(x).map(|(a, x)| (a * x).re).sum::<f64>()
}

impl Recurrence {
    /// The constants of the bilinear recurrence of one head, whatever `ssm.discretization` says.
    pub fn new(ssm: &Ssm) -> Self {
        let pairs = ssm.pairs();
        let two_by_dt = |n: usize| C64::from(2.0 / ssm.dt_of(n));
        let dg: Vec<C64> = (0..pairs).map(|n| (two_by_dt(n) - ssm.lambda[n]).inv()).collect();
        let e = (0..pairs).map(|n| two_by_dt(n) + ssm.lambda[n]).collect();
        let rank = ssm.p.len();
        let p_dg: Vec<Vec<C64>> =
            ssm.p.iter().map(|p| p.iter().zip(&dg).map(|(p, dg)| p.conj() * dg).collect()).collect();
        let m = DMatrix::from_fn(rank, rank, |i, j| {
            f64::from(u8::from(i == j)) + pair_sum(p_dg[i].iter().copied(), &ssm.p[j])
        });
        let m_inv = if rank == 0 { m } else { m.try_inverse().expect("I + P*Dg P is regular") };
        let r = (0..rank)
            .map(|i| (0..pairs).map(|n| (0..rank).map(|j| p_dg[j][n] * m_inv[(i, j)]).sum()).collect())
            .collect();
        Recurrence { dg, e, p: ssm.p.clone(), r, b: ssm.b.clone() }
    }

    /// x ← Āx + B̄u.
    pub fn step(&self, x: &mut [C64], u: f64) {
        let p_x: Vec<f64> = self.p.iter().map(|p| pair_sum(p.iter().map(|p| p.conj()), x)).collect();
        for n in 0..x.len() {
            x[n] = self.e[n] * x[n] + 2.0 * self.b[n] * u;
            for (p, s) in self.p.iter().zip(&p_x) {
                x[n] -= p[n] * s;
            }
        }
        let r_t: Vec<f64> = self.r.iter().map(|r| pair_sum(r.iter().copied(), x)).collect();
        for n in 0..x.len() {
            for (p, s) in self.p.iter().zip(&r_t) {
                x[n] -= p[n] * s;
            }
            x[n] *= self.dg[n];
        }
    }
}

/// A^k by repeated squaring.
pub fn matrix_power(a: &DMatrix<C64>, mut k: usize) -> DMatrix<C64> {
    let mut result = DMatrix::identity(a.nrows(), a.ncols());
    let mut square = a.clone();
    while k > 0 {
        if k & 1 == 1 {
            result = &result * &square;
        }
        k >>= 1;
        if k > 0 {
            square = &square * &square;
        }
    }
    result
}

/// (I − Ā^L)ᵀ over the full state: its product with the column vector Cᵀ is C̃ᵀ.
fn truncation_matrix(ssm: &Ssm, len: usize) -> DMatrix<C64> {
    let a_bar = ssm.discretize().a_bar;
    (DMatrix::identity(a_bar.nrows(), a_bar.ncols()) - matrix_power(&a_bar, len)).transpose()
}

/// Applies f to C of every channel over the full state; gives the stored half of each result.
fn map_channels(ssm: &Ssm, f: impl Fn(DVector<C64>) -> DVector<C64>) -> Vec<Vec<C64>> {
    ssm.c.iter().map(|c| f(with_conjugates(c)).rows(0, c.len()).iter().copied().collect()).collect()
}

/// C̃ = C(I − Ā^L), one row per channel (Algorithm 1).
pub fn c_tilde(ssm: &Ssm, len: usize) -> Vec<Vec<C64>> {
    let m = truncation_matrix(ssm, len);
    map_channels(ssm, |c| &m * c)
}

/// C from C̃: `ssm.c` is read as C̃ for length `len`, at the rate that is in `ssm.dt`. `None` when
/// I − Ā^L is singular (a mode that does not decay at all).
pub fn c_from_tilde(ssm: &Ssm, len: usize) -> Option<Vec<Vec<C64>>> {
    let lu = truncation_matrix(ssm, len).lu();
    ssm.c
        .iter()
        .map(|c| Some(lu.solve(&with_conjugates(c))?.rows(0, c.len()).iter().copied().collect()))
        .collect::<Option<Vec<Vec<C64>>>>()
        .filter(|rows| rows.iter().flatten().all(|c| c.re.is_finite() && c.im.is_finite()))
}
