//! Checkpoints: safetensors with the whole configuration in the metadata, written beside and renamed.
//!
//! Tensors: every parameter by name, `….running` of batch norms (2, H); with a trainer `optimizer.m.<name>`,
//! `optimizer.v.<name>`, `optimizer.average.<name>`, `optimizer.state.<block>`. Metadata: `format`, `version`, `dtype`,
//! `config` (JSON), `trainer` (JSON), `extra` (JSON of the caller's).

use crate::{
    bytes::{dtype, from_bytes, to_bytes},
    check,
    config::ModelConfig,
    config_json::with_present_names,
    file_kind::foreign_kind,
    model::Model,
    param::{Flats, ParamStore},
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

const FORMAT: &str = "s4-node";
/// What is written: the options of a configuration by their present names.
const VERSION: &str = "2";
/// Written by 0.1.0: options that were renamed since have their old names.
const VERSION_0_1_0: &str = "1";

/// What a checkpoint gives.
pub struct Loaded<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// With the optimiser's state, where it was saved.
    pub trainer: Option<Trainer<B>>,
    /// The caller's own JSON.
    pub extra: Option<String>,
}

/// A trainer's numbers beside its tensors.
#[derive(Serialize, Deserialize)]
struct TrainerMeta {
    config: TrainConfig,
    step: u64,
    schedule: Schedule,
    /// Rows of the carried states.
    carried: Option<usize>,
    /// Absent in files of 0.1.0: such a run goes on from epoch 0 with the steps that it has.
    #[serde(default)]
    progress: Progress,
    /// Whether the parameters are their average.
    #[serde(default)]
    swapped: bool,
}

/// `ERR_S4_CHECKPOINT`.
fn bad(expected: impl Display, got: impl Display) -> Error {
    Error::new(Code::Checkpoint, "checkpoint", expected, got)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| bad(format!("a readable file {}", path.display()), e))
}

/// Header of a file whose layout is sound: offsets inside, no overlaps, sizes that fit shapes.
fn open(bytes: &[u8]) -> Result<(HashMap<String, String>, SafeTensors<'_>)> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| match foreign_kind(bytes) {
        Some(kind) => bad("a safetensors file", kind),
        None => bad("a sound safetensors file", e),
    })?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad("a sound safetensors header", e))?;
    Ok((header.metadata().clone().unwrap_or_default(), file))
}

fn config(meta: &HashMap<String, String>) -> Result<ModelConfig> {
    match meta.get("format").map(String::as_str) {
        Some(FORMAT) => {}
        other => return Err(bad(format!("format '{FORMAT}' in the metadata"), format!("{other:?}"))),
    }
    let json = meta.get("config").ok_or_else(|| bad("a configuration in the metadata", "none"))?;
    let invalid = |e: Error| bad("a valid configuration", e);
    match meta.get("version").map(String::as_str) {
        Some(VERSION) => ModelConfig::from_json(json).map_err(invalid),
        Some(VERSION_0_1_0) => with_present_names(json)
            .map_err(invalid)
            .and_then(|json| ModelConfig::from_json(&json).map_err(invalid)),
        other => Err(bad(format!("version {VERSION_0_1_0} or {VERSION}"), format!("{other:?}"))),
    }
}

/// Configuration of a checkpoint and its dtype (`"f32"`, `"f64"`), without making a model.
pub fn inspect(path: &Path) -> Result<(ModelConfig, String)> {
    inspect_bytes(&read(path)?)
}

/// [`inspect`] of a checkpoint's bytes.
pub fn inspect_bytes(bytes: &[u8]) -> Result<(ModelConfig, String)> {
    let (meta, _) = open(bytes)?;
    let dtype = meta.get("dtype").cloned().ok_or_else(|| bad("a dtype in the metadata", "none"))?;
    Ok((config(&meta)?, dtype))
}

