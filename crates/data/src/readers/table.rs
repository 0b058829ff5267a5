//! Tables as text: columns of numbers, moments and words, with what is missing as masks.

use super::field::{self, Decimal, Look, TimeForm, trim};
use super::sniff::{self, Looks};
use crate::{DataError, Result};
use csv::ByteRecord;
use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

/// Which column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its name in the header.
    Name(String),
    /// By its place, from 0.
    Index(usize),
    /// The last one: the value where the first is a date, the only one where there is one.
    Last,
}

/// What the fields of a column are read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What most of the first lines look like.
    #[default]
    Auto,
    /// Numbers; anything else is an error.
    Number,
    /// Moments; anything else is an error.
    Time,
    /// Words.
    Text,
}

/// How a table is written, and what of it is wanted. `None` is found out from the first lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOptions {
    /// Columns in the wanted order; `None`: all.
    pub columns: Option<Vec<(Column, Kind)>>,
    /// Whether the first line holds names.
    pub header: Option<bool>,
    /// Separator.
    pub delimiter: Option<u8>,
    /// Decimal sign.
    pub decimal: Option<Decimal>,
    /// Words that stand for no value, beside an empty field, `NaN`, `NA`, `N/A`, `null` and `None`.
    pub missing: Vec<String>,
    /// IANA name of the zone of moments without an offset; `None`: UTC.
    pub zone: Option<String>,
    /// How moments are written, in the letters of strptime.
    pub time_format: Option<String>,
}

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
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
    /// From the header, or the place from 1.
    pub name: String,
    /// One value for each row.
    pub values: Values,
    /// For each row, whether the value is missing.
    pub missing: Vec<bool>,
}

/// Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// As asked for.
    pub columns: Vec<TableColumn>,
    /// Line of each row in the file, from 1, for whoever has something to say about it.
    pub lines: Vec<u64>,
}

impl Table {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Reads a whole file.
pub fn read_table(path: impl AsRef<Path>, options: &TableOptions) -> Result<Table> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let file = File::open(path).map_err(|e| in_file(DataError::new(e)))?;
    parse_table(file, options).map_err(in_file)
}

/// Reads all that `input` gives.
pub fn parse_table(input: impl Read, options: &TableOptions) -> Result<Table> {
    let mut reader = TableReader::new(input, options)?;
    Ok(reader.next_rows(usize::MAX)?.unwrap_or_else(|| reader.empty()))
}

/// Where records come from.
enum Source<R: Read> {
    Records(csv::Reader<Chain<Cursor<Vec<u8>>, R>>),
    /// One column without quotes: an empty line is a missing value there, and not, as elsewhere, nothing.
    Lines {
        input: BufReader<Chain<Cursor<Vec<u8>>, R>>,
        line: u64,
        text: Vec<u8>,
        blank: u64,
        begun: bool,
    },
}

/// A wanted column: its place in the file, and what it is read as.
struct Wanted {
    place: usize,
    name: String,
    kind: Kind,
}

/// Reads a table piece by piece.
pub struct TableReader<R: Read> {
    source: Source<R>,
    wanted: Vec<Wanted>,
    record: ByteRecord,
    decimal: Decimal,
    words: Vec<String>,
    form: TimeForm,
}

const SAMPLE: usize = 1 << 16;
const LONGEST_LINE: u64 = 1 << 20;

