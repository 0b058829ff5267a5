//! 20 AdamW updates of a two-block classifier against the float64 truth.

use crate::common::*;
use s4_nn::*;

fn train<T: Scalar>(file: &str, mode: &str, loss_tol: f64, grad_tol: f64, final_tol: f64)
where
    Cpu<T>: Backend<Scalar = T>,
{
    let golden = Golden::read(&format!("{file}.golden"));
    let config = ModelConfig::from_json(&format!(
        r#"{{"input": 3, "output": 4, "features": 8, "layers": 2, "state": 8, "mode": "{mode}", "dtTransform": "exp",
            "pooling": "mean", "finalNorm": false, "loss": "crossEntropy"}}"#
    ))
    .unwrap();
    let mut model = Model::new(Cpu::<T>::new(2).unwrap(), config).unwrap();
    let names: Vec<String> = model.store().infos().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names.len(), golden.tensors.keys().filter(|k| k.starts_with("init.")).count());
    for name in &names {
        model.store_mut().set(name, &cast(golden.get(&format!("init.{name}")))).unwrap();
    }
    let mut trainer = Trainer::new(&model, TrainConfig::default()).unwrap();
    let u: Vec<T> = cast(golden.get("u"));
    let labels: Vec<i32> = golden.get("labels").iter().map(|&l| l as i32).collect();
    let batch = Batch::new(Input::Values(&u), TargetData::Labels(&labels), 6, 32);
    let mut losses = Vec::new();
    for i in 0..20 {
        trainer.accumulate(&mut model, &batch).unwrap();
        if i == 0 {
            for name in &names {
                let grad = wide(&model.store().grad(name).unwrap());
                close(&format!("{file} grad0.{name}"), &grad, golden.get(&format!("grad0.{name}")), grad_tol);
            }
        }
        trainer.update(&mut model).unwrap();
        let stats = trainer.read_stats(&model).unwrap();
        assert_eq!((stats.step, stats.rows), (i + 1, 6));
        losses.push(stats.loss);
    }
    for (i, (a, b)) in losses.iter().zip(golden.get("losses")).enumerate() {
        close(&format!("{file} loss {i}"), &[*a], &[*b], loss_tol);
    }
    for name in &names {
        let value = wide(&model.store().get(name).unwrap());
        close(&format!("{file} final.{name}"), &value, golden.get(&format!("final.{name}")), final_tol);
    }
}

#[test]
fn train_f64() {
    train::<f64>("train_dplr", "s4", 1e-8, 1e-8, 1e-8);
    train::<f64>("train_diag", "s4d", 1e-8, 1e-8, 1e-8);
}

#[test]
fn train_f32() {
    train::<f32>("train_dplr", "s4", 1e-4, 1e-4, 1e-3);
    train::<f32>("train_diag", "s4d", 1e-4, 1e-4, 1e-3);
}
