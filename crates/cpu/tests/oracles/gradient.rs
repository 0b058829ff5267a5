//! Gradients by every algorithm: against the transpose of the oracle (which has finite differences for its own test), and the identity
//! ⟨F(u, x₀), (dy, dx)⟩ = ⟨(u, x₀), F*(dy, dx)⟩.

use crate::{device::run, forward::algorithms};
use s4_backend::{Scalar, SsmOps};
use s4_cpu::Cpu;
use s4_testing::{
    layer::{Call, Layer, PARAMETERS, layers},
    relative, relative_or_zero,
    truth::{self, Gradients},
};

fn parameters(layer: &Layer, lens: &[usize]) {
    let (single, double) = (Cpu::<f32>::new(2).unwrap(), Cpu::<f64>::new(2).unwrap());
    for &len in lens {
        let call = Call::new(layer, 2, len, len % 2 == 1);
        let outcomes: Vec<_> = algorithms(layer)
            .into_iter()
            .flat_map(|a| {
                [
                    (format!("{a:?}, f64"), 1e-8, run(&double, layer, &call, a, 1)),
                    (format!("{a:?}, f32"), 1e-4, run(&single, layer, &call, a, 1)),
                ]
            })
            .collect();
        let expected = truth::gradients(layer, &call).params;
        for which in (0..7).filter(|&i| !expected[i].is_empty()) {
            for (how, tol, got) in &outcomes {
                let error = relative(&got.grads[which], &expected[which]);
                let parameter = PARAMETERS[which];
                assert!(error <= *tol, "{}, {how}, length {len}, {parameter}: {error:e}", layer.name);
            }
        }
    }
}

#[test]
fn parameters_by_the_transposed_recurrence() {
    for layer in layers().into_iter().filter(|l| l.spec.state < 64) {
        parameters(&layer, &[1, 2, 3, 17, 64, 130]);
    }
}

#[test]
fn parameters_of_a_state_of_64() {
    for layer in layers().into_iter().filter(|l| l.spec.state == 64) {
        parameters(&layer, &[67]);
    }
}

#[test]
fn parameters_at_long_lengths() {
    for layer in layers().into_iter().filter(|l| ["s4", "s4, hippo", "s4d"].contains(&&l.name[..])) {
        parameters(&layer, &[489]);
    }
}

fn inputs<B: SsmOps>(be: &B, tol: f64) {
    for layer in layers() {
        for len in [1, 2, 3, 17, 64, 65, 489, 1024, 1047] {
            for own_lengths in [false, true] {
                let call = Call::new(&layer, 3, len, own_lengths);
                let Gradients { du, dstate0, .. } = truth::gradients(&layer, &call);
                for algorithm in algorithms(&layer) {
                    let got = run(be, &layer, &call, algorithm, 1);
                    let place = format!(
                        "{}, {algorithm:?}, {}, length {len}, own lengths {own_lengths}",
                        layer.name,
                        B::Scalar::DTYPE.as_str()
                    );
                    let error = relative(&got.du, &du);
                    assert!(error <= tol, "{place}: du {error:e}");
                    if let (Some(got), Some(dstate0)) = (&got.dstate0, &dstate0) {
                        let error = relative(got, dstate0);
                        assert!(error <= tol, "{place}: dstate0 {error:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn inputs_f64() {
    inputs(&Cpu::<f64>::new(2).unwrap(), 1e-8);
}

#[test]
fn inputs_f32() {
    inputs(&Cpu::<f32>::new(2).unwrap(), 1e-4);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Of the backend with itself, no oracle between.
#[test]
fn adjoint_identity() {
    let be = Cpu::<f64>::new(2).unwrap();
    for layer in layers() {
        for len in [1, 17, 200, 1047] {
            // dy beyond a sequence's length counts as 0, so sequences are of one length here.
            let call = Call::new(&layer, 3, len, false);
            for algorithm in algorithms(&layer) {
                let got = run(&be, &layer, &call, algorithm, 1);
                let (mut left, mut right) = (dot(&got.y, &call.dy), dot(&call.u, &got.du));
                if let (Some(end), Some(dend)) = (&got.state_end, &call.dstate_end) {
                    left += dot(end, dend);
                    right += dot(call.state0.as_ref().unwrap(), got.dstate0.as_ref().unwrap());
                }
                let size = (dot(&got.y, &got.y) * dot(&call.dy, &call.dy)).sqrt();
                let error = (left - right).abs() / size;
                assert!(error <= 1e-12, "{}, {algorithm:?}, length {len}: {error:e}", layer.name);
            }
        }
    }
}

/// Parameter gradients accumulate, others overwrite.
#[test]
fn gradients_accumulate() {
    let be = Cpu::<f64>::new(1).unwrap();
    for layer in layers() {
        let call = Call::new(&layer, 2, 90, true);
        for algorithm in algorithms(&layer) {
            let (once, twice) =
                (run(&be, &layer, &call, algorithm, 1), run(&be, &layer, &call, algorithm, 2));
            for which in 0..7 {
                let double: Vec<f64> = once.grads[which].iter().map(|g| 2.0 * g).collect();
                let error = relative_or_zero(&twice.grads[which], &double);
                assert!(error <= 1e-14, "{}, {algorithm:?}, {}: {error:e}", layer.name, PARAMETERS[which]);
            }
            assert_eq!((once.du, once.dstate0), (twice.du, twice.dstate0), "{}", layer.name);
        }
    }
}
