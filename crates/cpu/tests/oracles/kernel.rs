//! K̄ and its gradients.

use crate::device;
use s4_backend::KernelOps;
use s4_cpu::Cpu;
use s4_testing::{
    layer::{PARAMETERS, layers},
    noise, relative, truth,
};

const LENGTHS: [usize; 10] = [1, 2, 3, 16, 17, 64, 489, 1000, 1024, 1047];

fn forward<B: KernelOps>(be: &B, tol: f64) {
    for layer in layers() {
        for len in LENGTHS {
            let error = relative(&device::kernel(be, &layer, len), &truth::kernel(&layer, len));
            assert!(error <= tol, "{}, length {len}: {error:e}", layer.name);
        }
    }
}

#[test]
fn forward_f64() {
    forward(&Cpu::<f64>::new(2).unwrap(), 1e-10);
}

#[test]
fn forward_f32() {
    forward(&Cpu::<f32>::new(2).unwrap(), 1e-5);
}

#[test]
fn gradients_by_the_transposed_recurrence() {
    let (single, double) = (Cpu::<f32>::new(2).unwrap(), Cpu::<f64>::new(2).unwrap());
    for layer in layers().into_iter().filter(|l| l.spec.state < 64) {
        for len in [1, 2, 3, 17, 64, 131] {
            let dkernel = noise(5, len as u32, layer.spec.kernel_channels() * layer.spec.heads * len);
            let expected = truth::kernel_gradients(&layer, len, &dkernel);
            let in_double = device::kernel_gradient(&double, &layer, len, &dkernel);
            let in_single = device::kernel_gradient(&single, &layer, len, &dkernel);
            for which in (0..6).filter(|&i| !expected[i].is_empty()) {
                for (got, tol) in [(&in_double, 1e-8), (&in_single, 1e-4)] {
                    let error = relative(&got[which], &expected[which]);
                    let parameter = PARAMETERS[which];
                    assert!(error <= tol, "{}, length {len}, {parameter}: {error:e} > {tol:e}", layer.name);
                }
            }
            assert!(in_double[6].iter().all(|&d| d == 0.0), "D has no part in the kernel");
        }
    }
}
