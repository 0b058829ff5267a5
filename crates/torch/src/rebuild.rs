//! What REDUCE and NEWOBJ give: tensors as checked views of storages, containers, inert nodes.

use crate::{
    arena::Arena,
    error::{Error, Result, quoted},
    globals::Global,
    tensor::Dtype,
    value::{Inert, Object, Value, View},
};

/// Dimensions a tensor may have.
const MAX_DIMENSIONS: usize = 32;
/// Arguments of a function that is known.
const MAX_ARGUMENTS: usize = 8;
/// Wrappers of tensors in wrappers.
const MAX_WRAPPERS: usize = 4;

fn bad(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::new("the pickle", expected, got)
}

/// What a class would make of `args`.
pub(crate) fn new_object(arena: &mut Arena, class: Value, args: Value) -> Result<Value> {
    match arena.object(class) {
        Some(Object::Global(
            Global::Inert(_) | Global::OrderedDict | Global::DefaultDict | Global::Set | Global::Size,
        )) => reduce(arena, class, args),
        Some(Object::Global(other)) => Err(bad("NEWOBJ of a class", other.name())),
        other => Err(bad("NEWOBJ of a class", other.map_or("a plain value", |o| o.kind()))),
    }
}

/// What a known function would make of `args`; an inert node of anything else that has a name here.
pub(crate) fn reduce(arena: &mut Arena, function: Value, args: Value) -> Result<Value> {
    call(arena, function, args, 0)
}

fn call(arena: &mut Arena, function: Value, args: Value, wrappers: usize) -> Result<Value> {
    let (global, place) = match (arena.object(function), function) {
        (Some(Object::Global(global)), Value::Object(place)) => (global.clone(), place),
        (other, _) => return Err(bad("REDUCE of a name", other.map_or("a plain value", |o| o.kind()))),
    };
    let Some(list) = arena.tuple(args) else {
        return Err(bad(format!("a tuple of arguments for {}", global.name()), "something else"));
    };
    if wrappers > MAX_WRAPPERS {
        return Err(bad(format!("at most {MAX_WRAPPERS} wrappers of a tensor"), "more"));
    }
    // Lists and tuples may be shared: to copy one at each call would let a short pickle take any memory and time.
    if let Global::Inert(_) = global {
        return arena.add(Object::Inert(Inert::new(place, args)));
    }
    if list.len() > MAX_ARGUMENTS {
        return Err(bad(format!("at most {MAX_ARGUMENTS} arguments of {}", global.name()), list.len()));
    }
    let arguments = list.to_vec();
    let wrong = |got: &str| Err(bad(format!("the arguments of {}", global.name()), got));
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
            view(arena, *storage, *offset, *size, *stride, None)
        }
        (Global::RebuildTensorV3, [storage, offset, size, stride, _, _, dtype])
        | (Global::RebuildTensorV3, [storage, offset, size, stride, _, _, dtype, _]) => {
            match arena.object(*dtype) {
                Some(Object::Global(Global::Dtype(dtype))) => {
                    let dtype = *dtype;
                    view(arena, *storage, *offset, *size, *stride, Some(dtype))
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
            let made = call(arena, *inner, *inner_args, wrappers + 1)?;
            match arena.object(made) {
                Some(Object::Tensor(_)) => Ok(made),
                _ => wrong("no tensor"),
            }
        }
        (Global::StorageType(_) | Global::Dtype(_), _) => Err(bad("REDUCE of a function", "a type")),
        _ => wrong(&format!("{} of them", arguments.len())),
    }
}

/// A tensor, after every index it can reach has been proven to lie in its storage.
fn view(
    arena: &mut Arena,
    storage: Value,
    offset: Value,
    size: Value,
    stride: Value,
    dtype: Option<Dtype>,
) -> Result<Value> {
    let (Value::Object(place), Some(Object::Storage(found))) = (storage, arena.object(storage)) else {
        return Err(bad("a tensor of a storage", "something else"));
    };
    let dtype = match (found.dtype, dtype) {
        (Some(dtype), None) => dtype,
        (None, Some(dtype)) => dtype,
        (Some(a), Some(b)) if a == b => a,
        _ => return Err(bad("one dtype of a tensor and its storage", "none, or two")),
    };
    let name = quoted(&found.key);
    if found.bytes % dtype.size() as u64 != 0 {
        return Err(bad(format!("a storage {name} of whole {dtype:?}"), format!("{} bytes", found.bytes)));
    }
    let have = found.bytes / dtype.size() as u64;
    let whole = |value: &Value, what: &str| match value {
        Value::Int(n) => u64::try_from(*n).map_err(|_| bad(format!("a {what} of at least 0"), n)),
        _ => Err(bad(format!("a whole number as {what}"), "something else")),
    };
    let offset = whole(&offset, "storage offset")?;
    let (Some(size), Some(stride)) = (arena.tuple(size), arena.tuple(stride)) else {
        return Err(bad("tuples of sizes and strides", "something else"));
    };
    if size.len() != stride.len() || size.len() > MAX_DIMENSIONS {
        return Err(bad(
            format!("as many strides as sizes, at most {MAX_DIMENSIONS}"),
            format!("{} and {}", size.len(), stride.len()),
        ));
    }
    let size = size.iter().map(|n| whole(n, "size")).collect::<Result<Vec<u64>>>()?;
    let stride = stride.iter().map(|n| whole(n, "stride")).collect::<Result<Vec<u64>>>()?;
    let elements = match size.contains(&0) {
        true => Some(0),
        false => size.iter().try_fold(1u64, |n, &s| n.checked_mul(s)),
    };
    let last = size.iter().zip(&stride).try_fold(offset, |at, (&n, &step)| {
        n.saturating_sub(1).checked_mul(step).and_then(|reach| at.checked_add(reach))
    });
    let fits = match (elements, last) {
        (Some(0), _) => offset <= have,
        (Some(_), Some(last)) => last < have,
        _ => false,
    };
    let shape = size.iter().map(|&n| usize::try_from(n)).collect::<std::result::Result<Vec<_>, _>>();
    match (fits, shape) {
        (true, Ok(shape)) => arena.add(Object::Tensor(View { storage: place, dtype, offset, shape, stride })),
        _ => Err(bad(
            format!("a tensor within storage {name} of {have} elements"),
            format!("offset {offset}, sizes {size:?}, strides {stride:?}"),
        )),
    }
}
