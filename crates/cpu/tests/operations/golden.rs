//! The golden cases in a type of the CPU backend.

use s4_backend::{Scalar, SsmParams};
use s4_cpu::Cpu;
pub use s4_testing::{
    cast,
    golden::{Case, Golden, state_in},
};

/// Parameters in T.
pub fn cast_all<T: Scalar>(params: &[Vec<f64>; 7]) -> [Vec<T>; 7] {
    params.each_ref().map(|p| cast(p))
}

pub fn view<T: Scalar>(p: &[Vec<T>; 7]) -> SsmParams<'_, Cpu<T>> {
    SsmParams { inv_dt: &p[0], a_real: &p[1], a_imag: &p[2], b: &p[3], c: &p[4], p: &p[5], d: &p[6] }
}

/// ‖a − b‖/‖b‖.
#[track_caller]
pub fn rel<T: Scalar>(a: &[T], b: &[f64]) -> f64 {
    s4_testing::relative(&s4_testing::wide(a), b)
}
