//! Slow oracles, with which the tests compare fast code: each computes one equation of the paper in the plainest way,
//! in f64.

use crate::{C64, Hippo, Ssm, c_tilde, with_conjugates};
use nalgebra::{DMatrix, DVector};
use std::f64::consts::PI;

/// The recurrence y_t = C x_t, x_t = Ā x_{t−1} + B̄ u_t (paper eq. (3)), with dense matrices and without D.
///
/// `state0` is x_{−1} (the N/2 stored entries; `None` for zero). Gives y with one row of L per channel, and x_{L−1}.
pub fn recurrence(ssm: &Ssm, u: &[f64], state0: Option<&[C64]>) -> (Vec<Vec<f64>>, Vec<C64>) {
    let discrete = ssm.discretize();
    let pairs = ssm.pairs();
    let c: Vec<DVector<C64>> = ssm.c.iter().map(|c| with_conjugates(c)).collect();
    let mut x = state0.map_or_else(|| DVector::zeros(2 * pairs), with_conjugates);
    let mut y = vec![Vec::with_capacity(u.len()); c.len()];
    for &u in u {
        x = &discrete.a_bar * x + &discrete.b_bar * C64::from(u);
        for (y, c) in y.iter_mut().zip(&c) {
            y.push(c.dot(&x).re);
        }
    }
    (y, x.rows(0, pairs).iter().copied().collect())
}

/// The transpose of [`recurrence`]: gradients of Σ y·dy + Σ Re(conj(dstate_end)·state_end) with respect to u
/// and to the state before the first time step. A complex gradient is ∂/∂Re + i ∂/∂Im of what is stored.
pub fn recurrence_adjoint(ssm: &Ssm, dy: &[Vec<f64>], dstate_end: Option<&[C64]>) -> (Vec<f64>, Vec<C64>) {
    let discrete = ssm.discretize();
    let pairs = ssm.pairs();
    let len = dy.first().map_or(0, Vec::len);
    // Over the stored entries a step is x′ = M x + M′ conj(x) + B̄ u. Its transpose takes the gradient g of x′ to
    // M* g + M′ᵀ conj(g) for x and to Re(B̄* g) for u.
    let m = discrete.a_bar.view((0, 0), (pairs, pairs)).adjoint();
    let m_conj = discrete.a_bar.view((0, pairs), (pairs, pairs)).transpose();
    let b_bar = discrete.b_bar.rows(0, pairs).into_owned();
    let mut g = DVector::from_fn(pairs, |n, _| dstate_end.map_or(C64::ZERO, |d| d[n]));
    let mut du = vec![0.0; len];
    for t in (0..len).rev() {
        for (dy, c) in dy.iter().zip(&ssm.c) {
            for n in 0..pairs {
                g[n] += c[n].conj() * (2.0 * dy[t]);
            }
        }
        du[t] = b_bar.dotc(&g).re;
        g = &m * &g + &m_conj * g.map(|x| x.conj());
    }
    (du, g.iter().copied().collect())
}

/// The kernel K̄_l = C Ā^l B̄ (paper eq. (5)) as the recurrence's output for an impulse: one row of `len` per channel.
pub fn kernel_by_powers(ssm: &Ssm, len: usize) -> Vec<Vec<f64>> {
    let mut impulse = vec![0.0; len];
    if let Some(first) = impulse.first_mut() {
        *first = 1.0;
    }
    recurrence(ssm, &impulse, None).0
}

/// K̄ from its truncated generating function at the roots of unity (paper §3.3 and appendix C.3):
/// K̂(ω) = Σ_{l<L} K̄_l ω^l = C̃ (I − Āω)⁻¹ B̄ with C̃ = C(I − Ā^L), then the inverse transform.
pub fn kernel_by_generating_function(ssm: &Ssm, len: usize) -> Vec<Vec<f64>> {
    let discrete = ssm.discretize();
    let c_tilde: Vec<DVector<C64>> = c_tilde(ssm, len).iter().map(|c| with_conjugates(c)).collect();
    let identity = DMatrix::<C64>::identity(discrete.a_bar.nrows(), discrete.a_bar.ncols());
    let spectrum: Vec<Vec<C64>> = (0..len)
        .map(|j| {
            let omega = C64::from_polar(1.0, -2.0 * PI * j as f64 / len as f64);
            let resolvent = (&identity - &discrete.a_bar * omega).lu().solve(&discrete.b_bar);
            let resolvent_b = resolvent.expect("no eigenvalue of Ā lies on the unit circle");
            c_tilde.iter().map(|c| c.dot(&resolvent_b)).collect()
        })
        .collect();
    inverse_transform(&spectrum, ssm.c.len())
}

