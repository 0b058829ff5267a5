//! What a pickle's objects become: plain values.

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

impl Inert {
    /// Without a state.
    pub fn new(class: u32, args: Value) -> Self {
        Inert { class, args, state: Value::None, items: Vec::new(), elements: Vec::new() }
    }
}

/// What the arena holds.
#[derive(Debug)]
pub(crate) enum Object {
    Text(String),
    /// An integer of more than 64 bits.
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
