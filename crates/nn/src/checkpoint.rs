//! Checkpoints: safetensors files with the whole configuration in their metadata.
//!
//! Tensors: every parameter by its name, and `….running` (2, H), mean and variance of each batch norm. With a trainer also
//! `optimizer.m.<name>`, `optimizer.v.<name>` (AdamW's moments), `optimizer.average.<name>` (the parameters' running
//! average) and `optimizer.state.<block>` (carried states). Metadata: `format`, `version`, `dtype`, `config` (JSON),
//! `trainer` (JSON), `extra` (a JSON text of the caller's).

use crate::{
    bytes::{from_bytes, safetensors_dtype, to_bytes},
    check,
    config::ModelConfig,
    config_json::with_present_names,
    file_kind::foreign_kind,
    model::Model,
    param::{GroupBuffers, ParamStore},
    progress::Progress,
    schedule::Schedule,
    train::{TrainConfig, Trainer},
    write_file::{check_target, write_whole},
};
use num_traits::Zero;
use s4_backend::{Backend, Code, Error, Result, Scalar};
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    io::Write,
    path::Path,
};

/// Value of `format` in the metadata of every checkpoint of this library.
const FORMAT: &str = "s4-node";
/// The version that is written now: options of a configuration have their present names.
const VERSION: &str = "2";
/// The version that release 0.1.0 wrote: options that were renamed since have their old names.
const VERSION_0_1_0: &str = "1";

/// What a checkpoint holds, loaded.
pub struct LoadedCheckpoint<B: Backend> {
    /// The model with its parameters.
    pub model: Model<B>,
    /// The trainer, with the optimiser's moments and the counts of its run, where it was saved.
    pub trainer: Option<Trainer<B>>,
    /// The caller's own JSON text.
    pub extra: Option<String>,
}

/// What a checkpoint says of a trainer in its metadata, as JSON. The names of the fields are those in files.
#[derive(Serialize, Deserialize)]
struct TrainerMetadata {
    config: TrainConfig,
    step: u64,
    schedule: Schedule,
    /// Number of sequences that states are carried for; nothing where none are.
    carried: Option<usize>,
    /// How far the run was. Absent in files of release 0.1.0: such a run goes on from epoch 0, with the updates counted so
    /// far.
    #[serde(default)]
    progress: Progress,
    /// Whether the parameters in the file are the running average, and the average the trained parameters.
    #[serde(default)]
    swapped: bool,
}

/// `ERR_S4_CHECKPOINT` with what a file should have held and what it holds.
fn checkpoint_error(expected: impl Display, got: impl Display) -> Error {
    Error::new(Code::Checkpoint, "checkpoint", expected, got)
}

/// All bytes of a file; `ERR_S4_CHECKPOINT` where it cannot be read.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| checkpoint_error(format!("a readable file {}", path.display()), e))
}

/// Metadata and tensors of a file's bytes. `ERR_S4_CHECKPOINT` unless its layout is sound: offsets within the file, no two
/// tensors over each other, as many bytes as each shape needs.
fn parse_file(bytes: &[u8]) -> Result<(HashMap<String, String>, SafeTensors<'_>)> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| match foreign_kind(bytes) {
        Some(kind) => checkpoint_error("a safetensors file", kind),
        None => checkpoint_error("a sound safetensors file", e),
    })?;
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| checkpoint_error("a sound safetensors header", e))?;
    Ok((header.metadata().clone().unwrap_or_default(), file))
}

/// The model's configuration in the metadata, of this version or of an older one.
fn config_of(metadata: &HashMap<String, String>) -> Result<ModelConfig> {
    match metadata.get("format").map(String::as_str) {
        Some(FORMAT) => {}
        other => {
            return Err(checkpoint_error(format!("format '{FORMAT}' in the metadata"), format!("{other:?}")));
        }
    }
    let json =
        metadata.get("config").ok_or_else(|| checkpoint_error("a configuration in the metadata", "none"))?;
    let invalid = |e: Error| checkpoint_error("a valid configuration", e);
    match metadata.get("version").map(String::as_str) {
        Some(VERSION) => ModelConfig::from_json(json).map_err(invalid),
        Some(VERSION_0_1_0) => with_present_names(json)
            .map_err(invalid)
            .and_then(|json| ModelConfig::from_json(&json).map_err(invalid)),
        other => Err(checkpoint_error(format!("version {VERSION_0_1_0} or {VERSION}"), format!("{other:?}"))),
    }
}

/// Reads the configuration of a checkpoint and its number format (`"f32"` or `"f64"`), without making a model.
pub fn inspect(path: &Path) -> Result<(ModelConfig, String)> {
    inspect_bytes(&read_file(path)?)
}

/// As [`inspect`], of a checkpoint's bytes.
pub fn inspect_bytes(bytes: &[u8]) -> Result<(ModelConfig, String)> {
    let (metadata, _) = parse_file(bytes)?;
    let dtype =
        metadata.get("dtype").cloned().ok_or_else(|| checkpoint_error("a dtype in the metadata", "none"))?;
    Ok((config_of(&metadata)?, dtype))
}

