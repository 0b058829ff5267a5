//! Weights and accumulation: losses and gradients are Σ weight·value/Σ weight over whatever is averaged.

use crate::common::*;
use s4_nn::*;

const SMALL: &str = r#"{"input": 1, "output": 2, "features": 6, "layers": 1, "state": 8, "loss": "mse"}"#;
const LEN: usize = 12;

fn model(json: &str) -> Model<Cpu<f64>> {
    Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

struct Rows {
    x: Vec<f64>,
    y: Vec<f64>,
    weights: Vec<f64>,
    lengths: Vec<i32>,
}

impl Rows {
    fn new(seed: u64, rows: usize, weight: f64, length: i32) -> Self {
        let weights = noise(seed + 2, rows * LEN).iter().map(|w| weight * (0.2 + w.abs())).collect();
        let (x, y) = (noise(seed, rows * LEN), noise(seed + 1, rows * LEN * 2));
        Rows { x, y, weights, lengths: vec![length; rows] }
    }
    fn joined(parts: &[&Rows]) -> Self {
        let all = |f: fn(&Rows) -> &[f64]| parts.iter().flat_map(|p| f(p).to_vec()).collect();
        Rows {
            x: all(|p| &p.x),
            y: all(|p| &p.y),
            weights: all(|p| &p.weights),
            lengths: parts.iter().flat_map(|p| p.lengths.clone()).collect(),
        }
    }
    fn batch(&self) -> Batch<'_, f64> {
        let (input, target) = (Input::Values(&self.x), TargetData::Values(&self.y));
        Batch {
            weights: Some(&self.weights),
            call: with_lengths(&self.lengths),
            ..Batch::new(input, target, self.lengths.len(), LEN)
        }
    }
    /// (Σ weight·loss, Σ weight) of the model's own outputs.
    fn sums(&self, m: &mut Model<Cpu<f64>>) -> (f64, f64) {
        let options = ForwardOptions { call: with_lengths(&self.lengths), ..Default::default() };
        let y = m.forward(Input::Values(&self.x), self.lengths.len(), LEN, &options).unwrap().y;
        let (mut loss, mut total) = (0.0, 0.0);
        for (i, w) in self.weights.iter().enumerate() {
            if i % LEN < self.lengths[i / LEN] as usize {
                let each = (0..2).map(|k| (y[2 * i + k] - self.y[2 * i + k]).powi(2)).sum::<f64>() / 2.0;
                loss += w * each;
                total += w;
            }
        }
        (loss, total)
    }
}

fn gradients(m: &Model<Cpu<f64>>) -> Vec<f64> {
    m.store().infos().iter().flat_map(|p| m.store().grad(&p.name).unwrap()).collect()
}

fn values(m: &Model<Cpu<f64>>) -> Vec<f64> {
    m.store().infos().iter().flat_map(|p| m.store().get(&p.name).unwrap()).collect()
}

#[test]
fn an_evaluation_is_the_mean_by_weight_over_its_batches() {
    let mut m = model(SMALL);
    let parts = [Rows::new(1, 2, 1.0, 12), Rows::new(11, 3, 0.01, 7), Rows::new(21, 1, 0.0, 12)];
    let mut total = Evaluation::default();
    let (mut loss, mut weight) = (0.0, 0.0);
    for part in &parts {
        m.evaluate(&part.batch(), 1, &mut total).unwrap();
        let sums = part.sums(&mut m);
        (loss, weight) = (loss + sums.0, weight + sums.1);
    }
    close("loss", &[total.means().loss], &[loss / weight], 1e-12);
    close("weight", &[total.weight], &[weight], 1e-12);
}

#[test]
fn accumulated_batches_are_the_joint_batch() {
    let parts = [
        Rows::new(1, 2, 1.0, 12),
        Rows::new(11, 3, 0.01, 7),
        Rows::new(21, 1, 0.0, 12),
        Rows::new(31, 1, 5.0, 3),
    ];
    let joint = Rows::joined(&parts.iter().collect::<Vec<_>>());
    let config =
        TrainConfig { adam: AdamConfig { clip: Some(0.05), ..Default::default() }, ..Default::default() };
    let (mut a, mut b) = (model(SMALL), model(SMALL));
    let (mut ta, mut tb) = (Trainer::new(&a, config.clone()).unwrap(), Trainer::new(&b, config).unwrap());
    for _ in 0..3 {
        let (loss, weight) = joint.sums(&mut b);
        for part in parts.iter() {
            ta.accumulate(&mut a, &part.batch()).unwrap();
        }
        tb.accumulate(&mut b, &joint.batch()).unwrap();
        close("gradients", &gradients(&a), &gradients(&b), 1e-10);
        ta.update(&mut a).unwrap();
        tb.update(&mut b).unwrap();
        let (sa, sb) = (ta.read_stats(&a).unwrap(), tb.read_stats(&b).unwrap());
        close("loss", &[sa.loss, sb.loss, sa.weight], &[loss / weight, loss / weight, weight], 1e-10);
        close("norm", &[sa.grad_norm], &[sb.grad_norm], 1e-10);
        let norm = gradients(&b).iter().map(|g| g * g).sum::<f64>().sqrt();
        close("norm of the joint gradient", &[sb.grad_norm], &[norm], 1e-10);
        assert_eq!(sa.rows, sb.rows);
        close("parameters", &values(&a), &values(&b), 1e-6);
    }
}

