//! Maps a whole model: its layers and norms, and by `ends.rs` the encoder and decoder.

use super::{
    ends,
    keys::{Keys, unmapped_key},
    layer::{MappedLayer, map_layer},
    mapping::TensorMapping,
    options::{Options, refuse},
    parts::MappedParts,
};
use crate::error::{Error, Result, listed, quoted};
use serde_json::Value as Json;

/// Largest number of blocks of a model.
const MAX_LAYERS: usize = 4096;

/// How a naming of the official repository names the layers of its models: `{before_number}{i}{after_number}…`.
struct LayerNaming {
    before_number: &'static str,
    after_number: &'static str,
    /// Whether it is `example.py`.
    is_example: bool,
}

const TRAIN: LayerNaming =
    LayerNaming { before_number: "model.layers.", after_number: ".layer.", is_example: false };
const EXAMPLE: LayerNaming = LayerNaming { before_number: "s4_layers.", after_number: ".", is_example: true };

/// Maps all tensors and options of a model.
pub(super) fn map_model(
    parts: &mut MappedParts,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
) -> Result<()> {
    let naming = match (
        keys.names_starting_with(TRAIN.before_number).is_empty(),
        keys.names_starting_with(EXAMPLE.before_number).is_empty(),
    ) {
        (false, _) => TRAIN,
        (true, false) => EXAMPLE,
        (true, true) => {
            return Err(match keys.names_starting_with("").first() {
                Some(key) if unmapped_key(key).got.contains(": ") => unmapped_key(&keys.key_in_file(key)),
                _ => Error::new(
                    "state dict",
                    "keys 'model.layers.…' (train.py) or 's4_layers.…' (example.py)",
                    listed(keys.names_starting_with("").into_iter()),
                ),
            });
        }
    };
    if !naming.is_example {
        options.check_model()?;
    }
    let count = count_layers(keys, naming.before_number)?;
    let mut norm: Option<&'static str> = None;
    for i in 0..count {
        let ours = format!("blocks.{i}.");
        let theirs = format!("{}{i}{}", naming.before_number, naming.after_number);
        let MappedLayer { config, mappings, c_tilde } = map_layer(keys, options, &theirs, &ours)?;
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
        parts.mappings.extend(mappings);
        parts.c_tildes.extend(c_tilde);
        let norm_prefix = match naming.is_example {
            true => format!("norms.{i}."),
            false => format!("{}{i}.norm.norm.", naming.before_number),
        };
        let found = map_norm(parts, keys, &norm_prefix, &format!("{ours}norm."))?;
        if norm.is_some_and(|norm| norm != found) {
            return Err(Error::new(format!("layer {i}"), "norms of one kind", found));
        }
        norm = Some(found);
    }
    let norm = norm.unwrap_or("none");
    let final_norm = match naming.is_example {
        true => "none",
        false => map_norm(parts, keys, "model.norm.norm.", "norm.")?,
    };
    if final_norm != "none" && final_norm != norm {
        return Err(Error::new(
            "key 'model.norm.norm.weight'",
            format!("the blocks' norm, {norm}"),
            final_norm,
        ));
    }
    if !naming.is_example {
        check_norm(options, norm)?;
    }
    let prenorm = match (naming.is_example, options.backbone_option("prenorm").and_then(Json::as_bool)) {
        (true, Some(prenorm)) => prenorm,
        (true, None) => {
            return Err(Error::new(
                "option 'prenorm'",
                "it, since tensors do not tell (example.py's default is false)",
                "none",
            ));
        }
        (false, given) => {
            let found = final_norm != "none" || norm == "none" && given.unwrap_or(true);
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
    let residual = naming.is_example || options.residual()?;
    let mut set = |key: &str, value: Json| parts.config.insert(key.into(), value);
    set("layers", count.into());
    set("norm", norm.into());
    set("prenorm", prenorm.into());
    set("finalNorm", (final_norm != "none").into());
    set("residual", residual.into());
    set("dropout", options.dropout().into());
    let tied = options.layer_option("tie_dropout").or_else(|| options.backbone_option("tie_dropout"));
    set("tiedDropout", tied.and_then(Json::as_bool).unwrap_or(false).into());
    ends::map_ends(parts, keys, options, naming.is_example)
}

/// The number of layers, whose keys begin with `start` and a number from 0; an error where a number is missing.
fn count_layers(keys: &Keys<'_>, start: &str) -> Result<usize> {
    let mut count = 0;
    for key in keys.names_starting_with(start) {
        let number = key[start.len()..].split('.').next().unwrap_or_default();
        match number.parse::<usize>() {
            Ok(i) if i < MAX_LAYERS && number == i.to_string() => count = count.max(i + 1),
            _ => return Err(unmapped_key(&keys.key_in_file(key))),
        }
    }
    match (0..count).find(|i| keys.names_starting_with(&format!("{start}{i}.")).is_empty()) {
        Some(gap) => {
            Err(Error::new("state dict", format!("layers from 0 to {}", count - 1), format!("none of {gap}")))
        }
        None => Ok(count),
    }
}

/// Maps the norm whose keys begin with `theirs` and gives its kind: layer, batch, or none where there are no such keys.
fn map_norm(parts: &mut MappedParts, keys: &mut Keys<'_>, theirs: &str, ours: &str) -> Result<&'static str> {
    let features = parts.config.get("features").and_then(Json::as_u64).unwrap_or(0) as usize;
    // The official "transposed layer norm" without its scalar option is a layer norm over the features, under `ln.`.
    let inner = format!("{theirs}ln.");
    let theirs = if keys.has(&format!("{inner}weight")) { inner } else { theirs.to_string() };
    let (weight, mean) = (format!("{theirs}weight"), format!("{theirs}running_mean"));
    if !keys.has(&weight) {
        return match keys.names_starting_with(&theirs).first() {
            Some(key) => Err(unmapped_key(&keys.key_in_file(key))),
            None => Ok("none"),
        };
    }
    for part in ["weight", "bias"] {
        let name = format!("{theirs}{part}");
        keys.tensor_of_shape(&name, &[features])?;
        parts.mappings.push(TensorMapping::Reshaped {
            theirs: keys.key_in_file(&name),
            ours: format!("{ours}{part}"),
            shape: vec![features],
        });
    }
    if !keys.has(&mean) {
        return Ok("layer");
    }
    let variance = format!("{theirs}running_var");
    keys.tensor_of_shape(&mean, &[features])?;
    keys.tensor_of_shape(&variance, &[features])?;
    let running = TensorMapping::Running {
        mean: keys.key_in_file(&mean),
        variance: keys.key_in_file(&variance),
        ours: format!("{ours}running"),
    };
    parts.mappings.push(running);
    let batches = format!("{theirs}num_batches_tracked");
    if keys.has(&batches) {
        parts.mappings.push(TensorMapping::Kept { theirs: keys.mark_used(&batches) });
    }
    Ok("batch")
}

/// Refuses an option `norm` that differs from the kind of norm that the keys show: a group norm has the same keys as a
/// layer norm, and an instance norm has none.
fn check_norm(options: &mut Options<'_>, found: &'static str) -> Result<()> {
    let given = options.backbone_option("norm");
    if let Some(Json::Object(map)) = given
        && let Some((key, value)) = map.iter().find(|(key, _)| *key != "_name_" && *key != "scalar")
    {
        return Err(refuse(&format!("norm.{key}"), "the norm's defaults", value));
    }
    match (given, Options::name_of(given)) {
        (None, _) => {
            options.add_note(format!("norm: '{found}', as the keys are those of it"));
            Ok(())
        }
        (_, Some(name)) if name == found => Ok(()),
        (Some(Json::Null), _) if found == "none" => Ok(()),
        (Some(other), _) => {
            Err(refuse("norm", &format!("{found}, as the keys {} say", quoted("…norm.norm.…")), other))
        }
    }
}
