//! Kernels against the golden vectors, long ones too, by blocks and by Cauchy sums.

use crate::golden::{Case, Golden, cast, cast_all, rel, view};
use s4_backend::{Discretization, KernelBackward, KernelForward, Memory, Scalar, SsmGrads, SsmSpec};
use s4_cpu::Cpu;

/// Both forms of a kernel (Cauchy sums where the SSM is bilinear) within `tol` of the truth.
fn check<T: Scalar>(name: &str, spec: &SsmSpec, params: &[Vec<f64>; 7], rate: f64, truth: &[f64], tol: f64) {
    let be = Cpu::<T>::new(2).unwrap();
    let mut ws = be.workspace();
    let len = truth.len() / (spec.kernel_channels() * spec.heads);
    let params = cast_all::<T>(params);
    let mut kernel = vec![T::nan(); truth.len()];
    let mut run = |kernel: &mut [T], cauchy: bool| {
        let args = KernelForward { kernel, params: view(&params), spec: *spec, len, rate };
        if cauchy { be.kernel_by_cauchy(args, &mut ws) } else { be.kernel_by_blocks(args, &mut ws) }
    };
    for (what, cauchy) in [("blocks", false), ("Cauchy sums", true)] {
        kernel.fill(T::nan());
        let result = run(&mut kernel, cauchy);
        if cauchy && spec.discretization == Discretization::Zoh {
            assert_eq!(result.unwrap_err().code.as_str(), "ERR_S4_UNSUPPORTED");
            continue;
        }
        result.unwrap();
        let e = rel(&kernel, truth);
        assert!(e <= tol, "{name}, rate {rate}, {what}: {e:e} > {tol:e}");
        let warm = be.allocations();
        run(&mut kernel, cauchy).unwrap();
        assert_eq!(be.allocations(), warm, "{what}: a second kernel asks for memory");
    }
}

#[test]
fn golden_kernels() {
    for case in Case::all() {
        for (tensor, rate) in [("kernel", 1.0), ("kernel.rate2", 2.0), ("kernel.rate0.5", 0.5)] {
            if !case.truth.has(tensor) {
                continue;
            }
            let truth = case.truth.get(tensor);
            // C itself is known to 2e-10 in the files of these two (golden/README.md).
            let tol = if case.is_near_marginal() { 1e-9 } else { 1e-10 };
            check::<f64>(&case.name, &case.spec, &case.params, rate, truth, tol);
            check::<f32>(&case.name, &case.spec, &case.params, rate, truth, 1e-5);
        }
    }
}

fn long(file: &str) {
    let golden = Golden::read(file);
    let layer = golden.layer(file, "param.", golden.get("param.C"));
    check::<f32>(file, &layer.spec, &layer.values, 1.0, golden.get("kernel"), 1e-5);
    check::<f64>(file, &layer.spec, &layer.values, 1.0, golden.get("kernel"), 1e-10);
}

#[test]
fn long_kernels() {
    long("long_16k.golden");
    long("long_64k_slow.golden");
}

#[test]
fn cauchy_sums_equal_blocks_at_any_length() {
    for name in ["dplr_legs", "dplr_legt", "x_dplr_tied", "dplr_bidir", "diag_inv_bil"] {
        let case = Case::load(name);
        let be = Cpu::<f64>::new(2).unwrap();
        let mut ws = be.workspace();
        for len in [1, 2, 3, 17, 64, 489, 1024, 1047] {
            let size = case.spec.kernel_channels() * case.spec.heads * len;
            let mut kernel = vec![f64::NAN; size];
            let (kernel_view, params) = (&mut kernel[..], view(&case.params));
            let args = KernelForward { kernel: kernel_view, params, spec: case.spec, len, rate: 1.0 };
            be.kernel_by_blocks(args, &mut ws).unwrap();
            check::<f64>(&format!("{name}, length {len}"), &case.spec, &case.params, 1.0, &kernel, 1e-10);
        }
    }
}

