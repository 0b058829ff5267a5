//! Reads text tables (CSV and its kin) into columns of numbers, times or text, each with a mask of missing values.

use super::field::{self, Appearance, Decimal, TimeFormat, trim};
use super::sniff::{self, FieldAppearances};
use crate::{DataError, Result};
use csv::ByteRecord;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;

/// How a column of a table is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its name in the header.
    Name(String),
    /// By its number, from 0.
    Index(usize),
    /// The last column: the value in a file of dates and values, the only one in a file of one column.
    Last,
}

/// What the fields of a column are read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColumnKind {
    /// As what most fields of the column appear to be in the first lines.
    #[default]
    Auto,
    /// Numbers; other fields are errors.
    Number,
    /// Times; other fields are errors.
    Time,
    /// Text.
    Text,
}

/// How a table is written and which columns are read. An option that is `None` is recognised from the first lines,
/// unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOptions {
    /// The columns to read, in this order; `None`: all.
    pub columns: Option<Vec<(Column, ColumnKind)>>,
    /// What further columns are read as, of those that are read.
    pub kinds: Vec<(Column, ColumnKind)>,
    /// Whether the first line holds the names of columns.
    pub header: Option<bool>,
    /// The byte that separates fields.
    pub delimiter: Option<u8>,
    /// The sign before the fraction of a number.
    pub decimal: Option<Decimal>,
    /// Further words for a missing value, beside an empty field, `NaN`, `NA`, `N/A`, `null` and `None`.
    pub missing: Vec<String>,
    /// Time zone (IANA name) of times that are written without an offset from UTC; `None`: UTC.
    pub zone: Option<String>,
    /// Format of times in the letters of strptime; `None`: ISO 8601 and a few other unambiguous formats.
    pub time_format: Option<String>,
}

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnValues {
    /// NaN where a value is missing.
    Numbers(Vec<f64>),
    /// Milliseconds since 1970 in UTC, 0 where a value is missing.
    Times(Vec<i64>),
    /// Empty where a value is missing.
    Text(Vec<String>),
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumn {
    /// The name in the header, or the column's number from 1.
    pub name: String,
    /// The column's place in the file, from 0.
    pub index: usize,
    /// One value for each row.
    pub values: ColumnValues,
    /// For each row, whether the value is missing.
    pub missing: Vec<bool>,
}

/// Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns in the order asked for.
    pub columns: Vec<TableColumn>,
    /// For each row its line in the file, from 1, for error messages.
    pub lines: Vec<u64>,
}

