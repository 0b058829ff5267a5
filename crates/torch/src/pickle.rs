//! The objects of a pickle after it has been read, and access to them.

use crate::{
    arena::Arena,
    value::{InertObject, Object, Value},
};

/// The objects of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub arena: Arena,
    /// The value that was pickled, which refers to all others.
    pub root: Value,
}

impl Pickle {
    /// The object that a value refers to.
    pub fn object(&self, value: Value) -> Option<&Object> {
        self.arena.object(value)
    }
    /// The text of a string; `None` where the value is no string.
    pub fn text(&self, value: Value) -> Option<&str> {
        self.arena.text(value)
    }
    /// The items of a dict, or of an object of a subclass of dict.
    pub fn items(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value) {
            Some(Object::Dict(items)) => Some(items),
            Some(Object::Inert(node)) if !node.items.is_empty() => Some(&node.items),
            _ => None,
        }
    }
    /// The value of a dict under a text key; the last one where a key occurs twice, as in Python.
    pub fn get(&self, dict: Value, key: &str) -> Option<Value> {
        self.items(dict)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// The dotted name of an object's class.
    pub fn class(&self, node: &InertObject) -> &str {
        match self.arena.get(node.class) {
            Some(Object::Global(global)) => global.name(),
            _ => "",
        }
    }
    /// What kind of value it is, in words for error messages.
    pub fn kind(&self, value: Value) -> &'static str {
        match (value, self.object(value)) {
            (Value::None, _) => "None",
            (Value::Bool(_), _) => "a bool",
            (Value::Int(_), _) => "an integer",
            (Value::Float(_), _) => "a float",
            (_, Some(object)) => object.kind(),
            (_, None) => "nothing",
        }
    }
}
