//! The CPU passes the suite of the contract in both precisions, with equal bits at one and two threads.

use s4_backend::{Backend, Scalar};
use s4_cpu::Cpu;
use s4_testing::conformance;

fn passes<T: Scalar>()
where
    Cpu<T>: Backend,
{
    let one = conformance::run(&Cpu::<T>::new(1).unwrap());
    one.assert_passed();
    let two = conformance::run(&Cpu::<T>::new(2).unwrap());
    two.assert_passed();
    for (a, b) in one.comparisons.iter().zip(&two.comparisons) {
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
