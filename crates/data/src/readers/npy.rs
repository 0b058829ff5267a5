//! Reads NumPy's `.npy` and `.npz` files (numpy.lib.format, versions 1 to 3).

use super::archive;
use super::array::{NumberArray, Numbers, StoredType, byte_count};
use super::bytes::{ByteReader, open_file};
use crate::{DataError, Result};
use std::io::Read;
use std::path::Path;

const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Reads the array of a `.npy` file.
pub fn read_npy(path: impl AsRef<Path>) -> Result<NumberArray> {
    let path = path.as_ref();
    parse_npy(open_file(path)?).map_err(|e| e.in_file(path))
}

/// Reads the arrays of a `.npz` file in the file's order, with their names.
pub fn read_npz(path: impl AsRef<Path>) -> Result<Vec<(String, NumberArray)>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| DataError::new(e).in_file(path))?;
    parse_npz(&bytes).map_err(|e| e.in_file(path))
}

/// As [`read_npz`], but from the bytes of the file: all of them, since the table of contents stands at the end.
pub fn parse_npz(bytes: &[u8]) -> Result<Vec<(String, NumberArray)>> {
    let entries = archive::read_entries(bytes)?;
    let arrays = entries.iter().filter(|entry| entry.name.ends_with(".npy"));
    arrays
        .map(|entry| {
            let name = entry.name.trim_end_matches(".npy").to_owned();
            let content = archive::read_content(bytes, entry)?;
            let array = parse_npy(&content[..]).map_err(|e| DataError::of_column(&name, e));
            Ok((name, array?))
        })
        .collect()
}

/// As [`read_npy`], but from any reader, of which no byte after the array is read.
pub fn parse_npy(input: impl Read) -> Result<NumberArray> {
    let mut input = ByteReader::new(input);
    if &input.read_array::<6>("the magic of .npy")? != b"\x93NUMPY" {
        return Err(DataError::at_byte(0, "expected a .npy file, got other first bytes"));
    }
    let [major, _] = input.read_array("the version")?;
    let length = match major {
        1 => u64::from(u16::from_le_bytes(input.read_array("the header's length")?)),
        2 | 3 => u64::from(u32::from_le_bytes(input.read_array("the header's length")?)),
        other => return Err(input.error(format!("expected version 1, 2 or 3 of .npy, got {other}"))),
    };
    if length > MAX_HEADER_BYTES {
        return Err(
            input.error(format!("expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}"))
        );
    }
    let header = String::from_utf8_lossy(&input.read_vec("the header", length)?).into_owned();
    let NpyHeader { stored_type, big_endian, fortran_order, shape } =
        NpyHeader::parse(&header).map_err(|reason| input.error(reason))?;
    let count = byte_count(&shape, stored_type).filter(|count| *count <= isize::MAX as u64);
    let count =
        count.ok_or_else(|| input.error(format!("expected a shape that fits memory, got {shape:?}")))?;
    let values = Numbers::decode(input.read_vec("the array", count)?, stored_type, big_endian)?;
    let values = if fortran_order && shape.len() > 1 { values.from_fortran(&shape) } else { values };
    Ok(NumberArray { shape, values })
}

/// The header of a `.npy` file.
struct NpyHeader {
    stored_type: StoredType,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl NpyHeader {
    /// Parses a header, a Python dictionary literal with the keys descr, fortran_order and shape.
    fn parse(text: &str) -> std::result::Result<NpyHeader, String> {
        let text_after = |key: &str| {
            let (_, rest) = text
                .split_once(&format!("'{key}'"))
                .or_else(|| text.split_once(&format!("\"{key}\"")))
                .ok_or_else(|| format!("expected a header with \"{key}\""))?;
            rest.trim_start().strip_prefix(':').map(str::trim_start).ok_or(format!("expected : after {key}"))
        };
        let descr = text_after("descr")?;
        let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or("expected an array of plain numbers, got one of records")?;
        let descr = descr[1..].split(quote).next().unwrap_or_default();
        let (order, letters) = match descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "|" | "="), letters)) => (order, letters),
            _ => ("=", descr),
        };
        let stored_type = match letters {
            "u1" | "b1" | "?" => StoredType::U8,
            "i1" => StoredType::I8,
            "u2" => StoredType::U16,
            "i2" => StoredType::I16,
            "u4" => StoredType::U32,
            "i4" => StoredType::I32,
            "u8" => StoredType::U64,
            "i8" => StoredType::I64,
            "f2" => StoredType::F16,
            "f4" => StoredType::F32,
            "f8" => StoredType::F64,
            _ => return Err(format!("expected integers, booleans or floats, got an array of \"{descr}\"")),
        };
        let fortran_order = match text_after("fortran_order")? {
            text if text.starts_with("True") => true,
            text if text.starts_with("False") => false,
            _ => return Err("expected fortran_order to be True or False".into()),
        };
        let shape = text_after("shape")?.strip_prefix('(').and_then(|s| s.split_once(')')).map(|s| s.0);
        let shape = shape.ok_or("expected a shape in parentheses")?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        let size = |s: &str| {
            s.trim_end_matches('L')
                .parse()
                .map_err(|_| format!("expected a shape of integers, got ({shape})"))
        };
        let shape: Vec<usize> = sizes.map(size).collect::<std::result::Result<_, _>>()?;
        if shape.len() > 32 {
            return Err(format!("expected at most 32 axes, got {}", shape.len()));
        }
        Ok(NpyHeader { stored_type, big_endian: order == ">", fortran_order, shape })
    }
}
