//! Plain values for the objects of a pickle.

use crate::tensor::Dtype;

/// A value of a pickle, on the machine's stack, in its memo or in a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Index of an object in the arena.
    Object(u32),
}

/// A storage of PyTorch: an entry of the archive whose bytes tensors view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The entry of the archive is `data/KEY`.
    pub key: String,
    /// Type of the values; `None` for an untyped storage, whose tensors name their type.
    pub dtype: Option<Dtype>,
    /// Size of the entry in bytes.
    pub bytes: u64,
}

/// A tensor as a view of a storage. Offset and strides are in elements; every element has been checked to lie within
/// the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorView {
    /// Index of the storage in the arena.
    pub storage: u32,
    pub dtype: Dtype,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub stride: Vec<u64>,
}

/// An object of a class, or the result of a function, of which this reader knows nothing but the name: its parts are
/// kept as plain data and nothing is run.
#[derive(Debug)]
pub(crate) struct InertObject {
    /// Index in the arena of the class's or function's name.
    pub class: u32,
    /// The tuple of arguments.
    pub args: Value,
    /// The state that the opcode BUILD gave to the object.
    pub state: Value,
    /// Keys and values, where the class is a subclass of dict.
    pub items: Vec<(Value, Value)>,
    /// Elements, where the class is a subclass of list.
    pub elements: Vec<Value>,
}

impl InertObject {
    /// An object without state, keys or elements.
    pub fn new(class: u32, args: Value) -> Self {
        InertObject { class, args, state: Value::None, items: Vec::new(), elements: Vec::new() }
    }
}

/// An object in the arena.
#[derive(Debug)]
pub(crate) enum Object {
    Text(String),
    /// An integer of more than 64 bits.
    BigInt(i128),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Set(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(crate::globals::Global),
    Storage(Storage),
    Tensor(TensorView),
    Inert(InertObject),
}

impl Object {
    /// What kind of object it is, in words for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Text(_) => "a string",
            Object::BigInt(_) => "an integer",
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
