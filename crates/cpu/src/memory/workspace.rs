//! Scratch memory that is asked for once and then reused: a steady step allocates nothing.

use crate::memory::{counter::Counter, huge_pages::HugePool, pool::Pool};
use num_complex::Complex;
use s4_backend::Scalar;

/// The scratch memory of one model. Operations take vectors and give them back; contents are garbage.
#[derive(Debug)]
pub struct Workspace<T> {
    pub(crate) real: Pool<T>,
    /// Scratch of FFTs, on huge pages where the system has them.
    pub(crate) complex: HugePool<Complex<T>>,
    pub(crate) f64: Pool<f64>,
    pub(crate) c64: Pool<Complex<f64>>,
}

impl<T: Scalar> Workspace<T> {
    pub(crate) fn new(counter: &Counter) -> Self {
        Workspace {
            real: Pool::new(counter.clone()),
            complex: HugePool::new(counter.clone()),
            f64: Pool::new(counter.clone()),
            c64: Pool::new(counter.clone()),
        }
    }
}
