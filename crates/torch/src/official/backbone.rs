//! Whole models: layers, norms and what stands around them.

use super::{
    ends,
    keys::{Keys, unknown},
    layer::{Layer, layer},
    options::{Options, refuse},
    parts::Parts,
    step::Step,
};
use crate::error::{Error, Result, listed, quoted};
use serde_json::Value as Json;

/// Blocks a model may have.
const MAX_LAYERS: usize = 4096;

/// Names of one program's models.
struct Program {
    /// Before a layer's number.
    layers: &'static str,
    /// After it, before the layer's own names.
    layer: &'static str,
    is_example: bool,
}

const TRAIN: Program = Program { layers: "model.layers.", layer: ".layer.", is_example: false };
const EXAMPLE: Program = Program { layers: "s4_layers.", layer: ".", is_example: true };

/// Maps everything.
pub(super) fn map(parts: &mut Parts, keys: &mut Keys<'_>, options: &mut Options<'_>) -> Result<()> {
    let program = match (keys.starting(TRAIN.layers).is_empty(), keys.starting(EXAMPLE.layers).is_empty()) {
        (false, _) => TRAIN,
        (true, false) => EXAMPLE,
        (true, true) => {
            return Err(match keys.starting("").first() {
                Some(key) if unknown(key).got.contains(": ") => unknown(&keys.full(key)),
                _ => Error::new(
                    "state dict",
                    "keys 'model.layers.…' (train.py) or 's4_layers.…' (example.py)",
                    listed(keys.starting("").into_iter()),
                ),
            });
        }
    };
    if !program.is_example {
        options.check_model()?;
    }
    let count = layers(keys, program.layers)?;
    let mut norm: Option<&'static str> = None;
    for i in 0..count {
        let ours = format!("blocks.{i}.");
        let theirs = format!("{}{i}{}", program.layers, program.layer);
        let Layer { config, steps, tilde } = layer(keys, options, &theirs, &ours)?;
        match i {
            0 => parts.config = config,
            _ if parts.config == config => {}
            _ => {
                let different = config.iter().find(|(key, value)| parts.config.get(*key) != Some(value));
                return Err(Error::new(
                    format!("layer {i}"),
                    "layers of one kind",
                    format!("another {}", different.map_or("option", |(key, _)| key)),
                ));
            }
        }
        parts.steps.extend(steps);
        parts.tildes.extend(tilde);
        let place = match program.is_example {
            true => format!("norms.{i}."),
            false => format!("{}{i}.norm.norm.", program.layers),
        };
        let found = norm_of(parts, keys, &place, &format!("{ours}norm."))?;
        if norm.is_some_and(|norm| norm != found) {
            return Err(Error::new(format!("layer {i}"), "norms of one kind", found));
        }
        norm = Some(found);
    }
    let norm = norm.unwrap_or("none");
    let after = match program.is_example {
        true => "none",
        false => norm_of(parts, keys, "model.norm.norm.", "norm.")?,
    };
    if after != "none" && after != norm {
        return Err(Error::new("key 'model.norm.norm.weight'", format!("the blocks' norm, {norm}"), after));
    }
    if !program.is_example {
        check_norm(options, norm)?;
    }
    let prenorm = match (program.is_example, options.model("prenorm").and_then(Json::as_bool)) {
        (true, Some(prenorm)) => prenorm,
        (true, None) => {
            return Err(Error::new(
                "option 'prenorm'",
                "it, since tensors do not tell (example.py's default is false)",
                "none",
            ));
        }
        (false, given) => {
            let found = after != "none" || norm == "none" && given.unwrap_or(true);
            if let Some(given) = given.filter(|given| *given != found) {
                return Err(refuse(
                    "prenorm",
                    if found { "true, as the final norm says" } else { "false, as there is no final norm" },
                    &given.into(),
                ));
            }
            found
        }
    };
    let residual = program.is_example || options.residual()?;
    let mut set = |key: &str, value: Json| parts.config.insert(key.into(), value);
    set("layers", count.into());
    set("norm", norm.into());
    set("prenorm", prenorm.into());
    set("finalNorm", (after != "none").into());
    set("residual", residual.into());
    set("dropout", options.dropout().into());
    let tied = options.layer("tie_dropout").or_else(|| options.model("tie_dropout"));
    set("tiedDropout", tied.and_then(Json::as_bool).unwrap_or(false).into());
    ends::map(parts, keys, options, program.is_example)
}

