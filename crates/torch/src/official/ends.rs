//! Encoder, pooling, decoder and loss.

use super::{
    keys::{Keys, unknown},
    options::{Options, refuse},
    parts::Parts,
    step::Step,
};
use crate::error::{Error, Result, quoted};
use serde_json::Value as Json;

/// Data sets of `train.py` that have one target per sequence (l_output = 0).
const ONE_TARGET: [&str; 15] = [
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

/// The place of a linear layer (or an embedding) of an end.
struct Linear {
    name: String,
    rows: usize,
    columns: usize,
    has_bias: bool,
}

/// The one linear layer among the modules of an end.
fn find(keys: &mut Keys<'_>, end: &str, is_example: bool) -> Result<Option<Linear>> {
    let all = keys.starting(&format!("{end}."));
    let Some(first) = all.first() else { return Ok(None) };
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
        all.iter().find(|key| **key != format!("{stem}weight") && **key != format!("{stem}bias"))
    {
        return Err(unknown(&keys.full(other)));
    }
    let shape = keys.real(&format!("{stem}weight"), 2)?.shape();
    let has_bias = keys.has(&format!("{stem}bias"));
    Ok(Some(Linear { name: stem, rows: shape[0], columns: shape[1], has_bias }))
}

fn place(parts: &mut Parts, keys: &mut Keys<'_>, linear: &Linear, ours: &str) -> Result<()> {
    let (weight, bias) = (format!("{}weight", linear.name), format!("{}bias", linear.name));
    keys.shaped(&bias, &[linear.rows])?;
    parts.steps.push(Step::Shape {
        theirs: keys.full(&weight),
        ours: format!("{ours}.weight"),
        shape: vec![linear.rows, linear.columns],
    });
    parts.steps.push(Step::Shape {
        theirs: keys.full(&bias),
        ours: format!("{ours}.bias"),
        shape: vec![linear.rows],
    });
    Ok(())
}

/// Maps both ends.
pub(super) fn map(
    parts: &mut Parts,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    is_example: bool,
) -> Result<()> {
    let features = parts.config.get("features").and_then(Json::as_u64).unwrap_or(0) as usize;
    check_names(options, is_example)?;
    let decoder = find(keys, "decoder", is_example)?;
    let Some(decoder) = decoder else {
        return Err(Error::new("state dict", "keys 'decoder.…'", "none"));
    };
    let is_lm = is_language_model(options, &decoder.name);
    match find(keys, "encoder", is_example)? {
        None => {
            parts.config.insert("encoder".into(), "none".into());
            parts.config.insert("input".into(), features.into());
        }
        Some(encoder) if encoder.has_bias => {
            if encoder.rows != features {
                return Err(wrong_width(keys, &encoder.name, features, encoder.rows));
            }
            place(parts, keys, &encoder, "encoder")?;
            parts.config.insert("encoder".into(), "linear".into());
            parts.config.insert("input".into(), encoder.columns.into());
        }
        Some(table) => {
            if table.columns != features {
                return Err(wrong_width(keys, &table.name, features, table.columns));
            }
            let (theirs, ours) = (keys.full(&format!("{}weight", table.name)), "encoder.weight".to_string());
            let is_scaled =
                is_lm && options.top("task").and_then(|t| t.get("rescale")) != Some(&Json::Bool(false));
            parts.steps.push(match is_scaled {
                true => Step::Scaled { theirs, ours, factor: (features as f64).sqrt() },
                false => Step::Shape { theirs, ours, shape: vec![table.rows, features] },
            });
            parts.config.insert("encoder".into(), "embedding".into());
            parts.config.insert("vocabulary".into(), table.rows.into());
        }
    }
    if decoder.columns != features {
        return Err(wrong_width(keys, &decoder.name, features, decoder.columns));
    }
    place(parts, keys, &decoder, "decoder")?;
    parts.config.insert("output".into(), decoder.rows.into());
    let pooling = pooling(options, is_example, is_lm)?;
    parts.config.insert("pooling".into(), pooling.into());
    let loss = options.top("task").and_then(|t| t.get("loss"));
    let loss = match Options::name_of(loss) {
        None | Some("cross_entropy") => "crossEntropy",
        Some("mse") => "mse",
        Some("mae" | "l1") => "mae",
        Some(other) => {
            options.note(format!("loss: {} is not there; 'crossEntropy' stands for it", quoted(other)));
            "crossEntropy"
        }
    };
    parts.config.insert("loss".into(), loss.into());
    Ok(())
}

fn wrong_width(keys: &Keys<'_>, stem: &str, features: usize, got: usize) -> Error {
    Error::new(quoted(&keys.full(&format!("{stem}weight"))), format!("{features} features"), got)
}

/// LMTask brings its own embedding, whose rows it multiplies by √H, and a bare linear decoder.
fn is_language_model(options: &mut Options<'_>, decoder: &str) -> bool {
    match Options::name_of(options.top("task")) {
        Some(name) => name == "lm",
        None => {
            let is_lm =
                !decoder.contains("output_transform") && decoder.contains('.') && decoder != "decoder.";
            if is_lm {
                options.note(
                    "task: assumed 'lm' (its embedding times √features), as the decoder is a bare linear",
                );
            }
            is_lm
        }
    }
}

/// Encoders, decoders and tasks by name that have no counterpart, whether or not keys betray them.
fn check_names(options: &Options<'_>, is_example: bool) -> Result<()> {
    if is_example {
        return Ok(());
    }
    let model = options.top("model");
    for (key, known) in [
        ("encoder", &["linear", "embedding", "id"][..]),
        ("decoder", &["sequence", "nd", "linear", "id"][..]),
    ] {
        for section in [options.top(key), model.and_then(|m| m.get(key))].into_iter().flatten() {
            let list = match section {
                Json::Null => continue,
                Json::Array(list) => list.clone(),
                one => vec![one.clone()],
            };
            for item in list.iter().filter(|item| !item.is_null()) {
                match Options::name_of(Some(item)) {
                    Some(name) if known.contains(&name) => {}
                    _ => return Err(refuse(key, &known.join(", "), item)),
                }
            }
        }
    }
    match Options::name_of(options.top("task")) {
        Some("adaptivelm") => Err(refuse(
            "task",
            "base, lm or forecasting (adaptive softmax is not there)",
            &"adaptivelm".into(),
        )),
        Some("forecasting") => match options.top("task").and_then(|t| t.get("norm")) {
            Some(Json::Null) | None => Ok(()),
            Some(norm) if norm == "none" => Ok(()),
            Some(norm) => Err(refuse("task.norm", "null (normalise the data instead)", norm)),
        },
        _ => Ok(()),
    }
}

/// What the decoder keeps of the sequence.
fn pooling(options: &mut Options<'_>, is_example: bool, is_lm: bool) -> Result<&'static str> {
    if is_example {
        return Ok("mean");
    }
    if let Some(given) = options.top("pooling") {
        let known = ["none", "mean", "last", "first", "sum"];
        let found = known.into_iter().find(|name| given.as_str() == Some(*name));
        return found.ok_or_else(|| refuse("pooling", "none, mean, last, first or sum", given));
    }
    let single = |x: Option<&Json>| match x {
        Some(Json::Array(list)) => list.iter().find(|item| !item.is_null()).cloned(),
        other => other.cloned(),
    };
    let own = options.top("model").and_then(|m| m.get("decoder")).filter(|d| !d.is_null());
    let decoder = single(own).or_else(|| single(options.top("decoder"))).filter(|d| !d.is_null());
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
    let every = ["id", "linear"].contains(&name.as_str());
    match (name.as_str(), mode) {
        _ if every => return Ok("none"),
        ("nd", None | Some("pool")) => return Ok("mean"),
        ("nd", Some("full")) => return Ok("none"),
        _ => {}
    }
    let given = [
        options.top("l_output"),
        decoder.get("l_output"),
        options.top("dataset").and_then(|d| d.get("l_output")),
    ];
    let given = given.into_iter().flatten().next().cloned();
    let one = match (&given, Options::name_of(options.top("dataset"))) {
        (Some(n), _) => n == 0,
        (None, _) if is_lm => false,
        (None, Some(name)) if ONE_TARGET.contains(&name) => true,
        (None, _) => {
            let one = mode != Some("last") && mode.is_some();
            options.note(format!(
                "l_output: assumed {} (a property of the data set; give l_output, or pooling)",
                if one { "0: one output a sequence" } else { "null: an output a step" }
            ));
            one
        }
    };
    let mode_json = Json::from(mode.unwrap_or("last"));
    match (mode.unwrap_or("last"), one) {
        ("last", true) => Ok("last"),
        ("first", true) => Ok("first"),
        ("pool", true) => Ok("mean"),
        ("sum", true) => Ok("sum"),
        ("last" | "first" | "ragged", false) => {
            if let Some(n) = given.as_ref().and_then(Json::as_u64) {
                options.note(format!("l_output: of the outputs at every step, the official model keeps {n}"));
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
