//! Configurations as JSON: unknown options are refused by name, options that were renamed with their present name.

use s4_backend::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Options that have had another name: (old, present). Checkpoints of 0.1.0 are read by it.
const RENAMED: [(&str, &str); 1] = [("disc", "discretization")];

/// A configuration written by 0.1.0, with its options by their present names.
pub(crate) fn with_present_names(json: &str) -> Result<String> {
    let bad = |e: serde_json::Error| Error::value("configuration", "an object of options", e);
    let old: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(bad)?;
    let renamed = |name: String| match RENAMED.iter().find(|(old, _)| *old == name) {
        Some((_, present)) => present.to_string(),
        None => name,
    };
    let present: serde_json::Map<_, _> = old.into_iter().map(|(name, x)| (renamed(name), x)).collect();
    serde_json::to_string(&present).map_err(bad)
}

/// Parses a configuration; an unknown option is refused by name, one that was renamed with its present name.
pub(crate) fn parse<T: Serialize + DeserializeOwned>(op: &'static str, json: &str) -> Result<T> {
    let bad = |got: String| Error::value(op, "known options with valid values", got);
    let given: serde_json::Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let config: T = serde_json::from_value(given.clone()).map_err(|e| bad(e.to_string()))?;
    let known = serde_json::to_value(&config).map_err(|e| bad(e.to_string()))?;
    match (&given, &known) {
        (serde_json::Value::Object(given), serde_json::Value::Object(known)) => {
            match given.keys().find(|k| !known.contains_key(*k)) {
                Some(k) => Err(match RENAMED.iter().find(|(old, _)| old == k) {
                    Some((_, present)) => Error::value(
                        op,
                        format!("option '{present}' (its name before was '{k}')"),
                        format!("'{k}'"),
                    ),
                    None => bad(format!("unknown option '{k}'")),
                }),
                None => Ok(config),
            }
        }
        _ => Err(bad("something other than an object".into())),
    }
}

/// Every option spelled out.
pub(crate) fn to_json<T: Serialize>(config: &T) -> String {
    serde_json::to_string(config).unwrap_or_default()
}
