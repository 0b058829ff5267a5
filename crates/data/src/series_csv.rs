//! Columns of numbers from CSV.

use crate::{DataError, Result};
use std::{io::Read, path::Path};

/// Which column to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its name in the header.
    Name(String),
    /// By its place, from 0.
    Index(usize),
    /// The last one: the value where the first is a date, the only one where there is one.
    Last,
}

/// What a field without a value becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// An error that names the row.
    #[default]
    Error,
    /// The line between the values before and after. A series must begin and end with a value.
    Linear,
}

/// How to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Which column.
    pub column: Column,
    /// Whether the first line holds names; `None`: it does when its field of that column is not a number.
    pub header: Option<bool>,
    /// What an empty field (or `nan`, `NA`) becomes.
    pub gaps: Gaps,
    /// Separator, `,` as a rule.
    pub delimiter: u8,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { column: Column::Last, header: None, gaps: Gaps::Error, delimiter: b',' }
    }
}

/// One column of a file. Text where a number is expected, a missing column, ragged lines, a gap and an
/// unreadable file are errors that name the place.
pub fn read_csv(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Vec<f64>> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).map_err(|e| DataError::new(format!("{}: {e}", path.display())))?;
    parse_csv(file, options)
}

/// [`read_csv`] from any reader.
pub fn parse_csv(input: impl Read, options: &CsvOptions) -> Result<Vec<f64>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .delimiter(options.delimiter)
        .from_reader(input);
    let mut record = csv::StringRecord::new();
    if !reader.read_record(&mut record).map_err(csv_error)? {
        return Err(DataError::new("expected lines of numbers, got an empty file"));
    }
    let place = locate(&record, options)?;
    let header = match (options.header, &options.column) {
        (_, Column::Name(_)) | (Some(true), _) => true,
        (Some(false), _) => false,
        (None, _) => !is_gap(&record[place]) && record[place].parse::<f64>().is_err(),
    };
    let name = if header { record[place].to_owned() } else { (place + 1).to_string() };
    let mut series = Vec::new();
    // Rows of the file that hold no value: index in `series`, line.
    let mut gaps = Vec::new();
    let mut more = if header { reader.read_record(&mut record).map_err(csv_error)? } else { true };
    while more {
        let line = record.position().map_or(0, csv::Position::line);
        let field = &record[place];
        if is_gap(field) {
            if options.gaps == Gaps::Error {
                return Err(DataError::at(line, &name, "expected a number, got an empty field"));
            }
            gaps.push((series.len(), line));
            series.push(f64::NAN);
        } else {
            match field.parse::<f64>() {
                Ok(x) if x.is_finite() => series.push(x),
                Ok(x) => {
                    return Err(DataError::at(line, &name, format!("expected a finite number, got {x}")));
                }
                Err(_) => {
                    let shown: String = field.chars().take(40).collect();
                    return Err(DataError::at(line, &name, format!("expected a number, got \"{shown}\"")));
                }
            }
        }
        more = reader.read_record(&mut record).map_err(csv_error)?;
    }
    if series.is_empty() {
        return Err(DataError::new("expected at least one line of numbers, got a header alone"));
    }
    fill_linear(&mut series, &gaps, &name)?;
    Ok(series)
}

fn is_gap(field: &str) -> bool {
    field.is_empty() || field.eq_ignore_ascii_case("nan") || field == "NA"
}

fn locate(first: &csv::StringRecord, options: &CsvOptions) -> Result<usize> {
    match &options.column {
        Column::Last => Ok(first.len() - 1),
        &Column::Index(i) if i < first.len() => Ok(i),
        Column::Index(i) => Err(DataError {
            row: None,
            column: Some((i + 1).to_string()),
            reason: format!("expected one of {} columns", first.len()),
        }),
        Column::Name(name) if options.header == Some(false) => Err(DataError {
            row: None,
            column: Some(name.clone()),
            reason: "a column has a name only where there is a header".into(),
        }),
        Column::Name(name) => first.iter().position(|f| f == name).ok_or_else(|| DataError {
            row: None,
            column: Some(name.clone()),
            reason: format!("expected one of {}", first.iter().collect::<Vec<_>>().join(", ")),
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
    DataError { row, column: None, reason }
}

/// Values on the line between the neighbours of each run of gaps.
fn fill_linear(series: &mut [f64], gaps: &[(usize, u64)], name: &str) -> Result<()> {
    let mut next = 0;
    while next < gaps.len() {
        let (first, line) = gaps[next];
        let run = gaps[next..].iter().enumerate().take_while(|(k, gap)| gap.0 == first + k).count();
        let after = first + run;
        if first == 0 || after == series.len() {
            let reason = "a gap at an end of the series has no line to be filled from";
            return Err(DataError::at(line, name, reason));
        }
        let (a, b) = (series[first - 1], series[after]);
        for k in 0..run {
            series[first + k] = a + (b - a) * (k + 1) as f64 / (run + 1) as f64;
        }
        next += run;
    }
    Ok(())
}