/// Where |Λ|Δ is so small or so large that of I − Ā^L few digits are left, Cauchy sums are refused before any work; up to there both
/// forms agree.
#[test]
fn cauchy_sums_are_right_or_refused_at_any_rate() {
    for name in ["dplr_legs", "x_dplr_tied", "diag_inv_bil"] {
        let case = Case::load(name);
        let be = Cpu::<f64>::new(1).unwrap();
        let (len, mut ws) = (130, be.workspace());
        let size = case.spec.kernel_channels() * case.spec.heads * len;
        let mut refused = Vec::new();
        for exponent in (-30..=30).step_by(2) {
            let rate = 10f64.powi(exponent);
            let mut kernels = [vec![f64::NAN; size], vec![f64::NAN; size]];
            let [blocks, sums] = &mut kernels;
            let args =
                |kernel| KernelForward { kernel, params: view(&case.params), spec: case.spec, len, rate };
            be.kernel_by_blocks(args(&mut blocks[..]), &mut ws).unwrap();
            match be.kernel_by_cauchy(args(&mut sums[..]), &mut ws) {
                Ok(()) => assert!(rel(sums, blocks) <= 1e-6, "{name}, rate {rate}: {}", rel(sums, blocks)),
                Err(error) => {
                    assert_eq!(error.code.as_str(), "ERR_S4_UNSUPPORTED");
                    assert!(sums.iter().all(|k| k.is_nan()));
                    refused.push(exponent);
                }
            }
        }
        assert!(refused.contains(&-30) && refused.contains(&30), "{name}: {refused:?}");
        assert!((-4..=4).step_by(2).all(|usual| !refused.contains(&usual)), "{name}: {refused:?}");
    }
}

/// One pair that hardly moves among others: PP* moves it and its conjugate together, so that with a rank of 1 (p, −p̄) is as still as Λ
/// alone has it, and of I − Ā^L few digits are left there.
#[test]
fn a_still_mode_among_others_is_right_or_refused() {
    for name in ["dplr_legs", "x_dplr_tied"] {
        let case = Case::load(name);
        assert_eq!(case.spec.rank, 1);
        let be = Cpu::<f64>::new(1).unwrap();
        let (len, mut ws) = (130, be.workspace());
        let size = case.spec.kernel_channels() * case.spec.heads * len;
        let mut refused = Vec::new();
        for exponent in (0..=30).step_by(2) {
            let mut params = case.params.clone();
            for pair in (0..params[1].len()).step_by(case.spec.pairs()) {
                (params[1][pair], params[2][pair]) = (-f64::from(exponent) * std::f64::consts::LN_10, 0.0);
            }
            let mut kernels = [vec![f64::NAN; size], vec![f64::NAN; size]];
            let [blocks, sums] = &mut kernels;
            let args =
                |kernel| KernelForward { kernel, params: view(&params), spec: case.spec, len, rate: 1.0 };
            be.kernel_by_blocks(args(&mut blocks[..]), &mut ws).unwrap();
            match be.kernel_by_cauchy(args(&mut sums[..]), &mut ws) {
                Ok(()) => assert!(rel(sums, blocks) <= 1e-6, "{name}, 1e-{exponent}: {}", rel(sums, blocks)),
                Err(error) => {
                    assert_eq!(error.code.as_str(), "ERR_S4_UNSUPPORTED");
                    refused.push(exponent);
                }
            }
        }
        assert!(refused.contains(&30) && !refused.contains(&6), "{name}: {refused:?}");
    }
}

/// Gradients of Σ K̄·dK̄ one way: inv_dt, a_real, a_imag, b, c, p, d.
fn gradients<T: Scalar>(case: &Case, dkernel: &[f64], len: usize, cauchy: bool) -> [Vec<T>; 7] {
    let be = Cpu::<T>::new(2).unwrap();
    let mut ws = be.workspace();
    let (params, dkernel) = (cast_all::<T>(&case.params), cast::<T>(dkernel));
    let mut run = || {
        let mut grads = params.each_ref().map(|p| vec![T::zero(); p.len()]);
        let [inv_dt, a_real, a_imag, b, c, p, d] = grads.each_mut().map(Vec::as_mut_slice);
        let into = SsmGrads { inv_dt, a_real, a_imag, b, c, p, d };
        let (dkernel, params, spec) = (&dkernel[..], view(&params), case.spec);
        let args = KernelBackward { grads: into, dkernel, params, spec, len, rate: 1.0 };
        if cauchy {
            be.kernel_by_cauchy_backward(args, &mut ws).unwrap();
        } else {
            be.kernel_backward(args, &mut ws).unwrap();
        }
        grads
    };
    let first = run();
    let warm = be.allocations();
    assert!(first == run(), "a second run gives other gradients");
    assert_eq!(be.allocations(), warm, "a second run asks for memory");
    first
}

