//! Streams at their limits: what is not finite is refused and changes nothing; what may change between two pushes is right.

use crate::{common::*, training::with_header};
use s4_nn::*;

fn model<T: Scalar>(json: &str) -> Model<Cpu<T>>
where
    Cpu<T>: Backend<Scalar = T>,
{
    Model::new(Cpu::<T>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

/// The numbers of a saved state, behind its header.
fn numbers(saved: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
}

/// Outputs of a push, or the code of its error.
fn push(
    stream: &mut Stepper<Cpu<f32>>,
    m: &mut Model<Cpu<f32>>,
    x: &[f32],
    interval: Option<&[f32]>,
) -> Result<Vec<f32>, &'static str> {
    let len = x.len() / (stream.batch() * m.config().input);
    let pushed = stream.push_new(m, Input::Values(x), len, &StepOptions { interval });
    pushed.map_err(|error| error.code.as_str())
}

/// x′ = e·x + …: an impulse overflows f32 after 88 samples (Λ = 1, Δ = 1).
fn growing(activation: &str, pooling: &str) -> Model<Cpu<f32>> {
    let mut m = model(&format!(
        r#"{{"features": 1, "layers": 1, "state": 2, "mode": "s4d", "realTransform": "none", "dtTransform": "none",
            "norm": "none", "residual": false, "glu": false, "activation": "{activation}", "pooling": "{pooling}", "loss": "mse"}}"#
    ));
    let store = m.store_mut();
    for (name, value) in [
        ("encoder.weight", &[1.0][..]),
        ("encoder.bias", &[0.0]),
        ("blocks.0.layer.kernel.inv_dt", &[1.0]),
        ("blocks.0.layer.kernel.A_real", &[-1.0]),
        ("blocks.0.layer.kernel.A_imag", &[0.0]),
        ("blocks.0.layer.kernel.B", &[1.0, 0.0]),
        ("blocks.0.layer.kernel.C", &[-0.5, 0.0]),
        ("blocks.0.layer.D", &[0.0]),
    ] {
        store.set(name, value).unwrap();
    }
    m
}

#[test]
fn a_state_that_overflows_is_refused_and_the_one_before_is_kept() {
    for (activation, pooling) in [
        ("gelu", "none"),
        ("identity", "none"),
        ("tanh", "none"),
        ("relu", "none"),
        ("sigmoid", "mean"),
        ("gelu", "max"),
        ("gelu", "first"),
    ] {
        let what = format!("{activation} {pooling}");
        let mut m = growing(activation, pooling);
        let mut stream = m.stream(1, 1.0).unwrap();
        let (mut seen, mut saved) = (0, stream.save().unwrap());
        let code = loop {
            let x = if seen == 0 { 1.0 } else { 0.0 };
            match push(&mut stream, &mut m, &[x], None) {
                Ok(y) => assert!(y.iter().all(|y| y.is_finite()), "{what}: {y:?} at {seen}"),
                Err(code) => break code,
            }
            saved = stream.save().unwrap();
            seen += 1;
        };
        assert_eq!(code, "ERR_S4_NONFINITE", "{what}");
        // e^88.7 is the largest f32; the pools and an identity may overflow a little before.
        assert!((80..=90).contains(&seen), "{what}: {seen} samples");
        assert_eq!(stream.position(), seen);
        assert_eq!(numbers(&stream.save().unwrap()), numbers(&saved), "{what}");
        // Only a finite state is taken back.
        m.stream(1, 1.0).unwrap().restore(&saved).unwrap();
        assert_eq!(push(&mut stream, &mut m, &[0.0], None), Err("ERR_S4_NONFINITE"), "{what}");
        assert_eq!(numbers(&stream.save().unwrap()), numbers(&saved), "{what}");

        // In one push, and in one of many samples.
        for len in [100, 1000] {
            let mut x = vec![0.0; len];
            x[0] = 1.0;
            let mut stream = m.stream(1, 1.0).unwrap();
            push(&mut stream, &mut m, &[0.25], None).unwrap();
            let before = numbers(&stream.save().unwrap());
            assert_eq!(push(&mut stream, &mut m, &x, None), Err("ERR_S4_NONFINITE"), "{what} {len}");
            assert_eq!((numbers(&stream.save().unwrap()), stream.position()), (before, 1), "{what} {len}");
        }
    }
}