impl Table {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Appends the rows of a table with the same columns.
    pub(super) fn append(&mut self, mut other: Table) {
        for (to, from) in self.columns.iter_mut().zip(&mut other.columns) {
            match (&mut to.values, &mut from.values) {
                (ColumnValues::Numbers(to), ColumnValues::Numbers(from)) => to.append(from),
                (ColumnValues::Times(to), ColumnValues::Times(from)) => to.append(from),
                (ColumnValues::Text(to), ColumnValues::Text(from)) => to.append(from),
                _ => unreachable!("pieces of one table have one layout"),
            }
            to.missing.append(&mut from.missing);
        }
        self.lines.append(&mut other.lines);
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Reads all that `input` gives, on this thread; [`read_table`](crate::read_table) gives the same on all threads.
pub fn parse_table(input: impl Read, options: &TableOptions) -> Result<Table> {
    let mut reader = TableReader::new(input, options)?;
    Ok(reader.next_rows(usize::MAX)?.unwrap_or_else(|| reader.empty()))
}

/// How records are read.
enum RecordSource<R: Read> {
    Records(csv::Reader<Chain<Cursor<Vec<u8>>, R>>),
    /// Line by line, for a table of one column without quotes: an empty line is a missing value there, while in other
    /// tables it is skipped.
    Lines {
        input: BufReader<Chain<Cursor<Vec<u8>>, R>>,
        line_number: u64,
        line_bytes: Vec<u8>,
        blank_lines: u64,
        has_begun: bool,
    },
}

/// A column that is read: its number in the file from 0, its name, and what its fields are read as.
pub(super) struct WantedColumn {
    pub(super) column_index: usize,
    pub(super) name: String,
    kind: ColumnKind,
}

/// How a table is written: as the options say, and for what they leave open as its first lines show.
pub(super) struct Layout {
    pub(super) wanted_columns: Vec<WantedColumn>,
    pub(super) delimiter: u8,
    pub(super) field_count: usize,
    /// Whether records are lines of one field without quotes.
    pub(super) is_one_column: bool,
    /// Whether the first line holds names.
    pub(super) header: bool,
    decimal: Decimal,
    missing_words: Vec<String>,
    time_format: TimeFormat,
}

impl Layout {
    /// Recognises from the beginning of a file what the options leave open.
    pub(super) fn recognise(sample: &[u8], is_whole_file: bool, options: &TableOptions) -> Result<Layout> {
        if sample.starts_with(&[0xFF, 0xFE]) || sample.starts_with(&[0xFE, 0xFF]) {
            return Err(DataError::at_byte(0, "expected UTF-8 text, got UTF-16"));
        }
        let found = options.delimiter.or_else(|| sniff::find_delimiter(sample));
        let delimiter = found.unwrap_or(b',');
        let records = sniff::first_records(sample, delimiter, is_whole_file);
        let Some(first) = records.first() else {
            return Err(DataError::new("expected lines of numbers, got an empty file"));
        };
        let decimal = options.decimal.unwrap_or_else(|| sniff::find_decimal_sign(&records, delimiter));
        let zone = crate::calendar::time_zone(options.zone.as_deref())?;
        let time_format = TimeFormat { format: options.time_format.clone(), zone };
        let appearances = FieldAppearances::new(&records, decimal, &options.missing, &time_format);
        let named = |c: &(Column, ColumnKind)| matches!(c.0, Column::Name(_));
        let by_name = options.columns.iter().flatten().chain(&options.kinds).any(named);
        let header = match options.header {
            Some(header) => header,
            None if by_name => true,
            None => appearances.has_header()?,
        };
        Ok(Layout {
            wanted_columns: wanted_columns(first, options, header, &appearances)?,
            delimiter,
            field_count: first.len(),
            is_one_column: first.len() == 1
                && records.iter().all(|r| r.len() == 1)
                && !sample.contains(&b'"'),
            header,
            decimal,
            missing_words: options.missing.clone(),
            time_format,
        })
    }
}

/// Reads a table piece by piece.
pub struct TableReader<R: Read> {
    source: RecordSource<R>,
    pub(super) layout: Arc<Layout>,
    record: ByteRecord,
    /// Lines of the file before the input.
    lines_before: u64,
    /// Whether places are bytes of the input, from 0, in the stead of lines. The CSV reader's lines are those at which it
    /// began to look for a record, be it in blank lines before it.
    by_byte: bool,
}

pub(super) const SAMPLE_BYTES: usize = 1 << 16;
/// Lines that are enough to recognise a layout by.
const SAMPLE_LINES: usize = 8;
const MAX_LINE_BYTES: u64 = 1 << 20;

impl<R: Read> TableReader<R> {
    /// Reads the first lines and recognises from them what the options leave open.
    pub fn new(mut input: R, options: &TableOptions) -> Result<Self> {
        let (sample, is_whole_file) = read_sample(&mut input)?;
        let layout = Arc::new(Layout::recognise(&sample, is_whole_file, options)?);
        let mut reader = Self::with_layout(layout, sample, input, 0, false);
        if reader.layout.header {
            reader.next_record()?;
        }
        Ok(reader)
    }

    /// Reads records of a known layout: those of `first_bytes`, then those of `input`. The file has `lines_before` lines
    /// before them; see `by_byte`.
    pub(super) fn with_layout(
        layout: Arc<Layout>,
        first_bytes: Vec<u8>,
        input: R,
        lines_before: u64,
        by_byte: bool,
    ) -> Self {
        let input = Cursor::new(first_bytes).chain(input);
        let source = if layout.is_one_column {
            RecordSource::Lines {
                input: BufReader::with_capacity(SAMPLE_BYTES, input),
                line_number: 0,
                line_bytes: Vec::new(),
                blank_lines: 0,
                has_begun: lines_before > 0,
            }
        } else {
            let mut builder = csv::ReaderBuilder::new();
            // The number of fields is compared with that of the file's first line, further on.
            let builder = builder.has_headers(false).flexible(true).delimiter(layout.delimiter);
            RecordSource::Records(builder.buffer_capacity(SAMPLE_BYTES).from_reader(input))
        };
        TableReader { source, layout, record: ByteRecord::new(), lines_before, by_byte }
    }

    /// Names of the columns that [`TableReader::next_rows`] gives.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.layout.wanted_columns.iter().map(|w| w.name.as_str())
    }

    /// A table of the wanted columns without rows.
    pub(super) fn empty(&self) -> Table {
        let column = |w: &WantedColumn| TableColumn {
            name: w.name.clone(),
            index: w.column_index,
            values: match w.kind {
                ColumnKind::Time => ColumnValues::Times(Vec::new()),
                ColumnKind::Text => ColumnValues::Text(Vec::new()),
                ColumnKind::Number | ColumnKind::Auto => ColumnValues::Numbers(Vec::new()),
            },
            missing: Vec::new(),
        };
        Table { columns: self.layout.wanted_columns.iter().map(column).collect(), lines: Vec::new() }
    }

    /// The next rows, at most `limit`; `None` at the end.
    pub fn next_rows(&mut self, limit: usize) -> Result<Option<Table>> {
        let mut table = self.empty();
        while table.lines.len() < limit {
            let Some(line) = self.next_record()? else { break };
            for (wanted, column) in self.layout.wanted_columns.iter().zip(&mut table.columns) {
                // Every record has as many fields as the first one, so that the field is there.
                let field = trim(self.record.get(wanted.column_index).unwrap_or_default());
                self.push_field(field, column).map_err(|reason| DataError::at(line, &wanted.name, reason))?;
            }
            table.lines.push(line);
        }
        Ok(if table.lines.is_empty() && limit > 0 { None } else { Some(table) })
    }

    /// Appends a field to its column; the error says what was expected.
    pub(super) fn push_field(
        &self,
        field: &[u8],
        column: &mut TableColumn,
    ) -> std::result::Result<(), String> {
        let shown = |what: &str| {
            let text: String = String::from_utf8_lossy(field).chars().take(40).collect();
            format!("expected {what}, got \"{text}\"")
        };
        let Layout { decimal, missing_words, time_format, .. } = &*self.layout;
        let missing = || field::is_missing(field, missing_words);
        let mut gap = false;
        match &mut column.values {
            ColumnValues::Numbers(values) => values.push(match field::parse_number(field, *decimal) {
                // A number can be among the words for a missing value, as −9999 is in many files.
                Some(_) if !missing_words.is_empty() && missing() => {
                    gap = true;
                    f64::NAN
                }
                Some(x) if x.is_finite() => x,
                Some(x) if !x.is_nan() => return Err(shown("a finite number")),
                _ if missing() => {
                    gap = true;
                    f64::NAN
                }
                _ => return Err(shown("a number")),
            }),
            ColumnValues::Times(values) => {
                gap = missing();
                let text = std::str::from_utf8(field).map_err(|_| "expected UTF-8 text".to_owned())?;
                let time = if gap { Some(0) } else { field::parse_time(text, time_format) };
                values.push(time.ok_or_else(|| shown("a date or time"))?);
            }
            ColumnValues::Text(values) => {
                gap = missing();
                let text = std::str::from_utf8(field).map_err(|_| "expected UTF-8 text".to_owned())?;
                values.push(if gap { String::new() } else { text.to_owned() });
            }
        }
        column.missing.push(gap);
        Ok(())
    }

    /// Reads the next record into `self.record` and returns its line in the file; `None` at the end.
    pub(super) fn next_record(&mut self) -> Result<Option<u64>> {
        let (before, by_byte) = (self.lines_before, self.by_byte);
        let place_of = |p: &csv::Position| if by_byte { p.byte() } else { before + p.line() };
        match &mut self.source {
            RecordSource::Records(reader) => {
                let more = reader.read_byte_record(&mut self.record).map_err(|e| csv_error(e, place_of))?;
                let line = self.record.position().map_or(0, place_of);
                let (expected, got) = (self.layout.field_count, self.record.len());
                if more && got != expected {
                    return Err(unequal_fields(line, expected, got));
                }
                Ok(more.then_some(line))
            }
            RecordSource::Lines { input, line_number, line_bytes, blank_lines, has_begun } => loop {
                // Blank lines count as missing values only once a value follows: at the end of a file they mean
                // nothing.
                if *blank_lines > 0 && !line_bytes.is_empty() {
                    *blank_lines -= 1;
                    self.record.clear();
                    self.record.push_field(b"");
                    return Ok(Some(before + *line_number - 1 - *blank_lines));
                }
                if !line_bytes.is_empty() {
                    self.record.clear();
                    self.record.push_field(trim(line_bytes));
                    line_bytes.clear();
                    return Ok(Some(before + *line_number));
                }
                let read = input.take(MAX_LINE_BYTES).read_until(b'\n', line_bytes);
                let row = Some(before + *line_number + 1);
                if read.map_err(|e| DataError { row, ..DataError::new(e) })? == 0 {
                    return Ok(None);
                }
                *line_number += 1;
                if line_bytes.len() as u64 == MAX_LINE_BYTES {
                    return Err(DataError { row, ..DataError::new("expected lines of less than 1 MiB") });
                }
                if trim(line_bytes).is_empty() {
                    *blank_lines += u64::from(*has_begun);
                    line_bytes.clear();
                } else {
                    *has_begun = true;
                }
            },
        }
    }
}

/// Whether these first bytes of a file are enough to recognise its layout by.
pub(super) fn is_sample(first_bytes: &[u8]) -> bool {
    first_bytes.len() >= SAMPLE_BYTES || first_bytes.iter().filter(|b| **b == b'\n').count() >= SAMPLE_LINES
}

/// Reads the first bytes of a file, enough for a few lines, without a byte order mark. Gives them and whether they are
/// the whole file.
fn read_sample(input: &mut impl Read) -> Result<(Vec<u8>, bool)> {
    let mut sample = vec![0; SAMPLE_BYTES];
    let mut filled = 0;
    let mut is_whole_file = false;
    // A few lines are enough, so that a pipe which gives one now and then need not fill the whole sample.
    while !is_sample(&sample[..filled]) {
        match input.read(&mut sample[filled..]) {
            Ok(0) => {
                is_whole_file = true;
                break;
            }
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(DataError::at_byte(filled as u64, e)),
        }
    }
    sample.truncate(filled);
    drop_byte_order_marks(&mut sample);
    Ok((sample, is_whole_file))
}

/// The mark with which some programs begin a file in UTF-8.
pub(super) const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Drops the marks at the beginning of a file. The CSV reader would drop one itself, but only one.
pub(super) fn drop_byte_order_marks(bytes: &mut Vec<u8>) {
    while bytes.starts_with(&BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
}

/// The columns that the options ask for, by the first record and the appearance of the fields.
fn wanted_columns(
    first: &ByteRecord,
    options: &TableOptions,
    header: bool,
    appearances: &FieldAppearances,
) -> Result<Vec<WantedColumn>> {
    let text = |field: &[u8]| String::from_utf8_lossy(trim(field)).into_owned();
    let name = |column_index: usize| match header {
        true if !trim(&first[column_index]).is_empty() => text(&first[column_index]),
        _ => (column_index + 1).to_string(),
    };
    let mut chosen: Vec<(usize, ColumnKind)> = match &options.columns {
        None => (0..first.len()).map(|column_index| (column_index, ColumnKind::Auto)).collect(),
        Some(columns) => columns
            .iter()
            .map(|(column, kind)| Ok((index_of_column(first, column, options, &text)?, *kind)))
            .collect::<Result<Vec<_>>>()?,
    };
    for (column, kind) in &options.kinds {
        let wanted = index_of_column(first, column, options, &text)?;
        chosen.iter_mut().filter(|(index, _)| *index == wanted).for_each(|choice| choice.1 = *kind);
    }
    let kind = |column_index: usize, kind: ColumnKind| match (kind, appearances.column(column_index)) {
        (ColumnKind::Auto, Appearance::Time) => ColumnKind::Time,
        (ColumnKind::Auto, Appearance::Text | Appearance::BadNumber) => ColumnKind::Text,
        (ColumnKind::Auto, Appearance::Number | Appearance::Missing) => ColumnKind::Number,
        (asked_kind, _) => asked_kind,
    };
    let wanted_column = |(column_index, asked_kind)| WantedColumn {
        column_index,
        name: name(column_index),
        kind: kind(column_index, asked_kind),
    };
    Ok(chosen.into_iter().map(wanted_column).collect())
}

/// The number, from 0, of a column that the options ask for.
fn index_of_column(
    first: &ByteRecord,
    column: &Column,
    options: &TableOptions,
    text: &dyn Fn(&[u8]) -> String,
) -> Result<usize> {
    match column {
        Column::Last => Ok(first.len() - 1),
        &Column::Index(i) if i < first.len() => Ok(i),
        Column::Index(i) => {
            Err(DataError::of_column(i + 1, format!("expected one of {} columns", first.len())))
        }
        Column::Name(name) if options.header == Some(false) => {
            Err(DataError::of_column(name, "a column has a name only where there is a header"))
        }
        Column::Name(name) => first.iter().position(|f| text(f) == *name).ok_or_else(|| {
            let names: Vec<String> = first.iter().take(20).map(text).collect();
            DataError::of_column(name, format!("expected one of {}", names.join(", ")))
        }),
    }
}

#[cold]
pub(super) fn unequal_fields(place: u64, expected: usize, got: usize) -> DataError {
    DataError { row: Some(place), ..DataError::new(format!("expected {expected} fields, got {got}")) }
}

fn csv_error(error: csv::Error, place_of: impl Fn(&csv::Position) -> u64) -> DataError {
    let row = error.position().map(place_of);
    let reason = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "expected UTF-8 text".into(),
        _ => error.to_string(),
    };
    DataError { row, ..DataError::new(reason) }
}
