//! The hyper-parameters in a pickle as JSON: from plain dicts, `argparse.Namespace`, and the configuration objects of
//! omegaconf, of which a `DictConfig` or `ListConfig` keeps its children in `_content` and a leaf its value in `_val`.

use crate::{
    pickle::Pickle,
    value::{InertObject, Object, Value},
};
use serde_json::{Map, Number, Value as Json};

/// Largest number of values in a configuration.
const MAX_VALUES: usize = 1 << 17;
/// Largest depth to which containers are nested.
const MAX_DEPTH: usize = 64;
/// Largest number of references from one to the next until a value is found.
const MAX_STEPS: usize = 16;

/// A value of a pickle as JSON, with references followed. Null stands for what JSON cannot express (tensors, classes,
/// other objects) and for values that are nested too deeply.
pub(crate) fn to_json(pickle: &Pickle, value: Value) -> Json {
    let mut values_left = MAX_VALUES;
    with_references_followed(&value_json(pickle, value, 0, &mut values_left))
}

/// A configuration with omegaconf's references replaced by their values, as `resolve_references` says.
pub(crate) fn with_references_followed(config: &Json) -> Json {
    let mut values_left = MAX_VALUES;
    resolve_references(config, config, &mut Vec::new(), &mut values_left)
}

fn value_json(pickle: &Pickle, value: Value, depth: usize, values_left: &mut usize) -> Json {
    if depth > MAX_DEPTH || *values_left == 0 {
        return Json::Null;
    }
    *values_left -= 1;
    let mut list = |items: &[Value]| -> Json {
        items.iter().map(|v| value_json(pickle, *v, depth + 1, values_left)).collect::<Vec<_>>().into()
    };
    match (value, pickle.object(value)) {
        (Value::Bool(b), _) => b.into(),
        (Value::Int(n), _) => n.into(),
        (Value::Float(x), _) => Number::from_f64(x).map_or(Json::Null, Json::Number),
        (_, Some(Object::Text(s))) => s.as_str().into(),
        (_, Some(Object::BigInt(n))) => n.to_string().into(),
        (_, Some(Object::List(items) | Object::Tuple(items) | Object::Set(items))) => list(items),
        (_, Some(Object::Dict(items))) => dict_json(pickle, items, depth, values_left),
        (_, Some(Object::Inert(node))) => object_json(pickle, node, depth, values_left),
        _ => Json::Null,
    }
}

fn dict_json(pickle: &Pickle, items: &[(Value, Value)], depth: usize, values_left: &mut usize) -> Json {
    let mut result = Map::new();
    for (key, value) in items {
        let key = match (key, pickle.text(*key)) {
            (_, Some(text)) => text.to_string(),
            (Value::Int(n), _) => n.to_string(),
            _ => continue,
        };
        let value = value_json(pickle, *value, depth + 1, values_left);
        result.insert(key, value);
    }
    Json::Object(result)
}

fn object_json(pickle: &Pickle, node: &InertObject, depth: usize, values_left: &mut usize) -> Json {
    let class = pickle.class(node);
    let field = |name: &str| pickle.get(node.state, name).unwrap_or(Value::None);
    match class {
        "omegaconf.dictconfig.DictConfig" | "omegaconf.listconfig.ListConfig" => {
            value_json(pickle, field("_content"), depth + 1, values_left)
        }
        _ if class.starts_with("omegaconf.nodes.") => {
            value_json(pickle, field("_val"), depth + 1, values_left)
        }
        "argparse.Namespace" => value_json(pickle, node.state, depth + 1, values_left),
        _ if !node.items.is_empty() => dict_json(pickle, &node.items, depth, values_left),
        _ => Json::Null,
    }
}

/// The configuration with omegaconf's references replaced by their values: `${a.b}` is a path from the root, `${.b}`
/// and `${..b}` are paths relative to the value, `${oc.select:a.b,default}` has a default. A reference to nothing, and
/// any other resolver, becomes null.
fn resolve_references(root: &Json, value: &Json, path: &mut Vec<String>, values_left: &mut usize) -> Json {
    if *values_left == 0 {
        return Json::Null;
    }
    *values_left -= 1;
    match value {
        Json::Object(map) => {
            let mut result = Map::new();
            for (key, value) in map {
                path.push(key.clone());
                result.insert(key.clone(), resolve_references(root, value, path, values_left));
                path.pop();
            }
            Json::Object(result)
        }
        Json::Array(items) => {
            let mut result = Vec::with_capacity(items.len());
            for (i, value) in items.iter().enumerate() {
                path.push(i.to_string());
                result.push(resolve_references(root, value, path, values_left));
                path.pop();
            }
            Json::Array(result)
        }
        Json::String(text) if text.contains("${") => {
            follow_reference(root, text, path, 0).unwrap_or(Json::Null)
        }
        other => other.clone(),
    }
}

fn follow_reference(root: &Json, text: &str, path: &[String], steps_taken: usize) -> Option<Json> {
    let inner = text.strip_prefix("${")?.strip_suffix('}')?;
    if steps_taken > MAX_STEPS || inner.contains("${") {
        return None;
    }
    let (reference, default) = match inner.strip_prefix("oc.select:") {
        Some(select) => match select.split_once(',') {
            Some((reference, default)) => (reference.trim(), Some(default.trim())),
            None => (select.trim(), None),
        },
        None if inner.contains(':') => return None,
        None => (inner.trim(), None),
    };
    // One dot means the container of the value, each further dot one level above it.
    let dots = reference.len() - reference.trim_start_matches('.').len();
    let base = match dots {
        0 => &[][..],
        n => path.get(..path.len().checked_sub(n)?)?,
    };
    let names = reference[dots..].split('.').filter(|name| !name.is_empty()).map(str::to_string);
    let target: Vec<String> = base.iter().cloned().chain(names).collect();
    let found = target.iter().try_fold(root, |at, name| match at {
        Json::Object(map) => map.get(name),
        Json::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    });
    match (found, default) {
        (Some(Json::String(text)), _) if text.contains("${") => {
            follow_reference(root, text, &target, steps_taken + 1)
        }
        // A container could hold references, which would have to be followed in turn. No option needs this.
        (Some(Json::Object(_) | Json::Array(_)), _) => None,
        (Some(value), _) => Some(value.clone()),
        (None, Some("null")) | (None, None) => None,
        (None, Some(default)) => Some(serde_json::from_str(default).unwrap_or_else(|_| default.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_followed_and_cycles_end() {
        let tree: Json = serde_json::from_str(
            r#"{"model": {"dropout": 0.1, "layer": {"dropout": "${..dropout}", "tie": "${oc.select:model.tie,null}",
                "width": "${oc.select:model.width,7}", "loop": "${model.layer.loop}", "env": "${oc.env:HOME}",
                "up": "${.dropout}", "far": "${.......x}"}}, "n": "${model.dropout}"}"#,
        )
        .unwrap();
        let result = with_references_followed(&tree);
        let layer = &result["model"]["layer"];
        assert_eq!(layer["dropout"], 0.1);
        assert_eq!(layer["up"], 0.1);
        assert_eq!(layer["width"], 7);
        assert_eq!(result["n"], 0.1);
        for none in ["tie", "loop", "env", "far"] {
            assert_eq!(layer[none], Json::Null, "{none}");
        }
    }
}
