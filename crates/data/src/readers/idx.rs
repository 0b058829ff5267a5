//! IDX, the format of MNIST (LeCun, Cortes, Burges): big-endian, with a type and sizes in front.

use super::array::{NumberArray, Numbers, Stored, byte_count};
use super::bytes::{Bytes, open};
use crate::{DataError, Result};
use std::io::Read;
use std::path::Path;

/// A file with one array: pictures (count, height, width), labels (count).
pub fn read_idx(path: impl AsRef<Path>) -> Result<NumberArray> {
    let path = path.as_ref();
    parse_idx(open(path)?).map_err(|e| e.in_file(path))
}

/// [`read_idx`] from any reader, which is left behind the last byte.
pub fn parse_idx(input: impl Read) -> Result<NumberArray> {
    let mut input = Bytes::new(input);
    let [zero, also_zero, kind, axes] = input.take("the magic of IDX")?;
    if (zero, also_zero) == (0x1F, 0x8B) {
        return Err(DataError::at_byte(0, "expected an IDX file, got one packed by gzip: unpack it first"));
    }
    let stored = match (zero, also_zero, kind) {
        (0, 0, 0x08) => Stored::U8,
        (0, 0, 0x09) => Stored::I8,
        (0, 0, 0x0B) => Stored::I16,
        (0, 0, 0x0C) => Stored::I32,
        (0, 0, 0x0D) => Stored::F32,
        (0, 0, 0x0E) => Stored::F64,
        _ => return Err(DataError::at_byte(0, "expected an IDX file, got other first bytes")),
    };
    if axes == 0 || axes > 8 {
        return Err(DataError::at_byte(3, format!("expected 1 to 8 axes, got {axes}")));
    }
    let mut shape = Vec::with_capacity(usize::from(axes));
    for _ in 0..axes {
        shape.push(u32::from_be_bytes(input.take("the sizes")?) as usize);
    }
    let count = byte_count(&shape, stored).filter(|count| *count <= isize::MAX as u64);
    let count =
        count.ok_or_else(|| input.error(format!("expected a shape that fits memory, got {shape:?}")))?;
    let values = Numbers::decode(input.take_vec("the array", count)?, stored, true)?;
    Ok(NumberArray { shape, values })
}
