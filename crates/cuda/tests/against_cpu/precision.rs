//! Every precision keeps its tolerance, and the same call gives the same bits.

use crate::{
    Report, gpu_with,
    layer::outputs_of,
    ssm::{cases, check, run},
};
use s4_cpu::Cpu;
use s4_cuda::Precision;

fn class(precision: Precision, outputs: f64, gradients: f64) {
    let Some(be) = gpu_with(precision) else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in cases() {
        for (batch, len) in [(3, 333), (19, 128), (1, 5000)] {
            let mut r = run(&case, batch, len);
            r.states = !case.spec.bidirectional;
            let got = outputs_of(&be, &r);
            for ((name, g), (_, w)) in got.iter().zip(&outputs_of(&cpu, &r)) {
                let run = format!("{} {batch}×{len}", case.name);
                check(&mut report, &run, (name, g, w), (outputs, gradients));
            }
            if batch == 3 {
                assert_eq!(got, outputs_of(&be, &r), "{}: two runs differ", case.name);
            }
        }
    }
    report.finish(&format!("{precision:?}"));
}

#[test]
fn high_is_as_good_as_tf32() {
    class(Precision::High, 2e-3, 5e-3);
}

#[test]
fn bf16_is_as_good_as_bf16() {
    class(Precision::Bf16, 1e-2, 5e-2);
}