/// Writes a checkpoint to a temporary file beside `path` and renames it to `path`, so that a reader finds the old file or
/// the new one, never a part. `extra`: any JSON text of the caller's.
pub fn save<B: Backend>(
    path: &Path,
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<()> {
    let io = |e: std::io::Error| checkpoint_error(format!("to write {}", path.display()), e);
    check_target(path).map_err(io)?;
    let bytes = save_bytes(model, trainer, extra)?;
    write_whole(path, |file| file.write_all(&bytes)).map_err(io)
}

/// A tensor to be written: its name, its shape, its elements as little-endian bytes.
pub(crate) type TensorToWrite = (String, Vec<usize>, Vec<u8>);

/// Adds all parameters' values in `buffers` to `entries`, with `prefix` before their names.
fn add_parameters<B: Backend>(
    entries: &mut Vec<TensorToWrite>,
    prefix: &str,
    store: &ParamStore<B>,
    buffers: &GroupBuffers<B>,
) -> Result<()> {
    for info in store.infos() {
        let values = store.read_from(buffers, &info.name)?;
        entries.push((format!("{prefix}{}", info.name), info.shape.clone(), to_bytes(&values)));
    }
    Ok(())
}

/// All tensors of a model for a checkpoint: every parameter, and the running statistics of each batch norm.
pub(crate) fn model_tensors<B: Backend>(model: &Model<B>) -> Result<Vec<TensorToWrite>> {
    let mut tensors: Vec<TensorToWrite> = Vec::new();
    add_parameters(&mut tensors, "", &model.store, &model.store.values)?;
    for (name, norm) in model.net.norms() {
        if let Some(values) = norm.running_statistics(&model.be)? {
            tensors.push((format!("{name}.running"), vec![2, values.len() / 2], to_bytes(&values)));
        }
    }
    Ok(tensors)
}

/// The metadata of a checkpoint without a trainer.
pub(crate) fn model_metadata<T: Scalar>(config: &ModelConfig) -> HashMap<String, String> {
    HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("version".into(), VERSION.into()),
        ("dtype".into(), T::DTYPE.as_str().into()),
        ("config".into(), config.to_json()),
    ])
}