#[test]
fn a_refused_push_leaves_every_later_output_as_it_would_be() {
    for pooling in ["none", "mean", "max"] {
        let json = format!(
            r#"{{"input": 2, "output": 2, "features": 6, "layers": 2, "state": 8, "loss": "mse", "pooling": "{pooling}"}}"#
        );
        let mut m = model::<f32>(&json);
        let wide: Vec<f32> = m.store().get("encoder.weight").unwrap().iter().map(|w| w * 1e3).collect();
        m.store_mut().set("encoder.weight", &wide).unwrap();
        let x: Vec<f32> = cast(&noise(8, 2 * 2 * 4000));
        let (mut stream, mut undisturbed) = (m.stream(2, 1.0).unwrap(), m.stream(2, 1.0).unwrap());
        let mut at = 0;
        for i in 0..140usize {
            let len = [1, 1, 1, 3, 1, 40][i % 6];
            let part = &x[at * 4..][..len * 4];
            at += len;
            let by_row = [0.5, 2.0];
            let by_sample: Vec<f32> = (0..2 * len).map(|k| 1.0 + k as f32).collect();
            let interval = [None, None, Some(&by_row[..]), Some(&by_sample)][i % 4];
            if i % 7 == 0 {
                for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
                    let mut wrong = part.to_vec();
                    wrong[len * 4 - 1] = bad;
                    let refused = push(&mut stream, &mut m, &wrong, interval);
                    assert_eq!(refused, Err("ERR_S4_NONFINITE"), "{pooling} push {i} with {bad}");
                }
            }
            // Sizes and other arguments that are wrong.
            assert!(push(&mut stream, &mut m, &part[..len * 4 - 1], interval).is_err());
            assert_eq!(push(&mut stream, &mut m, part, Some(&[-1.0, 1.0])), Err("ERR_S4_VALUE"));
            let got = push(&mut stream, &mut m, part, interval).unwrap();
            assert_eq!(got, push(&mut undisturbed, &mut m, part, interval).unwrap(), "{pooling} push {i}");
            if i % 50 == 49 {
                // Other parameters from here on.
                let d = m.store().get("blocks.1.layer.D").unwrap();
                let moved: Vec<f32> = d.iter().map(|d| d + 0.5).collect();
                m.store_mut().set("blocks.1.layer.D", &moved).unwrap();
            }
        }
        assert_eq!(stream.position(), undisturbed.position());
        assert_eq!(numbers(&stream.save().unwrap()), numbers(&undisturbed.save().unwrap()));
    }
}

