//! The readers of this library's own files: checkpoints, and saved states of streams. What is read must be usable: a model
//! predicts, trains and is written and read again as the same bytes; a stream goes on.

use crate::{
    containers::Container,
    reader::{MIB, Outcome, Reader, test_file},
};
use s4_backend::{Backend, Code, Error, Result, Scalar};
use s4_cpu::Cpu;
use s4_nn::*;
use std::cell::RefCell;

/// A refusal must have a code that is not the one of a defect of this library, and a reason.
pub(crate) fn refused(error: &Error, codes: &[Code]) -> Outcome {
    let message = error.to_string();
    match codes.contains(&error.code) && !error.expected.is_empty() && message.len() < 4000 {
        true => Ok(false),
        false => Err(format!("refused as {:?} in {} bytes: {message:.300}", error.code, message.len())),
    }
}

fn wave<T: Scalar>(n: usize) -> Vec<T> {
    (0..n).map(|i| T::from_f64((i as f64 * 0.7).sin())).collect()
}

/// Codes of a use of what was read, whose numbers may be extreme.
const IN_USE: [Code; 4] = [Code::NonFinite, Code::Value, Code::Unsupported, Code::Memory];

/// Whether a use went well or failed as it may.
pub(crate) fn used<T>(what: &str, result: Result<T>) -> std::result::Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if IN_USE.contains(&error.code) => Ok(()),
        Err(error) => Err(format!("{what}: {:?} {error}", error.code)),
    }
}

/// Predicts and streams a few samples.
pub(crate) fn use_model<T: Scalar>(model: &mut Model<Cpu<T>>) -> std::result::Result<(), String>
where
    Cpu<T>: Backend<Scalar = T>,
{
    let len = 5;
    let config = model.config().clone();
    let tokens = vec![0; len];
    let values = wave::<T>(len * config.input);
    let input = if config.vocabulary.is_some() { Input::Tokens(&tokens) } else { Input::Values(&values) };
    used("a prediction", model.forward(input, 1, len, &ForwardOptions::default()))?;
    match model.stream(1, 1.0) {
        Ok(mut stream) => used("a push", stream.push_new(model, input, len, &StepOptions::default())),
        Err(error) => used::<()>("a stream", Err(error)),
    }
}

/// One update on two short sequences, where the loss takes real numbers.
fn train<T: Scalar>(
    model: &mut Model<Cpu<T>>,
    trainer: &mut Trainer<Cpu<T>>,
) -> std::result::Result<(), String>
where
    Cpu<T>: Backend<Scalar = T>,
{
    let config = model.config().clone();
    let (batch, len) = (2, 4);
    let outputs: usize = model.output_shape(batch, len).iter().product();
    let (values, targets) = (wave::<T>(batch * len * config.input), wave::<T>(outputs));
    let (tokens, labels) = (vec![0; batch * len], vec![0; outputs]);
    let input = if config.vocabulary.is_some() { Input::Tokens(&tokens) } else { Input::Values(&values) };
    let labels_count = if config.pooling.is_some() { batch } else { batch * len };
    let by_values = Batch::new(input, TargetData::Values(&targets), batch, len);
    let by_labels = Batch::new(input, TargetData::Labels(&labels[..labels_count.min(outputs)]), batch, len);
    // One of the two fits the loss; the other is refused by its shape or type before any work.
    for data in [by_values, by_labels] {
        match trainer.train_step(model, &data) {
            Ok(()) => return used("an update", trainer.read_stats(model)),
            Err(error) if matches!(error.code, Code::Shape | Code::Dtype) => {}
            Err(error) => return used::<()>("an update", Err(error)),
        }
    }
    Ok(())
}

fn read_checkpoint<T: Scalar>(bytes: &[u8]) -> Outcome
where
    Cpu<T>: Backend<Scalar = T>,
{
    let be = || Cpu::<T>::new(1).map_err(|e| e.to_string());
    let loaded = load_bytes(be()?, bytes);
    let LoadedCheckpoint { mut model, trainer, extra } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error, &[Code::Checkpoint, Code::Memory]),
    };
    let written =
        save_bytes(&model, trainer.as_ref(), extra.as_deref()).map_err(|e| format!("written: {e}"))?;
    let again = load_bytes(be()?, &written).map_err(|e| format!("read again: {e}"))?;
    let twice = save_bytes(&again.model, again.trainer.as_ref(), again.extra.as_deref());
    // Metadata stands in a map without an order; the tensors behind the header do not.
    let data = |bytes: &[u8]| {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        rest.get(u64::from_le_bytes(*length) as usize..).map(<[u8]>::to_vec)
    };
    if twice.ok().and_then(|b| data(&b)) != data(&written) {
        return Err("a model that is written and read is another".into());
    }
    use_model(&mut model)?;
    if let Some(mut trainer) = trainer {
        train(&mut model, &mut trainer)?;
        used("written after an update", save_bytes(&model, Some(&trainer), None))?;
    }
    Ok(true)
}

