//! Options of an official model that its tensors do not determine, from the configuration of `train.py` or a part of
//! it.

use crate::error::{Error, Result, quoted};
use serde_json::{Map, Value as Json};

/// The configuration of an official model, and notes about options that it lacks and that were assumed.
pub(super) struct Options<'a> {
    root: Option<&'a Json>,
    /// Whether they are those of a single block, which the configuration then holds in full.
    pub is_block: bool,
    pub notes: Vec<String>,
}

/// Official names of activations, and this library's.
const ACTIVATIONS: [(&str, &str); 11] = [
    ("gelu", "gelu"),
    ("relu", "relu"),
    ("silu", "silu"),
    ("swish", "silu"),
    ("tanh", "tanh"),
    ("sigmoid", "sigmoid"),
    ("softplus", "softplus"),
    ("id", "identity"),
    ("identity", "identity"),
    ("linear", "identity"),
    ("none", "identity"),
];
const TRANSFORMS: [&str; 5] = ["exp", "softplus", "relu", "sigmoid", "none"];

/// The error of an option whose value this library does not support.
pub(super) fn refuse(option: &str, expected: &str, got: &Json) -> Error {
    Error::new(format!("option {}", quoted(option)), expected, quoted(&got.to_string()))
}

impl<'a> Options<'a> {
    /// The options of a whole model.
    pub fn of_model(root: Option<&'a Json>) -> Self {
        Options { root, is_block: false, notes: Vec::new() }
    }
    /// The options of a single block.
    pub fn of_block(root: Option<&'a Json>) -> Self {
        Options { root, is_block: true, notes: Vec::new() }
    }
    /// The option `key` at the top of the configuration.
    pub fn top_level_option(&self, key: &str) -> Option<&'a Json> {
        self.root?.get(key)
    }
    /// The option `key` of the backbone: `model.KEY`, or at the top.
    pub fn backbone_option(&self, key: &str) -> Option<&'a Json> {
        self.top_level_option("model").and_then(|m| m.get(key)).or_else(|| self.top_level_option(key))
    }
    /// The options of the layer, `model.layer`, which may be in a list of one.
    fn layer_section(&self) -> Option<&'a Map<String, Json>> {
        match self.backbone_option("layer")? {
            Json::Object(map) => Some(map),
            Json::Array(list) if list.len() == 1 => list[0].as_object(),
            _ => None,
        }
    }
    /// Whether the configuration has the options of the layer: those that it leaves out then have the defaults of the
    /// official class.
    pub fn is_complete(&self) -> bool {
        self.is_block || self.layer_section().is_some()
    }
    /// The option `key` of the layer: `model.layer.KEY`, `layer.KEY`, or at the top.
    pub fn layer_option(&self, key: &str) -> Option<&'a Json> {
        match self.layer_section() {
            Some(map) => map.get(key),
            None => self.top_level_option(key),
        }
    }
    /// The length that kernels are cut to. A model's `l_max` cuts them. A block's `l_max` only says for which length it was
    /// built: a block keeps its state, and is cut where the option `truncate`, which is of this library, says so.
    pub fn truncation(&self) -> Result<Option<u64>> {
        let key = if self.is_block { "truncate" } else { "l_max" };
        match self.layer_option(key) {
            None | Some(Json::Null) => Ok(None),
            Some(x) => match x.as_u64().filter(|&n| n > 0) {
                Some(length) => Ok(Some(length)),
                None => Err(refuse(key, "a length or null", x)),
            },
        }
    }
    /// The name that a section of the configuration chooses: its `_name_`, or the section itself where it is a string.
    pub fn name_of(section: Option<&'a Json>) -> Option<&'a str> {
        match section? {
            Json::String(name) => Some(name),
            Json::Object(map) => map.get("_name_")?.as_str(),
            Json::Array(list) if list.len() == 1 => Options::name_of(list.first()),
            _ => None,
        }
    }
    /// Adds a note, unless it is there already.
    pub fn add_note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Refuses options of the layer that this library does not have and that no key of the state dict shows.
    pub fn check_layer(&self) -> Result<()> {
        let is_set = |x: &Json| !matches!(x, Json::Null | Json::Bool(false));
        for key in
            ["gate", "bottleneck", "bandlimit", "dt_fast", "is_real", "hyper_act", "shift", "linear", "comp"]
        {
            if let Some(x) = self.layer_option(key).filter(|x| is_set(x)) {
                return Err(refuse(key, "null (this library has none)", x));
            }
        }
        if let Some(x) = self.layer_option("mult_act").filter(|x| is_set(x) && x.as_str() != Some("id")) {
            return Err(refuse("mult_act", "null", x));
        }
        if let Some(x) = self.layer_option("swap_channels").filter(|x| is_set(x))
            && self.layer_option("channels").and_then(Json::as_u64).unwrap_or(1) > 1
        {
            return Err(refuse("swap_channels", "false", x));
        }
        if let Some(name) = Options::name_of(self.backbone_option("layer"))
            && !["s4", "s4d", "standalone", "fftconv"].contains(&name)
        {
            return Err(refuse("layer._name_", "s4, s4d or standalone", &name.into()));
        }
        if let Some(x) = self.layer_option("layer").filter(|x| x.is_string() && x.as_str() != Some("fftconv"))
        {
            return Err(refuse("layer.layer", "fftconv", x));
        }
        if let Some(list @ Json::Array(items)) = self.backbone_option("layer")
            && items.len() != 1
        {
            return Err(refuse("model.layer", "one kind of layer", list));
        }
        Ok(())
    }

    /// Refuses options of the backbone that this library does not have and that no key of the state dict shows.
    pub fn check_model(&self) -> Result<()> {
        if let Some(name) = Options::name_of(self.top_level_option("model"))
            && name != "model"
        {
            return Err(refuse("model._name_", "model", &name.into()));
        }
        if let Some(x) =
            self.backbone_option("bidirectional").filter(|_| self.top_level_option("model").is_some())
            && x == true
        {
            return Err(refuse("model.bidirectional", "false (a layer may be bidirectional)", x));
        }
        match self.backbone_option("pool") {
            None | Some(Json::Null) => {}
            Some(pool) => {
                let plain = pool.get("stride").is_none_or(|s| s.is_null() || s == 1)
                    && pool.get("expand").is_none_or(|e| e.is_null() || e == 1);
                if !plain {
                    return Err(refuse("model.pool", "stride 1 and no expansion", pool));
                }
            }
        }
        Ok(())
    }

    /// Whether blocks have a residual connection.
    pub fn residual(&mut self) -> Result<bool> {
        let given = self.backbone_option("residual");
        if given.is_none() && !self.is_complete() {
            self.add_note("residual: assumed 'R' (as model/base.yaml has it)");
            return Ok(true);
        }
        if let Some(Json::Object(map)) = given {
            for key in ["alpha", "beta"] {
                if let Some(x) = map.get(key).filter(|x| x.as_f64() != Some(1.0)) {
                    return Err(refuse(&format!("residual.{key}"), "1", x));
                }
            }
        }
        match (given, Options::name_of(given)) {
            (None | Some(Json::Null), _) => Ok(false),
            (_, Some("R" | "residual")) => Ok(true),
            (_, Some("F" | "N" | "none" | "ff" | "feedforward")) => Ok(false),
            (Some(other), _) => Err(refuse("residual", "R, F or null", other)),
        }
    }

    /// This library's name of an official activation; null is the identity.
    pub fn activation(key: &str, given: &Json) -> Result<&'static str> {
        let name = if given.is_null() { Some("none") } else { given.as_str() };
        let found = name.and_then(|name| ACTIVATIONS.iter().find(|(theirs, _)| *theirs == name));
        found
            .map(|(_, ours)| *ours)
            .ok_or_else(|| refuse(key, "id, gelu, relu, silu, tanh, sigmoid or softplus", given))
    }

    /// The name of a parameter transform of the layer, `default` where the configuration has none.
    pub fn transform(&self, key: &str, default: &str) -> Result<String> {
        match self.layer_option(key) {
            None | Some(Json::Null) => Ok(default.to_string()),
            Some(x) => match x.as_str().filter(|name| TRANSFORMS.contains(name)) {
                Some(name) => Ok(name.to_string()),
                None => Err(refuse(key, "exp, softplus, relu, sigmoid or none", x)),
            },
        }
    }

    /// The dropout probability of the layer or else of the model, 0 where neither has one below 1.
    pub fn dropout(&self) -> f64 {
        let given = [self.layer_option("dropout"), self.backbone_option("dropout")];
        given.into_iter().flatten().find_map(Json::as_f64).filter(|p| (0.0..1.0).contains(p)).unwrap_or(0.0)
    }
}
