//! How far back a kernel's energy lies, and how strongly it answers each frequency: the memory and the frequency response of one
//! head, of its whole kernel, however long.

use crate::{C64, Ssm, with_conjugates};
use nalgebra::{DMatrix, DVector, RowDVector};

/// Doublings of the time that the energy is summed over: 2²⁶ time steps.
const MOST_DOUBLINGS: usize = 26;
/// Part of the energy that may be left out of the sum.
const NEGLIGIBLE: f64 = 1e-5;

/// The energy Σ K̄² of a kernel over all channels, and how far back it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelMemory {
    /// Σ K̄², over all time steps and channels.
    pub energy: f64,
    /// For each of the parts asked for, the fewest first time steps that hold this part of the energy; infinite where it is not
    /// reached within 2²⁶ time steps, or the kernel grows.
    pub steps: Vec<f64>,
}

/// Ā, B̄ and C in real coordinates: the state is [Re; Im] of the stored pairs.
struct RealForm {
    a: DMatrix<f64>,
    b: DVector<f64>,
    c: Vec<RowDVector<f64>>,
}

impl RealForm {
    fn of(ssm: &Ssm) -> Self {
        let (full, n) = (ssm.discretize(), ssm.pairs());
        // z′ = P z + Q z*, with P and Q the first rows of Ā over the stored entries and their conjugates.
        let a = DMatrix::from_fn(2 * n, 2 * n, |i, j| {
            let (p, q) = (full.a_bar[(i % n, j % n)], full.a_bar[(i % n, n + j % n)]);
            match (i < n, j < n) {
                (true, true) => (p + q).re,
                (true, false) => -(p - q).im,
                (false, true) => (p + q).im,
                (false, false) => (p - q).re,
            }
        });
        let b = DVector::from_fn(2 * n, |i, _| if i < n { full.b_bar[i].re } else { full.b_bar[i - n].im });
        let row = |c: &Vec<C64>| {
            RowDVector::from_fn(2 * n, |_, i| if i < n { 2.0 * c[i].re } else { -2.0 * c[i - n].im })
        };
        RealForm { a, b, c: ssm.c.iter().map(row).collect() }
    }
}

/// Energy of the next time steps whose Gramian is g, from rows C Ā^t.
fn energy(rows: &[RowDVector<f64>], g: &DMatrix<f64>) -> f64 {
    rows.iter().map(|c| (c * g).dot(c)).sum()
}

/// The memory of one head's kernel, for parts of its energy between 0 and 1 (0.5, 0.9, 0.99).
///
/// The Gramian of 2^k time steps, G_k = Σ_{l<2^k} Ā^l B̄ B̄ᵀ Ā^{lᵀ}, doubles by G_{k+1} = G_k + Ā^{2^k} G_k Ā^{2^kᵀ}, and Σ K̄² over
/// the 2^k time steps from t on is C Ā^t G_k Ā^{tᵀ} Cᵀ: nothing of the kernel's length is computed.
pub fn kernel_memory(ssm: &Ssm, parts: &[f64]) -> KernelMemory {
    let RealForm { a, b, c } = RealForm::of(ssm);
    let mut powers = vec![a];
    let mut gramians = vec![&b * b.transpose()];
    let mut total = energy(&c, &gramians[0]);
    let mut small_in_a_row = 0;
    for k in 0..MOST_DOUBLINGS {
        let (power, gramian) = (&powers[k], &gramians[k]);
        let rows: Vec<_> = c.iter().map(|c| c * power).collect();
        let more = energy(&rows, gramian);
        if !more.is_finite() || !(total + more).is_finite() {
            break;
        }
        total += more;
        let next = gramian + power * gramian * power.transpose();
        let squared = power * power;
        powers.push(squared);
        gramians.push(next);
        // Twice, since a kernel may be near 0 for once and come again.
        small_in_a_row = if more <= NEGLIGIBLE * total { small_in_a_row + 1 } else { 0 };
        if small_in_a_row == 2 {
            break;
        }
    }
    let whole = small_in_a_row == 2;
    let steps = parts.iter().map(|part| match whole {
        true => first_steps(part * total, &c, &powers, &gramians),
        false => f64::INFINITY,
    });
    KernelMemory { energy: if whole { total } else { f64::INFINITY }, steps: steps.collect() }
}

