//! Launches every kernel of the build, at shapes small enough for a sanitizer.

use crate::{Report, cauchy, conv, intervals, linear, memory, mix, norm, rows, ssm};
use s4_cuda::{Cuda, Options, Precision, probe};
use s4_testing::conformance::{Extent, Family, run_families};
use std::collections::BTreeSet;

/// Kernels that only a test of faults launches.
const FAULT: &str = "memory::fault";

/// (batch, inputs, outputs, len) for every combination of transposed operands, with many terms per sum and with few.
const SHAPES: [(usize, usize, usize, usize); 7] = [
    (2, 130, 140, 133),
    (70, 130, 129, 1),
    (5, 33, 20, 1),
    (200, 1, 130, 1),
    (20, 1, 13, 1),
    // For the products of Hopper, with few inputs and with many.
    (3, 264, 392, 1032),
    (3, 120, 1001, 904),
];

/// What the test consists of: operations of one precision on an image of the build, this chip's own where none is named.
/// This chip's own code has kernels that only earlier generations choose.
const PARTS: [(&str, Precision, Option<&str>); 7] = [
    ("common", Precision::Highest, None),
    ("highest", Precision::Highest, None),
    ("high", Precision::High, None),
    ("bf16", Precision::Bf16, None),
    ("compute_80", Precision::Highest, Some("compute_80")),
    ("compute_80-bf16", Precision::Bf16, Some("compute_80")),
    ("compute_75", Precision::Highest, Some("compute_75")),
];

/// Operations that run the same kernels in every precision.
fn common(be: &Cuda) {
    let families = [
        Family::Linear,
        Family::Norm,
        Family::Mix,
        Family::DropPath,
        Family::Pooling,
        Family::Embedding,
        Family::Loss,
        Family::Optim,
        Family::Sample,
    ];
    // The conformance test runs all cases; these launch every kernel, and a sanitizer gets through them.
    run_families(be, &families, Extent::Few).assert_passed();
    memory::transfers(be);
    intervals::small(be);
    cauchy::small(be);
    let mut report = Report::default();
    norm::compare(be, &mut report, &[128, 256, 512, 700]);
    conv::compare(be, &mut report, &[(1, 1, 1, 9000, 300, false), (3, 2, 2, 4100, 40, true)]);
    report.finish("norm and convolution");
}

/// Operations that choose among kernels by precision, sizes and generation.
fn chosen(be: &Cuda, precision: Precision, depth: ssm::Depth) {
    let tolerances = match precision {
        Precision::Highest => (1e-5, 1e-4),
        Precision::High => (2e-3, 5e-3),
        Precision::Bf16 => (1e-2, 5e-2),
    };
    ssm::small_shapes(be, precision, depth);
    if precision == Precision::High {
        ssm::states_of_another_forward(be);
    }
    let mut report = Report::default();
    linear::compare(be, &mut report, &SHAPES, tolerances);
    mix::compare(be, &mut report, &mix::small(), tolerances);
    rows::compare(be, &mut report, &rows::small(), tolerances);
    report.finish(&format!("linear, mix and blocks, {precision:?}"));
}

/// Runs all parts, or the one that `S4_EVERY` names: a slow tool takes them one by one, with fewer shapes, and compares
/// the kernels that the parts have launched with those of the build.
#[test]
fn every_kernel_is_right_at_small_shapes() {
    let devices = match probe() {
        Ok(devices) => devices,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let asked = std::env::var("S4_EVERY").ok();
    let (mut launched, mut there, mut parts) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (name, precision, architecture) in PARTS {
        if asked.as_ref().is_some_and(|asked| asked != name) {
            continue;
        }
        let architecture = architecture.map(String::from);
        let depth = match (&asked, name) {
            (None, _) => ssm::Depth::All,
            (_, "highest") => ssm::Depth::Each,
            _ => ssm::Depth::Plain,
        };
        let own = architecture.is_none();
        let be = Cuda::with(devices[0].ordinal, &Options { precision, architecture, ..Options::default() })
            .unwrap();
        if name == "common" {
            common(&be)
        } else {
            chosen(&be, precision, depth)
        }
        launched.extend(be.launched_kernels());
        if own {
            there.extend(be.kernels().into_iter().filter(|name| name != FAULT));
        }
        parts += 1;
    }
    assert!(parts > 0, "no part {asked:?}");
    eprintln!("{} kernels", launched.len());
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
    if asked.is_some() {
        return eprintln!("launched: {}\nthere are: {}", list(&launched), list(&there));
    }
    let left: BTreeSet<String> = there.difference(&launched).cloned().collect();
    assert!(left.is_empty(), "kernels that were not launched: {}", list(&left));
}