impl<R: Read> TableReader<R> {
    /// Reads the first lines and finds out what the options leave open.
    pub fn new(mut input: R, options: &TableOptions) -> Result<Self> {
        let (sample, whole) = sample(&mut input)?;
        if sample.starts_with(&[0xFF, 0xFE]) || sample.starts_with(&[0xFE, 0xFF]) {
            return Err(DataError::at_byte(0, "expected UTF-8 text, got UTF-16"));
        }
        let found = options.delimiter.or_else(|| sniff::delimiter(&sample));
        let delimiter = found.unwrap_or(b',');
        let records = sniff::records(&sample, delimiter, whole);
        let Some(first) = records.first() else {
            return Err(DataError::new("expected lines of numbers, got an empty file"));
        };
        let decimal = options.decimal.unwrap_or_else(|| sniff::decimal(&records, delimiter));
        let zone = crate::calendar::time_zone(options.zone.as_deref())?;
        let form = TimeForm { format: options.time_format.clone(), zone };
        let looks = Looks::new(&records, decimal, &options.missing, &form);
        let named = |c: &(Column, Kind)| matches!(c.0, Column::Name(_));
        let by_name = options.columns.as_ref().is_some_and(|c| c.iter().any(named));
        let header = match options.header {
            Some(header) => header,
            None if by_name => true,
            None => looks.header()?,
        };
        let wanted = wanted(first, options, header, &looks)?;
        let single = first.len() == 1 && records.iter().all(|r| r.len() == 1) && !sample.contains(&b'"');
        let input = Cursor::new(sample).chain(input);
        let source = if single {
            let input = BufReader::with_capacity(SAMPLE, input);
            Source::Lines { input, line: 0, text: Vec::new(), blank: 0, begun: false }
        } else {
            let mut builder = csv::ReaderBuilder::new();
            let builder = builder.has_headers(false).delimiter(delimiter).buffer_capacity(SAMPLE);
            Source::Records(builder.from_reader(input))
        };
        let words = options.missing.clone();
        let mut reader = TableReader { source, wanted, record: ByteRecord::new(), decimal, words, form };
        if header {
            reader.next_record()?;
        }
        Ok(reader)
    }