#[test]
fn a_state_goes_on_at_another_rate() {
    // A rate multiplies every Δ, as an interval does.
    let mut m = model::<f32>(r#"{"output": 1, "features": 4, "layers": 2, "state": 8, "loss": "mse"}"#);
    let x: Vec<f32> = cast(&noise(9, 60));
    let (mut slow, mut fast) = (m.stream(1, 1.0).unwrap(), m.stream(1, 3.0).unwrap());
    push(&mut slow, &mut m, &x[..20], None).unwrap();
    fast.restore(&slow.save().unwrap()).unwrap();
    let want = push(&mut slow, &mut m, &x[20..], Some(&[3.0])).unwrap();
    let got = push(&mut fast, &mut m, &x[20..], None).unwrap();
    close("rate 3 after rate 1", &wide(&got), &wide(&want), 1e-5);
}

#[test]
fn states_of_other_kinds_are_refused() {
    let kind = |more: &str| model::<f32>(&format!(r#"{{"output": 1, "layers": 2, "loss": "mse", {more}}}"#));
    let m = kind(r#""features": 8, "state": 4"#);
    let stream = m.stream(1, 1.0).unwrap();
    let saved = stream.save().unwrap();
    kind(r#""features": 8, "state": 4, "seed": 3"#).stream(1, 1.0).unwrap().restore(&saved).unwrap();
    // As many numbers, of another meaning.
    for other in [r#""features": 4, "state": 8"#, r#""features": 8, "state": 4, "pooling": "mean""#] {
        let mut other = kind(other).stream(1, 1.0).unwrap();
        let before = numbers(&other.save().unwrap());
        assert_eq!(other.restore(&saved).unwrap_err().code.as_str(), "ERR_S4_CHECKPOINT");
        assert_eq!(numbers(&other.save().unwrap()), before);
    }
    assert_eq!(m.stream(2, 1.0).unwrap().restore(&saved).unwrap_err().code.as_str(), "ERR_S4_CHECKPOINT");
}

#[test]
fn a_position_that_cannot_be_counted_on_from_is_refused() {
    let mut m = model::<f32>(
        r#"{"output": 1, "layers": 2, "loss": "mse", "features": 8, "state": 4, "pooling": "mean"}"#,
    );
    let mut stream = m.stream(1, 1.0).unwrap();
    push(&mut stream, &mut m, &[0.5; 3], None).unwrap();
    let saved = stream.save().unwrap();
    let at =
        |position: &str| with_header(&saved, |header| header["__metadata__"]["position"] = position.into());
    for position in ["18446744073709551615", "9007199254740992", "-1", "3.5", ""] {
        let error = stream.restore(&at(position)).unwrap_err();
        assert_eq!(error.code.as_str(), "ERR_S4_CHECKPOINT", "{position}");
        assert_eq!(stream.position(), 3);
    }
    // The largest one that JavaScript counts to, and on from it.
    stream.restore(&at("9007199254740991")).unwrap();
    push(&mut stream, &mut m, &[0.5; 3], None).unwrap();
    assert_eq!(stream.position(), 9_007_199_254_740_994);
}

#[test]
fn a_step_of_a_layer_that_overflows_keeps_its_state() {
    let json =
        r#"{"features": 1, "state": 2, "mode": "s4d", "realTransform": "none", "dtTransform": "none"}"#;
    let mut layer = Layer::new(Cpu::<f32>::new(1).unwrap(), LayerConfig::from_json(json).unwrap()).unwrap();
    for (name, value) in
        [("kernel.inv_dt", &[1.0][..]), ("kernel.A_real", &[-1.0]), ("kernel.A_imag", &[0.0]), ("D", &[0.0])]
    {
        layer.store_mut().set(name, value).unwrap();
    }
    let mut state = [3e38, 0.0];
    let error = layer.step(&[0.0], &mut state, None, 1, 1.0).unwrap_err();
    assert_eq!(error.code.as_str(), "ERR_S4_NONFINITE");
    assert_eq!(state, [3e38, 0.0]);
}

#[test]
fn the_state_of_a_deeper_model_is_refused() {
    let of = |layers: usize| {
        model::<f32>(&format!(r#"{{"features": 4, "layers": {layers}, "state": 4, "loss": "mse"}}"#))
    };
    let (two, three) = (of(2), of(3));
    let saved = three.stream(1, 1.0).unwrap().save().unwrap();
    let error = two.stream(1, 1.0).unwrap().restore(&saved).unwrap_err();
    assert!(error.to_string().contains("layers 3 for 2"), "{error}");
}

#[test]
fn each_array_of_a_stream_fits_though_the_product_of_all_sizes_is_huge() {
    // 33·32·4·256·2^20 > 2^40, but the states are 2^20 numbers and the outputs of a time step 33·2^20.
    let json =
        r#"{"features": 4, "state": 256, "layers": 32, "output": 1048576, "mode": "s4d", "loss": "mse"}"#;
    let mut m = model::<f32>(json);
    let mut stream = m.stream(33, 1.0).unwrap();
    let y = push(&mut stream, &mut m, &[0.5; 33], None).unwrap();
    assert_eq!(y.len(), 33 << 20);
    let too_many = m.stream(1 << 30, 1.0).map(drop).unwrap_err().code.as_str();
    assert!(["ERR_S4_SHAPE", "ERR_S4_MEMORY"].contains(&too_many), "{too_many}");
}
