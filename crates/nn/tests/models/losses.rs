//! Smoothed labels, weights of classes and ignored labels against PyTorch's formula; feed-forward layers and drop path against the
//! parts that they are made of.

use crate::common::*;
use s4_backend::random::DropKey;
use s4_nn::*;

const LABELLED: &str = r#"{"input": 2, "output": 4, "features": 5, "layers": 1, "state": 4, "labelSmoothing": 0.15,
    "classWeights": [0.5, 2, 1.25, 0], "ignoreLabel": 1}"#;
const CLASS_WEIGHTS: [f64; 4] = [0.5, 2.0, 1.25, 0.0];
const ROWS: usize = 3;
const LEN: usize = 7;

fn model(json: &str) -> Model<Cpu<f64>> {
    Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap()
}

/// Labels of which -1, -7 and the ignored 1 count nothing.
fn labels(rows: usize) -> Vec<i32> {
    (0..rows * LEN).map(|i| [0, 2, 3, 1, 0, -1, 2, -7][(i * 5 + i / 3) % 8]).collect()
}

/// torch.nn.functional.cross_entropy(y, labels, weight, ignore_index, label_smoothing=ε, reduction='none') by row, and each row's
/// weight in the mean, which reduction='mean' divides by.
fn of_rows(y: &[f64], labels: &[i32], smoothing: f64) -> Vec<(f64, f64)> {
    let of_row = |(x, &label): (&[f64], &i32)| {
        if label < 0 || label == 1 {
            return (0.0, 0.0);
        }
        let log_sum = x.iter().map(|v| v.exp()).sum::<f64>().ln();
        let nll = |c: usize| log_sum - x[c];
        let own = CLASS_WEIGHTS[label as usize] * nll(label as usize);
        let all: f64 = (0..4).map(|c| CLASS_WEIGHTS[c] * nll(c)).sum();
        ((1.0 - smoothing) * own + smoothing / 4.0 * all, CLASS_WEIGHTS[label as usize])
    };
    y.chunks(4).zip(labels).map(of_row).collect()
}

#[test]
fn cross_entropy_is_pytorchs() {
    let mut m = model(LABELLED);
    let (x, labels, lengths) = (noise(1, ROWS * LEN * 2), labels(ROWS), [7, 4, 6]);
    let weights: Vec<f64> = (0..ROWS * LEN).map(|i| [1.0, 0.5, 2.0][i % 3]).collect();
    let batch = Batch {
        weights: Some(&weights),
        call: with_lengths(&lengths),
        ..Batch::new(Input::Values(&x), TargetData::Labels(&labels), ROWS, LEN)
    };
    let options = ForwardOptions { call: with_lengths(&lengths), ..Default::default() };
    let y = m.forward(Input::Values(&x), ROWS, LEN, &options).unwrap().y;
    let (mut loss, mut weight, mut own_weight, mut nll, mut hits, mut second) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (i, (row, v)) in of_rows(&y, &labels, 0.15).into_iter().enumerate() {
        let w = if i % LEN < lengths[i / LEN] as usize { weights[i] } else { 0.0 };
        (loss, weight) = (loss + w * row, weight + w * v);
        if w == 0.0 || labels[i] < 0 || labels[i] == 1 {
            continue;
        }
        // Metrics know neither smoothing nor weights of classes.
        let (x, label) = (&y[4 * i..][..4], labels[i] as usize);
        let larger = (0..4).filter(|&c| x[c] > x[label]).count();
        own_weight += w;
        nll += w * (x.iter().map(|v| v.exp()).sum::<f64>().ln() - x[label]);
        hits += if larger == 0 { w } else { 0.0 };
        second += if larger < 2 { w } else { 0.0 };
    }
    assert!(hits > 0.0 && second > hits && own_weight > second, "{hits} {second} {own_weight}");
    let mut total = Evaluation::default();
    m.evaluate(&batch, 2, &mut total).unwrap();
    close("loss", &[total.loss, total.weight], &[loss, weight], 1e-12);
    close("metrics", &total.metrics.sums, &[hits, second, nll], 1e-12);
    close("weight", &[total.metrics.weight], &[own_weight], 1e-12);
    let diagonal: f64 = (0..4).map(|c| total.confusion[5 * c]).sum();
    close("confusion", &[total.confusion.iter().sum(), diagonal], &[own_weight, hits], 1e-12);
    let of_label = |c: usize| total.confusion[4 * c..][..4].iter().sum::<f64>();
    assert!(of_label(1) == 0.0 && of_label(3) > 0.0, "the ignored label has no row, the one of weight 0 has");
    // Training has the same loss and metrics, and the gradient of it by finite differences.
    let mut t = Trainer::new(&m, TrainConfig { top_k: Some(2), ..Default::default() }).unwrap();
    t.accumulate(&mut m, &batch).unwrap();
    let mut mean = |m: &mut Model<Cpu<f64>>| {
        let mut total = Evaluation::default();
        m.evaluate(&batch, 1, &mut total).unwrap();
        total.means().loss
    };
    for name in
        ["decoder.weight", "decoder.bias", "blocks.0.output_linear.0.weight", "blocks.0.layer.kernel.C"]
    {
        let (at, grad) = (m.store().get(name).unwrap(), m.store().grad(name).unwrap());
        let slope = |m: &mut Model<Cpu<f64>>, i: usize, mean: &mut dyn FnMut(&mut Model<Cpu<f64>>) -> f64| {
            let mut moved = |e: f64| {
                let mut p = at.clone();
                p[i] += e;
                m.store_mut().set(name, &p).unwrap();
                mean(m)
            };
            (8.0 * (moved(1e-4) - moved(-1e-4)) - (moved(2e-4) - moved(-2e-4))) / 12e-4
        };
        let numeric: Vec<f64> = (0..at.len()).map(|i| slope(&mut m, i, &mut mean)).collect();
        m.store_mut().set(name, &at).unwrap();
        close(name, &grad, &numeric, 1e-7);
    }
    t.update(&mut m).unwrap();
    let stats = t.read_stats(&m).unwrap();
    close("training", &[stats.loss, stats.weight], &[loss / weight, weight], 1e-12);
    close("its metrics", &stats.metrics.sums, &[hits, second, nll], 1e-12);
}

