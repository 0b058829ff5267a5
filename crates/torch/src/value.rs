//! What a pickle's objects become: plain values in one arena, referred to by number.
//!
//! A pickle may refer to an object before it is complete, share it, or put it into itself; with numbers none of that
//! needs recursion, copies or a garbage collector, and dropping is flat.

use crate::tensor::Dtype;

/// A value on the stack, in the memo or in a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Place in the arena.
    Object(u32),
}

/// Bytes of the archive that tensors view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The entry `data/KEY`.
    pub key: String,
    /// `None`: bytes; a tensor of it says its own type.
    pub dtype: Option<Dtype>,
    /// In bytes, as the archive has it.
    pub bytes: u64,
}

/// A tensor: sizes, strides and offset in elements, checked against the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub storage: u32,
    pub dtype: Dtype,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub stride: Vec<u64>,
}

/// An instance (or the call) of something that this reader knows by name only.
#[derive(Debug)]
pub(crate) struct Inert {
    /// `module.name`.
    pub class: u32,
    /// A tuple.
    pub args: Value,
    /// What BUILD would have given it.
    pub state: Value,
    /// Of a subclass of dict.
    pub items: Vec<(Value, Value)>,
    /// Of a subclass of list.
    pub elements: Vec<Value>,
}

/// What the arena holds.
#[derive(Debug)]
pub(crate) enum Object {
    Text(String),
    /// An integer of more than 64 bits, in decimal where it fits 128.
    Big(i128),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Set(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(crate::globals::Global),
    Storage(Storage),
    Tensor(View),
    Inert(Inert),
}

impl Object {
    /// For messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Text(_) => "a string",
            Object::Big(_) => "an integer",
            Object::List(_) => "a list",
            Object::Tuple(_) => "a tuple",
            Object::Set(_) => "a set",
            Object::Dict(_) => "a dict",
            Object::Global(_) => "a class or function",
            Object::Storage(_) => "a storage",
            Object::Tensor(_) => "a tensor",
            Object::Inert(_) => "an object of a class that is not read",
        }
    }
}

/// A finished pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub objects: Vec<Object>,
    pub root: Value,
}

impl Pickle {
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(i) => self.objects.get(i as usize),
            _ => None,
        }
    }
    pub fn text(&self, value: Value) -> Option<&str> {
        match self.object(value) {
            Some(Object::Text(s)) => Some(s),
            _ => None,
        }
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
        match self.objects.get(node.class as usize) {
            Some(Object::Global(global)) => global.name(),
            _ => "",
        }
    }
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
