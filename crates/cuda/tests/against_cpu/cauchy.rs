//! The paper's Algorithm 1: kernels and their gradients beside those that the CPU computes by blocks of powers in f64.

use crate::{
    Report, gpu,
    layer::{all, down, full, grads, params, up},
    ssm::{cases, doubled},
};
use s4_backend::*;
use s4_cpu::Cpu;
use s4_cuda::Cuda;
use s4_testing::{golden::Case, layer::PARAMETERS, noise};

/// How a kernel and its gradients are computed.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Blocks,
    Sums,
}

/// A backend that computes kernels and their gradients.
trait Kernels: Backend {
    fn forward(&self, by: By, args: KernelForward<'_, Self>);
    fn backward(&self, by: By, args: KernelBackward<'_, Self>);
}

impl Kernels for Cuda {
    fn forward(&self, by: By, args: KernelForward<'_, Self>) {
        let ws = &mut self.workspace();
        if by == By::Sums { self.kernel_by_cauchy(args, ws) } else { self.kernel_forward(args, ws) }.unwrap();
    }
    fn backward(&self, by: By, args: KernelBackward<'_, Self>) {
        let ws = &mut self.workspace();
        if by == By::Sums {
            self.kernel_by_cauchy_backward(args, ws)
        } else {
            self.kernel_backward(args, ws)
        }
        .unwrap();
    }
}

impl Kernels for Cpu<f64> {
    fn forward(&self, _: By, args: KernelForward<'_, Self>) {
        self.kernel_by_blocks(args, &mut self.workspace()).unwrap();
    }
    fn backward(&self, _: By, args: KernelBackward<'_, Self>) {
        self.kernel_backward(args, &mut self.workspace()).unwrap();
    }
}

/// K̄, and the gradients of Σ K̄·dK̄ for noise dK̄, which are added to ones.
fn run<B: Kernels>(be: &B, by: By, case: &Case, len: usize, rate: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
    let spec = case.spec;
    let p = case.params.each_ref().map(|x| up(be, x));
    let n = spec.kernel_channels() * spec.heads * len;
    let mut kernel = up(be, &vec![f64::NAN; n]);
    be.forward(by, KernelForward { kernel: full(be, &mut kernel), params: params(be, &p), spec, len, rate });
    let dkernel = up(be, &noise(len as u64, 9, n));
    let mut g = case.params.each_ref().map(|x| up(be, &vec![0.0; x.len()]));
    let (dkernel, into) = (all(be, &dkernel), grads(be, &mut g));
    be.backward(by, KernelBackward { grads: into, dkernel, params: params(be, &p), spec, len, rate });
    (down(be, &kernel), g.iter().map(|g| down(be, g)).collect())
}

fn compare(report: &mut Report, be: &Cuda, cpu: &Cpu<f64>, case: &Case, len: usize, rate: f64) {
    let name = format!("{}, length {len}, rate {rate}", case.name);
    let (kernel, gradients) = run(be, By::Sums, case, len, rate);
    let (true_kernel, true_gradients) = run(cpu, By::Blocks, case, len, rate);
    report.check(format!("{name}, kernel"), &kernel, &true_kernel, 1e-5);
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let whole = size(&true_gradients.concat());
    for ((parameter, got), want) in PARAMETERS.iter().zip(&gradients).zip(&true_gradients) {
        // What a length says nothing of has a gradient of rounding errors; a kernel says nothing of D.
        if size(want) <= 1e-12 * whole {
            let off = got.iter().all(|x| x.is_finite() && x.abs() <= 1e-5 * whole);
            assert!(off, "{name}, gradient of {parameter}");
            continue;
        }
        report.check(format!("{name}, gradient of {parameter}"), got, want, 1e-4);
    }
    assert!((kernel, gradients) == run(be, By::Sums, case, len, rate), "{name}: other bits at a second run");
}

fn bilinear() -> Vec<Case> {
    cases().into_iter().filter(|c| c.spec.discretization == Discretization::Bilinear).collect()
}

fn case(name: &str) -> Case {
    bilinear().into_iter().find(|c| c.name == name).unwrap()
}

/// A case of rank 2 with a third row of P.
fn of_rank_three() -> Case {
    let mut case = case("dplr_legt");
    assert_eq!(case.spec.rank, 2);
    let row = case.params[5].len() / 2;
    let third: Vec<f64> = case.params[5][..row].iter().map(|x| (0.3 - 0.5 * x) as f32 as f64).collect();
    case.params[5].extend(third);
    case.spec.rank = 3;
    case
}

/// Every kernel of the algorithm, at shapes small enough for a sanitizer: each rank that they are compiled for, states of
/// more than 64, transforms in one row and in several.
pub fn small(be: &Cuda) {
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for (case, lens) in [
        (case("diag_inv_bil"), &[65][..]),
        (case("dplr_legs"), &[65, 4500]),
        (case("dplr_legt"), &[65]),
        (case("x_dplr_bidir"), &[65]),
        (of_rank_three(), &[65]),
        (doubled(&case("dplr_legs_n64")), &[65]),
    ] {
        for &len in lens {
            compare(&mut report, be, &cpu, &case, len, 1.0);
        }
    }
    report.finish("Algorithm 1 at small shapes");
}

#[test]
fn kernels_and_gradients_of_every_golden_layer() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in bilinear().iter().chain([&of_rank_three(), &doubled(&case("dplr_legs_n64"))]) {
        for len in [1, 2, 3, 16, 17, 64, 489, 1024, 1047] {
            compare(&mut report, &be, &cpu, case, len, 1.0);
        }
    }
    report.finish("Algorithm 1");
}

/// Transforms in rows and columns, and modes that hardly decay or turn over the length.
#[test]
fn long_kernels_and_gradients() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    let mut report = Report::default();
    for case in ["diag_inv_bil", "dplr_legs_n64", "dplr_legt", "dplr_fourier", "dplr_hippo_tied"].map(case) {
        for (len, rate) in [(4096, 1.0), (4097, 1.0), (20_000, 0.01), (70_001, 1.0), (1 << 18, 0.001)] {
            compare(&mut report, &be, &cpu, &case, len, rate);
        }
    }
    compare(&mut report, &be, &cpu, &case("dplr_legs_n64"), 1 << 20, 1.0 / 64.0);
    report.finish("long kernels by Algorithm 1");
}

