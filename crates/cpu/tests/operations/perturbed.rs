//! The suite of the contract can fail: one output of one operation at a time is made wrong by 1e-3, and a check that
//! names this operation and this output says so.

use s4_backend::{Backend, Scalar};
use s4_cpu::Cpu;
use s4_testing::{
    Perturbed,
    conformance::{Comparison, Extent, Family, run_families},
};
use std::collections::BTreeSet;

/// What the CPU's operations leave out: its `mix_backward` recomputes.
const NOT_HERE: [(&str, &str); 1] = [("mix_forward", "saved")];

fn every_wrong_output_is_found<T: Scalar>()
where
    Cpu<T>: Backend,
{
    let be = Cpu::<T>::new(2).unwrap();
    let right = Perturbed::new(be.clone(), None);
    run_families(&right, &Family::ALL, Extent::Few).assert_passed();
    let mut outputs: BTreeSet<_> = Perturbed::<Cpu<T>>::outputs().into_iter().collect();
    NOT_HERE.iter().for_each(|output| assert!(outputs.remove(output), "{output:?}"));
    assert_eq!(right.outputs_met(), outputs, "the suite meets every output of every operation");
    for &(operation, output) in &outputs {
        let wrong = Perturbed::new(be.clone(), Some((operation, output)));
        let family = Family::of(operation);
        let report = run_families(&wrong, &[family], Extent::Few);
        let failed: Vec<&Comparison> = report.comparisons.iter().filter(|check| !check.passed()).collect();
        let names_it = |check: &&Comparison| check.operation == operation && check.output == output;
        assert!(failed.iter().any(names_it), "{operation} {output}: nothing names it among {failed:#?}");
        // Everything goes through memory, and what forward saved is seen in backward alone; else no other is blamed.
        if family != Family::Memory && output != "saved" {
            let blamed = failed.iter().find(|check| check.operation != operation && check.output != "saved");
            assert!(blamed.is_none(), "{operation} {output} makes another fail: {blamed:?}");
        }
    }
}

#[test]
fn every_wrong_output_is_found_in_single_precision() {
    every_wrong_output_is_found::<f32>();
}

#[test]
fn every_wrong_output_is_found_in_double_precision() {
    every_wrong_output_is_found::<f64>();
}
