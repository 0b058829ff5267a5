//! Records of a text table where none is quoted: the plain form of most files, read without copies.

use super::field::trim;
use super::table::{Table, TableReader, unequal_fields};
use crate::{DataError, Result};
use std::io::Read;

/// What [`TableReader::next_rows`] gives of all of `bytes`, which `reader` was made for by bytes, where no field is quoted and
/// lines end with line feeds: fields are parts of the bytes, not copies. Places are bytes. `None` where the bytes are not so.
pub(super) fn plain_rows<R: Read>(
    reader: &TableReader<R>,
    bytes: &[u8],
    skip_header: bool,
) -> Option<Result<Table>> {
    let layout = &*reader.layout;
    if layout.is_one_column || bytes.contains(&b'"') {
        return None;
    }
    let mut table = reader.empty();
    let mut fields: Vec<&[u8]> = Vec::with_capacity(layout.field_count);
    let (mut next, mut skip) = (0, skip_header);
    for line in bytes.split(|b| *b == b'\n') {
        let place = next as u64;
        next += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The CSV reader ends a record at a carriage return too.
        if line.contains(&b'\r') {
            return None;
        }
        if line.is_empty() {
            continue;
        }
        fields.clear();
        fields.extend(line.split(|b| *b == layout.delimiter));
        if fields.len() != layout.field_count {
            return Some(Err(unequal_fields(place, layout.field_count, fields.len())));
        }
        if std::mem::take(&mut skip) {
            continue;
        }
        for (wanted, column) in layout.wanted_columns.iter().zip(&mut table.columns) {
            if let Err(reason) = reader.push_field(trim(fields[wanted.column_index]), column) {
                return Some(Err(DataError::at(place, &wanted.name, reason)));
            }
        }
        table.lines.push(place);
    }
    Some(Ok(table))
}
