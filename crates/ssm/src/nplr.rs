//! The normal plus low-rank form of HiPPO, diagonalised (paper Theorem 1 and §3.2).

use crate::{C64, Hippo, Measure, hippo};
use nalgebra::{DMatrix, SymmetricEigen};

/// The normal plus low-rank form of a HiPPO matrix, A = V (diag(Λ) − P P*) V*. Of each conjugate pair of eigenvalues
/// the one with the negative imaginary part is stored, in ascending order of imaginary parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Nplr {
    /// Λ: N/2 entries.
    pub lambda: Vec<C64>,
    /// V*P: `rank` rows of N/2 entries.
    pub p: Vec<Vec<C64>>,
    /// V*B with imaginary parts clipped to ±2, with which the official code initialises layers: N/2 entries.
    pub b: Vec<C64>,
    /// V*B without clipping: N/2 entries.
    pub b_unclipped: Vec<C64>,
    /// The columns of V that belong to the stored eigenvalues, as N/2 rows of N entries. Each has unit norm and a first
    /// nonzero entry that is real and positive; the other columns of V are their conjugates.
    pub v: Vec<Vec<C64>>,
}

/// Entries of a unit eigenvector that are smaller than this count as zero when its phase is fixed.
const ZERO_ENTRY: f64 = 1e-12;

/// Largest |Im B| of an initialisation, as in the official code.
const MAX_IMAG_B: f64 = 2.0;

/// Theorem 1: every HiPPO matrix is normal plus low rank. A + P Pᵀ = w_re·I + a skew matrix, so
/// −i(A + P Pᵀ − w_re I) is Hermitian; with its eigenvalues w and eigenvectors V, Λ = w_re + i w, B ← V*B,
/// P ← V*P.
///
/// # Panics
/// When `state` is 0 or odd.
pub fn nplr(measure: Measure, state: usize) -> Nplr {
    assert!(
        state > 0 && state.is_multiple_of(2),
        "an NPLR form needs an even state of 2 or more, got {state}"
    );
    let dense = hippo(measure, state);
    let pairs = state / 2;
    let (w_re, w, mut v) = negative_eigenpairs(&dense);
    let mut lambda: Vec<C64> = w.iter().map(|&w| C64::new(w_re, w)).collect();
    if measure == Measure::Fourier {
        // The Fourier matrix has two eigenvalues 0. Any basis of the plane of their eigenvectors would do; these two
        // are conjugates of each other, so that one of them can be stored for both.
        lambda[pairs - 1] = C64::new(w_re, 0.0);
        let entry = std::f64::consts::FRAC_1_SQRT_2;
        v[pairs - 1] = vec![C64::new(0.0, 0.0); state];
        v[pairs - 1][0] = C64::new(entry, 0.0);
        v[pairs - 1][1] = C64::new(0.0, entry);
    }
    for column in &mut v {
        fix_phase(column);
    }
    let in_eigenbasis = |x: &[f64]| -> Vec<C64> {
        v.iter().map(|column| column.iter().zip(x).map(|(v, &x)| v.conj() * x).sum()).collect()
    };
    let b_unclipped = in_eigenbasis(&dense.b);
    let p = dense.p.iter().map(|row| in_eigenbasis(row)).collect();
    let b = b_unclipped.iter().map(|b| C64::new(b.re, b.im.clamp(-MAX_IMAG_B, MAX_IMAG_B))).collect();
    Nplr { lambda, p, b, b_unclipped, v }
}

/// Gives w_re (the real part of all eigenvalues of A + P Pᵀ), the N/2 most negative eigenvalues of
/// −i(A + P Pᵀ − w_re I) in ascending order, and their eigenvectors.
fn negative_eigenpairs(dense: &Hippo) -> (f64, Vec<f64>, Vec<Vec<C64>>) {
    let n = dense.state;
    let normal =
        DMatrix::from_fn(n, n, |i, j| dense.a[i * n + j] + dense.p.iter().map(|p| p[i] * p[j]).sum::<f64>());
    let w_re = normal.diagonal().mean();
    // The skew-symmetric part is computed as such, so that −i times it is Hermitian to the last bit.
    let skew = (&normal - normal.transpose()) * 0.5;
    let eigen = SymmetricEigen::new(skew.map(|x| C64::new(0.0, -x)));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[i].total_cmp(&eigen.eigenvalues[j]));
    order.truncate(n / 2);
    let w = order.iter().map(|&i| eigen.eigenvalues[i]).collect();
    let v = order.iter().map(|&i| eigen.eigenvectors.column(i).iter().copied().collect()).collect();
    (w_re, w, v)
}

/// Multiplies a unit vector by the phase that makes its first nonzero entry real and positive.
fn fix_phase(v: &mut [C64]) {
    let first_nonzero = v.iter().copied().find(|x| x.norm() > ZERO_ENTRY);
    let first_nonzero = first_nonzero.expect("an eigenvector is not zero");
    let phase = first_nonzero.conj() / first_nonzero.norm();
    for x in v {
        *x *= phase;
    }
}
