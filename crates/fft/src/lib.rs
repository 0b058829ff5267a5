//! Plans of rustfft in both number formats. rustfft is generic: whichever crate makes a plan compiles all of its algorithms, so this one
//! does, once, and not `s4-cpu` whenever a line of it changes.

use rustfft::FftPlanner;
use std::{fmt, sync::Arc};

pub use rustfft::Fft;

/// The transforms of one length, forward and inverse, both unscaled.
pub type Pair<T> = [Arc<dyn Fft<T>>; 2];

/// Makes plans and keeps what they share.
pub struct Planner {
    f32: FftPlanner<f32>,
    f64: FftPlanner<f64>,
}

impl Planner {
    /// A planner without plans; the instruction set is chosen at run time.
    pub fn new() -> Planner {
        Planner { f32: FftPlanner::new(), f64: FftPlanner::new() }
    }
    /// Of `len` ≥ 1 complex numbers of 32-bit parts.
    pub fn plan_f32(&mut self, len: usize) -> Pair<f32> {
        [self.f32.plan_fft_forward(len), self.f32.plan_fft_inverse(len)]
    }
    /// Of `len` ≥ 1 complex numbers of 64-bit parts.
    pub fn plan_f64(&mut self, len: usize) -> Pair<f64> {
        [self.f64.plan_fft_forward(len), self.f64.plan_fft_inverse(len)]
    }
}

impl Default for Planner {
    fn default() -> Planner {
        Planner::new()
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}
