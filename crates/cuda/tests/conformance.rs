//! The GPU passes the suite of the contract. Without a GPU it says so and skips.
#![allow(clippy::print_stderr)]

use s4_backend::conformance;
use s4_cuda::{Cuda, probe};

#[test]
fn the_gpu_passes_the_suite() {
    match probe() {
        Ok(devices) => {
            let be = Cuda::new(devices[0].ordinal).unwrap();
            let (one, two) = (conformance::run(&be), conformance::run(&be));
            conformance::assert_passed(&one);
            assert_eq!(one, two, "two runs differ");
        }
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}