#[test]
fn gradients_by_cauchy_sums_equal_those_of_blocks() {
    const NAMES: [&str; 6] = ["inv_dt", "a_real", "a_imag", "b", "c", "p"];
    let mut compared = 0;
    for case in Case::all().iter().filter(|c| c.spec.discretization == Discretization::Bilinear) {
        for len in [1, 2, 3, 17, 64, 489, 1047] {
            let mut rng = s4_backend::random::Rng::new(len as u64, 3);
            let size = case.spec.kernel_channels() * case.spec.heads * len;
            let dkernel: Vec<f64> = (0..size).map(|_| rng.normal() as f32 as f64).collect();
            let blocks = gradients::<f64>(case, &dkernel, len, false);
            let (double, single) =
                (gradients::<f64>(case, &dkernel, len, true), gradients::<f32>(case, &dkernel, len, true));
            for (i, name) in NAMES.iter().enumerate().filter(|&(i, _)| !blocks[i].is_empty()) {
                let size = |g: &[f64]| g.iter().map(|x| x * x).sum::<f64>().sqrt();
                // Where a length says nothing of a parameter, the whole gradient is the scale.
                let (own, all) = (size(&blocks[i]), size(&blocks.concat()));
                let scale = if own <= 1e-12 * all { all } else { own };
                let off = |g: &[f64]| {
                    size(&g.iter().zip(&blocks[i]).map(|(a, b)| a - b).collect::<Vec<_>>()) / scale
                };
                let wide: Vec<f64> = single[i].iter().map(|&x| x as f64).collect();
                let (e, e32) = (off(&double[i]), off(&wide));
                assert!(e <= 1e-9, "{}, length {len}, {name}: {e:e}", case.name);
                assert!(e32 <= 1e-4, "{}, length {len}, {name}, f32: {e32:e}", case.name);
                compared += 1;
            }
        }
    }
    assert!(compared >= 500, "{compared} gradients");
}

#[test]
fn wrong_arguments_of_the_transpose_are_errors() {
    let case = Case::load("dplr_legs");
    let be = Cpu::<f64>::new(1).unwrap();
    let mut grads = case.params.each_ref().map(|p| vec![0.0; p.len()]);
    let [inv_dt, a_real, a_imag, b, c, p, d] = grads.each_mut().map(Vec::as_mut_slice);
    let into = SsmGrads { inv_dt, a_real, a_imag, b, c, p, d };
    let dkernel = &[0.0; 3][..];
    let args = KernelBackward {
        grads: into,
        dkernel,
        params: view(&case.params),
        spec: case.spec,
        len: 64,
        rate: 1.0,
    };
    let wrong = be.kernel_by_cauchy_backward(args, &mut be.workspace());
    assert_eq!(wrong.unwrap_err().code.as_str(), "ERR_S4_SHAPE");
    assert!(grads.iter().flatten().all(|&g| g == 0.0));
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::load("x_dplr_tied");
    let params = cast_all::<f32>(&case.params);
    let run = |threads: usize, cauchy: bool| {
        let be = Cpu::<f32>::new(threads).unwrap();
        let len = 3000;
        let size = case.spec.kernel_channels() * case.spec.heads * len;
        let mut kernel = vec![0.0; size];
        let mut ws = be.workspace();
        let args =
            KernelForward { kernel: &mut kernel[..], params: view(&params), spec: case.spec, len, rate: 1.0 };
        if cauchy { be.kernel_by_cauchy(args, &mut ws) } else { be.kernel_by_blocks(args, &mut ws) }.unwrap();
        let dkernel = kernel.clone();
        let mut grads = params.each_ref().map(|p| vec![0.0f32; p.len()]);
        let [inv_dt, a_real, a_imag, b, c, p, d] = grads.each_mut().map(Vec::as_mut_slice);
        let into = SsmGrads { inv_dt, a_real, a_imag, b, c, p, d };
        let args = KernelBackward {
            grads: into,
            dkernel: &dkernel[..],
            params: view(&params),
            spec: case.spec,
            len,
            rate: 1.0,
        };
        if cauchy { be.kernel_by_cauchy_backward(args, &mut ws) } else { be.kernel_backward(args, &mut ws) }
            .unwrap();
        (kernel, grads)
    };
    assert_eq!(run(1, false), run(2, false));
    assert_eq!(run(1, true), run(2, true));
}
