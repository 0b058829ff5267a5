//! A pickle that has been read.

use crate::{
    arena::Arena,
    value::{Inert, Object, Value},
};

/// The objects and the one that was pickled.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub arena: Arena,
    pub root: Value,
}

impl Pickle {
    pub fn object(&self, value: Value) -> Option<&Object> {
        self.arena.object(value)
    }
    pub fn text(&self, value: Value) -> Option<&str> {
        self.arena.text(value)
    }
    /// A dict's items, or those of an inert subclass of it.
    pub fn items(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value) {
            Some(Object::Dict(items)) => Some(items),
            Some(Object::Inert(node)) if !node.items.is_empty() => Some(&node.items),
            _ => None,
        }
    }
    /// The last value under a text key, as in Python.
    pub fn get(&self, dict: Value, key: &str) -> Option<Value> {
        self.items(dict)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// The dotted name of an inert node's class.
    pub fn class(&self, node: &Inert) -> &str {
        match self.arena.get(node.class) {
            Some(Object::Global(global)) => global.name(),
            _ => "",
        }
    }
    /// For messages.
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
