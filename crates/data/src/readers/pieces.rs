//! Text tables that come in pieces of bytes, each parsed on all threads: whole files, sockets, pipes.

use super::bytes::open_file;
use super::lines::plain_rows;
use super::table::{
    BYTE_ORDER_MARK, Layout, SAMPLE_BYTES, Table, TableOptions, TableReader, drop_byte_order_marks, is_sample,
};
use crate::{DataError, Result};
use rayon::prelude::*;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a file that are read at a time.
const BLOCK_BYTES: usize = 1 << 23;
/// Bytes that are worth a thread.
const SHARE_BYTES: usize = 1 << 18;
/// Longest record: a quote that is never closed would else take all of the memory.
const MAX_RECORD_BYTES: usize = 1 << 26;

/// Reads a whole file, on all threads of rayon's pool.
pub fn read_table(path: impl AsRef<Path>, options: &TableOptions) -> Result<Table> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let mut file = open_file(path)?;
    let mut pieces = TablePieces::new(options.clone());
    let mut block = vec![0; BLOCK_BYTES];
    let mut table: Option<Table> = None;
    loop {
        let read = match file.read(&mut block) {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(in_file(DataError::new(e))),
        };
        let rows = if read == 0 { pieces.finish().map(Some) } else { pieces.push(&block[..read]) }
            .map_err(in_file)?;
        match (&mut table, rows) {
            (Some(table), Some(rows)) => table.append(rows),
            (None, rows) => table = rows,
            (Some(_), None) => {}
        }
        if read == 0 {
            return Ok(table.unwrap_or_default());
        }
    }
}

/// Reads a table from the bytes of a file, on all threads of rayon's pool.
pub fn read_table_bytes(bytes: &[u8], options: &TableOptions) -> Result<Table> {
    let mut pieces = TablePieces::new(options.clone());
    let mut table = pieces.push(bytes)?;
    let last = pieces.finish()?;
    match &mut table {
        Some(table) => table.append(last),
        None => table = Some(last),
    }
    Ok(table.unwrap_or_default())
}

/// Reads a table whose bytes come in pieces, cut anywhere.
pub struct TablePieces {
    options: TableOptions,
    layout: Option<Arc<Layout>>,
    /// Bytes that are not parsed yet.
    pending: Vec<u8>,
    ends: RecordEnds,
    /// How many of the pending bytes were searched for ends of records.
    searched: usize,
    lines_before: u64,
}

impl TablePieces {
    /// A table of which there are no bytes yet.
    pub fn new(options: TableOptions) -> Self {
        TablePieces {
            options,
            layout: None,
            pending: Vec::new(),
            ends: RecordEnds { delimiter: b',', state: FieldState::Begin },
            searched: 0,
            lines_before: 0,
        }
    }