/// Writes to a temporary file beside `path`, then renames: readers see the old file or the new one, whole.
/// `extra`: any JSON of the caller's (epoch, normalisation, …).
pub fn save<B: Backend>(
    path: &Path,
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<()> {
    let io = |e: std::io::Error| bad(format!("to write {}", path.display()), e);
    check_target(path).map_err(io)?;
    let bytes = save_bytes(model, trainer, extra)?;
    write_whole(path, |file| file.write_all(&bytes)).map_err(io)
}

/// Name, shape, little-endian values.
pub(crate) type Entry = (String, Vec<usize>, Vec<u8>);

fn collect<B: Backend>(
    out: &mut Vec<Entry>,
    prefix: &str,
    store: &ParamStore<B>,
    flats: &Flats<B>,
) -> Result<()> {
    for info in store.infos() {
        let values = store.read(flats, &info.name)?;
        out.push((format!("{prefix}{}", info.name), info.shape.clone(), to_bytes(&values)));
    }
    Ok(())
}

/// Name, shape and little-endian values of every parameter and of the running statistics of batch norms.
pub(crate) fn model_tensors<B: Backend>(model: &Model<B>) -> Result<Vec<Entry>> {
    let mut tensors: Vec<Entry> = Vec::new();
    collect(&mut tensors, "", &model.store, &model.store.values)?;
    for (name, norm) in model.net.norms() {
        if let Some(values) = norm.running(&model.be)? {
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

/// The bytes that [`save`] writes.
pub fn save_bytes<B: Backend>(
    model: &Model<B>,
    trainer: Option<&Trainer<B>>,
    extra: Option<&str>,
) -> Result<Vec<u8>> {
    let be = &model.be;
    let mut out = model_tensors(model)?;
    let mut meta = model_metadata::<B::Scalar>(&model.config);
    if let Some(extra) = extra {
        meta.insert("extra".into(), extra.into());
    }
    if let Some(t) = trainer {
        collect(&mut out, "optimizer.m.", &model.store, &t.adam.m)?;
        collect(&mut out, "optimizer.v.", &model.store, &t.adam.v)?;
        if let Some(average) = &t.average {
            collect(&mut out, "optimizer.average.", &model.store, average)?;
        }
        if let Some(states) = t.carried() {
            for i in 0..states.blocks.len() {
                let host = states.read(be, i)?;
                out.push((format!("optimizer.state.{i}"), vec![host.len()], to_bytes(&host)));
            }
        }
        let trainer = TrainerMeta {
            config: t.config().clone(),
            step: t.steps(),
            schedule: t.schedule.clone(),
            carried: t.carried().map(|s| s.batch),
            progress: t.progress,
            swapped: t.swapped,
        };
        let json = serde_json::to_string(&trainer).map_err(|e| bad("a trainer that can be written", e))?;
        meta.insert("trainer".into(), json);
    }
    let views = out
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(dtype::<B::Scalar>(), shape.clone(), bytes);
            Ok((name.as_str(), view.map_err(|e| bad("a tensor", e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(meta)).map_err(|e| bad("to serialise", e))
}

/// Tensors of a file, each taken once.
struct Source<'a> {
    file: SafeTensors<'a>,
    left: HashSet<String>,
}

impl Source<'_> {
    /// A tensor of exactly this shape, with finite values.
    fn take<T: Scalar>(&mut self, name: &str, shape: &[usize]) -> Result<Vec<T>> {
        if !self.left.remove(name) {
            return Err(bad(format!("tensor '{name}'"), "none"));
        }
        let view = self.file.tensor(name).map_err(|e| bad(format!("tensor '{name}'"), e))?;
        if !matches!(view.dtype(), safetensors::Dtype::F32 | safetensors::Dtype::F64) {
            return Err(bad(format!("'{name}' of type F32 or F64"), format!("{:?}", view.dtype())));
        }
        if view.shape() != shape {
            return Err(bad(format!("'{name}' of shape {shape:?}"), format!("{:?}", view.shape())));
        }
        let values = from_bytes(view.dtype(), view.data());
        check::finite("checkpoint", name, &values).map_err(|e| bad(e.expected, e.got))?;
        Ok(values)
    }

    /// Parameters' layout under a prefix.
    fn fill<B: Backend>(
        &mut self,
        be: &B,
        prefix: &str,
        store: &ParamStore<B>,
        flats: &mut Flats<B>,
    ) -> Result<()> {
        for info in store.infos() {
            let values = self.take(&format!("{prefix}{}", info.name), &info.shape)?;
            be.upload(be.view_mut(flats.buf_mut(info.slot.group), info.slot.range()), &values)?;
        }
        Ok(())
    }
}

/// Reads a checkpoint; `ERR_S4_CHECKPOINT` with the reason when it is damaged or not one of ours.
pub fn load<B: Backend>(be: B, path: &Path) -> Result<Loaded<B>> {
    load_bytes(be, &read(path)?)
}

/// From bytes.
pub fn load_bytes<B: Backend>(be: B, bytes: &[u8]) -> Result<Loaded<B>> {
    let (meta, file) = open(bytes)?;
    let config = config(&meta)?;
    // A small file must not make a large model: the parameters have to be in it.
    let spec = config.block.layer.spec();
    let least = (spec.c_len() as u128 + spec.d_len() as u128) * config.layers as u128
        + config.features() as u128 * config.decoder_outputs() as u128
        + config.vocabulary.unwrap_or(0) as u128 * config.features() as u128;
    if least * 4 > bytes.len() as u128 {
        return Err(bad(
            format!("a file of more than {} bytes for its configuration", least * 4),
            bytes.len(),
        ));
    }
    let left = file.names().into_iter().map(String::from).collect();
    let mut source = Source { file, left };
    let mut model = Model::new(be.clone(), config)?;
    let mut values = model.store.like()?;
    source.fill(&be, "", &model.store, &mut values)?;
    model.store.values = values;
    model.store.touch();
    for (name, norm) in model.net.norms_mut() {
        if let Some(now) = norm.running(&be)? {
            let (name, heads) = (format!("{name}.running"), now.len() / 2);
            let values: Vec<B::Scalar> = source.take(&name, &[2, heads])?;
            if values[heads..].iter().any(|v| *v < B::Scalar::zero()) {
                return Err(bad(format!("variances of 0 or more in '{name}'"), "a negative one"));
            }
            norm.set_running(&be, &values)?;
        }
    }
    let trainer = match meta.get("trainer") {
        Some(json) => {
            let meta: TrainerMeta =
                serde_json::from_str(json).map_err(|e| bad("a trainer in the metadata", e))?;
            Some(load_trainer(&be, &model, meta, &mut source)?)
        }
        None => None,
    };
    if let Some(name) = source.left.iter().min() {
        return Err(bad("known tensors only", format!("'{name}'")));
    }
    Ok(Loaded { model, trainer, extra: meta.get("extra").cloned() })
}

fn load_trainer<B: Backend>(
    be: &B,
    model: &Model<B>,
    meta: TrainerMeta,
    source: &mut Source<'_>,
) -> Result<Trainer<B>> {
    let invalid = |e: Error| bad("a valid trainer in the metadata", e);
    Schedule::new(meta.schedule.config()).map_err(invalid)?;
    let mut trainer = Trainer::new(model, meta.config).map_err(invalid)?;
    trainer.schedule = meta.schedule;
    trainer.adam.step = meta.step;
    (trainer.progress, trainer.swapped) = (meta.progress, meta.swapped);
    source.fill(be, "optimizer.m.", &model.store, &mut trainer.adam.m)?;
    source.fill(be, "optimizer.v.", &model.store, &mut trainer.adam.v)?;
    if let Some(average) = &mut trainer.average {
        source.fill(be, "optimizer.average.", &model.store, average)?;
    }
    if let Some(batch) = meta.carried {
        if batch == 0 || batch > 1 << 24 {
            return Err(bad("rows of the carried states from 1 to 2^24", batch));
        }
        let n = model.config.block.layer.spec().state_len(batch);
        let blocks = (0..model.config.layers)
            .map(|i| source.take(&format!("optimizer.state.{i}"), &[n]))
            .collect::<Result<Vec<_>>>()?;
        trainer.set_carried(model, batch, &blocks)?;
    }
    Ok(trainer)
}
