//! Checkpoints written by earlier versions load, predict as they did, and train on as they did.

use crate::common::*;
use s4_nn::*;
use serde_json::Value;

/// The checkpoint `name` of a version beside what that version computed with it.
fn fixture(name: &str) -> (Vec<u8>, Value) {
    let folder = golden_dir().join("../v0.1.0");
    let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
    let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    (bytes, serde_json::from_str(&json).unwrap())
}

fn numbers(x: &Value) -> Vec<f64> {
    x.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn same_as_then<T: Scalar>(name: &str, tol: f64)
where
    Cpu<T>: Backend<Scalar = T>,
{
    let (bytes, then) = fixture(name);
    let LoadedCheckpoint { mut model, trainer, extra } =
        load_bytes(Cpu::<T>::new(1).unwrap(), &bytes).unwrap();
    assert_eq!(extra, Some(format!(r#"{{"name":"{name}"}}"#)));
    let (batch, len) = (then["batch"].as_u64().unwrap() as usize, then["len"].as_u64().unwrap() as usize);
    let input = match &then["tokens"] {
        Value::Null => OwnedArray::Values(cast::<T>(&numbers(&then["input"]))),
        tokens => OwnedArray::Integers(numbers(tokens).iter().map(|&x| x as i32).collect()),
    };
    let predict = |model: &mut Model<Cpu<T>>| {
        wide(&model.forward(input.input(), batch, len, &ForwardOptions::default()).unwrap().y)
    };
    close(name, &predict(&mut model), &numbers(&then["output"]), tol);
    // What is written now is read as it stands, options by their present names.
    let written = save_bytes(&model, trainer.as_ref(), None).unwrap();
    let mut copy = load_bytes(Cpu::<T>::new(1).unwrap(), &written).unwrap().model;
    assert_eq!(predict(&mut copy), predict(&mut model), "{name} written and read");
    if then["next"].is_object() {
        let mut trainer = trainer.unwrap();
        assert_eq!(trainer.steps(), then["steps"].as_u64().unwrap());
        let target = cast::<T>(&numbers(&then["next"]["target"]));
        let batch = Batch::new(input.input(), TargetData::Values(&target), batch, len);
        trainer.train_step(&mut model, &batch).unwrap();
        let loss = trainer.read_stats(&model).unwrap().loss;
        close(
            &format!("{name} loss of the next step"),
            &[loss],
            &[then["next"]["loss"].as_f64().unwrap()],
            tol,
        );
        // A bias before a batch norm has no gradient but rounding, which AdamW's division by the second moment's root turns into
        // whole steps of either sign. They move the running means, so outputs of two machines differ by more than rounding; batch
        // statistics take them off again, so the losses of further updates do not.
        if model.config().block.norm == NormKind::Batch {
            let later = numbers(&then["next"]["later_losses"]);
            assert_eq!(later.len(), 3);
            for (i, &want) in later.iter().enumerate() {
                trainer.train_step(&mut model, &batch).unwrap();
                let loss = trainer.read_stats(&model).unwrap().loss;
                close(&format!("{name} loss {i} updates later"), &[loss], &[want], tol);
            }
        } else {
            close(&format!("{name} next"), &predict(&mut model), &numbers(&then["next"]["output"]), tol);
        }
    }
}

#[test]
fn with_optimizer_state() {
    same_as_then::<f32>("optimizer", 1e-6);
}

#[test]
fn with_batch_norm() {
    same_as_then::<f32>("batchnorm", 1e-6);
}

#[test]
fn in_f64() {
    same_as_then::<f64>("f64", 1e-12);
}
