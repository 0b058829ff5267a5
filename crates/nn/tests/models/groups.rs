//! Groups of parameters by name: the first update against AdamW's formula (Loshchilov and Hutter, Algorithm 2), by hand.

use crate::common::*;
use s4_nn::*;

const SMALL: &str = r#"{"input": 1, "output": 1, "features": 6, "layers": 2, "state": 8, "loss": "mse"}"#;

fn groups(json: &str) -> TrainConfig {
    TrainConfig::from_json("train", &format!(r#"{{"clip": 0.05, "groups": {json}}}"#)).unwrap()
}

fn values(m: &Model<Cpu<f64>>) -> Vec<Vec<f64>> {
    m.store().infos().iter().map(|p| m.store().get(&p.name).unwrap()).collect()
}

#[test]
fn each_parameter_has_the_rates_of_the_first_group_that_names_it() {
    let mut m = Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(SMALL).unwrap()).unwrap();
    let config = groups(
        r#"[{"name": "blocks.1.*.inv_dt", "freeze": true}, {"name": "*.inv_dt", "lr": 0.02},
            {"name": "blocks.*.layer.kernel.C", "lr": 0.03, "weightDecay": 0.5}, {"name": "*.bias", "weightDecay": 0}]"#,
    );
    let mut t = Trainer::new(&m, config).unwrap();
    let (x, y) = (noise(1, 40), noise(2, 40));
    let batch = Batch::new(Input::Values(&x), TargetData::Values(&y), 1, 40);
    t.accumulate(&mut m, &batch).unwrap();
    let (before, infos) = (values(&m), m.store().infos().to_vec());
    let grads: Vec<Vec<f64>> = infos.iter().map(|p| m.store().grad(&p.name).unwrap()).collect();
    t.update(&mut m).unwrap();
    let frozen = |name: &str| name == "blocks.1.layer.kernel.inv_dt";
    let counted = infos.iter().zip(&grads).filter(|(p, _)| !frozen(&p.name));
    let norm = counted.flat_map(|(_, g)| g).map(|g| g * g).sum::<f64>().sqrt();
    close("norm", &[t.read_stats(&m).unwrap().grad_norm], &[norm], 1e-12);
    assert!(norm > 0.05, "clipping bites");
    for (i, after) in values(&m).iter().enumerate() {
        let name = infos[i].name.as_str();
        if frozen(name) {
            assert_eq!(after, &before[i], "{name}");
            continue;
        }
        let (lr, decay) = match infos[i].slot.group {
            _ if name.ends_with(".inv_dt") => (0.02, 0.0),
            _ if name.ends_with(".layer.kernel.C") => (0.03, 0.5),
            Group::Ssm => (1e-3, 0.0),
            Group::Main if name.ends_with(".bias") => (4e-3, 0.0),
            Group::Main => (4e-3, 0.01),
        };
        // At the first update m/(1 − β₁) = g and √(v/(1 − β₂)) = |g|.
        let clipped = grads[i].iter().map(|g| g * 0.05 / norm);
        let want: Vec<f64> = before[i]
            .iter()
            .zip(clipped)
            .map(|(x, g)| x - lr * decay * x - lr * g / (g.abs() + 1e-8))
            .collect();
        close(name, after, &want, 1e-10);
    }
}

#[test]
fn groups_that_cannot_be_are_refused_and_a_checkpoint_keeps_them() {
    let mut m = Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(SMALL).unwrap()).unwrap();
    for json in [
        r#"[{"name": "blocks.7.*"}]"#,
        r#"[{"name": "*.C", "lr": -1}]"#,
        r#"[{"name": "*.C", "weightDecay": -1}]"#,
    ] {
        let error = Trainer::new(&m, groups(json)).err().unwrap();
        assert_eq!(error.code.as_str(), "ERR_S4_VALUE", "{error}");
    }
    assert!(TrainConfig::from_json("train", r#"{"groups": [{"name": "*", "rate": 1}]}"#).is_err());
    let mut t = Trainer::new(&m, groups(r#"[{"name": "*", "freeze": true}]"#)).unwrap();
    let saved = save_bytes(&m, Some(&t), None).unwrap();
    let mut same = load_bytes(Cpu::<f64>::new(1).unwrap(), &saved).unwrap();
    let (x, y) = (noise(1, 40), noise(2, 40));
    let batch = Batch::new(Input::Values(&x), TargetData::Values(&y), 1, 40);
    let before = values(&m);
    t.train_step(&mut m, &batch).unwrap();
    same.trainer.as_mut().unwrap().train_step(&mut same.model, &batch).unwrap();
    assert_eq!(values(&m), before);
    assert_eq!(values(&same.model), before);
    // Given anew they hold from there on.
    t.reconfigure(&m, TrainConfig::default()).unwrap();
    t.train_step(&mut m, &batch).unwrap();
    assert!(values(&m) != before);
}