/// K̄ by Theorem 3 and Algorithm 1: Cauchy sums and Woodbury at the roots of unity, in half angles, which is finite
/// at ω = −1. With θ = 2πj/L, s = sin θ/2, c = cos θ/2, ρ_xy = Σ_n x y/(i(2/Δ)s − λc):
/// K̂ = e^{iθ/2} [ρ_{C̃B} − c ρ_{C̃P} (I + c ρ_{P*P})⁻¹ ρ_{P*B}].
///
/// # Panics
/// When the SSM's discretisation is not bilinear, for which the formula is derived.
pub fn kernel_by_cauchy(ssm: &Ssm, len: usize) -> Vec<Vec<f64>> {
    assert_eq!(
        ssm.discretization,
        crate::Discretization::Bilinear,
        "Algorithm 1 needs bilinear discretisation"
    );
    let pairs = ssm.pairs();
    let rank = ssm.p.len();
    let (lambda, b) = (with_conjugates(&ssm.lambda), with_conjugates(&ssm.b));
    let p: Vec<DVector<C64>> = ssm.p.iter().map(|p| with_conjugates(p)).collect();
    let c_tilde: Vec<DVector<C64>> = c_tilde(ssm, len).iter().map(|c| with_conjugates(c)).collect();
    let spectrum: Vec<Vec<C64>> = (0..len)
        .map(|j| {
            let half_theta = PI * j as f64 / len as f64;
            let (s, c) = half_theta.sin_cos();
            let cauchy = DVector::from_fn(2 * pairs, |n, _| {
                (C64::new(0.0, 2.0 / ssm.dt_of(n % pairs) * s) - lambda[n] * c).inv()
            });
            let rho = |x: &DVector<C64>, y: &DVector<C64>| -> C64 {
                (0..2 * pairs).map(|n| x[n] * y[n] * cauchy[n]).sum()
            };
            let p_star: Vec<DVector<C64>> = p.iter().map(|p| p.conjugate()).collect();
            let p_b = DVector::from_fn(rank, |i, _| rho(&p_star[i], &b));
            let woodbury = DMatrix::from_fn(rank, rank, |i, k| {
                C64::from(f64::from(u8::from(i == k))) + rho(&p_star[i], &p[k]) * c
            });
            let woodbury_b =
                if rank == 0 { p_b } else { woodbury.lu().solve(&p_b).expect("Woodbury is regular") };
            let phase = C64::from_polar(1.0, half_theta);
            c_tilde
                .iter()
                .map(|ct| {
                    let low_rank: C64 = (0..rank).map(|i| rho(ct, &p[i]) * woodbury_b[i]).sum();
                    phase * (rho(ct, &b) - low_rank * c)
                })
                .collect()
        })
        .collect();
    inverse_transform(&spectrum, ssm.c.len())
}

/// The inverse discrete Fourier transform K̄_l = (1/L) Σ_j K̂(ω_j) e^{2πijl/L}, by its definition. `spectrum`:
/// (L, channels); gives (channels, L).
fn inverse_transform(spectrum: &[Vec<C64>], channels: usize) -> Vec<Vec<f64>> {
    let len = spectrum.len();
    // e^{2πik/L} for k < L. The product jl is reduced mod L before it becomes an angle: a large angle would lose
    // digits.
    let roots: Vec<C64> = (0..len).map(|k| C64::from_polar(1.0, 2.0 * PI * k as f64 / len as f64)).collect();
    (0..channels)
        .map(|channel| {
            (0..len)
                .map(|l| {
                    (0..len).map(|j| (spectrum[j][channel] * roots[j * l % len]).re).sum::<f64>() / len as f64
                })
                .collect()
        })
        .collect()
}

/// The causal convolution y_t = Σ_{j ≤ t} K̄_j u_{t−j} + D u_t (paper eq. (4)), by its definition. The kernel may be
/// shorter or longer than u.
pub fn conv_causal(u: &[f64], kernel: &[f64], d: f64) -> Vec<f64> {
    (0..u.len())
        .map(|t| {
            let terms = kernel.len().min(t + 1);
            (0..terms).map(|j| kernel[j] * u[t - j]).sum::<f64>() + d * u[t]
        })
        .collect()
}

/// The convolution of a bidirectional layer, y_t = Σ_j k0_j u_{t−j} + Σ_j k1_j u_{t+1+j} + D u_t. As in the official
/// code the first sample of the anticausal kernel k1 meets the next time step, not the present one.
pub fn conv_bidirectional(u: &[f64], k0: &[f64], k1: &[f64], d: f64) -> Vec<f64> {
    let mut y = conv_causal(u, k0, d);
    for (t, y) in y.iter_mut().enumerate() {
        let terms = k1.len().min(u.len() - t - 1);
        *y += (0..terms).map(|j| k1[j] * u[t + 1 + j]).sum::<f64>();
    }
    y
}

/// The transpose of [`conv_causal`] in u: du_s = Σ_{t ≥ s} K̄_{t−s} dy_t + D dy_s.
pub fn conv_causal_adjoint(dy: &[f64], kernel: &[f64], d: f64) -> Vec<f64> {
    reversed(conv_causal(&reversed(dy.to_vec()), kernel, d))
}

/// The transpose of [`conv_bidirectional`] in u.
pub fn conv_bidirectional_adjoint(dy: &[f64], k0: &[f64], k1: &[f64], d: f64) -> Vec<f64> {
    reversed(conv_bidirectional(&reversed(dy.to_vec()), k0, k1, d))
}

fn reversed(mut x: Vec<f64>) -> Vec<f64> {
    x.reverse();
    x
}

/// The naive algorithm of the LSSL (paper §3.1; Gu et al. 2021): K̄_l = C Ā^l B̄ with the real dense HiPPO A,
/// bilinear, O(N²L).
/// `c`: (N), real.
pub fn lssl_kernel(hippo: &Hippo, c: &[f64], dt: f64, len: usize) -> Vec<f64> {
    let n = hippo.state;
    let half_dt_a = DMatrix::from_row_slice(n, n, &hippo.a) * (0.5 * dt);
    let identity = DMatrix::<f64>::identity(n, n);
    let lu = (&identity - &half_dt_a).lu();
    let a_bar = lu.solve(&(identity + half_dt_a)).expect("I − ΔA/2 is regular");
    let c = DVector::from_column_slice(c);
    let mut x = lu.solve(&(DVector::from_column_slice(&hippo.b) * dt)).expect("I − ΔA/2 is regular");
    (0..len)
        .map(|_| {
            let kernel_sample = c.dot(&x);
            x = &a_bar * &x;
            kernel_sample
        })
        .collect()
}
