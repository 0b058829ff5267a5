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

/// A layer of the same kind with states of two pairs a lane.
fn widened(case: &golden::Case) -> golden::Case {
    let mut wide = case.clone();
    while wide.spec.state <= 64 {
        wide = doubled(&wide);
    }
    wide
}

/// A layer of the same kind with twice as many channels.
fn with_channels(case: &golden::Case) -> golden::Case {
    let mut more = case.clone();
    more.spec.channels *= 2;
    // c and d have rows of channels.
    for i in [4, 6] {
        let once = more.params[i].clone();
        more.params[i].extend(once);
    }
    more
}

/// Layers of each mode, rule, rank, number of directions and of channels.
fn kinds() -> Vec<golden::Case> {
    let mut seen = Vec::new();
    let mut kinds = cases();
    kinds.retain(|case| {
        let s: &SsmSpec = &case.spec;
        let kind = (s.mode, s.discretization, s.rank, s.bidirectional, s.channels);
        let is_new = s.truncate.is_none() && !seen.contains(&kind);
        seen.push(kind);
        is_new
    });
    kinds
}

/// Every kernel, at shapes small enough for a sanitizer.
pub fn small(be: &Cuda) {
    let mut report = Report::default();
    for case in kinds() {
        let mut r = uneven(&case, 2, 40);
        r.lengths = Some(vec![40, 33]);
        compare(be, &mut report, &case.name, &r);
        if case.spec.mode == Mode::S4d {
            // Long enough to be cut into segments.
            let mut r = uneven(&case, 2, SEGMENTS);
            r.lengths = Some(vec![SEGMENTS as i32, 33]);
            compare(be, &mut report, &format!("{} in segments", case.name), &r);
            let more = with_channels(&case);
            compare(be, &mut report, &format!("{} of more channels", case.name), &uneven(&more, 2, 40));
            if !case.spec.bidirectional {
                let wide = uneven(&widened(&more), 1, 40);
                compare(be, &mut report, &format!("{} widened, of more channels", case.name), &wide);
            }
        }
        if !case.spec.bidirectional {
            let len = if case.spec.mode == Mode::S4d { SEGMENTS } else { 34 };
            compare(be, &mut report, &format!("{} widened", case.name), &uneven(&widened(&case), 1, len));
        }
    }
    report.finish("small intervals");
}

/// Time steps that few sequences have in two segments, the last of them shorter.
const SEGMENTS: usize = 285;

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
        compare(&be, &mut report, &format!("{} widened", case.name), &uneven(&widened(case), 2, 70));
    }
    report.finish("intervals");
}

/// Sequences of many segments, whole and ragged: segments that end in the middle of 32 steps, and segments without any step.
#[test]
fn many_segments_with_intervals() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    for case in kinds().iter().filter(|c| c.spec.mode == Mode::S4d) {
        for len in [1024, 4099] {
            compare(&be, &mut report, &format!("{} of {len}", case.name), &uneven(case, 1, len));
        }
        let mut r = uneven(case, 3, 2050);
        r.lengths = Some(vec![2050, 129, 1600]);
        compare(&be, &mut report, &format!("{} of many lengths", case.name), &r);
    }
    report.finish("segments with intervals");
}

/// Pairs without input, without output and without either, by which the kernels cannot divide states and gradients.
#[test]
fn pairs_without_b_or_c_with_intervals() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    for case in kinds().iter().filter(|c| c.spec.mode == Mode::S4d) {
        let mut r = uneven(case, 3, 270);
        let clear =
            |p: &mut [f64], every: usize| p.chunks_mut(2 * every).for_each(|pairs| pairs[..2].fill(0.0));
        clear(&mut r.params[3], 4);
        clear(&mut r.params[4], 3);
        compare(&be, &mut report, &case.name, &r);
    }
    report.finish("pairs without b or c");
}

/// More sequences than a launch has blocks in its second dimension.
#[test]
fn many_sequences_with_intervals() {
    let Some(be) = gpu() else { return };
    let mut report = Report::default();
    for case in kinds().iter().filter(|c| !c.spec.bidirectional) {
        let mut small = case.clone();
        let heads = small.spec.heads;
        small.spec.heads = small.spec.n_ssm;
        for (i, p) in small.params.iter_mut().enumerate() {
            // inv_dt, c and d have rows of heads.
            let rows = if i == 4 || i == 6 { case.spec.channels } else { 1 };
            if matches!(i, 0 | 4 | 6) {
                let row = p.len() / rows;
                let kept = row / heads * small.spec.heads;
                *p = p.chunks(row).flat_map(|r| r[..kept].iter().copied()).collect();
            }
        }
        let mut r = uneven(&small, 65_537, 2);
        r.lengths = Some((0..65_537).map(|b| 1 + b % 2).collect());
        compare(&be, &mut report, &case.name, &r);
    }
    report.finish("many sequences with intervals");
}

#[test]
fn the_same_bits_twice_with_intervals() {
    let Some(be) = gpu() else { return };
    for case in cases().iter().filter(|c| c.spec.truncate.is_none()) {
        let r = uneven(case, 3, 300);
        assert_eq!(outputs_of(&be, &r), outputs_of(&be, &r), "{}", case.name);
    }
}
