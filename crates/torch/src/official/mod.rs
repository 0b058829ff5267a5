//! Maps models and blocks of the official repository to this library's configuration and tensors, and back.

mod backbone;
mod ends;
mod keys;
mod layer;
mod mapping;
mod options;
mod parts;

pub use layer::CTilde;

use crate::{
    error::{Error, Result, quoted},
    hyper::with_references_followed,
    tensor::{StateDict, Tensor},
};
use keys::Keys;
use layer::{MappedLayer, map_layer};
use mapping::{TensorMapping, check_ours, same_values};
use options::Options;
use parts::MappedParts;
use serde_json::Value as Json;

/// An official model, or a single block, that has been mapped to this library's.
#[derive(Clone, Debug)]
pub struct OfficialModel {
    /// The options of this library's `SequenceModel` or `S4Block`.
    pub config: Json,
    /// The tensors by this library's names, in the types of the file.
    pub tensors: StateDict,
    /// The tensors that hold C̃ in place of C. The caller must solve for C (in f64, at rate 1) and hand it over with
    /// [`OfficialModel::set_solved_c`].
    pub c_tildes: Vec<CTilde>,
    /// Sentences about options that neither tensors nor configuration determine, and what was assumed for them.
    pub notes: Vec<String>,
    mappings: Vec<TensorMapping>,
    original: StateDict,
}

/// A configuration with its references followed; refused where it is not an object of options.
fn options_object(config: Option<&Json>) -> Result<Option<Json>> {
    match config.filter(|c| !c.is_null()) {
        Some(config) if !config.is_object() => {
            Err(Error::new("configuration", "an object of options", quoted(&config.to_string())))
        }
        config => Ok(config.map(with_references_followed)),
    }
}

impl OfficialModel {
    /// Maps a model of the official `train.py` (with the names of version 4 or 3) or `example.py`. `config` is the
    /// configuration of `train.py` (`model`, `decoder`, `task`, `dataset`, …) or the options of its layer alone
    /// (`dt_transform`, `disc`, `prenorm`, …; `pooling`, which is none, mean, last, first or sum, then says what the
    /// decoder does). References of omegaconf in it (`${model.dropout}`) are followed. An error names the key or option that cannot be mapped.
    pub fn new(original: StateDict, config: Option<&Json>) -> Result<Self> {
        let config = options_object(config)?;
        let (mut keys, mut options) = (Keys::of_model(&original), Options::of_model(config.as_ref()));
        let mut parts = MappedParts::default();
        backbone::map_model(&mut parts, &mut keys, &mut options)?;
        keys.all_used()?;
        Self::from_parts(parts, options.notes, original)
    }

    /// Maps a single block, the official `S4Block` of version 4, `S4` of version 3 or the minimal `S4D`: `config` is then
    /// that of this library's `S4Block`, without norm and residual. The block's names may have anything in common before
    /// them. The configuration given holds options of the official class, which has defaults for all of them.
    pub fn of_block(original: StateDict, config: Option<&Json>) -> Result<Self> {
        let config = options_object(config)?;
        let (mut keys, mut options) = (Keys::of_block(&original)?, Options::of_block(config.as_ref()));
        let MappedLayer { mut config, mappings, c_tilde } = map_layer(&mut keys, &mut options, "", "")?;
        keys.all_used()?;
        config.insert("norm".into(), "none".into());
        config.insert("residual".into(), false.into());
        let parts = MappedParts { config, mappings, c_tildes: c_tilde.into_iter().collect() };
        Self::from_parts(parts, options.notes, original)
    }

    fn from_parts(parts: MappedParts, notes: Vec<String>, original: StateDict) -> Result<Self> {
        let mut tensors = StateDict::new();
        for mapping in &parts.mappings {
            if let (Some(name), Some(tensor)) = (mapping.ours(), mapping.to_ours(&original)?) {
                mapping::check_values(name, &tensor)?;
                tensors.insert(name.to_string(), tensor);
            }
        }
        Ok(OfficialModel {
            config: Json::Object(parts.config),
            tensors,
            c_tildes: parts.c_tildes,
            notes,
            mappings: parts.mappings,
            original,
        })
    }

    /// Replaces C̃ by the C that the caller has solved from it. [`OfficialModel::to_official`] gives C̃ back as long as
    /// this C is unchanged.
    pub fn set_solved_c(&mut self, name: &str, c: Tensor) -> Result<()> {
        let shape = self.tensors.get(name).map(|t| t.shape().to_vec());
        if shape.as_deref() != Some(c.shape()) || !self.c_tildes.iter().any(|t| t.name == name) {
            return Err(Error::new("C", "the name and shape of a tensor that holds C̃", quoted(name)));
        }
        self.tensors.insert(name.to_string(), c);
        Ok(())
    }

    /// The official state dict of `ours`, tensors by this library's names. Tensors that are unchanged since
    /// [`OfficialModel::new`] are given as they were in the file, bit for bit, also C̃. A C that has changed is given
    /// as C, with `l_kernel` 0.
    pub fn to_official(&self, ours: &StateDict) -> Result<StateDict> {
        check_ours(&self.mappings, &self.tensors, ours)?;
        let mut official = StateDict::new();
        // The minimal S4D has a C but no B: a change of ours to either of them changes its C.
        let changed = |name: &str| match (ours.get(name), self.tensors.get(name)) {
            (Some(now), Some(then)) => !same_values(now, then),
            _ => true,
        };
        for mapping in &self.mappings {
            let is_changed = match mapping {
                TensorMapping::Conjugate { ours: c, b, .. } => changed(c) || changed(b),
                _ => mapping.ours().is_some_and(changed),
            };
            match is_changed {
                true => mapping.add_theirs(&self.original, ours, &mut official)?,
                false => {
                    for name in mapping.theirs() {
                        if let Some(tensor) = self.original.get(name) {
                            official.insert(name.to_string(), tensor.clone());
                        }
                    }
                }
            }
        }
        Ok(official)
    }
}
