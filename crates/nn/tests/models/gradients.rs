//! Finite differences in f64 for every parameter, input and carried state of whole models.

use crate::common::*;
use s4_nn::*;

/// sum(output·w) + sum(state·ws).
fn value(
    m: &mut Model<Cpu<f64>>,
    x: &[f64],
    state: Option<&[f64]>,
    w: &[f64],
    ws: &[f64],
    training: bool,
) -> f64 {
    let opts = ForwardOptions {
        state0: state,
        want_state_end: true,
        call: in_training(training),
        dropout_at: Some((9, 4)),
        ..Default::default()
    };
    let out = m.forward(Input::Values(x), 2, x.len() / 4, &opts).unwrap();
    let end = out.state_end.unwrap_or_default();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&out.y, w) + dot(&end, ws)
}

fn check(options: &str, stateful: bool, training: bool) {
    let json = format!(
        r#"{{"input": 2, "output": 2, "features": 4, "layers": 2, "state": 4, "loss": "mse", {options}}}"#
    );
    let mut m = Model::new(Cpu::<f64>::new(1).unwrap(), ModelConfig::from_json(&json).unwrap()).unwrap();
    let len = 9;
    let x = noise(1, 2 * len * 2);
    let state = stateful.then(|| noise(2, m.state_len(2)));
    let out_len: usize = m.output_shape(2, len).iter().product();
    let (w, ws) = (noise(3, out_len), if stateful { noise(4, m.state_len(2)) } else { vec![] });
    let s = state.as_deref();
    let opts = ForwardOptions {
        state0: s,
        want_state_end: true,
        call: in_training(training),
        save: true,
        dropout_at: Some((9, 4)),
    };
    m.forward(Input::Values(&x), 2, len, &opts).unwrap();
    let grads = m.backward(&w, stateful.then_some(&ws)).unwrap();
    // Central differences of fourth order.
    let h = 1e-4;
    let slope =
        |f: &mut dyn FnMut(f64) -> f64| (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
    let names: Vec<String> = m.store().infos().iter().map(|p| p.name.clone()).collect();
    for name in names {
        let (at, grad) = (m.store().get(&name).unwrap(), m.store().grad(&name).unwrap());
        let mut numeric = vec![0.0; at.len()];
        for i in 0..at.len() {
            numeric[i] = slope(&mut |e| {
                let mut p = at.clone();
                p[i] += e;
                m.store_mut().set(&name, &p).unwrap();
                value(&mut m, &x, s, &w, &ws, training)
            });
        }
        m.store_mut().set(&name, &at).unwrap();
        // A bias before a batch norm has no gradient at all: the absolute part is for those.
        let size = numeric.iter().map(|v| v * v).sum::<f64>().sqrt();
        let off = grad.iter().zip(&numeric).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        assert!(off.is_finite() && off <= 1e-7 * size + 1e-9, "{options} {name}: {off:e} of {size:e}");
    }
    let mut numeric = vec![0.0; x.len()];
    for i in 0..x.len() {
        numeric[i] = slope(&mut |e| {
            let mut x = x.clone();
            x[i] += e;
            value(&mut m, &x, s, &w, &ws, training)
        });
    }
    close(&format!("{options} dx"), &grads.dx.unwrap(), &numeric, 1e-7);
    if let Some(state) = &state {
        let mut numeric = vec![0.0; state.len()];
        for i in 0..state.len() {
            numeric[i] = slope(&mut |e| {
                let mut state = state.clone();
                state[i] += e;
                value(&mut m, &x, Some(&state), &w, &ws, training)
            });
        }
        close(&format!("{options} dstate"), &grads.dstate0.unwrap(), &numeric, 1e-7);
    }
}

#[test]
fn layer_norm_s4_with_states() {
    check(r#""norm": "layer""#, true, false);
    check(r#""norm": "layer", "prenorm": false, "finalNorm": true, "pooling": "last""#, true, false);
}

#[test]
fn batch_norm_s4d() {
    check(r#""norm": "batch", "mode": "s4d", "init": "inv", "pooling": "mean""#, false, true);
    check(r#""norm": "batch", "mode": "s4d", "discretization": "bilinear", "prenorm": false"#, true, false);
}

/// Pooling after a final norm, whose output most backwards of a pooling do not need.
#[test]
fn every_pooling_after_a_final_norm() {
    for pooling in ["mean", "last", "first", "max", "sum", "logMeanExp"] {
        let options = format!(r#""mode": "s4d", "norm": "layer", "finalNorm": true, "pooling": "{pooling}""#);
        check(&options, false, false);
    }
}

#[test]
fn dropout_channels_two_sided() {
    check(r#""channels": 2, "dropout": 0.3, "nSsm": 2, "dtPerState": true, "mode": "s4d""#, true, true);
    check(r#""bidirectional": true, "dropout": 0.3, "tiedDropout": true, "pooling": "max""#, false, true);
    check(r#""truncate": 5, "glu": false, "activation": "silu", "finalActivation": "tanh""#, false, false);
    check(r#""norm": "none", "residual": false, "init": "legt", "activation": "relu""#, true, false);
    check(r#""dtTransform": "relu", "realTransform": "softplus", "imagTransform": "exp""#, true, false);
}

#[test]
fn feed_forward_and_drop_path() {
    check(r#""feedForward": 2, "norm": "layer""#, true, false);
    check(r#""feedForward": 1.5, "norm": "batch", "mode": "s4d", "prenorm": false"#, true, false);
    check(r#""feedForward": 2, "norm": "batch", "mode": "s4d", "pooling": "mean""#, false, true);
    check(r#""feedForward": 2, "norm": "none", "residual": false, "dropout": 0.3"#, true, true);
    // Key (9, 4) drops some of the branches of the two sequences and keeps others: see the test below.
    check(r#""feedForward": 2, "dropPath": 0.4, "dropout": 0.3"#, true, true);
    check(r#""feedForward": 1, "dropPath": 0.4, "norm": "layer", "prenorm": false"#, true, true);
    check(r#""dropPath": 0.5, "tiedDropout": true, "dropout": 0.2"#, true, true);
}

#[test]
fn backward_twice_accumulates_twice() {
    for norm in ["layer", "batch"] {
        for pooling in ["none", "mean"] {
            let json = format!(
                r#"{{"input": 2, "output": 2, "features": 4, "layers": 2, "state": 4, "loss": "mse", "dropout": 0.2, "norm": "{norm}", "pooling": "{pooling}"}}"#
            );
            let config = ModelConfig::from_json(&json).unwrap();
            let mut m = Model::new(Cpu::<f64>::new(1).unwrap(), config).unwrap();
            let w = noise(3, m.output_shape(2, 9).iter().product());
            let opts = ForwardOptions { call: in_training(true), save: true, ..Default::default() };
            m.forward(Input::Values(&noise(1, 36)), 2, 9, &opts).unwrap();
            let names: Vec<String> = m.store().infos().iter().map(|p| p.name.clone()).collect();
            let grads =
                |m: &Model<Cpu<f64>>| names.iter().map(|n| m.store().grad(n).unwrap()).collect::<Vec<_>>();
            let dx = m.backward(&w, None).unwrap().dx.unwrap();
            let once = grads(&m);
            close(&format!("{norm} {pooling} dx"), &m.backward(&w, None).unwrap().dx.unwrap(), &dx, 1e-14);
            for ((name, one), two) in names.iter().zip(&once).zip(grads(&m)) {
                for (a, b) in two.iter().zip(one) {
                    let off = (a - 2.0 * b).abs();
                    assert!(off <= 1e-12 * (1.0 + b.abs()), "{norm} {pooling} {name}: {a} for twice {b}");
                }
            }
        }
    }
}

#[test]
fn embeddings() {
    let json =
        r#"{"output": 3, "features": 4, "layers": 1, "state": 4, "encoder": "embedding", "vocabulary": 5}"#;
    let mut m = Model::new(Cpu::<f64>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap();
    let tokens = [0, 1, 2, 2, 1, 0, 0, 2];
    let w = noise(1, 24);
    m.forward(Input::Tokens(&tokens), 2, 4, &ForwardOptions { save: true, ..Default::default() }).unwrap();
    assert!(m.backward(&w, None).unwrap().dx.is_none());
    let (table, grad) = (m.store().get("encoder.weight").unwrap(), m.store().grad("encoder.weight").unwrap());
    assert!(grad[12..].iter().all(|&g| g == 0.0), "rows 3 and 4 were not used");
    let mut numeric = vec![0.0; 12];
    for i in 0..12 {
        let mut f = |e: f64| {
            let mut t = table.clone();
            t[i] += e;
            m.store_mut().set("encoder.weight", &t).unwrap();
            let y = m.forward(Input::Tokens(&tokens), 2, 4, &Default::default()).unwrap().y;
            y.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>()
        };
        numeric[i] = (8.0 * (f(1e-4) - f(-1e-4)) - (f(2e-4) - f(-2e-4))) / 1.2e-3;
    }
    close("embedding", &grad[..12], &numeric, 1e-7);
}

#[test]
fn a_stream_between_forward_and_backward_changes_no_gradient() {
    for norm in ["layer", "batch"] {
        let json = format!(
            r#"{{"input": 2, "output": 2, "features": 4, "layers": 2, "state": 4, "loss": "mse", "norm": "{norm}"}}"#
        );
        let mut m = Model::new(Cpu::<f64>::new(1).unwrap(), ModelConfig::from_json(&json).unwrap()).unwrap();
        let w = noise(3, 36);
        let opts = ForwardOptions { call: in_training(true), save: true, ..Default::default() };
        m.forward(Input::Values(&noise(1, 36)), 2, 9, &opts).unwrap();
        let dx = m.backward(&w, None).unwrap().dx.unwrap();
        let mut stream = m.stream(2, 1.0).unwrap();
        stream.push_new(&mut m, Input::Values(&noise(2, 4)), 1, &StepOptions { interval: None }).unwrap();
        close(&format!("{norm} dx"), &m.backward(&w, None).unwrap().dx.unwrap(), &dx, 1e-14);
        // And where the first backward comes after the push.
        m.forward(Input::Values(&noise(1, 36)), 2, 9, &opts).unwrap();
        stream.push_new(&mut m, Input::Values(&noise(2, 4)), 1, &StepOptions { interval: None }).unwrap();
        close(&format!("{norm} first dx"), &m.backward(&w, None).unwrap().dx.unwrap(), &dx, 1e-14);
    }
}
