//! Whole networks: convolution = chunks with carried state = steps; rows with lengths = rows alone; pooled streams.

use crate::common::*;
use s4_nn::*;

fn model<T: Scalar>(json: &str, threads: usize) -> Model<Cpu<T>>
where
    Cpu<T>: Backend<Scalar = T>,
{
    Model::new(Cpu::<T>::new(threads).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

/// Running statistics that are not trivial: a few training forwards.
fn warm<T: Scalar>(m: &mut Model<Cpu<T>>, len: usize)
where
    Cpu<T>: Backend<Scalar = T>,
{
    let x: Vec<T> = cast(&noise(5, 2 * len * m.config().input));
    let opts = ForwardOptions { call: in_training(true), ..Default::default() };
    for _ in 0..3 {
        m.forward(Input::Values(&x), 2, len, &opts).unwrap();
    }
}

fn convolution_chunks_steps<T: Scalar>(tol: f64)
where
    Cpu<T>: Backend<Scalar = T>,
{
    for (mode, feed_forward) in [("s4", 0), ("s4d", 0), ("s4", 2)] {
        for (norm, prenorm) in [("layer", true), ("layer", false), ("batch", true), ("batch", false)] {
            let what = format!("{mode} {norm} prenorm {prenorm} feed-forward {feed_forward}");
            let mut m = model::<T>(
                &format!(
                    r#"{{"input": 2, "output": 3, "features": 12, "layers": 4, "state": 16, "mode": "{mode}",
                        "norm": "{norm}", "prenorm": {prenorm}, "loss": "mse", "seed": 3, "feedForward": {feed_forward}}}"#
                ),
                2,
            );
            warm(&mut m, 50);
            let (batch, len) = (2, 1047);
            let x: Vec<T> = cast(&noise(1, batch * len * 2));
            let whole = m.forward(
                Input::Values(&x),
                batch,
                len,
                &ForwardOptions { call: by(Algorithm::Fft), want_state_end: true, ..Default::default() },
            );
            let whole = whole.unwrap();
            let y = wide(&whole.y);
            // By forward calls that are given the last one's state.
            let (mut at, mut state, mut parts) = (0, None::<Vec<T>>, vec![0.0; y.len()]);
            for n in [1, 7, 64, 489, 486] {
                let part: Vec<T> =
                    (0..batch).flat_map(|b| x[(b * len + at) * 2..][..n * 2].to_vec()).collect();
                let opts =
                    ForwardOptions { state0: state.as_deref(), want_state_end: true, ..Default::default() };
                let out = m.forward(Input::Values(&part), batch, n, &opts).unwrap();
                for b in 0..batch {
                    parts[(b * len + at) * 3..][..n * 3].copy_from_slice(&wide(&out.y[b * n * 3..][..n * 3]));
                }
                state = out.state_end;
                at += n;
            }
            assert_eq!(at, len);
            close(&format!("{what} carried"), &parts, &y, tol);
            close(&format!("{what} state"), &wide(&state.unwrap()), &wide(&whole.state_end.unwrap()), tol);
            // By pushes of one size, and one by one.
            for n in [1, 7, 64, 1000] {
                let mut stream = m.stream(batch, 1.0).unwrap();
                let mut out = vec![0.0; y.len()];
                let mut at = 0;
                while at < len {
                    let n = n.min(len - at);
                    let part: Vec<T> =
                        (0..batch).flat_map(|b| x[(b * len + at) * 2..][..n * 2].to_vec()).collect();
                    let mut got = vec![T::zero(); batch * n * 3];
                    stream.push(&mut m, Input::Values(&part), n, &StepOptions::default(), &mut got).unwrap();
                    for b in 0..batch {
                        out[(b * len + at) * 3..][..n * 3].copy_from_slice(&wide(&got[b * n * 3..][..n * 3]));
                    }
                    at += n;
                }
                assert_eq!(stream.position(), len as u64);
                close(&format!("{what} pushes of {n}"), &out, &y, tol);
            }
        }
    }
}

#[test]
fn convolution_chunks_steps_f32() {
    convolution_chunks_steps::<f32>(1e-5);
}

