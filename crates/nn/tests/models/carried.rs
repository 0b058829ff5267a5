//! States that run on from batch to batch: what they are worth, and when there are none to go on from.

use crate::common::*;
use s4_nn::*;

#[test]
fn carried_state_is_one_long_forward() {
    // With a learning rate of 0 the loss of the second chunk is that of the long sequence's second half.
    let json = r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "loss": "mse"}"#;
    let mut m = Model::new(Cpu::<f64>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap();
    let still = AdamConfig { lr: 0.0, ssm_lr: 0.0, ..Default::default() };
    let config = TrainConfig { adam: still, carry_state: true, ..Default::default() };
    let mut t = Trainer::new(&m, config.clone()).unwrap();
    let (x, y) = (noise(1, 150), noise(2, 150));
    let whole = m.forward(Input::Values(&x), 1, 150, &Default::default()).unwrap().y;
    let mut at = 0;
    for n in [70, 1, 79] {
        let batch = Batch::new(Input::Values(&x[at..at + n]), TargetData::Values(&y[at..at + n]), 1, n);
        t.train_step(&mut m, &batch).unwrap();
        let want: f64 = (at..at + n).map(|i| (whole[i] - y[i]) * (whole[i] - y[i])).sum::<f64>() / n as f64;
        close("carried loss", &[t.read_stats(&m).unwrap().loss], &[want], 1e-10);
        at += n;
    }
    // Carried states are in the checkpoint: the next loss is the same.
    let saved = save_bytes(&m, Some(&t), None).unwrap();
    let LoadedCheckpoint { model: mut m2, trainer, .. } =
        load_bytes(Cpu::<f64>::new(1).unwrap(), &saved).unwrap();
    let mut t2 = trainer.unwrap();
    let batch = Batch::new(Input::Values(&x[..50]), TargetData::Values(&y[..50]), 1, 50);
    let loss = |m: &mut Model<Cpu<f64>>, t: &mut Trainer<Cpu<f64>>| {
        t.train_step(m, &batch).unwrap();
        t.read_stats(m).unwrap().loss
    };
    let carried = loss(&mut m, &mut t);
    assert_eq!(carried, loss(&mut m2, &mut t2));
    t.reset_state().unwrap();
    let fresh = loss(&mut m, &mut t);
    let mut t3 = Trainer::new(&m, config).unwrap();
    assert_eq!(fresh, loss(&mut m, &mut t3));
    assert!((fresh - carried).abs() > 1e-9);
    // Other rows have no states to go on from, until the states are forgotten or not carried.
    let two = Batch::new(Input::Values(&x[..100]), TargetData::Values(&y[..100]), 2, 50);
    let error = t.train_step(&mut m, &two).unwrap_err();
    assert_eq!(error.code.as_str(), "ERR_S4_SHAPE", "{error}");
    assert_eq!(loss(&mut m, &mut t), loss(&mut m, &mut t3));
    t.reset_state().unwrap();
    t.train_step(&mut m, &two).unwrap();
    let one_by_one: f64 = (0..2)
        .map(|row| {
            let (x, y) = (&x[row * 50..][..50], &y[row * 50..][..50]);
            let out = m.forward(Input::Values(x), 1, 50, &Default::default()).unwrap().y;
            out.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / 100.0
        })
        .sum();
    close("rows from zero", &[t.read_stats(&m).unwrap().loss], &[one_by_one], 1e-10);
    t.reconfigure(&m, TrainConfig { carry_state: false, ..t.config().clone() }).unwrap();
    assert_eq!(fresh, loss(&mut m, &mut t));
}
