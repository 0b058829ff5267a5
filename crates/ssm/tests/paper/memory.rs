//! Memory and gain of kernels against the kernels themselves.

use s4_ssm::*;

/// Some heads whose kernels have died away after 2^14 time steps.
fn heads() -> Vec<Ssm> {
    let mut all = Vec::new();
    for (state, dt) in [(2, 0.3), (8, 0.02), (16, 0.1)] {
        for (mode, channels) in [("s4", 1), ("s4d", 2), ("bilinear", 1)] {
            let form = nplr(Measure::LegS, state);
            let c = |k: usize| {
                (0..state / 2)
                    .map(|n| C64::new(((n + k) as f64).cos(), (2.0 * n as f64 + k as f64).sin()))
                    .collect()
            };
            all.push(Ssm {
                lambda: form.lambda.clone(),
                p: if mode == "s4" { form.p.clone() } else { vec![] },
                b: form.b.clone(),
                c: (0..channels).map(c).collect(),
                dt: vec![dt],
                discretization: if mode == "s4d" { Discretization::Zoh } else { Discretization::Bilinear },
            });
        }
    }
    all
}

#[test]
fn memory_is_where_the_energy_of_the_kernel_lies() {
    for ssm in heads() {
        let kernel = kernel_by_powers(&ssm, 1 << 14);
        let squares: Vec<f64> =
            (0..1 << 14).map(|t| kernel.iter().map(|row| row[t] * row[t]).sum()).collect();
        let total: f64 = squares.iter().sum();
        let parts = [0.1, 0.5, 0.9, 0.99, 0.999];
        let found = kernel_memory(&ssm, &parts);
        assert!((found.energy - total).abs() < 2e-5 * total, "{} {total}", found.energy);
        for (part, steps) in parts.iter().zip(&found.steps) {
            let mut sum = 0.0;
            let expected = 1 + squares
                .iter()
                .position(|s| {
                    sum += s;
                    sum >= part * found.energy
                })
                .unwrap();
            assert_eq!(*steps, expected as f64, "{part} of {ssm:?}");
        }
    }
}

#[test]
fn gain_is_the_transform_of_the_kernel() {
    for ssm in heads() {
        let kernel = kernel_by_powers(&ssm, 1 << 14);
        for frequency in [0.0, 1e-3, 0.04, 0.25, 0.49, 0.5] {
            let of_channel = |row: &Vec<f64>| -> f64 {
                let terms = row.iter().enumerate();
                let turn = |t: usize| C64::from_polar(1.0, -std::f64::consts::TAU * frequency * t as f64);
                terms.map(|(t, k)| turn(t) * *k).sum::<C64>().norm_sqr()
            };
            let expected = kernel.iter().map(of_channel).sum::<f64>().sqrt();
            let found = kernel_gain(&ssm, frequency);
            assert!((found - expected).abs() < 1e-8 * (1.0 + expected), "{frequency}: {found} {expected}");
        }
    }
}

#[test]
fn a_kernel_that_does_not_die_away_has_no_end() {
    let mut ssm = heads().remove(1);
    ssm.discretization = Discretization::Zoh;
    ssm.lambda.iter_mut().for_each(|l| l.re = 0.01);
    let found = kernel_memory(&ssm, &[0.5]);
    assert!(found.steps[0].is_infinite() && found.energy.is_infinite());
}