#[test]
fn convolution_chunks_steps_f64() {
    convolution_chunks_steps::<f64>(1e-10);
}

#[test]
fn rows_with_lengths_are_rows_alone() {
    for (options, pooled) in [
        (r#""pooling": "mean", "loss": "mse""#, true),
        (r#""pooling": "last", "loss": "mse", "mode": "s4d""#, true),
        (r#""pooling": "max", "loss": "mse", "bidirectional": true"#, true),
        (r#""pooling": "sum", "loss": "mse", "prenorm": false"#, true),
        (r#""pooling": "first", "loss": "mse", "channels": 2"#, true),
        (r#""loss": "mse", "truncate": 20"#, false),
        (r#""loss": "mse", "norm": "batch""#, false),
    ] {
        let mut m = model::<f64>(
            &format!(r#"{{"input": 2, "output": 3, "features": 6, "layers": 2, "state": 8, {options}}}"#),
            2,
        );
        let (len, lengths) = (130, [130, 1, 64, 77]);
        let x = noise(2, 4 * len * 2);
        let y = m
            .forward(
                Input::Values(&x),
                4,
                len,
                &ForwardOptions { call: with_lengths(&lengths), ..Default::default() },
            )
            .unwrap()
            .y;
        let weight = noise(4, 4 * if pooled { 1 } else { len } * 3);
        let run = |m: &mut Model<Cpu<f64>>, rows: &[usize]| {
            m.store_mut().zero_grad().unwrap();
            let mut dx = Vec::new();
            for &row in rows {
                let n = lengths[row] as usize;
                let opts = ForwardOptions { save: true, ..Default::default() };
                let alone = m.forward(Input::Values(&x[row * len * 2..][..n * 2]), 1, n, &opts).unwrap().y;
                let (size, at) = if pooled { (3, row * 3) } else { (n * 3, row * len * 3) };
                close(&format!("{options} row {row}"), &y[at..][..size], &alone, 1e-12);
                assert!(pooled || y[at + size..][..(len - n) * 3].iter().all(|&v| v == 0.0));
                let part = m.backward(&weight[at..][..size], None).unwrap().dx.unwrap();
                dx.extend(part);
                dx.extend(vec![0.0; (len - n) * 2]);
            }
            dx
        };
        let dx_alone = run(&mut m, &[0, 1, 2, 3]);
        let alone: Vec<(String, Vec<f64>)> =
            m.store().infos().iter().map(|p| (p.name.clone(), m.store().grad(&p.name).unwrap())).collect();
        m.store_mut().zero_grad().unwrap();
        let opts = ForwardOptions { call: with_lengths(&lengths), save: true, ..Default::default() };
        m.forward(Input::Values(&x), 4, len, &opts).unwrap();
        let dx = m.backward(&weight, None).unwrap().dx.unwrap();
        close(&format!("{options} dx"), &dx, &dx_alone, 1e-10);
        for (name, want) in alone {
            close(&format!("{options} {name}"), &m.store().grad(&name).unwrap(), &want, 1e-10);
        }
    }
}

#[test]
fn pooled_streams_give_the_prefix() {
    for pooling in ["mean", "max", "sum", "first", "last"] {
        let mut m = model::<f64>(
            &format!(
                r#"{{"input": 1, "output": 2, "features": 4, "layers": 2, "state": 8, "pooling": "{pooling}"}}"#
            ),
            1,
        );
        let x = noise(7, 70);
        for n in [1, 70] {
            let mut stream = m.stream(1, 1.0).unwrap();
            let mut out = vec![0.0; 140];
            for at in (0..70).step_by(n) {
                let got = &mut out[at * 2..][..n * 2];
                stream.push(&mut m, Input::Values(&x[at..][..n]), n, &StepOptions::default(), got).unwrap();
            }
            for end in [1, 2, 33, 70] {
                let y = m.forward(Input::Values(&x[..end]), 1, end, &Default::default()).unwrap().y;
                close(&format!("{pooling} prefix {end}"), &out[(end - 1) * 2..][..2], &y, 1e-10);
            }
        }
    }
}

#[test]
fn streams_save_restore_fork_and_refuse() {
    let json = r#"{"output": 1, "features": 4, "layers": 2, "state": 8, "loss": "mse", "pooling": "mean"}"#;
    let mut m = model::<f32>(json, 1);
    let push = |s: &mut Stepper<Cpu<f32>>, m: &mut Model<Cpu<f32>>, x: f32| {
        let mut y = [0.0f32];
        s.push(m, Input::Values(&[x]), 1, &StepOptions::default(), &mut y).map(|()| y[0])
    };
    let mut a = m.stream(1, 1.0).unwrap();
    for t in 0..10 {
        push(&mut a, &mut m, (t as f32).sin()).unwrap();
    }
    let saved = a.save().unwrap();
    let mut fork = a.fork(&m).unwrap();
    let next: Vec<f32> = (0..5).map(|t| push(&mut a, &mut m, t as f32).unwrap()).collect();
    let forked: Vec<f32> = (0..5).map(|t| push(&mut fork, &mut m, t as f32).unwrap()).collect();
    assert_eq!(next, forked);
    a.restore(&saved).unwrap();
    assert_eq!(a.position(), 10);
    let again: Vec<f32> = (0..5).map(|t| push(&mut a, &mut m, t as f32).unwrap()).collect();
    assert_eq!(next, again);
    a.reset().unwrap();
    let mut fresh = m.stream(1, 1.0).unwrap();
    assert_eq!(push(&mut a, &mut m, 0.5).unwrap(), push(&mut fresh, &mut m, 0.5).unwrap());
    // Damaged or foreign states change nothing.
    for cut in [0, 7, 8, saved.len() / 2, saved.len() - 1] {
        assert_eq!(a.restore(&saved[..cut]).unwrap_err().code.as_str(), "ERR_S4_CHECKPOINT");
    }
    assert_eq!(m.stream(2, 1.0).unwrap().restore(&saved).unwrap_err().code.as_str(), "ERR_S4_CHECKPOINT");
    assert_eq!(push(&mut a, &mut m, f32::NAN).unwrap_err().code.as_str(), "ERR_S4_NONFINITE");
    assert_eq!(push(&mut a, &mut m, 0.25).unwrap(), push(&mut fresh, &mut m, 0.25).unwrap());
    // Two-sided and truncated models do not stream; another model is refused.
    for extra in [r#""bidirectional": true"#, r#""truncate": 9"#] {
        let m = model::<f32>(&format!(r#"{{"features": 4, "layers": 1, "state": 8, {extra}}}"#), 1);
        assert_eq!(m.stream(1, 1.0).err().unwrap().code.as_str(), "ERR_S4_UNSUPPORTED");
    }
    let mut other =
        model::<f32>(r#"{"output": 1, "features": 6, "layers": 2, "state": 8, "loss": "mse"}"#, 1);
    assert_eq!(push(&mut a, &mut other, 0.25).unwrap_err().code.as_str(), "ERR_S4_VALUE");
}

#[test]
fn intervals_equal_rates() {
    // An interval of 2 at every step is a rate of 2.
    let json = r#"{"input": 2, "output": 2, "features": 6, "layers": 2, "state": 8, "loss": "mse"}"#;
    let mut m = model::<f64>(json, 1);
    let (len, x) = (40, noise(3, 80));
    let want = m
        .forward(Input::Values(&x), 1, len, &ForwardOptions { call: at_rate(2.0), ..Default::default() })
        .unwrap()
        .y;
    let mut out = vec![0.0; want.len()];
    let interval = vec![2.0; len];
    let mut stream = m.stream(1, 1.0).unwrap();
    stream
        .push(&mut m, Input::Values(&x), len, &StepOptions { interval: Some(&interval) }, &mut out)
        .unwrap();
    close("interval 2", &out, &want, 1e-10);
    let mut stream = m.stream(1, 2.0).unwrap();
    stream.push(&mut m, Input::Values(&x), len, &StepOptions::default(), &mut out).unwrap();
    close("rate 2", &out, &want, 1e-10);
}
