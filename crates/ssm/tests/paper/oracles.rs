//! The oracles against one another: forms of an SSM that are equal in the paper must agree in numbers.

use crate::support::{interleaved, relative};
use s4_ssm::*;

/// Pseudorandom numbers in [−1, 1) from a fixed seed (a linear congruential generator).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    fn reals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.next()).collect()
    }
    fn complex(&mut self, n: usize) -> Vec<C64> {
        (0..n).map(|_| C64::new(self.next(), self.next())).collect()
    }
}

/// An SSM with the given Λ, P, B, two channels with random C, and `dts` random step sizes.
fn ssm_from(initial: InitialSsm, dts: usize, discretization: Discretization, noise: &mut Noise) -> Ssm {
    let pairs = initial.lambda.len();
    Ssm {
        c: (0..2).map(|_| noise.complex(pairs)).collect(),
        dt: (0..dts).map(|_| 0.05 * (1.0 + 0.8 * noise.next())).collect(),
        lambda: initial.lambda,
        p: initial.p,
        b: initial.b,
        discretization,
    }
}

/// Named SSMs of every form: LegS and LegT with several ranks, diagonal ones, one Δ and one per pair, both
/// discretisations.
fn test_ssms() -> Vec<(&'static str, Ssm)> {
    let mut noise = Noise(7);
    let (bilinear, zoh) = (Discretization::Bilinear, Discretization::Zoh);
    vec![
        ("legs", ssm_from(nplr_ssm(Measure::LegS, 16, 1), 1, bilinear, &mut noise)),
        ("legs, Δ per state", ssm_from(nplr_ssm(Measure::LegS, 16, 1), 8, bilinear, &mut noise)),
        ("legt", ssm_from(nplr_ssm(Measure::LegT, 8, 2), 1, bilinear, &mut noise)),
        ("legs, rank 3 with zeros", ssm_from(nplr_ssm(Measure::LegS, 8, 3), 1, bilinear, &mut noise)),
        ("lin bilinear", ssm_from(diagonal_ssm(DiagonalInit::Lin, 8), 1, bilinear, &mut noise)),
        ("lin zoh, Δ per state", ssm_from(diagonal_ssm(DiagonalInit::Lin, 8), 4, zoh, &mut noise)),
        ("real zoh", ssm_from(diagonal_ssm(DiagonalInit::Real, 8), 1, zoh, &mut noise)),
    ]
}

#[test]
fn kernels_by_every_way_are_one_kernel() {
    for (name, ssm) in test_ssms() {
        for len in [1, 2, 3, 17, 64, 101] {
            let powers = kernel_by_powers(&ssm, len);
            let generating = kernel_by_generating_function(&ssm, len);
            let error = relative(&generating.concat(), &powers.concat());
            assert!(error <= 1e-11, "{name}, {len}: generating function {error:e}");
            if ssm.discretization == Discretization::Bilinear {
                let error = relative(&kernel_by_cauchy(&ssm, len).concat(), &powers.concat());
                assert!(error <= 1e-11, "{name}, {len}: Cauchy {error:e}");
            }
        }
    }
}

#[test]
fn the_linear_recurrence_is_the_dense_one() {
    let mut noise = Noise(3);
    for (name, ssm) in test_ssms().into_iter().filter(|(_, s)| s.discretization == Discretization::Bilinear) {
        let u = noise.reals(50);
        let x0 = noise.complex(ssm.pairs());
        let step = Recurrence::new(&ssm);
        let mut x = x0.clone();
        u.iter().for_each(|&u| step.step(&mut x, u));
        let error = relative(&interleaved(&x), &interleaved(&recurrence(&ssm, &u, Some(&x0)).1));
        assert!(error <= 1e-12, "{name}: {error:e}");
    }
}

#[test]
fn diagonal_formulas_are_the_dense_ones() {
    for (name, ssm) in test_ssms().into_iter().filter(|(_, s)| s.p.is_empty()) {
        let dense = ssm.discretize();
        let diagonal_formula =
            if ssm.discretization == Discretization::Zoh { zoh_diagonal } else { bilinear_diagonal };
        for n in 0..ssm.pairs() {
            let (a, b) = diagonal_formula(ssm.lambda[n], ssm.b[n], ssm.dt_of(n));
            let error = (a - dense.a_bar[(n, n)]).norm() + (b - dense.b_bar[n]).norm();
            assert!(error <= 1e-15, "{name}, {n}: {error:e}");
        }
    }
}

