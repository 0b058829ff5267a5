//! Sequences whose number of time steps is no multiple of eight, in training with dropout, which pads them.

use crate::common::*;
use s4_nn::*;

fn model(json: &str) -> Model<Cpu<f32>> {
    Model::new(Cpu::<f32>::new(2).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

#[test]
fn a_kernel_as_long_as_the_sequences_stays_whole() {
    let json = r#"{"input": 1, "output": 1, "features": 6, "layers": 1, "state": 8, "loss": "mse", "dropout": 0.2,
        "truncate": 70}"#;
    for len in [66, 67, 70] {
        let (x, y): (Vec<f32>, Vec<f32>) = (cast(&noise(1, len)), cast(&noise(2, len)));
        let mut batch = Batch::new(Input::Values(&x), TargetData::Values(&y), 1, len);
        batch.call.algorithm = Algorithm::Chunk;
        let mut m = model(json);
        let mut t = Trainer::new(&m, TrainConfig::default()).unwrap();
        t.train_step(&mut m, &batch).unwrap();
        assert!(t.read_stats(&m).unwrap().loss.is_finite(), "{len}");
    }
}

/// The last sequence alone is not finite: the tensor is found by its last features.
#[test]
fn a_failure_at_the_end_of_a_padded_batch_is_named() {
    let json =
        r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "loss": "mse", "dropout": 0.2}"#;
    let (rows, len) = (16, 67);
    let good: Vec<f32> = cast(&noise(1, rows * len));
    let y: Vec<f32> = cast(&noise(2, rows * len));
    let mut bad = good.clone();
    bad[(rows - 1) * len..].fill(3e38);
    let of = |x| Batch::new(Input::Values(x), TargetData::Values(&y), rows, len);
    let start = || {
        let mut m = model(json);
        let weight = m.store().get("encoder.weight").unwrap();
        let large: Vec<f32> = weight.iter().map(|w| w.signum() * 4.0).collect();
        m.store_mut().set("encoder.weight", &large).unwrap();
        let t = Trainer::new(&m, TrainConfig::default()).unwrap();
        (m, t)
    };
    let (mut a, mut ta) = start();
    ta.train_step(&mut a, &of(&bad)).unwrap();
    let want = ta.read_stats(&a).unwrap_err();
    assert_eq!(want.tensor.as_deref(), Some("encoder"));
    let (mut b, mut tb) = start();
    tb.train_step(&mut b, &of(&bad)).unwrap();
    tb.accumulate(&mut b, &of(&good)).unwrap();
    let error = tb.read_stats(&b).unwrap_err();
    let error = tb.find_failed_tensor(&mut b, &of(&bad), error).unwrap();
    assert_eq!(error.to_string(), want.to_string());
}
