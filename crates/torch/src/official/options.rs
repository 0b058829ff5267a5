//! What a state dict does not say: the configuration of `train.py`, whole or in part.

use crate::error::{Error, Result, quoted};
use serde_json::{Map, Value as Json};

/// A configuration, and what had to be assumed for want of one.
pub(super) struct Options<'a> {
    root: Option<&'a Json>,
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
    ("id", "identity"),
    ("identity", "identity"),
    ("linear", "identity"),
    ("none", "identity"),
    ("", "identity"),
];
const TRANSFORMS: [&str; 5] = ["exp", "softplus", "relu", "sigmoid", "none"];

/// A refusal of an option.
pub(super) fn refuse(option: &str, expected: &str, got: &Json) -> Error {
    Error::new(format!("option {}", quoted(option)), expected, quoted(&got.to_string()))
}

impl<'a> Options<'a> {
    pub fn new(root: Option<&'a Json>) -> Self {
        Options { root, notes: Vec::new() }
    }
    /// The option `key` at the top of the configuration.
    pub fn top(&self, key: &str) -> Option<&'a Json> {
        self.root?.get(key)
    }
    /// The option `key` of the backbone: `model.KEY`, or at the top.
    pub fn model(&self, key: &str) -> Option<&'a Json> {
        self.top("model").and_then(|m| m.get(key)).or_else(|| self.top(key))
    }
    /// The section of the layer; a list of one is that one.
    fn section(&self) -> Option<&'a Map<String, Json>> {
        match self.model("layer")? {
            Json::Object(map) => Some(map),
            Json::Array(list) if list.len() == 1 => list[0].as_object(),
            _ => None,
        }
    }
    /// Whether the layer's section is there: what it lacks then has the default of the official class.
    pub fn is_complete(&self) -> bool {
        self.section().is_some()
    }
    /// The option `key` of the layer: `model.layer.KEY`, `layer.KEY`, or at the top.
    pub fn layer(&self, key: &str) -> Option<&'a Json> {
        match self.section() {
            Some(map) => map.get(key),
            None => self.top(key),
        }
    }
    /// `_name_` of a section, or the section itself where it is a word; null and a list of none are no name.
    pub fn name_of(section: Option<&'a Json>) -> Option<&'a str> {
        match section? {
            Json::String(name) => Some(name),
            Json::Object(map) => map.get("_name_")?.as_str(),
            Json::Array(list) if list.len() == 1 => Options::name_of(list.first()),
            _ => None,
        }
    }
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Refuses options of the layer that no key of the state dict betrays.
    pub fn check_layer(&self) -> Result<()> {
        let is_set = |x: &Json| !matches!(x, Json::Null | Json::Bool(false));
        for key in
            ["gate", "bottleneck", "bandlimit", "dt_fast", "is_real", "hyper_act", "shift", "linear", "comp"]
        {
            if let Some(x) = self.layer(key).filter(|x| is_set(x)) {
                return Err(refuse(key, "null (this library has none)", x));
            }
        }
        if let Some(x) = self.layer("mult_act").filter(|x| is_set(x) && x.as_str() != Some("id")) {
            return Err(refuse("mult_act", "null", x));
        }
        if let Some(x) = self.layer("swap_channels").filter(|x| is_set(x))
            && self.layer("channels").and_then(Json::as_u64).unwrap_or(1) > 1
        {
            return Err(refuse("swap_channels", "false", x));
        }
        if let Some(name) = Options::name_of(self.model("layer"))
            && !["s4", "s4d", "standalone", "fftconv"].contains(&name)
        {
            return Err(refuse("layer._name_", "s4, s4d or standalone", &name.into()));
        }
        if let Some(x) = self.layer("layer").filter(|x| x.is_string() && x.as_str() != Some("fftconv")) {
            return Err(refuse("layer.layer", "fftconv", x));
        }
        if let Some(list @ Json::Array(items)) = self.model("layer")
            && items.len() != 1
        {
            return Err(refuse("model.layer", "one kind of layer", list));
        }
        Ok(())
    }

    /// Refuses options of the backbone that no key betrays.
    pub fn check_model(&self) -> Result<()> {
        if let Some(name) = Options::name_of(self.top("model"))
            && name != "model"
        {
            return Err(refuse("model._name_", "model", &name.into()));
        }
        if let Some(x) = self.model("bidirectional").filter(|_| self.top("model").is_some())
            && x == true
        {
            return Err(refuse("model.bidirectional", "false (a layer may be bidirectional)", x));
        }
        match self.model("pool") {
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

    /// Whether a block adds its input.
    pub fn residual(&mut self) -> Result<bool> {
        let given = self.model("residual");
        if given.is_none() && !self.is_complete() {
            self.note("residual: assumed 'R' (as model/base.yaml has it)");
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

    /// This library's name of an official activation; null is none.
    pub fn activation(key: &str, given: &Json) -> Result<&'static str> {
        let name = if given.is_null() { Some("") } else { given.as_str() };
        let found = name.and_then(|name| ACTIVATIONS.iter().find(|(theirs, _)| *theirs == name));
        found
            .map(|(_, ours)| *ours)
            .ok_or_else(|| refuse(key, "id, gelu, relu, silu, tanh or sigmoid", given))
    }

    /// A transform of the layer, `default` where nothing is said.
    pub fn transform(&self, key: &str, default: &str) -> Result<String> {
        match self.layer(key) {
            None | Some(Json::Null) => Ok(default.to_string()),
            Some(x) => match x.as_str().filter(|name| TRANSFORMS.contains(name)) {
                Some(name) => Ok(name.to_string()),
                None => Err(refuse(key, "exp, softplus, relu, sigmoid or none", x)),
            },
        }
    }

    /// A dropout probability below 1.
    pub fn dropout(&self) -> f64 {
        let given = [self.layer("dropout"), self.model("dropout")];
        given.into_iter().flatten().find_map(Json::as_f64).filter(|p| (0.0..1.0).contains(p)).unwrap_or(0.0)
    }
}
