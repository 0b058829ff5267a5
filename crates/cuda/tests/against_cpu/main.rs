//! CPU in f64 against the GPU in f32 on the same inputs. Without a GPU every test says so and skips.
#![allow(clippy::print_stderr, missing_docs)]

mod beside;
mod cauchy;
mod conv;
mod every;
mod gathered;
mod intervals;
mod kernel;
mod layer;
mod linear;
mod memory;
mod mix;
mod norm;
mod precision;
mod rows;
mod segments;
mod ssm;
mod step;
mod trained;
mod training_steps;

use s4_cuda::{Cuda, Options, Precision, probe};
use s4_testing::relative;

/// The GPU, or a printed reason why the test is skipped.
pub fn gpu() -> Option<Cuda> {
    gpu_with(Precision::Highest)
}

/// As [`gpu`], in a given precision.
pub fn gpu_with(precision: Precision) -> Option<Cuda> {
    match probe() {
        Ok(devices) => {
            // S4_CUDA_ARCH names one image of the build, to run its PTX where machine code exists.
            let architecture = std::env::var("S4_CUDA_ARCH").ok();
            let options = Options { architecture, precision, ..Options::default() };
            Some(Cuda::with(devices[0].ordinal, &options).unwrap())
        }
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// Relative errors above their tolerance, with their names; an error that is NaN counts as too large.
#[derive(Default)]
pub struct Report {
    worst: f64,
    name: String,
    lines: Vec<String>,
    count: usize,
}

impl Report {
    /// The truth must not be zero: any small result would pass.
    #[track_caller]
    pub fn check(&mut self, name: String, got: &[f64], want: &[f64], tolerance: f64) {
        let e = relative(got, want);
        self.count += 1;
        if e / tolerance > self.worst {
            (self.worst, self.name) = (e / tolerance, name.clone());
        }
        if !(e.is_finite() && e <= tolerance) {
            self.lines.push(format!("{name}: {e:.3e} > {tolerance:.0e}"));
        }
    }

    pub fn finish(self, title: &str) {
        eprintln!("{title}: {} checks, worst {:.3} of its tolerance: {}", self.count, self.worst, self.name);
        assert!(
            self.count > 0 && self.lines.is_empty(),
            "{} failed:\n{}",
            self.lines.len(),
            self.lines.join("\n")
        );
    }
}
