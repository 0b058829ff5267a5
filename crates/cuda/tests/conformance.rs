//! The GPU passes the conformance suite of the backend contract. Without a GPU it prints that and skips.
#![allow(clippy::print_stderr)]

use s4_cuda::{Cuda, Options, probe};
use s4_testing::conformance;

#[test]
fn the_gpu_passes_the_suite() {
    match probe() {
        Ok(devices) => {
            let architecture = std::env::var("S4_CUDA_ARCH").ok();
            let be = Cuda::with(devices[0].ordinal, &Options { architecture, ..Default::default() }).unwrap();
            let one = conformance::run(&be);
            one.assert_passed();
            assert_eq!(one, conformance::run(&be), "two runs differ");
        }
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}
