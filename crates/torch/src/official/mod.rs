//! Models of the official repository in this library's configuration and names, and back.

mod backbone;
mod ends;
mod keys;
mod layer;
mod options;
mod parts;
mod step;

pub use layer::Tilde;

use crate::{
    error::{Error, Result, quoted},
    tensor::{StateDict, Tensor},
};
use keys::Keys;
use options::Options;
use parts::Parts;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use step::{Step, check_ours, same_values};

/// An official model, mapped.
#[derive(Clone, Debug)]
pub struct OfficialModel {
    /// This library's options of a `SequenceModel`.
    pub config: Json,
    /// Its tensors by this library's names, in the types of the file.
    pub tensors: StateDict,
    /// Those that hold C̃ in place of C: the caller solves for C (in f64, at rate 1) and says so with
    /// [`OfficialModel::solved`].
    pub tildes: Vec<Tilde>,
    /// What neither tensors nor configuration told and was assumed.
    pub notes: Vec<String>,
    steps: Vec<Step>,
    original: StateDict,
    /// What C̃ was solved to.
    solved: BTreeMap<String, Tensor>,
}

impl OfficialModel {
    /// Maps `train.py`'s models (names of V4 or V3) and `example.py`'s. `config`: what `train.py` was configured with
    /// (`model`, `decoder`, `task`, `dataset`, …), or options of its layer at the top (`dt_transform`, `disc`,
    /// `prenorm`, …; `pooling` none, mean, last, first or sum says what the decoder does). What cannot be mapped is
    /// refused by its key or option.
    pub fn new(original: StateDict, config: Option<&Json>) -> Result<Self> {
        if let Some(config) = config.filter(|c| !c.is_object() && !c.is_null()) {
            return Err(Error::new("configuration", "an object of options", quoted(&config.to_string())));
        }
        let mut keys = Keys::new(&original);
        let mut options = Options::new(config);
        let mut parts = Parts::default();
        backbone::map(&mut parts, &mut keys, &mut options)?;
        keys.all_used()?;
        let mut tensors = StateDict::new();
        for step in &parts.steps {
            if let (Some(name), Some(tensor)) = (step.ours(), step.apply(&original)?) {
                step::check_values(name, &tensor)?;
                tensors.insert(name.to_string(), tensor);
            }
        }
        Ok(OfficialModel {
            config: Json::Object(parts.config),
            tensors,
            tildes: parts.tildes,
            notes: options.notes,
            steps: parts.steps,
            original,
            solved: BTreeMap::new(),
        })
    }

    /// Puts C, which the caller solved from C̃, in its place, so that going back finds an unchanged C again.
    pub fn solved(&mut self, name: &str, c: Tensor) -> Result<()> {
        let shape = self.tensors.get(name).map(|t| t.shape().to_vec());
        if shape.as_deref() != Some(c.shape()) || !self.tildes.iter().any(|t| t.name == name) {
            return Err(Error::new("C", "the name and shape of a tensor that holds C̃", quoted(name)));
        }
        self.tensors.insert(name.to_string(), c.clone());
        self.solved.insert(name.to_string(), c);
        Ok(())
    }

    /// The official state dict of these tensors of ours. What is unchanged since [`OfficialModel::new`] goes back bit
    /// for bit (a C̃ too); a C that changed goes back as C, with `l_kernel` 0.
    pub fn to_official(&self, ours: &StateDict) -> Result<StateDict> {
        check_ours(&self.steps, &self.tensors, ours)?;
        let mut official = StateDict::new();
        // B and C of the minimal S4D go back together.
        let changed = |name: &str| match (ours.get(name), self.tensors.get(name)) {
            (Some(now), Some(then)) => !same_values(now, then),
            _ => true,
        };
        for step in &self.steps {
            let is_changed = match step {
                Step::Conjugate { ours: c, b, .. } => changed(c) || changed(b),
                _ => step.ours().is_some_and(changed),
            };
            match is_changed {
                true => step.back(&self.original, ours, &mut official)?,
                false => {
                    for name in step.theirs() {
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
