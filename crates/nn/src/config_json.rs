//! Configurations as JSON. An unknown option is refused by its name; for one that was renamed the error says the present
//! name.

use s4_backend::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Options that were renamed: (former name, present name). Checkpoints of release 0.1.0 have the former names.
const RENAMED: [(&str, &str); 1] = [("disc", "discretization")];

/// The configuration in a checkpoint of release 0.1.0, with the options' present names.
pub(crate) fn with_present_names(json: &str) -> Result<String> {
    let invalid = |e: serde_json::Error| Error::value("configuration", "an object of options", e);
    let old: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(invalid)?;
    let renamed = |name: String| match RENAMED.iter().find(|(old, _)| *old == name) {
        Some((_, present)) => present.to_string(),
        None => name,
    };
    let present: serde_json::Map<_, _> = old.into_iter().map(|(name, x)| (renamed(name), x)).collect();
    serde_json::to_string(&present).map_err(invalid)
}

/// Parses a configuration. `ERR_S4_VALUE` for an option that does not exist, or that was renamed: then it says the present
/// name.
pub(crate) fn parse_config<T: Serialize + DeserializeOwned>(op: &'static str, json: &str) -> Result<T> {
    let invalid = |got: String| Error::value(op, "known options with valid values", got);
    let given: serde_json::Value = serde_json::from_str(json).map_err(|e| invalid(e.to_string()))?;
    let config: T = serde_json::from_value(given.clone()).map_err(|e| invalid(e.to_string()))?;
    let all_options = serde_json::to_value(&config).map_err(|e| invalid(e.to_string()))?;
    match (&given, &all_options) {
        (serde_json::Value::Object(given), serde_json::Value::Object(all_options)) => {
            match given.keys().find(|k| !all_options.contains_key(*k)) {
                Some(k) => Err(match RENAMED.iter().find(|(old, _)| old == k) {
                    Some((_, present)) => Error::value(
                        op,
                        format!("option '{present}' (its name before was '{k}')"),
                        format!("'{k}'"),
                    ),
                    None => invalid(format!("unknown option '{k}'")),
                }),
                None => Ok(config),
            }
        }
        _ => Err(invalid("something other than an object".into())),
    }
}

/// The configuration as JSON, options with default values included.
pub(crate) fn to_json<T: Serialize>(config: &T) -> String {
    serde_json::to_string(config).unwrap_or_default()
}