/// The bytes of the file that [`save`] writes.
pub fn save_bytes<B: Backend>(
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<Vec<u8>> {
    let be = &model.be;
    let mut entries = model_tensors(model)?;
    let mut metadata = model_metadata::<B::Scalar>(&model.config);
    if let Some(extra) = extra {
        metadata.insert("extra".into(), extra.into());
    }
    if let Some(t) = trainer {
        add_parameters(&mut entries, "optimizer.m.", &model.store, &t.adam.m)?;
        add_parameters(&mut entries, "optimizer.v.", &model.store, &t.adam.v)?;
        if let Some(average) = &t.average {
            add_parameters(&mut entries, "optimizer.average.", &model.store, average)?;
        }
        if let Some(states) = t.carried() {
            for i in 0..states.blocks.len() {
                let state = states.read(be, i)?;
                entries.push((format!("optimizer.state.{i}"), vec![state.len()], to_bytes(&state)));
            }
        }
        let trainer = TrainerMetadata {
            config: t.config().clone(),
            step: t.steps(),
            schedule: t.schedule.clone(),
            carried: t.carried().map(|s| s.batch),
            progress: t.progress,
            swapped: t.average_in_place,
        };
        let json = serde_json::to_string(&trainer)
            .map_err(|e| checkpoint_error("a trainer that can be written", e))?;
        metadata.insert("trainer".into(), json);
    }
    let views = entries
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(safetensors_dtype::<B::Scalar>(), shape.clone(), bytes);
            Ok((name.as_str(), view.map_err(|e| checkpoint_error("a tensor", e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(metadata)).map_err(|e| checkpoint_error("to serialise", e))
}

/// The tensors of a file, and which of them have not been taken yet. A tensor that nothing has taken at the end does not
/// belong in the file.
struct CheckpointTensors<'a> {
    file: SafeTensors<'a>,
    not_taken: HashSet<String>,
}

impl CheckpointTensors<'_> {
    /// Takes a tensor out, whose shape must be this one and whose values must be finite.
    fn take_tensor<T: Scalar>(&mut self, name: &str, shape: &[usize]) -> Result<Vec<T>> {
        if !self.not_taken.remove(name) {
            return Err(checkpoint_error(format!("tensor '{name}'"), "none"));
        }
        let view = self.file.tensor(name).map_err(|e| checkpoint_error(format!("tensor '{name}'"), e))?;
        if !matches!(view.dtype(), safetensors::Dtype::F32 | safetensors::Dtype::F64) {
            return Err(checkpoint_error(
                format!("'{name}' of type F32 or F64"),
                format!("{:?}", view.dtype()),
            ));
        }
        if view.shape() != shape {
            return Err(checkpoint_error(
                format!("'{name}' of shape {shape:?}"),
                format!("{:?}", view.shape()),
            ));
        }
        let values = from_bytes(view.dtype(), view.data());
        check::finite("checkpoint", name, &values).map_err(|e| checkpoint_error(e.expected, e.got))?;
        Ok(values)
    }

    /// Takes a tensor for each parameter, named `prefix` and the parameter's name, into `buffers`.
    fn take_parameters<B: Backend>(
        &mut self,
        be: &B,
        prefix: &str,
        store: &ParamStore<B>,
        buffers: &mut GroupBuffers<B>,
    ) -> Result<()> {
        for info in store.infos() {
            let values = self.take_tensor(&format!("{prefix}{}", info.name), &info.shape)?;
            be.upload(be.view_mut(buffers.buffer_of_mut(info.slot.group), info.slot.range()), &values)?;
        }
        Ok(())
    }
}

/// Loads a checkpoint. `ERR_S4_CHECKPOINT` with the reason where the file is damaged or was written by another program.
pub fn load<B: Backend>(be: B, path: &Path) -> Result<LoadedCheckpoint<B>> {
    load_bytes(be, &read_file(path)?)
}

/// As [`load`], from the bytes of a checkpoint.
pub fn load_bytes<B: Backend>(be: B, bytes: &[u8]) -> Result<LoadedCheckpoint<B>> {
    let (metadata, file) = parse_file(bytes)?;
    let config = config_of(&metadata)?;
    // A hostile file of few bytes must not make this program allocate a large model: a checkpoint holds at least these
    // parameters, of 4 bytes or more each.
    let spec = config.block.layer.spec();
    let least_parameters = (spec.c_len() as u128 + spec.d_len() as u128) * config.layers as u128
        + config.features() as u128 * config.decoder_outputs() as u128
        + config.vocabulary.unwrap_or(0) as u128 * config.features() as u128;
    if least_parameters * 4 > bytes.len() as u128 {
        return Err(checkpoint_error(
            format!("a file of more than {} bytes for its configuration", least_parameters * 4),
            bytes.len(),
        ));
    }
    let not_taken = file.names().into_iter().map(String::from).collect();
    let mut source = CheckpointTensors { file, not_taken };
    let mut model = Model::new(be.clone(), config)?;
    let mut values = model.store.zeros_like()?;
    source.take_parameters(&be, "", &model.store, &mut values)?;
    model.store.values = values;
    model.store.mark_changed();
    for (name, norm) in model.net.norms_mut() {
        if let Some(present) = norm.running_statistics(&be)? {
            let (name, heads) = (format!("{name}.running"), present.len() / 2);
            let values: Vec<B::Scalar> = source.take_tensor(&name, &[2, heads])?;
            if values[heads..].iter().any(|v| *v < B::Scalar::zero()) {
                return Err(checkpoint_error(
                    format!("variances of 0 or more in '{name}'"),
                    "a negative one",
                ));
            }
            norm.set_running_statistics(&be, &values)?;
        }
    }
    let trainer = match metadata.get("trainer") {
        Some(json) => {
            let metadata: TrainerMetadata =
                serde_json::from_str(json).map_err(|e| checkpoint_error("a trainer in the metadata", e))?;
            Some(load_trainer(&be, &model, metadata, &mut source)?)
        }
        None => None,
    };
    if let Some(name) = source.not_taken.iter().min() {
        return Err(checkpoint_error("known tensors only", format!("'{name}'")));
    }
    Ok(LoadedCheckpoint { model, trainer, extra: metadata.get("extra").cloned() })
}

/// The trainer of a checkpoint, from its metadata and its tensors.
fn load_trainer<B: Backend>(
    be: &B,
    model: &Model<B>,
    metadata: TrainerMetadata,
    source: &mut CheckpointTensors<'_>,
) -> Result<Trainer<B>> {
    let invalid = |e: Error| checkpoint_error("a valid trainer in the metadata", e);
    Schedule::new(metadata.schedule.config()).map_err(invalid)?;
    let mut trainer = Trainer::new(model, metadata.config).map_err(invalid)?;
    trainer.schedule = metadata.schedule;
    trainer.adam.step = metadata.step;
    (trainer.progress, trainer.average_in_place) = (metadata.progress, metadata.swapped);
    source.take_parameters(be, "optimizer.m.", &model.store, &mut trainer.adam.m)?;
    source.take_parameters(be, "optimizer.v.", &model.store, &mut trainer.adam.v)?;
    if let Some(average) = &mut trainer.average {
        source.take_parameters(be, "optimizer.average.", &model.store, average)?;
    }
    if let Some(batch) = metadata.carried {
        if batch == 0 || batch > 1 << 24 {
            return Err(checkpoint_error("rows of the carried states from 1 to 2^24", batch));
        }
        let n = model.config.block.layer.spec().state_len(batch);
        let blocks = (0..model.config.layers)
            .map(|i| source.take_tensor(&format!("optimizer.state.{i}"), &[n]))
            .collect::<Result<Vec<_>>>()?;
        trainer.set_carried(model, batch, &blocks)?;
    }
    Ok(trainer)
}
