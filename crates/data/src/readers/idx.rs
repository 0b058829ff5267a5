//! Reads IDX, the file format of MNIST (LeCun, Cortes, Burges): type and sizes, then big-endian numbers.

use super::array::{NumberArray, Numbers, StoredType, byte_count};
use super::bytes::{ByteReader, open_file};
use crate::{DataError, Result};
use std::io::Read;
use std::path::Path;

/// Reads a file, which holds one array: for example pictures (count, height, width) or labels (count).
pub fn read_idx(path: impl AsRef<Path>) -> Result<NumberArray> {
    let path = path.as_ref();
    parse_idx(open_file(path)?).map_err(|e| e.in_file(path))
}

/// As [`read_idx`], but from any reader, of which no byte after the array is read.
pub fn parse_idx(input: impl Read) -> Result<NumberArray> {
    let mut input = ByteReader::new(input);
    let [zero, also_zero, kind, axes] = input.read_array("the magic of IDX")?;
    if (zero, also_zero) == (0x1F, 0x8B) {
        return Err(DataError::at_byte(0, "expected an IDX file, got one packed by gzip: unpack it first"));
    }
    let stored_type = match (zero, also_zero, kind) {
        (0, 0, 0x08) => StoredType::U8,
        (0, 0, 0x09) => StoredType::I8,
        (0, 0, 0x0B) => StoredType::I16,
        (0, 0, 0x0C) => StoredType::I32,
        (0, 0, 0x0D) => StoredType::F32,
        (0, 0, 0x0E) => StoredType::F64,
        _ => return Err(DataError::at_byte(0, "expected an IDX file, got other first bytes")),
    };
    if axes == 0 || axes > 8 {
        return Err(DataError::at_byte(3, format!("expected 1 to 8 axes, got {axes}")));
    }
    let mut shape = Vec::with_capacity(usize::from(axes));
    for _ in 0..axes {
        shape.push(u32::from_be_bytes(input.read_array("the sizes")?) as usize);
    }
    let count = byte_count(&shape, stored_type).filter(|count| *count <= isize::MAX as u64);
    let count =
        count.ok_or_else(|| input.error(format!("expected a shape that fits memory, got {shape:?}")))?;
    let values = Numbers::decode(input.read_vec("the array", count)?, stored_type, true)?;
    Ok(NumberArray { shape, values })
}