/// Near z = 0 the difference e^z − 1 would lose digits to cancellation; exp_m1 must agree with the power series.
#[test]
fn zoh_near_zero() {
    for z in [C64::new(-1e-9, 3e-9), C64::new(0.0, 1e-7), C64::new(-1e-5, 0.0)] {
        let series = z * (1.0 + z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0)));
        assert!((exp_m1(z) - series).norm() <= 1e-16 * z.norm() * 4.0, "{z}");
    }
    assert_eq!(zoh_diagonal(C64::ZERO, C64::new(2.0, 1.0), 0.5), (C64::ONE, C64::new(1.0, 0.5)));
}

/// Theorem 1 for the kernel: the real dense system of the LSSL and its NPLR form, with C transformed by V, have the
/// same kernel.
#[test]
fn lssl_is_nplr() {
    for measure in [Measure::LegS, Measure::LegT, Measure::Fourier] {
        let state = 8;
        let (form, c) = (nplr(measure, state), Noise(11).reals(state));
        let ssm = Ssm {
            lambda: form.lambda,
            p: form.p,
            b: form.b_unclipped,
            c: vec![form.v.iter().map(|v| v.iter().zip(&c).map(|(v, &c)| v * c).sum()).collect()],
            dt: vec![0.03],
            discretization: Discretization::Bilinear,
        };
        let dense = lssl_kernel(&hippo(measure, state), &c, 0.03, 200);
        let error = relative(&kernel_by_powers(&ssm, 200)[0], &dense);
        assert!(error <= 1e-11, "{measure:?}: {error:e}");
    }
}

#[test]
fn convolution_is_the_recurrence_and_chunks_carry() {
    let mut noise = Noise(5);
    for (name, ssm) in test_ssms() {
        let u = noise.reals(40);
        let (y, _) = recurrence(&ssm, &u, None);
        for (channel, kernel) in kernel_by_powers(&ssm, 40).iter().enumerate() {
            let error = relative(&conv_causal(&u, kernel, 0.0), &y[channel]);
            assert!(error <= 1e-12, "{name}: {error:e}");
        }
        let (head, state) = recurrence(&ssm, &u[..13], None);
        let (tail, _) = recurrence(&ssm, &u[13..], Some(&state));
        let whole: Vec<f64> = head[0].iter().chain(&tail[0]).copied().collect();
        assert!(relative(&whole, &y[0]) <= 1e-13, "{name}");
    }
}

fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// ⟨F(u, x₀), (dy, dx)⟩ = ⟨(u, x₀), F*(dy, dx)⟩ for each linear map F and its transpose F*: the recurrence (with the
/// state before and after) and the convolutions.
#[test]
fn adjoint_identities() {
    let mut noise = Noise(9);
    for (name, ssm) in test_ssms() {
        let (u, x0) = (noise.reals(30), noise.complex(ssm.pairs()));
        let (dy, dx) = (vec![noise.reals(30), noise.reals(30)], noise.complex(ssm.pairs()));
        let (y, x) = recurrence(&ssm, &u, Some(&x0));
        let (du, dx0) = recurrence_adjoint(&ssm, &dy, Some(&dx));
        let left =
            inner_product(&y.concat(), &dy.concat()) + inner_product(&interleaved(&x), &interleaved(&dx));
        let right = inner_product(&u, &du) + inner_product(&interleaved(&x0), &interleaved(&dx0));
        assert!((left - right).abs() <= 1e-12 * left.abs().max(1.0), "{name}: {left} {right}");
    }
    for (len, kernel) in [(1, 1), (9, 9), (20, 5), (5, 20)] {
        let (u, dy) = (noise.reals(len), noise.reals(len));
        let (k0, k1) = (noise.reals(kernel), noise.reals(kernel));
        let causal = inner_product(&conv_causal(&u, &k0, 0.7), &dy)
            - inner_product(&u, &conv_causal_adjoint(&dy, &k0, 0.7));
        let both = inner_product(&conv_bidirectional(&u, &k0, &k1, 0.7), &dy)
            - inner_product(&u, &conv_bidirectional_adjoint(&dy, &k0, &k1, 0.7));
        assert!(causal.abs() <= 1e-13 && both.abs() <= 1e-13, "{len}, {kernel}: {causal:e} {both:e}");
    }
}

/// For a mode that never decays I − Ā^L is singular: c_from_tilde must give `None`, not panic.
#[test]
fn no_c_from_a_marginal_c_tilde() {
    let ssm = Ssm {
        lambda: vec![C64::ZERO],
        p: vec![],
        b: vec![C64::ONE],
        c: vec![vec![C64::ONE]],
        dt: vec![0.1],
        discretization: Discretization::Bilinear,
    };
    assert_eq!(c_from_tilde(&ssm, 16), None);
}