#[test]
fn accumulated_batches_with_class_weights_are_the_joint_batch() {
    let (x, all) = (noise(1, 4 * LEN * 2), labels(4));
    let (mut a, mut b) = (model(LABELLED), model(LABELLED));
    let mut ta = Trainer::new(&a, TrainConfig::default()).unwrap();
    let mut tb = Trainer::new(&b, TrainConfig::default()).unwrap();
    for (from, rows) in [(0, 1), (1, 3)] {
        let (x, labels) = (&x[from * LEN * 2..][..rows * LEN * 2], &all[from * LEN..][..rows * LEN]);
        ta.accumulate(&mut a, &Batch::new(Input::Values(x), TargetData::Labels(labels), rows, LEN)).unwrap();
    }
    tb.accumulate(&mut b, &Batch::new(Input::Values(&x), TargetData::Labels(&all), 4, LEN)).unwrap();
    for info in b.store().infos() {
        let (ga, gb) = (a.store().grad(&info.name).unwrap(), b.store().grad(&info.name).unwrap());
        close(&info.name, &ga, &gb, 1e-10);
    }
    ta.update(&mut a).unwrap();
    tb.update(&mut b).unwrap();
    let (sa, sb) = (ta.read_stats(&a).unwrap(), tb.read_stats(&b).unwrap());
    close("loss", &[sa.loss, sa.weight], &[sb.loss, sb.weight], 1e-12);
    close("metrics", &sa.metrics.sums, &sb.metrics.sums, 1e-12);
}

