//! The oracles against one another: what the paper says is equal must be equal.

use crate::support::{flat, relative};
use s4_ssm::*;

/// Numbers in [−1, 1) that look random and are always the same.
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

fn sample(start: Start, dts: usize, disc: Discretization, noise: &mut Noise) -> Ssm {
    let pairs = start.lambda.len();
    Ssm {
        c: (0..2).map(|_| noise.complex(pairs)).collect(),
        dt: (0..dts).map(|_| 0.05 * (1.0 + 0.8 * noise.next())).collect(),
        lambda: start.lambda,
        p: start.p,
        b: start.b,
        disc,
    }
}

fn samples() -> Vec<(&'static str, Ssm)> {
    let mut noise = Noise(7);
    let (bilinear, zoh) = (Discretization::Bilinear, Discretization::Zoh);
    vec![
        ("legs", sample(start(Measure::LegS, 16, 1), 1, bilinear, &mut noise)),
        ("legs, Δ per state", sample(start(Measure::LegS, 16, 1), 8, bilinear, &mut noise)),
        ("legt", sample(start(Measure::LegT, 8, 2), 1, bilinear, &mut noise)),
        ("legs, rank 3 with zeros", sample(start(Measure::LegS, 8, 3), 1, bilinear, &mut noise)),
        ("lin bilinear", sample(diagonal(Diagonal::Lin, 8), 1, bilinear, &mut noise)),
        ("lin zoh, Δ per state", sample(diagonal(Diagonal::Lin, 8), 4, zoh, &mut noise)),
        ("real zoh", sample(diagonal(Diagonal::Real, 8), 1, zoh, &mut noise)),
    ]
}

#[test]
fn kernels_by_every_way_are_one_kernel() {
    for (name, ssm) in samples() {
        for len in [1, 2, 3, 17, 64, 101] {
            let powers = kernel_by_powers(&ssm, len);
            let generating = kernel_by_generating_function(&ssm, len);
            let error = relative(&generating.concat(), &powers.concat());
            assert!(error <= 1e-11, "{name}, {len}: generating function {error:e}");
            if ssm.disc == Discretization::Bilinear {
                let error = relative(&kernel_by_cauchy(&ssm, len).concat(), &powers.concat());
                assert!(error <= 1e-11, "{name}, {len}: Cauchy {error:e}");
            }
        }
    }
}

#[test]
fn the_linear_recurrence_is_the_dense_one() {
    let mut noise = Noise(3);
    for (name, ssm) in samples().into_iter().filter(|(_, s)| s.disc == Discretization::Bilinear) {
        let u = noise.reals(50);
        let x0 = noise.complex(ssm.pairs());
        let step = Recurrence::new(&ssm);
        let mut x = x0.clone();
        u.iter().for_each(|&u| step.step(&mut x, u));
        let error = relative(&flat(&x), &flat(&recurrence(&ssm, &u, Some(&x0)).1));
        assert!(error <= 1e-12, "{name}: {error:e}");
    }
}

#[test]
fn diagonal_formulas_are_the_dense_ones() {
    for (name, ssm) in samples().into_iter().filter(|(_, s)| s.p.is_empty()) {
        let dense = ssm.discretize();
        let one = if ssm.disc == Discretization::Zoh { zoh_diagonal } else { bilinear_diagonal };
        for n in 0..ssm.pairs() {
            let (a, b) = one(ssm.lambda[n], ssm.b[n], ssm.dt_of(n));
            let error = (a - dense.a_bar[(n, n)]).norm() + (b - dense.b_bar[n]).norm();
            assert!(error <= 1e-15, "{name}, {n}: {error:e}");
        }
    }
}

/// Near 0 the naive e^z − 1 has lost its digits; the series has not.
#[test]
fn zoh_near_zero() {
    for z in [C64::new(-1e-9, 3e-9), C64::new(0.0, 1e-7), C64::new(-1e-5, 0.0)] {
        let series = z * (1.0 + z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0)));
        assert!((exp_m1(z) - series).norm() <= 1e-16 * z.norm() * 4.0, "{z}");
    }
    assert_eq!(zoh_diagonal(C64::ZERO, C64::new(2.0, 1.0), 0.5), (C64::ONE, C64::new(1.0, 0.5)));
}

/// Theorem 1 for the kernel: with C given in the real basis, the LSSL and the NPLR form are one system.
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
            disc: Discretization::Bilinear,
        };
        let dense = lssl_kernel(&hippo(measure, state), &c, 0.03, 200);
        let error = relative(&kernel_by_powers(&ssm, 200)[0], &dense);
        assert!(error <= 1e-11, "{measure:?}: {error:e}");
    }
}

#[test]
fn convolution_is_the_recurrence_and_chunks_carry() {
    let mut noise = Noise(5);
    for (name, ssm) in samples() {
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// ⟨Fu, v⟩ = ⟨u, F*v⟩, the state before and after included.
#[test]
fn adjoint_identities() {
    let mut noise = Noise(9);
    for (name, ssm) in samples() {
        let (u, x0) = (noise.reals(30), noise.complex(ssm.pairs()));
        let (dy, dx) = (vec![noise.reals(30), noise.reals(30)], noise.complex(ssm.pairs()));
        let (y, x) = recurrence(&ssm, &u, Some(&x0));
        let (du, dx0) = recurrence_adjoint(&ssm, &dy, Some(&dx));
        let left = dot(&y.concat(), &dy.concat()) + dot(&flat(&x), &flat(&dx));
        let right = dot(&u, &du) + dot(&flat(&x0), &flat(&dx0));
        assert!((left - right).abs() <= 1e-12 * left.abs().max(1.0), "{name}: {left} {right}");
    }
    for (len, kernel) in [(1, 1), (9, 9), (20, 5), (5, 20)] {
        let (u, dy) = (noise.reals(len), noise.reals(len));
        let (k0, k1) = (noise.reals(kernel), noise.reals(kernel));
        let causal = dot(&conv_causal(&u, &k0, 0.7), &dy) - dot(&u, &conv_causal_adjoint(&dy, &k0, 0.7));
        let both = dot(&conv_two_sided(&u, &k0, &k1, 0.7), &dy)
            - dot(&u, &conv_two_sided_adjoint(&dy, &k0, &k1, 0.7));
        assert!(causal.abs() <= 1e-13 && both.abs() <= 1e-13, "{len}, {kernel}: {causal:e} {both:e}");
    }
}

/// A mode that never decays has I − Ā^L singular: no C, and no panic.
#[test]
fn no_c_from_a_marginal_c_tilde() {
    let ssm = Ssm {
        lambda: vec![C64::ZERO],
        p: vec![],
        b: vec![C64::ONE],
        c: vec![vec![C64::ONE]],
        dt: vec![0.1],
        disc: Discretization::Bilinear,
    };
    assert_eq!(c_from_tilde(&ssm, 16), None);
}
