//! Maps what stands before and after the layers: encoder, pooling, decoder and loss.

use super::{
    keys::{Keys, unmapped_key},
    mapping::TensorMapping,
    options::{Options, refuse},
    parts::MappedParts,
};
use crate::error::{Error, Result, quoted};
use serde_json::Value as Json;

/// The data sets of the official `train.py` that have one target per sequence (`l_output` = 0).
const ONE_TARGET_DATASETS: [&str; 15] = [
    "mnist",
    "cifar",
    "cifar100",
    "cifar-c",
    "imagenet",
    "imdb",
    "listops",
    "pathfinder",
    "aan",
    "sc",
    "adding",
    "bidmc",
    "eegseizure",
    "ptbxl",
    "hmdb51",
];

/// The linear layer, or the embedding, of an encoder or decoder: the beginning of its keys, and its size.
struct LinearPlace {
    name: String,
    rows: usize,
    columns: usize,
    has_bias: bool,
}

/// The only linear layer of the encoder or decoder (`end` is "encoder" or "decoder"); `None` where it has no tensors.
fn find_linear_layer(keys: &mut Keys<'_>, end: &str, is_example: bool) -> Result<Option<LinearPlace>> {
    let end_keys = keys.names_starting_with(&format!("{end}."));
    let Some(first) = end_keys.first() else { return Ok(None) };
    let stem = match is_example {
        true => format!("{end}."),
        false => {
            // encoder.0.weight, decoder.0.output_transform.weight, decoder.0.weight, …
            let number = first.split('.').nth(1).unwrap_or_default();
            match keys.has(&format!("{end}.{number}.output_transform.weight")) {
                true => format!("{end}.{number}.output_transform."),
                false => format!("{end}.{number}."),
            }
        }
    };
    if let Some(other) =
        end_keys.iter().find(|key| **key != format!("{stem}weight") && **key != format!("{stem}bias"))
    {
        return Err(unmapped_key(&keys.key_in_file(other)));
    }
    let shape = keys.real_tensor(&format!("{stem}weight"), 2)?.shape();
    let has_bias = keys.has(&format!("{stem}bias"));
    Ok(Some(LinearPlace { name: stem, rows: shape[0], columns: shape[1], has_bias }))
}

/// Maps the weight and bias of a linear layer to this library's names, which begin with `ours`.
fn map_linear_layer(
    parts: &mut MappedParts,
    keys: &mut Keys<'_>,
    linear: &LinearPlace,
    ours: &str,
) -> Result<()> {
    let (weight, bias) = (format!("{}weight", linear.name), format!("{}bias", linear.name));
    keys.tensor_of_shape(&bias, &[linear.rows])?;
    parts.mappings.push(TensorMapping::Reshaped {
        theirs: keys.key_in_file(&weight),
        ours: format!("{ours}.weight"),
        shape: vec![linear.rows, linear.columns],
    });
    parts.mappings.push(TensorMapping::Reshaped {
        theirs: keys.key_in_file(&bias),
        ours: format!("{ours}.bias"),
        shape: vec![linear.rows],
    });
    Ok(())
}

/// Maps encoder, pooling, decoder and loss.
pub(super) fn map_ends(
    parts: &mut MappedParts,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    is_example: bool,
) -> Result<()> {
    let features = parts.config.get("features").and_then(Json::as_u64).unwrap_or(0) as usize;
    check_names(options, is_example)?;
    let decoder = find_linear_layer(keys, "decoder", is_example)?;
    let Some(decoder) = decoder else {
        return Err(Error::new("state dict", "keys 'decoder.…'", "none"));
    };
    let is_lm = is_language_model(options, &decoder.name);
    match find_linear_layer(keys, "encoder", is_example)? {
        None => {
            parts.config.insert("encoder".into(), "none".into());
            parts.config.insert("input".into(), features.into());
        }
        Some(encoder) if encoder.has_bias => {
            if encoder.rows != features {
                return Err(wrong_width(keys, &encoder.name, features, encoder.rows));
            }
            map_linear_layer(parts, keys, &encoder, "encoder")?;
            parts.config.insert("encoder".into(), "linear".into());
            parts.config.insert("input".into(), encoder.columns.into());
        }
        Some(table) => {
            if table.columns != features {
                return Err(wrong_width(keys, &table.name, features, table.columns));
            }
            let (theirs, ours) =
                (keys.key_in_file(&format!("{}weight", table.name)), "encoder.weight".to_string());
            let is_scaled = is_lm
                && options.top_level_option("task").and_then(|t| t.get("rescale"))
                    != Some(&Json::Bool(false));
            parts.mappings.push(match is_scaled {
                true => TensorMapping::Scaled { theirs, ours, factor: (features as f64).sqrt() },
                false => TensorMapping::Reshaped { theirs, ours, shape: vec![table.rows, features] },
            });
            parts.config.insert("encoder".into(), "embedding".into());
            parts.config.insert("vocabulary".into(), table.rows.into());
        }
    }
    if decoder.columns != features {
        return Err(wrong_width(keys, &decoder.name, features, decoder.columns));
    }
    map_linear_layer(parts, keys, &decoder, "decoder")?;
    parts.config.insert("output".into(), decoder.rows.into());
    let pooling_name = pooling_name(options, is_example, is_lm)?;
    parts.config.insert("pooling".into(), pooling_name.into());
    let loss = options.top_level_option("task").and_then(|t| t.get("loss"));
    let loss = match Options::name_of(loss) {
        None | Some("cross_entropy") => "crossEntropy",
        Some("mse") => "mse",
        Some("mae" | "l1") => "mae",
        Some(other) => {
            options.add_note(format!("loss: {} is not there; 'crossEntropy' stands for it", quoted(other)));
            "crossEntropy"
        }
    };
    parts.config.insert("loss".into(), loss.into());
    Ok(())
}

