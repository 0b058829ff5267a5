//! Convolution kernels of a million samples.

use crate::{
    Report, gpu,
    layer::{self, down, up},
    ssm::cases,
};
use s4_backend::*;
use s4_cpu::Cpu;

/// K̄ (channels, H, len), or twice the channels where bidirectional.
fn kernel<B: Backend>(be: &B, spec: &SsmSpec, params: &[Vec<f64>; 7], len: usize, rate: f64) -> Vec<f64> {
    let p = params.each_ref().map(|x| up(be, x));
    let n = spec.kernel_channels() * spec.heads * len;
    let mut k = up(be, &vec![f64::NAN; n]);
    let args = KernelForward {
        kernel: be.view_mut(&mut k, 0..n),
        params: layer::params(be, &p),
        spec: *spec,
        len,
        rate,
    };
    be.kernel_forward(args, &mut be.workspace()).unwrap();
    down(be, &k)
}

/// Layers as they are initialised, S4 and S4D. At the rates below 1 the kernel still lives at the millionth sample.
#[test]
fn kernels_of_a_million_samples() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for name in ["dplr_fresh", "dplr_legs_n64", "diag_legs", "diag_lin_zoh"] {
        let case = cases().into_iter().find(|c| c.name == name).unwrap();
        for rate in [1.0, 1.0 / 64.0, 1.0 / 4096.0] {
            let both = |len| {
                let want = kernel(&cpu, &case.spec, &case.params, len, rate);
                (kernel(&be, &case.spec, &case.params, len, rate), want)
            };
            let (got, want) = both(1 << 20);
            report.check(format!("{name} rate {rate}"), &got, &want, 1e-5);
            // Its end by itself: a small tail is not hidden by a large beginning.
            let tail =
                |k: &[f64]| k.chunks(1 << 20).flat_map(|row| row[1 << 19..].to_vec()).collect::<Vec<_>>();
            let (got, want) = (tail(&got), tail(&want));
            if rate < 1.0 / 1000.0 {
                report.check(format!("{name} rate {rate}, second half"), &got, &want, 1e-5);
            }
        }
    }
    report.finish("kernels of 2^20 samples");
}