/// The fewest first time steps whose energy is at least `wanted`.
fn first_steps(
    wanted: f64,
    c: &[RowDVector<f64>],
    powers: &[DMatrix<f64>],
    gramians: &[DMatrix<f64>],
) -> f64 {
    let (mut rows, mut before, mut at) = (c.to_vec(), 0.0, 0.0);
    for (k, (power, gramian)) in powers.iter().zip(gramians).enumerate().rev() {
        let more = energy(&rows, gramian);
        if before + more < wanted {
            before += more;
            at += (k as f64).exp2();
            rows.iter_mut().for_each(|row| *row = &*row * power);
        }
    }
    at + 1.0
}

/// |K̂|, the gain of one head's kernel at a frequency in cycles a time step, 0 to ½: the root of the sum of squares over channels.
///
/// K̂(θ) = Σ_l K̄_l e^{−iθl}; bilinear by the Cauchy sums of Theorem 3 with C in the place of C̃ (the whole kernel instead of its first
/// L time steps), by zero-order hold as Σ C B̄/(1 − λ̄ e^{−iθ}).
pub fn kernel_gain(ssm: &Ssm, frequency: f64) -> f64 {
    let theta = std::f64::consts::TAU * frequency;
    let of_channel = |c: &Vec<C64>| match ssm.discretization {
        crate::Discretization::Zoh => zoh_spectrum(ssm, c, theta),
        crate::Discretization::Bilinear => bilinear_spectrum(ssm, c, theta),
    };
    ssm.c.iter().map(|c| of_channel(c).norm_sqr()).sum::<f64>().sqrt()
}

fn zoh_spectrum(ssm: &Ssm, c: &[C64], theta: f64) -> C64 {
    let shift = C64::from_polar(1.0, -theta);
    (0..ssm.pairs())
        .map(|n| {
            let (a, b) = crate::zoh_diagonal(ssm.lambda[n], ssm.b[n], ssm.dt_of(n));
            let (x, y) = (c[n] * b, (c[n] * b).conj());
            x / (1.0 - a * shift) + y / (1.0 - a.conj() * shift)
        })
        .sum()
}

fn bilinear_spectrum(ssm: &Ssm, c: &[C64], theta: f64) -> C64 {
    let n = ssm.pairs();
    let (sine, cosine) = (0.5 * theta).sin_cos();
    let lambda = with_conjugates(&ssm.lambda);
    let denominator = |i: usize| C64::new(0.0, 2.0 / ssm.dt_of(i % n) * sine) - lambda[i] * cosine;
    // ρ_xy over the full state.
    let rho = |x: &DVector<C64>, y: &DVector<C64>| -> C64 {
        (0..2 * n).map(|i| x[i] * y[i] / denominator(i)).sum()
    };
    let (b, c) = (with_conjugates(&ssm.b), with_conjugates(c));
    let p: Vec<DVector<C64>> = ssm.p.iter().map(|p| with_conjugates(p)).collect();
    let p_star: Vec<DVector<C64>> = p.iter().map(|p| p.map(|x| x.conj())).collect();
    let rank = p.len();
    let mut spectrum = rho(&c, &b);
    if rank > 0 {
        let m = DMatrix::from_fn(rank, rank, |i, j| {
            C64::from(f64::from(u8::from(i == j))) + cosine * rho(&p_star[i], &p[j])
        });
        let right = DVector::from_fn(rank, |i, _| rho(&p_star[i], &b));
        if let Some(solved) = m.lu().solve(&right) {
            spectrum -= (0..rank).map(|i| cosine * rho(&c, &p[i]) * solved[i]).sum::<C64>();
        }
    }
    spectrum * C64::from_polar(1.0, 0.5 * theta)
}