/// The error of a weight that does not fit the number of features.
fn wrong_width(keys: &Keys<'_>, stem: &str, features: usize, got: usize) -> Error {
    Error::new(quoted(&keys.key_in_file(&format!("{stem}weight"))), format!("{features} features"), got)
}

/// Whether the model was trained by the official LMTask, which has an embedding that is multiplied by √H and a decoder
/// that is a linear layer alone.
fn is_language_model(options: &mut Options<'_>, decoder: &str) -> bool {
    match Options::name_of(options.top_level_option("task")) {
        Some(name) => name == "lm",
        None => {
            let is_lm =
                !decoder.contains("output_transform") && decoder.contains('.') && decoder != "decoder.";
            if is_lm {
                options.add_note(
                    "task: assumed 'lm' (its embedding times √features), as the decoder is a bare linear",
                );
            }
            is_lm
        }
    }
}

/// Refuses encoders, decoders and tasks that this library does not have, by their names in the configuration.
fn check_names(options: &Options<'_>, is_example: bool) -> Result<()> {
    if is_example {
        return Ok(());
    }
    let model = options.top_level_option("model");
    for (key, known) in [
        ("encoder", &["linear", "embedding", "id"][..]),
        ("decoder", &["sequence", "nd", "linear", "id"][..]),
    ] {
        for section in [options.top_level_option(key), model.and_then(|m| m.get(key))].into_iter().flatten() {
            let list = match section {
                Json::Null => continue,
                Json::Array(list) => list.clone(),
                section => vec![section.clone()],
            };
            for item in list.iter().filter(|item| !item.is_null()) {
                match Options::name_of(Some(item)) {
                    Some(name) if known.contains(&name) => {}
                    _ => return Err(refuse(key, &known.join(", "), item)),
                }
            }
        }
    }
    match Options::name_of(options.top_level_option("task")) {
        Some("adaptivelm") => Err(refuse(
            "task",
            "base, lm or forecasting (adaptive softmax is not there)",
            &"adaptivelm".into(),
        )),
        Some("forecasting") => match options.top_level_option("task").and_then(|t| t.get("norm")) {
            Some(Json::Null) | None => Ok(()),
            Some(norm) if norm == "none" => Ok(()),
            Some(norm) => Err(refuse("task.norm", "null (normalise the data instead)", norm)),
        },
        _ => Ok(()),
    }
}

/// This library's name for how the decoder pools a sequence.
fn pooling_name(options: &mut Options<'_>, is_example: bool, is_lm: bool) -> Result<&'static str> {
    if is_example {
        return Ok("mean");
    }
    if let Some(given) = options.top_level_option("pooling") {
        let known = ["none", "mean", "last", "first", "sum"];
        let found = known.into_iter().find(|name| given.as_str() == Some(*name));
        return found.ok_or_else(|| refuse("pooling", "none, mean, last, first or sum", given));
    }
    let single = |x: Option<&Json>| match x {
        Some(Json::Array(list)) => list.iter().find(|item| !item.is_null()).cloned(),
        other => other.cloned(),
    };
    let model_decoder =
        options.top_level_option("model").and_then(|m| m.get("decoder")).filter(|d| !d.is_null());
    let decoder = single(model_decoder)
        .or_else(|| single(options.top_level_option("decoder")))
        .filter(|d| !d.is_null());
    let Some(decoder) = decoder else {
        return match is_lm {
            true => Ok("none"),
            false => Err(Error::new(
                "option 'decoder'",
                "it, since tensors do not tell (or 'pooling': none, mean, last, first or sum)",
                "none",
            )),
        };
    };
    let name = Options::name_of(Some(&decoder)).unwrap_or_default().to_string();
    let mode = decoder.get("mode").and_then(Json::as_str);
    let is_per_step = ["id", "linear"].contains(&name.as_str());
    match (name.as_str(), mode) {
        _ if is_per_step => return Ok("none"),
        ("nd", None | Some("pool")) => return Ok("mean"),
        ("nd", Some("full")) => return Ok("none"),
        _ => {}
    }
    let given = [
        options.top_level_option("l_output"),
        decoder.get("l_output"),
        options.top_level_option("dataset").and_then(|d| d.get("l_output")),
    ];
    let given = given.into_iter().flatten().next().cloned();
    let has_one_target = match (&given, Options::name_of(options.top_level_option("dataset"))) {
        (Some(n), _) => n == 0,
        (None, _) if is_lm => false,
        (None, Some(name)) if ONE_TARGET_DATASETS.contains(&name) => true,
        (None, _) => {
            let has_one_target = mode != Some("last") && mode.is_some();
            options.add_note(format!(
                "l_output: assumed {} (a property of the data set; give l_output, or pooling)",
                if has_one_target { "0: one output a sequence" } else { "null: an output a step" }
            ));
            has_one_target
        }
    };
    let mode_json = Json::from(mode.unwrap_or("last"));
    match (mode.unwrap_or("last"), has_one_target) {
        ("last", true) => Ok("last"),
        ("first", true) => Ok("first"),
        ("pool", true) => Ok("mean"),
        ("sum", true) => Ok("sum"),
        ("last" | "first" | "ragged", false) => {
            if let Some(n) = given.as_ref().and_then(Json::as_u64) {
                options.add_note(format!(
                    "l_output: of the outputs at every step, the official model keeps {n}"
                ));
            }
            Ok("none")
        }
        _ => Err(refuse(
            "decoder.mode",
            "a mode that this library has (pool and sum for one output a sequence)",
            &mode_json,
        )),
    }
}