    /// Takes the next bytes and gives the rows that are whole; `None` where there are none. After an error nothing more
    /// can be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Table>> {
        let memory = self.pending.try_reserve(bytes.len());
        memory.map_err(|_| DataError::new(format!("no memory for {} bytes of a table", bytes.len())))?;
        self.pending.extend_from_slice(bytes);
        if self.layout.is_none() {
            if !is_sample(&self.pending) {
                return Ok(None);
            }
            self.recognise(false)?;
        }
        let Some(end) = self.last_end() else {
            if self.pending.len() > MAX_RECORD_BYTES {
                let reason = format!("expected lines of less than {} MiB", MAX_RECORD_BYTES >> 20);
                return Err(DataError { row: Some(self.lines_before + 1), ..DataError::new(reason) });
            }
            return Ok(None);
        };
        let rows = self.parse(end)?;
        Ok((rows.rows() > 0).then_some(rows))
    }

    /// Ends the table and gives its last rows.
    pub fn finish(&mut self) -> Result<Table> {
        if self.layout.is_none() {
            self.recognise(true)?;
        }
        self.parse(self.pending.len())
    }

    fn recognise(&mut self, is_whole_file: bool) -> Result<()> {
        drop_byte_order_marks(&mut self.pending);
        let sample = &self.pending[..self.pending.len().min(SAMPLE_BYTES)];
        let layout =
            Layout::recognise(sample, is_whole_file && sample.len() == self.pending.len(), &self.options)?;
        self.ends.delimiter = layout.delimiter;
        self.layout = Some(Arc::new(layout));
        Ok(())
    }

    /// Where the last whole record of the pending bytes ends.
    fn last_end(&mut self) -> Option<usize> {
        let begin = std::mem::replace(&mut self.searched, self.pending.len());
        if self.layout.as_ref().is_some_and(|l| l.is_one_column) {
            // Blank lines mean missing values where others follow: they wait for these.
            let end = self.pending.iter().rposition(|b| *b == b'\n')?;
            let last = self.pending[..end].iter().rposition(|b| !b.is_ascii_whitespace())?;
            return self.pending[last..].iter().position(|b| *b == b'\n').map(|n| last + n + 1);
        }
        self.ends.last_end(&self.pending[begin..]).map(|end| begin + end)
    }

    /// The rows of the first `end` pending bytes, which are then forgotten.
    fn parse(&mut self, end: usize) -> Result<Table> {
        let Some(layout) = self.layout.clone() else { return Ok(Table::default()) };
        let whole = &self.pending[..end];
        let mut shares = Vec::new();
        if layout.is_one_column {
            shares.push((whole, self.lines_before));
        } else {
            let mut ends = RecordEnds { delimiter: layout.delimiter, state: FieldState::Begin };
            let (mut begin, mut lines) = (0, self.lines_before);
            let mut searched = 0;
            while begin < whole.len() {
                // A share ends with the last record within its bytes, or goes on to where one ends.
                let mut next = None;
                while next.is_none() && searched < whole.len() {
                    let until = (searched.max(begin) + SHARE_BYTES).min(whole.len());
                    next = ends.last_end(&whole[searched..until]).map(|end| searched + end);
                    searched = until;
                }
                let next = if searched == whole.len() { whole.len() } else { next.unwrap_or(whole.len()) };
                shares.push((&whole[begin..next], lines));
                lines += line_count(&whole[begin..next]);
                begin = next;
            }
        }
        let is_first = self.lines_before == 0;
        let parse_share = |(number, (bytes, lines)): (usize, &(&[u8], u64))| {
            let by_byte = !layout.is_one_column;
            // The CSV reader drops a mark where it begins. Within a file a mark belongs to a field: another one before it
            // is dropped in its place.
            let is_marked = by_byte && bytes.starts_with(&BYTE_ORDER_MARK);
            let mark = if is_marked { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
            let mark_bytes = mark.len() as u64;
            let mut reader = TableReader::with_layout(layout.clone(), mark, *bytes, *lines, by_byte);
            let skip_header = layout.header && is_first && number == 0;
            let mut read = || {
                if let Some(rows) = plain_rows(&reader, bytes, skip_header) {
                    return rows;
                }
                if skip_header {
                    reader.next_record()?;
                }
                Ok(reader.next_rows(usize::MAX)?.unwrap_or_else(|| reader.empty()))
            };
            let mut rows: Result<Table> = read();
            if by_byte {
                let places = match &mut rows {
                    Ok(table) => &mut table.lines[..],
                    Err(DataError { row: Some(row), .. }) => std::slice::from_mut(row),
                    Err(_) => &mut [],
                };
                places.iter_mut().for_each(|place| *place = place.saturating_sub(mark_bytes));
                lines_of(bytes, *lines, places);
            }
            rows
        };
        let parsed: Vec<Result<Table>> = shares.par_iter().enumerate().map(parse_share).collect();
        let lines = line_count(whole);
        // The first error of the file, whichever thread was the first to meet one.
        let mut table: Option<Table> = None;
        for share in parsed {
            let share = share?;
            match &mut table {
                Some(table) => table.append(share),
                None => table = Some(share),
            }
        }
        self.lines_before += lines;
        self.pending.drain(..end);
        self.searched = self.pending.len();
        Ok(table.unwrap_or_else(|| TableReader::with_layout(layout, Vec::new(), &[][..], 0, true).empty()))
    }
}

