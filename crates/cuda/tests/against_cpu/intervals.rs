//! Whole sequences whose time steps have intervals of their own: every golden layer, with states of one and of two pairs a lane.

use crate::{
    Report, gpu,
    layer::{Run, outputs_of},
    ssm::{cases, check, doubled, run},
};
use s4_backend::{Algorithm, Mode, SsmSpec};
use s4_cpu::Cpu;
use s4_cuda::Cuda;
use s4_testing::golden;

/// A run with intervals; with states where the layer has them.
fn uneven(case: &golden::Case, batch: usize, len: usize) -> Run {
    let states = case.spec.has_state();
    Run { uneven: true, states, algorithm: Algorithm::Auto, ..run(case, batch, len) }
}

fn compare(be: &Cuda, report: &mut Report, name: &str, run: &Run) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    let (got, want) = (outputs_of(be, run), outputs_of(&cpu, run));
    assert_eq!(got.len(), want.len());
    for ((n, g), (_, w)) in got.iter().zip(&want) {
        check(report, name, (n, g, w), (1e-5, 1e-4));
    }
}

/// Every kernel, at shapes small enough for a sanitizer.
pub fn small(be: &Cuda) {
    let mut report = Report::default();
    let mut seen = Vec::new();
    for case in cases() {
        let s: &SsmSpec = &case.spec;
        let kind = (s.mode, s.discretization, s.rank, s.bidirectional, s.channels);
        if seen.contains(&kind) || s.truncate.is_some() {
            continue;
        }
        seen.push(kind);
        let mut r = uneven(&case, 2, 40);
        r.lengths = Some(vec![40, 33]);
        compare(be, &mut report, &case.name, &r);
    }
    // States of two pairs a lane, for each mode.
    for mode in [Mode::S4, Mode::S4d] {
        let is_whole =
            |c: &golden::Case| c.spec.mode == mode && c.spec.state == 64 && c.spec.truncate.is_none();
        let case = cases().into_iter().find(is_whole).expect("a golden layer of 64 states");
        compare(be, &mut report, &format!("{} doubled", case.name), &uneven(&doubled(&case), 2, 34));
    }
    report.finish("small intervals");
}

#[test]
fn every_golden_layer_with_intervals() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    for case in cases().iter().filter(|c| c.spec.truncate.is_none()) {
        for (batch, len) in [(1, 1), (3, 31), (2, 32), (2, 33), (5, 270)] {
            let mut r = uneven(case, batch, len);
            r.rate = if batch == 3 { 0.5 } else { 1.0 };
            compare(&be, &mut report, &format!("{} {batch}×{len}", case.name), &r);
        }
        let mut r = uneven(case, 5, 270);
        r.lengths = Some(vec![270, 1, 64, 129, 256]);
        compare(&be, &mut report, &format!("{} lengths", case.name), &r);
        if case.spec.state == 64 {
            let wide = uneven(&doubled(case), 2, 70);
            compare(&be, &mut report, &format!("{} doubled", case.name), &wide);
        }
    }
    report.finish("intervals");
}

#[test]
fn the_same_bits_twice_with_intervals() {
    let Some(be) = gpu() else { return };
    for case in cases().iter().filter(|c| c.spec.truncate.is_none()) {
        let r = uneven(case, 3, 130);
        assert_eq!(outputs_of(&be, &r), outputs_of(&be, &r), "{}", case.name);
    }
}
