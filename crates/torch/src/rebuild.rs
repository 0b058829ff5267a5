//! The results of the opcodes REDUCE (a call) and NEWOBJ (a constructor): tensors as checked views of storages,
//! containers, and objects that are kept as plain data.

use crate::{
    arena::Arena,
    error::{Error, Result, quoted},
    globals::Global,
    tensor::Dtype,
    value::{InertObject, Object, TensorView, Value},
};

/// Largest number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 32;
/// Largest number of arguments of a known function.
const MAX_ARGUMENTS: usize = 8;
/// Largest number of wrappers (`_rebuild_from_type_v2`) around a tensor.
const MAX_WRAPPERS: usize = 4;

fn malformed(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::new("the pickle", expected, got)
}

/// The object that a class would construct from the tuple `args`.
pub(crate) fn new_object(arena: &mut Arena, class: Value, args: Value) -> Result<Value> {
    match arena.object(class) {
        Some(Object::Global(
            Global::Inert(_) | Global::OrderedDict | Global::DefaultDict | Global::Set | Global::Size,
        )) => call_function(arena, class, args),
        Some(Object::Global(other)) => Err(malformed("NEWOBJ of a class", other.name())),
        other => Err(malformed("NEWOBJ of a class", other.map_or("a plain value", |o| o.kind()))),
    }
}

/// The result that a known function would give for the tuple `args`; plain data for a class or function that is inert.
pub(crate) fn call_function(arena: &mut Arena, function: Value, args: Value) -> Result<Value> {
    call_within(arena, function, args, 0)
}

/// As [`call_function`], inside `wrappers` wrappers of a tensor.
fn call_within(arena: &mut Arena, function: Value, args: Value, wrappers: usize) -> Result<Value> {
    let (global, place) = match (arena.object(function), function) {
        (Some(Object::Global(global)), Value::Object(place)) => (global.clone(), place),
        (other, _) => return Err(malformed("REDUCE of a name", other.map_or("a plain value", |o| o.kind()))),
    };
    let Some(list) = arena.tuple(args) else {
        return Err(malformed(format!("a tuple of arguments for {}", global.name()), "something else"));
    };
    if wrappers > MAX_WRAPPERS {
        return Err(malformed(format!("at most {MAX_WRAPPERS} wrappers of a tensor"), "more"));
    }
    // Arguments are not copied before their number is checked: a short pickle can pass the same long tuple to many
    // calls.
    if let Global::Inert(_) = global {
        return arena.add(Object::Inert(InertObject::new(place, args)));
    }
    if list.len() > MAX_ARGUMENTS {
        return Err(malformed(format!("at most {MAX_ARGUMENTS} arguments of {}", global.name()), list.len()));
    }
    let arguments = list.to_vec();
    let wrong = |got: &str| Err(malformed(format!("the arguments of {}", global.name()), got));
    match (&global, arguments.as_slice()) {
        (Global::OrderedDict, []) => arena.add(Object::Dict(Vec::new())),
        (Global::DefaultDict, [] | [_]) => arena.add(Object::Dict(Vec::new())),
        (Global::Set, []) => arena.add(Object::Set(Vec::new())),
        (Global::Set, [items]) => match arena.object(*items) {
            Some(Object::List(_) | Object::Tuple(_)) => Ok(*items),
            _ => wrong("no list"),
        },
        (Global::Size, [sizes]) => match arena.tuple(*sizes) {
            Some(_) => Ok(*sizes),
            None => wrong("no tuple"),
        },
        (Global::RebuildTensor, [storage, offset, size, stride])
        | (Global::RebuildTensorV2, [storage, offset, size, stride, _, _])
        | (Global::RebuildTensorV2, [storage, offset, size, stride, _, _, _]) => {
            tensor_view(arena, *storage, *offset, *size, *stride, None)
        }
        (Global::RebuildTensorV3, [storage, offset, size, stride, _, _, dtype])
        | (Global::RebuildTensorV3, [storage, offset, size, stride, _, _, dtype, _]) => {
            match arena.object(*dtype) {
                Some(Object::Global(Global::Dtype(dtype))) => {
                    let dtype = *dtype;
                    tensor_view(arena, *storage, *offset, *size, *stride, Some(dtype))
                }
                _ => wrong("no dtype"),
            }
        }
        (Global::RebuildParameter, [data, _, _]) | (Global::RebuildParameterWithState, [data, _, _, _]) => {
            match arena.object(*data) {
                Some(Object::Tensor(_)) => Ok(*data),
                _ => wrong("no tensor"),
            }
        }
        (Global::RebuildFromType, [inner, _class, inner_args, _state]) => {
            let made = call_within(arena, *inner, *inner_args, wrappers + 1)?;
            match arena.object(made) {
                Some(Object::Tensor(_)) => Ok(made),
                _ => wrong("no tensor"),
            }
        }
        (Global::StorageType(_) | Global::Dtype(_), _) => Err(malformed("REDUCE of a function", "a type")),
        _ => wrong(&format!("{} of them", arguments.len())),
    }
}

