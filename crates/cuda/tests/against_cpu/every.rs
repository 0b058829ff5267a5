//! Every kernel of the build at shapes that a sanitizer gets through.

use crate::{Report, conv, linear, memory, mix, norm, ssm};
use s4_backend::conformance;
use s4_cuda::{Cuda, Options, Precision, probe};
use std::collections::BTreeSet;

/// Launched by a debug hook alone: it faults.
const FAULT: &str = "memory::fault";

/// Batch, inputs, outputs, len: every order of the operands, of many terms and of few.
const SHAPES: [(usize, usize, usize, usize); 5] =
    [(2, 130, 140, 133), (70, 130, 129, 1), (5, 33, 20, 1), (200, 1, 130, 1), (20, 1, 13, 1)];

/// Operations that choose among kernels by precision, sizes and generation.
fn chosen(be: &Cuda, precision: Precision) {
    let tolerances = match precision {
        Precision::Highest => (1e-5, 1e-4),
        Precision::High => (2e-3, 5e-3),
        Precision::Bf16 => (1e-2, 5e-2),
    };
    ssm::small_shapes(be, precision);
    let mut report = Report::default();
    linear::compare(be, &mut report, &SHAPES, tolerances);
    mix::compare(be, &mut report, &mix::small(), tolerances);
    report.finish(&format!("linear and mix, {precision:?}"));
}

#[test]
fn every_kernel_is_right_at_small_shapes() {
    let devices = match probe() {
        Ok(devices) => devices,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let with = |precision, architecture: Option<&str>| {
        let options =
            Options { precision, architecture: architecture.map(String::from), ..Options::default() };
        Cuda::with(devices[0].ordinal, &options).unwrap()
    };
    let mut launched = BTreeSet::new();
    let be = with(Precision::Highest, None);
    conformance::assert_passed(&conformance::run(&be));
    memory::transfers(&be);
    let mut report = Report::default();
    norm::compare(&be, &mut report, &[128, 256, 512, 700]);
    conv::compare(&be, &mut report, &[(1, 1, 1, 9000, 300, false), (3, 2, 2, 4100, 40, true)]);
    report.finish("norm and convolution");
    chosen(&be, Precision::Highest);
    launched.extend(be.launched());
    for precision in [Precision::High, Precision::Bf16] {
        let be = with(precision, None);
        chosen(&be, precision);
        launched.extend(be.launched());
    }
    // This chip's own code has kernels that only earlier generations choose.
    for (architecture, precision) in [
        ("compute_80", Precision::Highest),
        ("compute_80", Precision::Bf16),
        ("compute_75", Precision::Highest),
    ] {
        let be = with(precision, Some(architecture));
        chosen(&be, precision);
        launched.extend(be.launched());
    }
    let left: Vec<String> =
        be.kernels().into_iter().filter(|name| name != FAULT && !launched.contains(name)).collect();
    eprintln!("{} kernels", launched.len());
    assert!(left.is_empty(), "kernels that were not launched: {}", left.join(" "));
}
