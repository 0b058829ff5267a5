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
    memory_estimate::{ParameterCount, check_initialization},
    model::Model,
    param::{GroupBuffers, ParamStore},
    progress::Progress,
    read_file::read_whole,
    schedule::Schedule,
    tensor_file::{FileMetadata, TensorFile, TensorToWrite, WriteError},
    train::Trainer,
    train_config::TrainConfig,
    write_file::{check_target, write_whole},
};
use s4_backend::{Backend, Code, Error, Result, Scalar, host_memory};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    path::Path,
};

/// Value of `format` in the metadata of every checkpoint of this library.
const FORMAT: &str = "s4-node";
/// The version that is written now: options of a configuration have their present names.
const VERSION: &str = "2";
/// The version that release 0.1.0 wrote: options that were renamed since have their old names.
const VERSION_0_1_0: &str = "1";

/// What the names of an optimiser's tensors begin with.
const FIRST_MOMENTS: &str = "optimizer.m.";
const SECOND_MOMENTS: &str = "optimizer.v.";
const AVERAGE: &str = "optimizer.average.";

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

/// Metadata and tensors of a file's bytes. `ERR_S4_CHECKPOINT` unless its layout is sound: offsets within the file, no two
/// tensors over each other, as many bytes as each shape needs.
fn parse_file(bytes: &[u8]) -> Result<(HashMap<String, String>, SafeTensors<'_>)> {
    // The header's text becomes maps of names, shapes and texts, twice.
    let header = bytes.first_chunk().map_or(0, |len| u64::from_le_bytes(*len).min(bytes.len() as u64));
    host_memory::check("checkpoint", "the file's header", u128::from(header) * 8)?;
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
    inspect_bytes(&read_whole("checkpoint", path)?)
}

/// As [`inspect`], of a checkpoint's bytes.
pub fn inspect_bytes(bytes: &[u8]) -> Result<(ModelConfig, String)> {
    let (metadata, _) = parse_file(bytes)?;
    if let Some(kind) = metadata.get("kind") {
        return Err(checkpoint_error("a file of SequenceModel.save()", format!("one of {kind}.save()")));
    }
    let dtype =
        metadata.get("dtype").cloned().ok_or_else(|| checkpoint_error("a dtype in the metadata", "none"))?;
    if !["f32", "f64"].contains(&dtype.as_str()) {
        return Err(checkpoint_error("dtype f32 or f64 in the metadata", dtype));
    }
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
    let file = checkpoint_file(model, trainer, extra)?;
    write_whole(path, |out| file.write_to(out)).map_err(|error| match error {
        WriteError::Io(error) => io(error),
        WriteError::Contents(error) => error,
    })
}

/// A tensor whose elements `read` gives when it is written.
fn tensor_to_write<'a, T: Scalar>(
    name: String,
    shape: Vec<usize>,
    read: impl FnOnce() -> Result<Vec<T>> + 'a,
) -> TensorToWrite<'a> {
    let bytes = Box::new(move || Ok(to_bytes(&read()?)?.into()));
    TensorToWrite { name, dtype: safetensors_dtype::<T>(), shape, bytes }
}

/// All parameters' values in `buffers`, with `prefix` before their names.
fn parameter_tensors<'a, B: Backend>(
    prefix: &str,
    store: &'a ParamStore<B>,
    buffers: &'a GroupBuffers<B>,
) -> impl Iterator<Item = TensorToWrite<'a>> {
    store.infos().iter().map(move |info| {
        let name = format!("{prefix}{}", info.name);
        tensor_to_write(name, info.shape.clone(), move || store.read_from(buffers, &info.name))
    })
}

/// All tensors of a model for a checkpoint: every parameter, and the running statistics of each batch norm.
pub(crate) fn model_tensors<B: Backend>(model: &Model<B>) -> Result<Vec<TensorToWrite<'_>>> {
    let mut tensors: Vec<_> = parameter_tensors("", &model.store, &model.store.values).collect();
    for (name, norm) in model.net.norms() {
        if let Some(values) = norm.running_statistics(&model.be)? {
            let shape = vec![2, values.len() / 2];
            tensors.push(tensor_to_write(format!("{name}.running"), shape, move || Ok(values)));
        }
    }
    Ok(tensors)
}

/// The metadata of a checkpoint without a trainer.
pub(crate) fn model_metadata<T: Scalar>(config: &ModelConfig) -> FileMetadata {
    FileMetadata::from([
        ("format".to_string(), FORMAT.to_string()),
        ("version".into(), VERSION.into()),
        ("dtype".into(), T::DTYPE.as_str().into()),
        ("config".into(), config.to_json()),
    ])
}

/// The bytes of the file that [`save`] writes. `ERR_S4_MEMORY` where there is not the memory for them.
pub fn save_bytes<B: Backend>(
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<Vec<u8>> {
    checkpoint_file(model, trainer, extra)?.into_bytes()
}

/// The tensors and the metadata of a checkpoint, ready to be written.
fn checkpoint_file<'a, B: Backend>(
    model: &'a Model<B>,
    trainer: Option<&'a Trainer<B>>,
    extra: Option<&str>,
) -> Result<TensorFile<'a>> {
    let be = &model.be;
    let mut tensors = model_tensors(model)?;
    let mut metadata = model_metadata::<B::Scalar>(&model.config);
    if let Some(extra) = extra {
        metadata.insert("extra".into(), extra.into());
    }
    if let Some(t) = trainer {
        tensors.extend(parameter_tensors(FIRST_MOMENTS, &model.store, &t.adam.m));
        tensors.extend(parameter_tensors(SECOND_MOMENTS, &model.store, &t.adam.v));
        if let Some(average) = &t.average {
            tensors.extend(parameter_tensors(AVERAGE, &model.store, average));
        }
        if let Some(states) = t.carried() {
            for i in 0..states.blocks.len() {
                let shape = vec![be.ref_len(states.view(be, i))];
                let read = move || states.read(be, i);
                tensors.push(tensor_to_write(format!("optimizer.state.{i}"), shape, read));
            }
        }
        metadata.insert("trainer".into(), run_state(t)?);
    }
    TensorFile::new("SequenceModel.save", tensors, &metadata)
}

