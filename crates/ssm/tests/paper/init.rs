//! HiPPO matrices, NPLR forms and initial SSMs against golden values and the identities that define them.

use crate::support::{interleaved, read_golden, relative};
use s4_ssm::*;

const MEASURES: [(Measure, &str); 3] =
    [(Measure::LegS, "legs"), (Measure::LegT, "legt"), (Measure::Fourier, "fourier")];

#[test]
fn init_golden() {
    let (golden, _) = read_golden("init.golden");
    let mut compared_tensors = 0;
    for (measure, name) in MEASURES {
        for state in [4, 16, 64] {
            let (dense, form) = (hippo(measure, state), nplr(measure, state));
            let rows = |p: &[Vec<C64>]| p.iter().flat_map(|r| interleaved(r)).collect::<Vec<_>>();
            for (key, value) in [
                ("A", dense.a),
                ("B", dense.b),
                ("P", dense.p.concat()),
                ("lambda", interleaved(&form.lambda)),
                ("b_unclipped", interleaved(&form.b_unclipped)),
                ("b", interleaved(&form.b)),
                ("p", rows(&form.p)),
            ] {
                let error = relative(&value, &golden[&format!("{name}.{state}.{key}")].1);
                assert!(error <= 1e-10, "{name} {state} {key}: {error:e}");
                compared_tensors += 1;
            }
        }
    }
    assert_eq!(compared_tensors, golden.len(), "every tensor of the file was compared");
}

/// Theorem 1: V (Λ − PP*) V* = A, with the conjugate half put back, and V unitary.
#[test]
fn nplr_form_equals_the_hippo_matrix() {
    for (measure, name) in MEASURES {
        for state in [2, 6, 64, 256] {
            let (dense, form) = (hippo(measure, state), nplr(measure, state));
            let ssm = Ssm {
                lambda: form.lambda.clone(),
                p: form.p.clone(),
                b: form.b_unclipped.clone(),
                c: vec![],
                dt: vec![1.0],
                discretization: Discretization::Bilinear,
            };
            let v = nalgebra::DMatrix::from_fn(state, state, |i, j| {
                if j < state / 2 { form.v[j][i] } else { form.v[j - state / 2][i].conj() }
            });
            let unit = (v.adjoint() * &v - nalgebra::DMatrix::identity(state, state)).norm();
            assert!(unit <= 1e-11, "{name} {state}: V*V − I is {unit:e}");
            let a = &v * ssm.dt_a() * v.adjoint();
            let a: Vec<f64> = a.transpose().iter().flat_map(|x| [x.re, x.im]).collect();
            let exact: Vec<f64> = dense.a.iter().flat_map(|&x| [x, 0.0]).collect();
            let error = relative(&a, &exact);
            assert!(error <= 1e-11, "{name} {state}: {error:e}");
            let ascending = form.lambda.windows(2).all(|w| w[0].im < w[1].im);
            assert!(
                ascending && form.lambda.iter().all(|l| l.im <= 0.0),
                "{name} {state}: {:?}",
                form.lambda
            );
        }
    }
}

#[test]
fn diagonal_initial_ssms() {
    let lin = diagonal_ssm(DiagonalInit::Lin, 8);
    assert_eq!(lin.lambda[3], C64::new(-0.5, -3.0 * std::f64::consts::PI));
    assert_eq!((lin.lambda.len(), lin.p.len()), (4, 0));
    let inv = diagonal_ssm(DiagonalInit::Inv, 8);
    // N/π·(N/(2n+1) − 1) for N = 8: n = 0 gives 56/π, n = 3 gives 8/(7π).
    for (n, expected) in [(0, 56.0), (3, 8.0 / 7.0)] {
        assert!((inv.lambda[n].im + expected / std::f64::consts::PI).abs() < 1e-14);
    }
    let legs = diagonal_ssm(DiagonalInit::LegS, 64);
    let form = nplr(Measure::LegS, 64);
    assert_eq!((&legs.lambda, &legs.b), (&form.lambda, &form.b));
    let most = |b: &[C64]| b.iter().map(|b| b.im.abs()).fold(0.0, f64::max);
    assert!(most(&form.b) == 2.0 && most(&form.b_unclipped) > 40.0, "Im B is clipped to ±2");
    assert_eq!(diagonal_ssm(DiagonalInit::Real, 4).lambda, [C64::new(-1.0, 0.0), C64::new(-2.0, 0.0)]);
}

#[test]
fn combined_ssms_repeat_each_measure_and_pad_the_rank() {
    let four = combined_ssms(&HIPPO_MEASURES, 8, 4, 1);
    let (legs, fourier) = (nplr_ssm(Measure::LegS, 8, 1), nplr_ssm(Measure::Fourier, 8, 1));
    assert_eq!(four, [legs.clone(), legs, fourier.clone(), fourier]);
    let mixed = combined_ssms(&[Measure::LegT, Measure::LegS], 8, 2, 1);
    assert_eq!(mixed.iter().map(|s| s.p.len()).collect::<Vec<_>>(), [2, 2]);
    assert!(mixed[1].p[1].iter().all(|p| *p == C64::ZERO) && mixed[1].p[0] != mixed[1].p[1]);
    assert_eq!(nplr_ssm(Measure::LegS, 8, 3).p.len(), 3);
}
