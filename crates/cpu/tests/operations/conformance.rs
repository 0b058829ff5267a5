//! The CPU passes the suite of the contract in both precisions, with equal bits at one and two threads.

use s4_backend::{Scalar, conformance};
use s4_cpu::Cpu;

fn passes<T: Scalar>() {
    let one = conformance::run(&Cpu::<T>::new(1).unwrap());
    conformance::assert_passed(&one);
    let two = conformance::run(&Cpu::<T>::new(2).unwrap());
    conformance::assert_passed(&two);
    for (a, b) in one.iter().zip(&two) {
        assert_eq!(a, b, "one and two threads differ");
    }
}

#[test]
fn single_precision() {
    passes::<f32>();
}

#[test]
fn double_precision() {
    passes::<f64>();
}