    /// Names of the columns that [`TableReader::next_rows`] gives.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(|w| w.name.as_str())
    }

    /// No rows of the wanted columns.
    fn empty(&self) -> Table {
        let column = |w: &Wanted| TableColumn {
            name: w.name.clone(),
            values: match w.kind {
                Kind::Time => Values::Times(Vec::new()),
                Kind::Text => Values::Text(Vec::new()),
                Kind::Number | Kind::Auto => Values::Numbers(Vec::new()),
            },
            missing: Vec::new(),
        };
        Table { columns: self.wanted.iter().map(column).collect(), lines: Vec::new() }
    }

    /// The next rows, at most `limit`; `None` at the end.
    pub fn next_rows(&mut self, limit: usize) -> Result<Option<Table>> {
        let mut table = self.empty();
        while table.lines.len() < limit {
            let Some(line) = self.next_record()? else { break };
            for (wanted, column) in self.wanted.iter().zip(&mut table.columns) {
                // The header's length holds for every record.
                let field = trim(self.record.get(wanted.place).unwrap_or_default());
                self.push(field, column).map_err(|reason| DataError::at(line, &wanted.name, reason))?;
            }
            table.lines.push(line);
        }
        Ok(if table.lines.is_empty() && limit > 0 { None } else { Some(table) })
    }

    fn push(&self, field: &[u8], column: &mut TableColumn) -> std::result::Result<(), String> {
        let shown = |what: &str| {
            let text: String = String::from_utf8_lossy(field).chars().take(40).collect();
            format!("expected {what}, got \"{text}\"")
        };
        let missing = || field::is_missing(field, &self.words);
        let mut gap = false;
        match &mut column.values {
            Values::Numbers(values) => values.push(match field::number(field, self.decimal) {
                // A number may stand for no value, as −9999 does in many files.
                Some(_) if !self.words.is_empty() && missing() => {
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
            Values::Times(values) => {
                gap = missing();
                let text = std::str::from_utf8(field).map_err(|_| "expected UTF-8 text".to_owned())?;
                let time = if gap { Some(0) } else { field::time(text, &self.form) };
                values.push(time.ok_or_else(|| shown("a date or time"))?);
            }
            Values::Text(values) => {
                gap = missing();
                let text = std::str::from_utf8(field).map_err(|_| "expected UTF-8 text".to_owned())?;
                values.push(if gap { String::new() } else { text.to_owned() });
            }
        }
        column.missing.push(gap);
        Ok(())
    }

    /// Reads a record and returns its line.
    fn next_record(&mut self) -> Result<Option<u64>> {
        match &mut self.source {
            Source::Records(reader) => {
                let more = reader.read_byte_record(&mut self.record).map_err(csv_error)?;
                Ok(more.then(|| self.record.position().map_or(0, csv::Position::line)))
            }
            Source::Lines { input, line, text, blank, begun } => loop {
                // Blank lines wait until a value follows: those that end a file are no values.
                if *blank > 0 && !text.is_empty() {
                    *blank -= 1;
                    self.record.clear();
                    self.record.push_field(b"");
                    return Ok(Some(*line - 1 - *blank));
                }
                if !text.is_empty() {
                    self.record.clear();
                    self.record.push_field(trim(text));
                    text.clear();
                    return Ok(Some(*line));
                }
                let read = input.take(LONGEST_LINE).read_until(b'\n', text);
                let row = Some(*line + 1);
                if read.map_err(|e| DataError { row, ..DataError::new(e) })? == 0 {
                    return Ok(None);
                }
                *line += 1;
                if text.len() as u64 == LONGEST_LINE {
                    return Err(DataError { row, ..DataError::new("expected lines of less than 1 MiB") });
                }
                if trim(text).is_empty() {
                    *blank += u64::from(*begun);
                    text.clear();
                } else {
                    *begun = true;
                }
            },
        }
    }
}

/// The first bytes, as far as the lines in them suffice, and whether that is all; without a byte order mark.
fn sample(input: &mut impl Read) -> Result<(Vec<u8>, bool)> {
    let mut sample = vec![0; SAMPLE];
    let mut filled = 0;
    let mut whole = false;
    // A pipe that gives a line at a time is not kept waiting for 64 KiB.
    while filled < SAMPLE && sample[..filled].iter().filter(|b| **b == b'\n').count() < 8 {
        match input.read(&mut sample[filled..]) {
            Ok(0) => {
                whole = true;
                break;
            }
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(DataError::at_byte(filled as u64, e)),
        }
    }
    sample.truncate(filled);
    if sample.starts_with(&[0xEF, 0xBB, 0xBF]) {
        sample.drain(..3);
    }
    Ok((sample, whole))
}

fn wanted(first: &ByteRecord, options: &TableOptions, header: bool, looks: &Looks) -> Result<Vec<Wanted>> {
    let text = |field: &[u8]| String::from_utf8_lossy(trim(field)).into_owned();
    let name = |place: usize| match header {
        true if !trim(&first[place]).is_empty() => text(&first[place]),
        _ => (place + 1).to_string(),
    };
    let chosen = match &options.columns {
        None => (0..first.len()).map(|place| (place, Kind::Auto)).collect(),
        Some(columns) => columns
            .iter()
            .map(|(column, kind)| Ok((locate(first, column, options, &text)?, *kind)))
            .collect::<Result<Vec<_>>>()?,
    };
    let kind = |place: usize, kind: Kind| match (kind, looks.column(place)) {
        (Kind::Auto, Look::Time) => Kind::Time,
        (Kind::Auto, Look::Text | Look::BadNumber) => Kind::Text,
        (Kind::Auto, Look::Number | Look::Missing) => Kind::Number,
        (told, _) => told,
    };
    let wanted = |(place, told)| Wanted { place, name: name(place), kind: kind(place, told) };
    Ok(chosen.into_iter().map(wanted).collect())
}

fn locate(
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

fn csv_error(error: csv::Error) -> DataError {
    let row = error.position().map(csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("expected {expected_len} fields, got {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "expected UTF-8 text".into(),
        _ => error.to_string(),
    };
    DataError { row, ..DataError::new(reason) }
}
