//! The classes and functions that a pickle may name: those that tensors need, and those whose objects are kept as plain
//! data ("inert") without running anything. All other names are refused.

use crate::{
    error::{Error, Result, quoted},
    tensor::Dtype,
};

/// A class or function that a pickle names. Nothing is ever imported or called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    /// `collections.OrderedDict`, read as a dict.
    OrderedDict,
    /// `collections.defaultdict`, read as a dict; its argument, the default, is dropped.
    DefaultDict,
    /// `set` or `frozenset`.
    Set,
    /// `torch.Size`, read as a tuple.
    Size,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    RebuildParameterWithState,
    RebuildFromType,
    /// The class of a storage; `None` for an untyped one.
    StorageType(Option<Dtype>),
    /// The dtype of a tensor.
    Dtype(Dtype),
    /// A class or function, by its dotted name, whose objects are kept as plain data.
    Inert(String),
}

impl Global {
    /// The dotted name, for error messages and to recognise inert classes.
    pub fn name(&self) -> &str {
        match self {
            Global::OrderedDict => "collections.OrderedDict",
            Global::DefaultDict => "collections.defaultdict",
            Global::Set => "builtins.set",
            Global::Size => "torch.Size",
            Global::RebuildTensor => "torch._utils._rebuild_tensor",
            Global::RebuildTensorV2 => "torch._utils._rebuild_tensor_v2",
            Global::RebuildTensorV3 => "torch._utils._rebuild_tensor_v3",
            Global::RebuildParameter => "torch._utils._rebuild_parameter",
            Global::RebuildParameterWithState => "torch._utils._rebuild_parameter_with_state",
            Global::RebuildFromType => "torch._tensor._rebuild_from_type_v2",
            Global::StorageType(_) => "a storage type",
            Global::Dtype(_) => "a dtype",
            Global::Inert(name) => name,
        }
    }
}

/// Built-in types of Python that appear in configurations, also by their names in Python 2, which protocol 2 writes.
const BUILTIN_TYPES: [&str; 16] = [
    "int",
    "long",
    "float",
    "complex",
    "bool",
    "str",
    "unicode",
    "bytes",
    "bytearray",
    "list",
    "tuple",
    "dict",
    "object",
    "slice",
    "range",
    "xrange",
];

/// Single classes and functions whose objects are kept as plain data.
const INERT_NAMES: [&str; 16] = [
    "_codecs.encode",
    "argparse.Namespace",
    "collections.Counter",
    "collections.deque",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "torch.device",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "typing.Any",
];

/// Modules, of libraries and of the official repository, all of whose classes (also in submodules) are kept as plain
/// data.
const INERT_MODULES: [&str; 10] = [
    "omegaconf",
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "torchmetrics",
    "typing",
    "pathlib",
    "src",
    "models",
];

/// Looks up the class or function `module.name`; an error that names it where checkpoints do not need it.
pub(crate) fn find_global(module: &str, name: &str) -> Result<Global> {
    let is_dotted_name = |part: &str| {
        !part.is_empty()
            && part.split('.').all(|word| {
                !word.is_empty()
                    && !word.starts_with(|c: char| c.is_ascii_digit())
                    && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
    };
    let dotted_name = format!("{module}.{name}");
    let refuse = |expected: &str| {
        Err(Error::new("the pickle", expected, format!("the name {}", quoted(&dotted_name))))
    };
    if !is_dotted_name(module) || !is_dotted_name(name) {
        return refuse("names of classes");
    }
    // Pickles of protocol 2 have Python 2's name of this module.
    let module = if module == "__builtin__" { "builtins" } else { module };
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("collections", "defaultdict") => Global::DefaultDict,
        ("builtins", "set" | "frozenset") => Global::Set,
        ("torch", "Size") => Global::Size,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch._utils", "_rebuild_parameter_with_state") => Global::RebuildParameterWithState,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch" | "torch.storage", "UntypedStorage") => Global::StorageType(None),
        ("torch", _) if storage_type(name).is_some() => Global::StorageType(storage_type(name)),
        ("torch", _) if dtype(name).is_some() => match dtype(name) {
            Some(dtype) => Global::Dtype(dtype),
            None => return refuse("a dtype"),
        },
        ("builtins", _) if BUILTIN_TYPES.contains(&name) => Global::Inert(format!("builtins.{name}")),
        _ if INERT_NAMES.contains(&dotted_name.as_str()) => Global::Inert(dotted_name),
        _ if INERT_MODULES.contains(&module.split('.').next().unwrap_or_default()) => {
            Global::Inert(dotted_name)
        }
        ("torch", _) if name.ends_with("Storage") => {
            return refuse("a storage of f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool, c64 or c128");
        }
        _ => {
            return refuse("only what tensors and configurations need (nothing is ever imported or called)");
        }
    })
}

/// The type of the values of a storage class of torch.
fn storage_type(name: &str) -> Option<Dtype> {
    Some(match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => Dtype::C64,
        "ComplexDoubleStorage" => Dtype::C128,
        _ => return None,
    })
}

/// The dtype of this name in torch.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "complex64" | "cfloat" => Dtype::C64,
        "complex128" | "cdouble" => Dtype::C128,
        _ => return None,
    })
}