/// Replaces ascending bytes, at each of which the search for a record began, by the lines on which the records begin.
fn lines_of(bytes: &[u8], lines_before: u64, places: &mut [u64]) {
    let (mut at, mut line) = (0, lines_before + 1);
    for place in places {
        let begin = *place as usize;
        let blank = bytes[begin..].iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
        line += line_count(&bytes[at..begin + blank]);
        at = begin + blank;
        *place = line;
    }
}

fn line_count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

/// Where in a field a byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldState {
    Begin,
    Unquoted,
    Quoted,
    /// After a quote within quotes: the end of the field, or the first half of a quote in the text.
    QuoteInQuotes,
}

/// Finds where records end, by the rules of the CSV reader: a line ends a record unless it is within a field that begins
/// with a quote.
struct RecordEnds {
    delimiter: u8,
    state: FieldState,
}

impl RecordEnds {
    /// The index after the last end of a record in `bytes`, which follow those of the last call.
    fn last_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_quoted = matches!(self.state, FieldState::Quoted | FieldState::QuoteInQuotes);
        if !is_quoted && !bytes.contains(&b'"') {
            if let Some(last) = bytes.last() {
                let begins = *last == self.delimiter || matches!(last, b'\n' | b'\r');
                self.state = if begins { FieldState::Begin } else { FieldState::Unquoted };
            }
            return bytes.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        }
        let mut last_end = None;
        for (i, byte) in bytes.iter().enumerate() {
            self.state = match (self.state, *byte) {
                (FieldState::Begin, b'"') => FieldState::Quoted,
                (FieldState::Quoted, b'"') => FieldState::QuoteInQuotes,
                (FieldState::Quoted, _) => FieldState::Quoted,
                (FieldState::QuoteInQuotes, b'"') => FieldState::Quoted,
                (_, b'\n') => {
                    last_end = Some(i + 1);
                    FieldState::Begin
                }
                (_, b'\r') => FieldState::Begin,
                (_, other) if other == self.delimiter => FieldState::Begin,
                _ => FieldState::Unquoted,
            };
        }
        last_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataRng, parse_table};

    /// A table with quotes, blank lines and gaps, of which some are damaged, and the line of each row.
    fn text(rng: &mut DataRng) -> (Vec<u8>, usize, Vec<u64>) {
        let fields = [
            "1",
            "-2.5",
            "",
            "\"a,b\"",
            "\"two\nlines\"",
            "5\" pipe",
            "\"say \"\"hi\"\"\"",
            "x",
            "NA",
            "3e4",
            "é",
            "\"open",
        ];
        let columns = 2 + rng.below(3);
        let usable = [fields.len(), fields.len() - 1, 3, 3][rng.below(4)];
        let (mut out, mut lines) = (String::new(), Vec::new());
        for _ in 0..1 + rng.below(40) {
            let count = if rng.below(100) == 0 { columns + 1 } else { columns };
            let row: Vec<&str> = (0..count).map(|_| fields[rng.below(usable)]).collect();
            lines.push(out.matches('\n').count() as u64 + 1);
            out += &row.join(",");
            let ending = [0, 0, 0, 0, 1, 1, 2, 3, 4][rng.below(9)];
            out += ["\n", "\r\n", "\n\n", "\r\n\r\n\n", "\r"][ending];
        }
        (out.into_bytes(), columns, lines)
    }

    /// All columns of a table as text.
    fn as_text(columns: usize, header: bool) -> TableOptions {
        let columns = (0..columns).map(|c| (crate::Column::Index(c), crate::ColumnKind::Text)).collect();
        TableOptions {
            columns: Some(columns),
            header: Some(header),
            delimiter: Some(b','),
            ..Default::default()
        }
    }

    /// The table of pieces that are cut anywhere.
    fn in_pieces(bytes: &[u8], options: TableOptions, rng: &mut DataRng) -> Result<Table> {
        let mut pieces = TablePieces::new(options);
        let mut parts = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + rng.below(rest.len()));
            parts.extend(pieces.push(piece)?);
            rest = left;
        }
        let mut table = pieces.finish()?;
        for part in parts.into_iter().rev() {
            let later = std::mem::replace(&mut table, part);
            table.append(later);
        }
        Ok(table)
    }

    #[test]
    fn pieces_give_what_the_plain_reader_gives() {
        let mut rng = DataRng::new(15, 0);
        let (mut tables, mut errors) = (0, 0);
        for _ in 0..4_000 {
            let (bytes, columns, lines) = text(&mut rng);
            let shown = String::from_utf8_lossy(&bytes);
            let header = rng.below(2) == 0;
            let options = as_text(columns, header);
            let plain = parse_table(&bytes[..], &options);
            let whole = read_table_bytes(&bytes, &options);
            assert_eq!(in_pieces(&bytes, options, &mut rng), whole, "{shown:?}");
            match (plain, whole) {
                (Ok(plain), Ok(whole)) => {
                    tables += 1;
                    assert_eq!(whole.columns, plain.columns, "{shown:?}");
                    // A quote that is not closed joins lines.
                    if !shown.contains("\"open") {
                        assert_eq!(whole.lines, lines[usize::from(header)..], "{shown:?}");
                    }
                }
                (Err(plain), Err(whole)) => {
                    errors += 1;
                    assert_eq!(whole.reason, plain.reason, "{shown:?}");
                }
                (plain, whole) => panic!("{plain:?} and {whole:?} of {shown:?}"),
            }
        }
        assert!(tables > 1_000 && errors > 100, "{tables} tables, {errors} errors");
    }

    #[test]
    fn the_line_of_an_error_is_the_one_that_an_editor_shows() {
        let bytes = b"a,b\r\n\r\n1,2\r\n\n\n\"x\ny\",3\n\n4,5,6\n";
        let error = read_table_bytes(bytes, &as_text(2, true)).unwrap_err();
        assert_eq!((error.row, error.reason.as_str()), (Some(9), "expected 2 fields, got 3"));
        let numbers = TableOptions { header: Some(true), ..Default::default() };
        let error = read_table_bytes(b"a,b\n1,2\n\n3,4\n5,oops\n", &numbers).unwrap_err();
        assert_eq!(error.to_string(), "row 5, column b: expected a number, got \"oops\"");
    }

    #[test]
    fn blank_lines_of_a_single_column_are_gaps_wherever_pieces_end() {
        let bytes = b"\n1\n\n2\n3\n\n\n4\n5\n6\n7\n8\n\n9\n\n";
        let whole = parse_table(&bytes[..], &TableOptions::default()).unwrap();
        assert_eq!(whole.rows(), 13);
        let mut rng = DataRng::new(17, 0);
        for _ in 0..200 {
            let cut = in_pieces(bytes, TableOptions::default(), &mut rng).unwrap();
            assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
        }
    }

    #[test]
    fn shares_of_a_large_table_give_what_one_thread_gives() {
        let mut rng = DataRng::new(16, 0);
        let mut bytes = b"a,b,note\n".to_vec();
        while bytes.len() < 5 * SHARE_BYTES {
            let note = ["plain", "\"with\nline\"", "\"with \"\"quotes\"\"\"", ""][rng.below(4)];
            bytes.extend_from_slice(format!("{:.4},{},{note}\n", rng.normal(), rng.below(1_000)).as_bytes());
        }
        let options = TableOptions { header: Some(true), ..Default::default() };
        let plain = parse_table(&bytes[..], &options).unwrap();
        let shared = read_table_bytes(&bytes, &options).unwrap();
        assert_eq!(shared.lines, plain.lines);
        for (a, b) in shared.columns.iter().zip(&plain.columns) {
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
        bytes.extend_from_slice(b"1,oops,x\n2,oops,y\n");
        let wrong = parse_table(&bytes[..], &options).unwrap_err();
        assert_eq!(read_table_bytes(&bytes, &options), Err(wrong));
    }
}