#[test]
fn a_batch_of_small_weights_alone_has_the_gradient_of_its_mean() {
    let (mut a, mut b) = (model(SMALL), model(SMALL));
    let (large, small) = (Rows::new(1, 2, 1.0, 12), Rows::new(1, 2, 0.01, 12));
    let mut ta = Trainer::new(&a, TrainConfig::default()).unwrap();
    let mut tb = Trainer::new(&b, TrainConfig::default()).unwrap();
    ta.accumulate(&mut a, &large.batch()).unwrap();
    tb.accumulate(&mut b, &small.batch()).unwrap();
    close("gradients", &gradients(&a), &gradients(&b), 1e-12);
}

#[test]
fn labels_that_are_left_out_count_nothing() {
    let json = r#"{"input": 1, "output": 2, "features": 6, "layers": 1, "state": 8, "pooling": "mean"}"#;
    let (mut a, mut b) = (model(json), model(json));
    let mut ta = Trainer::new(&a, TrainConfig::default()).unwrap();
    let mut tb = Trainer::new(&b, TrainConfig::default()).unwrap();
    let x = noise(1, 3 * LEN);
    let batch = |labels| Batch::new(Input::Values(&x), TargetData::Labels(labels), 3, LEN);
    // Of three rows one is left out; a batch of none changes nothing, wherever it stands.
    ta.train_step(&mut a, &batch(&[-1, -1, -1])).unwrap();
    let stats = ta.read_stats(&a).unwrap();
    assert!(stats.loss.is_nan() && (stats.step, stats.rows, stats.weight) == (0, 0, 0.0));
    assert_eq!(values(&a), values(&b));
    for labels in [&[-1, -1, -1], &[0, -1, 1], &[-1, -1, -1]] {
        ta.accumulate(&mut a, &batch(labels)).unwrap();
    }
    ta.update(&mut a).unwrap();
    tb.train_step(&mut b, &batch(&[0, -1, 1])).unwrap();
    let (sa, sb) = (ta.read_stats(&a).unwrap(), tb.read_stats(&b).unwrap());
    assert_eq!((sa.time_steps, sb.time_steps), (9 * LEN as u64, 3 * LEN as u64));
    assert_eq!((sa.weight, sa.rows), (2.0, 2));
    assert_eq!(StepStats { time_steps: 0, ..sa }, StepStats { time_steps: 0, ..sb });
    assert_eq!(values(&a), values(&b));
    // Hits count by weight.
    let weights = [0.25, 1.0, 0.5];
    let mut total = Evaluation::default();
    a.evaluate(&Batch { weights: Some(&weights), ..batch(&[0, 0, 0]) }, 1, &mut total).unwrap();
    let y = a.forward(Input::Values(&x), 3, LEN, &Default::default()).unwrap().y;
    let hits: f64 = (0..3).filter(|r| y[2 * r] >= y[2 * r + 1]).map(|r| weights[r]).sum();
    close("accuracy", &[total.means().accuracy], &[hits / 1.75], 1e-12);
}

#[test]
fn what_does_not_count_may_be_anything() {
    let mut batch = OwnedBatch {
        input: OwnedArray::Values(vec![1.0, 2.0, f64::NAN, 4.0, f64::INFINITY, f64::NAN]),
        target: OwnedArray::Values(vec![1.0, f64::NAN, f64::NAN, 4.0, f64::NAN, f64::NAN]),
        batch: 2,
        len: 3,
        lengths: Some(vec![2, 1]),
        intervals: Some(vec![0.5, 2.0, f64::NAN, 3.0, 0.0, -1.0]),
        weights: Some(vec![1.0, 0.0, f64::NAN, 1.0, 1.0, 1.0]),
        call: CallOptions::default(),
    };
    batch.clear_uncounted(true);
    assert_eq!(batch.input, OwnedArray::Values(vec![1.0, 2.0, 0.0, 4.0, 0.0, 0.0]));
    assert_eq!(batch.target, OwnedArray::Values(vec![1.0, 0.0, 0.0, 4.0, 0.0, 0.0]));
    assert_eq!(batch.intervals, Some(vec![0.5, 2.0, 1.0, 3.0, 1.0, 1.0]));
    assert_eq!(batch.weights, Some(vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
    let mut tokens: OwnedArray<f64> = OwnedArray::Integers(vec![5, -1, -1]);
    tokens.clear_padding(&[1], 3);
    assert_eq!(tokens, OwnedArray::Integers(vec![5, 0, 0]));
}

#[test]
fn a_refused_batch_leaves_the_batches_so_far() {
    let json = SMALL.replace("\"loss\"", "\"norm\": \"batch\", \"loss\"");
    let (mut with_refused, mut alone) = (model(&json), model(&json));
    let first = Rows::new(1, 2, 2.0, 12);
    for (m, refused) in [(&mut with_refused, true), (&mut alone, false)] {
        let mut trainer = Trainer::new(m, TrainConfig::default()).unwrap();
        trainer.accumulate(m, &first.batch()).unwrap();
        if refused {
            // One value a feature has no variance.
            let batch = Batch::new(Input::Values(&[0.5]), TargetData::Values(&[0.1, 0.2]), 1, 1);
            let error = trainer.accumulate(m, &Batch { weights: Some(&[1e6]), ..batch }).unwrap_err();
            assert!(error.expected.contains("batch norm"), "{error}");
        }
        trainer.update(m).unwrap();
        trainer.read_stats(m).unwrap();
    }
    assert_eq!(values(&with_refused), values(&alone));
}