/// Refuses a negative number, which a mean of squares is not.
fn not_negative<T: Scalar>(what: &str, values: &[T]) -> Result<()> {
    match values.iter().any(|v| *v < T::zero()) {
        true => Err(checkpoint_error(format!("{what} of 0 or more"), "a negative one")),
        false => Ok(()),
    }
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
        let values = from_bytes(view.dtype(), view.data())?;
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
            let name = format!("{prefix}{}", info.name);
            let values = self.take_tensor(&name, &info.shape)?;
            // AdamW takes the root of the second moments.
            if prefix == SECOND_MOMENTS {
                not_negative(&format!("second moments in '{name}'"), &values)?;
            }
            be.upload(be.view_mut(buffers.buffer_of_mut(info.slot.group), info.slot.range()), &values)?;
        }
        Ok(())
    }
}

/// Loads a checkpoint. `ERR_S4_CHECKPOINT` with the reason where the file is damaged or was written by another program.
pub fn load<B: Backend>(be: B, path: &Path) -> Result<LoadedCheckpoint<B>> {
    load_bytes(be, &read_whole("checkpoint", path)?)
}

/// As [`load`], from the bytes of a checkpoint.
pub fn load_bytes<B: Backend>(be: B, bytes: &[u8]) -> Result<LoadedCheckpoint<B>> {
    let (metadata, file) = parse_file(bytes)?;
    let config = config_of(&metadata)?;
    // A hostile file of few bytes must not make this program allocate a large model: a checkpoint holds all parameters, of 4
    // bytes or more each.
    let least_bytes = config.parameter_count() * 4;
    if least_bytes > bytes.len() as u128 {
        return Err(checkpoint_error(
            format!("a file of more than {least_bytes} bytes for its configuration"),
            bytes.len(),
        ));
    }
    let not_taken = file.names().into_iter().map(String::from).collect();
    check_initialization("SequenceModel.load", &config, &be)?;
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
            not_negative(&format!("variances in '{name}'"), &values[heads..])?;
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

/// What a checkpoint says of a trainer: the options and counts of its run, as JSON.
pub(crate) fn run_state<B: Backend>(t: &Trainer<B>) -> Result<String> {
    let metadata = TrainerMetadata {
        config: t.config().clone(),
        step: t.steps(),
        schedule: t.schedule.clone(),
        carried: t.carried().map(|s| s.batch),
        progress: t.progress,
        swapped: t.average_in_place,
    };
    serde_json::to_string(&metadata).map_err(|e| checkpoint_error("a trainer that can be written", e))
}

/// A trainer that is where [`run_state`] says, with zero moments, and an average and carried states as at the beginning of a run.
pub(crate) fn trainer_at<B: Backend>(model: &Model<B>, run_state: &str) -> Result<Trainer<B>> {
    let metadata = serde_json::from_str(run_state).map_err(|e| checkpoint_error("the state of a run", e))?;
    trainer_of(model, metadata)
}

/// A trainer with the options and counts of these metadata.
fn trainer_of<B: Backend>(model: &Model<B>, metadata: TrainerMetadata) -> Result<Trainer<B>> {
    let mut trainer = Trainer::new(model, metadata.config)?;
    trainer.schedule = metadata.schedule;
    trainer.adam.step = metadata.step;
    (trainer.progress, trainer.average_in_place) = (metadata.progress, metadata.swapped);
    Ok(trainer)
}

/// The trainer of a checkpoint, from its metadata and its tensors.
fn load_trainer<B: Backend>(
    be: &B,
    model: &Model<B>,
    metadata: TrainerMetadata,
    source: &mut CheckpointTensors<'_>,
) -> Result<Trainer<B>> {
    let invalid = |e: Error| checkpoint_error("a valid trainer in the metadata", e);
    metadata.schedule.check().map_err(invalid)?;
    metadata.config.check().map_err(invalid)?;
    metadata.progress.check().map_err(invalid)?;
    // The number of an update counts in 32 bits of the key of its dropout masks.
    if metadata.step > u64::from(u32::MAX) {
        return Err(checkpoint_error("fewer than 2^32 updates", metadata.step));
    }
    if metadata.swapped && metadata.config.ema.is_none() {
        return Err(checkpoint_error("a running average, which is in the parameters' place", "none"));
    }
    let carried = metadata.carried;
    let mut trainer = trainer_of(model, metadata).map_err(invalid)?;
    source.take_parameters(be, FIRST_MOMENTS, &model.store, &mut trainer.adam.m)?;
    source.take_parameters(be, SECOND_MOMENTS, &model.store, &mut trainer.adam.v)?;
    if let Some(average) = &mut trainer.average {
        source.take_parameters(be, AVERAGE, &model.store, average)?;
    }
    if let Some(batch) = carried {
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