/// Where |Λ|Δ is so small or so large that of I − Ā^L few digits are left a kernel is NaN; up to there it is right.
#[test]
fn a_rate_beyond_the_digits_gives_no_number() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    for case in ["dplr_legs", "x_dplr_tied", "diag_inv_bil"].map(case) {
        let mut refused = Vec::new();
        for exponent in (-30..=30).step_by(2) {
            let rate = 10f64.powi(exponent);
            let (kernel, gradients) = run(&be, By::Sums, &case, 130, rate);
            // A kernel that is of no size in f32 has nothing to compare.
            let (want, _) = run(&cpu, By::Blocks, &case, 130, rate);
            let (mut off, mut size) = (0.0, 0.0);
            for (a, b) in kernel.iter().zip(&want) {
                (off, size) = (off + (a - b) * (a - b), size + b * b);
            }
            if kernel.iter().any(|x| x.is_nan()) {
                assert!(gradients.concat().iter().any(|x| x.is_nan()), "{}, rate {rate}", case.name);
                refused.push(exponent);
            } else if size.sqrt() > 1e-30 {
                assert!(off <= 1e-10 * size, "{}, rate {rate}: {off:e} of {size:e}", case.name);
            }
        }
        assert!(refused.contains(&-30) && refused.contains(&30), "{}: {refused:?}", case.name);
        assert!((-4..=4).step_by(2).all(|usual| !refused.contains(&usual)), "{}: {refused:?}", case.name);
    }
}

/// One pair that hardly moves among others of a low rank of 1: right, or NaN.
#[test]
fn a_still_mode_among_others_gives_no_number() {
    let Some(be) = gpu() else { return };
    let cpu = Cpu::<f64>::new(0).unwrap();
    for mut case in ["dplr_legs", "x_dplr_tied"].map(case) {
        let mut refused = Vec::new();
        for exponent in (0..=30).step_by(2) {
            for pair in (0..case.params[1].len()).step_by(case.spec.pairs()) {
                (case.params[1][pair], case.params[2][pair]) =
                    (-f64::from(exponent) * std::f64::consts::LN_10, 0.0);
            }
            let (kernel, _) = run(&be, By::Sums, &case, 130, 1.0);
            let (want, _) = run(&cpu, By::Blocks, &case, 130, 1.0);
            if kernel.iter().any(|x| x.is_nan()) {
                refused.push(exponent);
                continue;
            }
            let (off, size) = (kernel.iter().zip(&want))
                .fold((0.0, 0.0), |(off, size), (a, b)| (off + (a - b) * (a - b), size + b * b));
            assert!(off <= 1e-10 * size, "{}, 1e-{exponent}: {off:e} of {size:e}", case.name);
        }
        assert!(refused.contains(&30) && !refused.contains(&6), "{}: {refused:?}", case.name);
    }
}
