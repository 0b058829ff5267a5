//! Sequences too long for the slow oracles: by chunks in f32 against f64, and there against the FFT.

use crate::device::{Outcome, run};
use s4_backend::{Algorithm, Discretization};
use s4_cpu::Cpu;
use s4_testing::{
    layer::{Call, Layer, PARAMETERS, layers},
    relative,
};

/// Outputs and gradients, each with what it may differ by.
fn compare(place: &str, got: &Outcome, want: &Outcome, outputs: f64, gradients: f64) {
    let check = |what: &str, got: &[f64], want: &[f64], tolerance: f64| {
        let error = relative(got, want);
        assert!(error <= tolerance, "{place}: {what} {error:e}");
    };
    check("y", &got.y, &want.y, outputs);
    check("du", &got.du, &want.du, gradients);
    for (what, got, want, tolerance) in [
        ("end state", &got.state_end, &want.state_end, outputs),
        ("dstate0", &got.dstate0, &want.dstate0, gradients),
    ] {
        assert_eq!(got.is_some(), want.is_some(), "{place}: {what}");
        if let (Some(got), Some(want)) = (got, want) {
            check(what, got, want, tolerance);
        }
    }
    for (name, (got, want)) in
        PARAMETERS.iter().zip(got.grads.iter().zip(&want.grads)).filter(|(_, (_, want))| !want.is_empty())
    {
        check(name, got, want, gradients);
    }
}

/// Sequences of different lengths, from a state where the layer carries one.
fn long(layer: &Layer, batch: usize, len: usize) {
    let (single, double) = (Cpu::<f32>::new(2).unwrap(), Cpu::<f64>::new(2).unwrap());
    let call = Call::new(layer, batch, len, true);
    let chunks = run(&double, layer, &call, Algorithm::Chunk, 1);
    let place = |what: &str| format!("{}, length {len}, {what}", layer.name);
    let fft = run(&double, layer, &call, Algorithm::Fft, 1);
    compare(&place("f64, fft"), &fft, &chunks, 1e-10, 1e-8);
    if layer.spec.discretization == Discretization::Bilinear && len <= 1 << 17 {
        let cauchy = run(&double, layer, &call, Algorithm::Cauchy, 1);
        compare(&place("f64, cauchy"), &cauchy, &chunks, 1e-9, 1e-8);
    }
    // In f32 by FFT up to 65,536 alone: its gradients take ten times as long as those of chunks.
    let both = [Algorithm::Chunk, Algorithm::Fft];
    for &algorithm in &both[..if len > 1 << 17 { 1 } else { 2 }] {
        let got = run(&single, layer, &call, algorithm, 1);
        compare(&place(&format!("f32, {algorithm:?}")), &got, &chunks, 1e-5, 1e-4);
    }
}

#[test]
fn of_65536_samples() {
    layers().iter().filter(|l| l.spec.truncate.is_none()).for_each(|layer| long(layer, 2, 65_536));
}

#[test]
fn of_a_million_samples() {
    let some = ["s4", "s4, two-sided", "s4d", "s4d, two-sided, sigmoid"];
    let all = layers();
    let chosen: Vec<_> = all.iter().filter(|l| some.contains(&&l.name[..])).collect();
    assert_eq!(chosen.len(), some.len());
    chosen.into_iter().for_each(|layer| long(layer, 1, 1 << 20));
}
