//! Configurations in pickles as JSON: plain dicts, `argparse.Namespace`, and omegaconf's nodes, whose classes stay inert:
//! a `DictConfig` or `ListConfig` keeps its children in `_content`, a leaf its value in `_val`.

use crate::{
    pickle::Pickle,
    value::{Inert, Object, Value},
};
use serde_json::{Map, Number, Value as Json};

/// Values a configuration may have, and containers in containers.
const MAX_VALUES: usize = 1 << 17;
const MAX_DEPTH: usize = 64;
/// References from value to value.
const MAX_STEPS: usize = 16;

/// A value as JSON. What JSON cannot say (tensors, classes, other objects, what lies too deep) is null.
pub(crate) fn to_json(pickle: &Pickle, value: Value) -> Json {
    let mut left = MAX_VALUES;
    let tree = json(pickle, value, 0, &mut left);
    let mut left = MAX_VALUES;
    resolved(&tree, &tree, &mut Vec::new(), &mut left)
}

fn json(pickle: &Pickle, value: Value, depth: usize, left: &mut usize) -> Json {
    if depth > MAX_DEPTH || *left == 0 {
        return Json::Null;
    }
    *left -= 1;
    let mut list = |items: &[Value]| -> Json {
        items.iter().map(|v| json(pickle, *v, depth + 1, left)).collect::<Vec<_>>().into()
    };
    match (value, pickle.object(value)) {
        (Value::Bool(b), _) => b.into(),
        (Value::Int(n), _) => n.into(),
        (Value::Float(x), _) => Number::from_f64(x).map_or(Json::Null, Json::Number),
        (_, Some(Object::Text(s))) => s.as_str().into(),
        (_, Some(Object::Big(n))) => n.to_string().into(),
        (_, Some(Object::List(items) | Object::Tuple(items) | Object::Set(items))) => list(items),
        (_, Some(Object::Dict(items))) => object(pickle, items, depth, left),
        (_, Some(Object::Inert(node))) => inert(pickle, node, depth, left),
        _ => Json::Null,
    }
}

fn object(pickle: &Pickle, items: &[(Value, Value)], depth: usize, left: &mut usize) -> Json {
    let mut out = Map::new();
    for (key, value) in items {
        let key = match (key, pickle.text(*key)) {
            (_, Some(text)) => text.to_string(),
            (Value::Int(n), _) => n.to_string(),
            _ => continue,
        };
        let value = json(pickle, *value, depth + 1, left);
        out.insert(key, value);
    }
    Json::Object(out)
}

fn inert(pickle: &Pickle, node: &Inert, depth: usize, left: &mut usize) -> Json {
    let class = pickle.class(node);
    let field = |name: &str| pickle.get(node.state, name).unwrap_or(Value::None);
    match class {
        "omegaconf.dictconfig.DictConfig" | "omegaconf.listconfig.ListConfig" => {
            json(pickle, field("_content"), depth + 1, left)
        }
        _ if class.starts_with("omegaconf.nodes.") => json(pickle, field("_val"), depth + 1, left),
        "argparse.Namespace" => json(pickle, node.state, depth + 1, left),
        _ if !node.items.is_empty() => object(pickle, &node.items, depth, left),
        _ => Json::Null,
    }
}

/// The same with omegaconf's references followed: `${a.b}` from the root, `${.b}` and `${..b}` from beside the value,
/// `${oc.select:a.b,default}`. One that leads nowhere is null, as is any other resolver.
fn resolved(root: &Json, value: &Json, path: &mut Vec<String>, left: &mut usize) -> Json {
    if *left == 0 {
        return Json::Null;
    }
    *left -= 1;
    match value {
        Json::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                path.push(key.clone());
                out.insert(key.clone(), resolved(root, value, path, left));
                path.pop();
            }
            Json::Object(out)
        }
        Json::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (i, value) in items.iter().enumerate() {
                path.push(i.to_string());
                out.push(resolved(root, value, path, left));
                path.pop();
            }
            Json::Array(out)
        }
        Json::String(text) if text.contains("${") => follow(root, text, path, 0).unwrap_or(Json::Null),
        other => other.clone(),
    }
}

fn follow(root: &Json, text: &str, path: &[String], steps: usize) -> Option<Json> {
    let inner = text.strip_prefix("${")?.strip_suffix('}')?;
    if steps > MAX_STEPS || inner.contains("${") {
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
    // One dot: beside the value; each further dot: one level up.
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
        (Some(Json::String(text)), _) if text.contains("${") => follow(root, text, &target, steps + 1),
        // What contains references itself would have to be followed in turn: no option is such a thing.
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
        let out = resolved(&tree, &tree, &mut Vec::new(), &mut 1000);
        let layer = &out["model"]["layer"];
        assert_eq!(layer["dropout"], 0.1);
        assert_eq!(layer["up"], 0.1);
        assert_eq!(layer["width"], 7);
        assert_eq!(out["n"], 0.1);
        for none in ["tie", "loop", "env", "far"] {
            assert_eq!(layer[none], Json::Null, "{none}");
        }
    }
}
