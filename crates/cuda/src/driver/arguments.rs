//! Arguments of kernels.

use super::{span::Span, tensor_map::TensorMap};

/// A kernel argument: the bytes of a number, lowest first, the memory of an array, or its tensor map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    Word(u64),
    Memory(Span),
    Map(TensorMap),
}

impl Arg {
    /// The memory that a kernel reaches by this argument.
    pub(super) fn memory(&self) -> Option<Span> {
        match self {
            Arg::Word(_) => None,
            Arg::Memory(span) => Some(*span),
            Arg::Map(map) => Some(map.span),
        }
    }
}

impl From<i32> for Arg {
    fn from(x: i32) -> Arg {
        Arg::Word(x as u32 as u64)
    }
}
impl From<u32> for Arg {
    fn from(x: u32) -> Arg {
        Arg::Word(x as u64)
    }
}
impl From<bool> for Arg {
    fn from(x: bool) -> Arg {
        Arg::Word(x as u64)
    }
}
/// Sizes are `i64` (or, where small, `int`) in kernels.
impl From<usize> for Arg {
    fn from(x: usize) -> Arg {
        Arg::Word(x as u64)
    }
}
impl From<u64> for Arg {
    fn from(x: u64) -> Arg {
        Arg::Word(x)
    }
}
impl From<f32> for Arg {
    fn from(x: f32) -> Arg {
        Arg::Word(x.to_bits() as u64)
    }
}
impl From<f64> for Arg {
    fn from(x: f64) -> Arg {
        Arg::Word(x.to_bits())
    }
}
impl From<Span> for Arg {
    fn from(x: Span) -> Arg {
        Arg::Memory(x)
    }
}
impl From<TensorMap> for Arg {
    fn from(x: TensorMap) -> Arg {
        Arg::Map(x)
    }
}
/// An absent array is a null pointer.
impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(x: Option<T>) -> Arg {
        x.map_or(Arg::Word(0), Into::into)
    }
}

/// `args![a, b, c]`: an array of [`Arg`].
macro_rules! args {
    ($($x:expr),* $(,)?) => { &[$($crate::driver::Arg::from($x)),*] };
}
pub(crate) use args;