fn read_either(bytes: &[u8]) -> Outcome {
    match inspect_bytes(bytes) {
        Ok((_, dtype)) if dtype == "f64" => read_checkpoint::<f64>(bytes),
        Ok(_) => read_checkpoint::<f32>(bytes),
        Err(error) => {
            read_checkpoint::<f32>(bytes)?;
            refused(&error, &[Code::Checkpoint])
        }
    }
}

const CONFIGS: [&str; 5] = [
    r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse", "dropout": 0.1, "norm": "batch"}"#,
    r#"{"input": 2, "output": 3, "features": 4, "layers": 2, "state": 4, "pooling": "mean", "mode": "s4d"}"#,
    r#"{"vocabulary": 5, "encoder": "embedding", "output": 5, "features": 4, "layers": 1, "state": 4}"#,
    r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse", "bidirectional": true, "channels": 2}"#,
    r#"{"input": 1, "output": 1, "features": 4, "layers": 1, "state": 4, "loss": "mse", "truncate": 8, "glu": false}"#,
];

fn small_model(json: &str) -> Model<Cpu<f32>> {
    let config = ModelConfig::from_json(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    Model::new(Cpu::new(1).unwrap(), config).unwrap()
}

fn checkpoints() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = ["batchnorm", "f64", "optimizer"]
        .iter()
        .map(|name| test_file(&format!("__test__/fixtures/v0.1.0/{name}.safetensors")))
        .collect();
    for json in CONFIGS {
        let mut model = small_model(json);
        files.push(save_bytes(&model, None, Some(r#"{"mine": 1}"#)).unwrap());
        let carry_state = model.has_state();
        let config = TrainConfig { ema: Some(0.9), carry_state, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&model, config).unwrap();
        train(&mut model, &mut trainer).unwrap();
        files.push(save_bytes(&model, Some(&trainer), None).unwrap());
    }
    files
}

/// Reads the state of a stream into a stream, pushes a sample and saves.
fn state_reader() -> (Vec<Vec<u8>>, impl Fn(&[u8]) -> Outcome) {
    let json = r#"{"input": 1, "output": 1, "features": 4, "layers": 2, "state": 4, "pooling": "mean", "loss": "mse"}"#;
    let mut model = small_model(json);
    let mut stream = model.stream(1, 1.0).unwrap();
    let corpus = [0, 1, 7]
        .iter()
        .map(|&len| {
            let x = wave(len);
            if len > 0 {
                stream.push_new(&mut model, Input::Values(&x), len, &StepOptions::default()).unwrap();
            }
            stream.save().unwrap()
        })
        .collect();
    let both = RefCell::new((model, stream));
    let read = move |bytes: &[u8]| {
        let (model, stream) = &mut *both.borrow_mut();
        let before = stream.save().map_err(|e| e.to_string())?;
        if let Err(error) = stream.restore(bytes) {
            if stream.position() != saved_position(&before) {
                return Err("a refused state has changed the stream".into());
            }
            return refused(&error, &[Code::Checkpoint, Code::Memory]);
        }
        for len in [1, 40] {
            used("a push", stream.push_new(model, Input::Values(&wave(len)), len, &StepOptions::default()))?;
        }
        used("a saved state", stream.save())?;
        stream.restore(&before).map_err(|e| format!("the state before: {e}"))?;
        Ok(true)
    };
    (corpus, read)
}

fn saved_position(saved: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(saved);
    let after = text.split("\"position\":\"").nth(1).unwrap_or_default();
    after.split('"').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// All readers of this library's own files.
pub(crate) fn all() -> Vec<Reader> {
    let words: &'static [&'static str] = &[
        "\"F64\"",
        "\"I8\"",
        "\"data_offsets\"",
        "[0,0]",
        "null",
        "true",
        "\"\"",
        "{",
        "}",
        "[",
        "]",
        "\\\"s4d\\\"",
        "\\\"features\\\"",
        "\\\"dropout\\\"",
        "optimizer.m.",
        "\"__metadata__\"",
        "\"version\":\"1\"",
        "-",
        "e9",
    ];
    let (states, read_state) = state_reader();
    vec![
        Reader {
            name: "checkpoint",
            corpus: checkpoints(),
            container: Container::Safetensors,
            words,
            // Parameters, their copies in f64, gradients and moments, and what a pass over a few samples needs.
            memory: (32 * MIB, 256),
            read: Box::new(read_either),
        },
        Reader {
            name: "stream-state",
            corpus: states,
            container: Container::Safetensors,
            words,
            memory: (8 * MIB, 64),
            read: Box::new(read_state),
        },
    ]
}