/// Mean squared and absolute errors and CRPS of losses of real targets.
#[test]
fn errors_are_those_of_the_point_forecast() {
    for (loss, more) in [("huber", ""), ("gaussian", ""), ("quantile", r#", "quantiles": [0.1, 0.6, 0.8]"#)] {
        let json = format!(
            r#"{{"input": 1, "output": 2, "features": 4, "layers": 1, "state": 4, "loss": "{loss}"{more}}}"#
        );
        let mut m = model(&json);
        let (x, target) = (noise(3, LEN), noise(4, 2 * LEN));
        let y = m.forward(Input::Values(&x), 1, LEN, &Default::default()).unwrap().y;
        let outputs = y.len() / LEN;
        // 0.6 is the level nearest to ½.
        let centre = if loss == "quantile" { 2 } else { 0 };
        let error = |i: usize| y[i / 2 * outputs + centre + i % 2] - target[i];
        let mean = |f: &dyn Fn(f64) -> f64| (0..2 * LEN).map(|i| f(error(i))).sum::<f64>() / (2 * LEN) as f64;
        let mut total = Evaluation::default();
        let batch = Batch::new(Input::Values(&x), TargetData::Values(&target), 1, LEN);
        m.evaluate(&batch, 1, &mut total).unwrap();
        let [squares, absolute, crps] = total.metrics.sums.map(|sum| sum / total.metrics.weight);
        close(loss, &[squares, absolute], &[mean(&|r| r * r), mean(&f64::abs)], 1e-12);
        match loss {
            "quantile" => close("crps", &[crps], &[2.0 * total.means().loss], 1e-12),
            "gaussian" => {
                assert!(crps > 0.0 && crps < absolute, "a wide forecast is better than none: {crps}")
            }
            _ => assert_eq!(crps, 0.0),
        }
    }
}

#[test]
fn a_feed_forward_layer_is_a_residual_block_of_two_linears() {
    let json = |more: &str| {
        format!(
            r#"{{"input": 4, "encoder": "none", "output": 4, "features": 4, "layers": 1, "state": 4, "loss": "mse",
                "finalNorm": false, "seed": 5{more}}}"#
        )
    };
    let (mut without, mut with) = (model(&json("")), model(&json(r#", "feedForward": 1.5"#)));
    // A decoder that gives the features as they are.
    let identity: Vec<f64> = (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect();
    for m in [&mut without, &mut with] {
        m.store_mut().set("decoder.weight", &identity).unwrap();
        m.store_mut().set("decoder.bias", &[0.0; 4]).unwrap();
    }
    let [gamma, beta] = [noise(7, 4), noise(8, 4)];
    with.store_mut().set("blocks.0.feed_forward.norm.weight", &gamma).unwrap();
    with.store_mut().set("blocks.0.feed_forward.norm.bias", &beta).unwrap();
    let part = |name: &str| with.store().get(&format!("blocks.0.feed_forward.{name}")).unwrap();
    let [w1, b1, w2, b2] =
        [part("linear1.weight"), part("linear1.bias"), part("linear2.weight"), part("linear2.bias")];
    assert_eq!((w1.len(), w2.len()), (24, 24), "⌊1.5·4⌋ = 6");
    let x = noise(9, 2 * LEN * 4);
    let z = without.forward(Input::Values(&x), 2, LEN, &Default::default()).unwrap().y;
    let want: Vec<f64> = z
        .chunks(4)
        .flat_map(|z| {
            let mean = z.iter().sum::<f64>() / 4.0;
            let variance = z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
            let u: Vec<f64> =
                (0..4).map(|i| gamma[i] * (z[i] - mean) / (variance + 1e-5).sqrt() + beta[i]).collect();
            let gelu = |v: f64| 0.5 * v * (1.0 + libm::erf(v / 2f64.sqrt()));
            let hidden: Vec<f64> =
                (0..6).map(|j| gelu((0..4).map(|i| w1[4 * j + i] * u[i]).sum::<f64>() + b1[j])).collect();
            let add = |i: usize| (0..6).map(|j| w2[6 * i + j] * hidden[j]).sum::<f64>() + b2[i];
            (0..4).map(|i| z[i] + add(i)).collect::<Vec<_>>()
        })
        .collect();
    let y = with.forward(Input::Values(&x), 2, LEN, &Default::default()).unwrap().y;
    close("y", &y, &want, 1e-12);
}

#[test]
fn drop_path_leaves_out_whole_branches() {
    let json = r#"{"features": 4, "state": 4, "dropPath": 0.4"#;
    let block = |more: &str| {
        Block::new(Cpu::<f64>::new(2).unwrap(), BlockConfig::from_json(&format!("{json}{more}}}")).unwrap())
            .unwrap()
    };
    let (batch, probability) = (64, 0.4);
    let u = noise(1, batch * LEN * 4);
    let mut b = block("");
    let still = b.forward(&u, batch, LEN, &Default::default()).unwrap().y;
    let opts = ForwardOptions { call: in_training(true), dropout_at: Some((9, 4)), ..Default::default() };
    let y = b.forward(&u, batch, LEN, &opts).unwrap().y;
    let mut kept = 0;
    for row in 0..batch {
        let site = 1 << 15;
        let draw = DropKey { seed: 9, step: 4, site }.draws(row as u64 / 4)[row % 4];
        let factor = if draw >= DropKey::threshold(probability) { 1.0 / 0.6 } else { 0.0 };
        kept += usize::from(factor > 0.0);
        let part = row * LEN * 4..(row + 1) * LEN * 4;
        let want: Vec<f64> = part.clone().map(|i| u[i] + factor * (still[i] - u[i])).collect();
        close("row", &y[part], &want, 1e-10);
    }
    // 0.6·64 = 38 are expected, with a deviation of 4.
    assert!((26..=50).contains(&kept), "{kept}");
    // The same with a batch norm's statistics in place, and never in inference.
    assert_eq!(b.forward(&u, batch, LEN, &Default::default()).unwrap().y, still);
}