/// A tensor as a view of a storage, after a check that all of its elements lie within the storage.
fn tensor_view(
    arena: &mut Arena,
    storage: Value,
    offset: Value,
    size: Value,
    stride: Value,
    dtype: Option<Dtype>,
) -> Result<Value> {
    let (Value::Object(place), Some(Object::Storage(storage_found))) = (storage, arena.object(storage))
    else {
        return Err(malformed("a tensor of a storage", "something else"));
    };
    let dtype = match (storage_found.dtype, dtype) {
        (Some(dtype), None) => dtype,
        (None, Some(dtype)) => dtype,
        (Some(a), Some(b)) if a == b => a,
        _ => return Err(malformed("one dtype of a tensor and its storage", "none, or two")),
    };
    let storage_name = quoted(&storage_found.key);
    if storage_found.bytes % dtype.size() as u64 != 0 {
        return Err(malformed(
            format!("a storage {storage_name} of whole {dtype:?}"),
            format!("{} bytes", storage_found.bytes),
        ));
    }
    let storage_elements = storage_found.bytes / dtype.size() as u64;
    let non_negative = |value: &Value, what: &str| match value {
        Value::Int(n) => u64::try_from(*n).map_err(|_| malformed(format!("a {what} of at least 0"), n)),
        _ => Err(malformed(format!("a whole number as {what}"), "something else")),
    };
    let offset = non_negative(&offset, "storage offset")?;
    let (Some(size), Some(stride)) = (arena.tuple(size), arena.tuple(stride)) else {
        return Err(malformed("tuples of sizes and strides", "something else"));
    };
    if size.len() != stride.len() || size.len() > MAX_DIMENSIONS {
        return Err(malformed(
            format!("as many strides as sizes, at most {MAX_DIMENSIONS}"),
            format!("{} and {}", size.len(), stride.len()),
        ));
    }
    let size = size.iter().map(|n| non_negative(n, "size")).collect::<Result<Vec<u64>>>()?;
    let stride = stride.iter().map(|n| non_negative(n, "stride")).collect::<Result<Vec<u64>>>()?;
    let elements = match size.contains(&0) {
        true => Some(0),
        false => size.iter().try_fold(1u64, |n, &s| n.checked_mul(s)),
    };
    let last = size.iter().zip(&stride).try_fold(offset, |at, (&n, &step)| {
        n.saturating_sub(1).checked_mul(step).and_then(|reach| at.checked_add(reach))
    });
    let fits = match (elements, last) {
        (Some(0), _) => offset <= storage_elements,
        (Some(_), Some(last)) => last < storage_elements,
        _ => false,
    };
    let shape = size.iter().map(|&n| usize::try_from(n)).collect::<std::result::Result<Vec<_>, _>>();
    match (fits, shape) {
        (true, Ok(shape)) => {
            arena.add(Object::Tensor(TensorView { storage: place, dtype, offset, shape, stride }))
        }
        _ => Err(malformed(
            format!("a tensor within storage {storage_name} of {storage_elements} elements"),
            format!("offset {offset}, sizes {size:?}, strides {stride:?}"),
        )),
    }
}