/// How many layers there are, numbered from 0 without a gap.
fn layers(keys: &Keys<'_>, start: &str) -> Result<usize> {
    let mut count = 0;
    for key in keys.starting(start) {
        let number = key[start.len()..].split('.').next().unwrap_or_default();
        match number.parse::<usize>() {
            Ok(i) if i < MAX_LAYERS && number == i.to_string() => count = count.max(i + 1),
            _ => return Err(unknown(&keys.full(key))),
        }
    }
    match (0..count).find(|i| keys.starting(&format!("{start}{i}.")).is_empty()) {
        Some(gap) => {
            Err(Error::new("state dict", format!("layers from 0 to {}", count - 1), format!("none of {gap}")))
        }
        None => Ok(count),
    }
}

/// Which norm stands at a place; its tensors' steps.
fn norm_of(parts: &mut Parts, keys: &mut Keys<'_>, theirs: &str, ours: &str) -> Result<&'static str> {
    let features = parts.config.get("features").and_then(Json::as_u64).unwrap_or(0) as usize;
    // Transposed layer norm without its scalars is a layer norm over the channels all the same.
    let inner = format!("{theirs}ln.");
    let theirs = if keys.has(&format!("{inner}weight")) { inner } else { theirs.to_string() };
    let (weight, mean) = (format!("{theirs}weight"), format!("{theirs}running_mean"));
    if !keys.has(&weight) {
        return match keys.starting(&theirs).first() {
            Some(key) => Err(unknown(&keys.full(key))),
            None => Ok("none"),
        };
    }
    for part in ["weight", "bias"] {
        let name = format!("{theirs}{part}");
        keys.shaped(&name, &[features])?;
        parts.steps.push(Step::Shape {
            theirs: keys.full(&name),
            ours: format!("{ours}{part}"),
            shape: vec![features],
        });
    }
    if !keys.has(&mean) {
        return Ok("layer");
    }
    let variance = format!("{theirs}running_var");
    keys.shaped(&mean, &[features])?;
    keys.shaped(&variance, &[features])?;
    let running = Step::Running {
        mean: keys.full(&mean),
        variance: keys.full(&variance),
        ours: format!("{ours}running"),
    };
    parts.steps.push(running);
    let batches = format!("{theirs}num_batches_tracked");
    if keys.has(&batches) {
        parts.steps.push(Step::Kept { theirs: keys.keep(&batches) });
    }
    Ok("batch")
}

/// The option `norm` against what the keys say: group norm has the keys of layer norm, instance norm has none.
fn check_norm(options: &mut Options<'_>, found: &'static str) -> Result<()> {
    let given = options.model("norm");
    if let Some(Json::Object(map)) = given
        && let Some((key, value)) = map.iter().find(|(key, _)| *key != "_name_" && *key != "scalar")
    {
        return Err(refuse(&format!("norm.{key}"), "the norm's defaults", value));
    }
    match (given, Options::name_of(given)) {
        (None, _) => {
            options.note(format!("norm: '{found}', as the keys are those of it"));
            Ok(())
        }
        (_, Some(name)) if name == found => Ok(()),
        (Some(Json::Null), _) if found == "none" => Ok(()),
        (Some(other), _) => {
            Err(refuse("norm", &format!("{found}, as the keys {} say", quoted("…norm.norm.…")), other))
        }
    }
}
