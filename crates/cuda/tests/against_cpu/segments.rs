//! Sequences that are cut into segments, which are computed in parallel.

use crate::{
    Report, gpu,
    layer::{Run, outputs_of},
    ssm::{cases, check, compare, run},
};
use s4_cpu::Cpu;
use s4_cuda::{Cuda, Options, Precision, probe};

#[test]
fn long_rows_cut_in_segments() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in cases() {
        if !["dplr_legs_n64", "diag_legs", "dplr_fourier", "dplr_bidir", "x_dplr_rank2"]
            .iter()
            .any(|n| case.name.contains(n))
        {
            continue;
        }
        for (batch, len) in [(1, 9000), (2, 4096), (17, 1500)] {
            let mut r = run(&case, batch, len);
            r.states = !case.spec.bidirectional;
            let name = format!("{} {batch}×{len}", case.name);
            compare(&mut report, &name, &outputs_of(&be, &r), &outputs_of(&cpu, &r));
        }
    }
    report.finish("segments");
}

/// Segments of 32 chunks of one direction, with time and against it, as a chip with few multiprocessors has them.
#[test]
fn long_segments_of_one_direction() {
    let Ok(devices) = probe() else { return eprintln!("skipped: no GPU") };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let case = cases().into_iter().find(|c| c.name == "dplr_legs_n64").unwrap();
    let r = run(&case, 16, 256 * 64);
    let want = outputs_of(&cpu, &r);
    for (precision, tolerances) in [(Precision::Highest, (1e-5, 1e-4)), (Precision::High, (2e-3, 5e-3))] {
        let options = Options {
            precision,
            architecture: std::env::var("S4_CUDA_ARCH").ok(),
            // Of which half as many have sixteen warps each: those of the eight segments of a head's sixteen sequences.
            processors: Some(case.spec.heads / 2),
            ..Options::default()
        };
        let be = Cuda::with(devices[0].ordinal, &options).unwrap();
        let mut report = Report::default();
        for ((name, got), (_, want)) in outputs_of(&be, &r).iter().zip(&want) {
            check(&mut report, "32 chunks", (name, got, want), tolerances);
        }
        report.finish(&format!("long segments, {precision:?}"));
    }
}

/// Numbers of which an f16 holds nothing without a power of two, where the pass itself multiplies in f32: two channels.
#[test]
fn small_numbers_through_segments() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    let mut case = cases().into_iter().find(|c| c.name == "dplr_legs_n64").unwrap();
    case.spec.channels = 2;
    for i in [4, 6] {
        let again = case.params[i].clone();
        case.params[i].extend(again);
    }
    // The gradients of the parameters are products of two small numbers, which f32 still holds.
    for scale in [1e-15, 1e12] {
        let r = Run { scale, states: true, ..run(&case, 6, 3000) };
        compare(&mut report, &format!("scale {scale}"), &outputs_of(&be, &r), &outputs_of(&cpu, &r));
    }
    let r = Run { scale: 1e-28, states: true, ..run(&case, 6, 3000) };
    for ((name, got), (_, want)) in outputs_of(&be, &r).iter().zip(&outputs_of(&cpu, &r)) {
        if !name.starts_with("grad") {
            check(&mut report, "scale 1e-28", (name, got, want), (1e-5, 1e-4));
        }
    }
    report.finish("small numbers through segments");
}
