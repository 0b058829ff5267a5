//! One column of numbers.

use super::{Column, Decimal, Kind, Table, TableOptions, Values, parse_table};
use crate::{DataError, Result};
use std::{io::Read, path::Path};

/// What a field without a value becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// An error that names the row.
    #[default]
    Error,
    /// The line between the values before and after. A series must begin and end with a value.
    Linear,
}

/// How to read a file. `None` is found out from its first lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Which column.
    pub column: Column,
    /// Whether the first line holds names.
    pub header: Option<bool>,
    /// What a missing value becomes.
    pub gaps: Gaps,
    /// Separator.
    pub delimiter: Option<u8>,
    /// Decimal sign.
    pub decimal: Option<Decimal>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { column: Column::Last, header: None, gaps: Gaps::Error, delimiter: None, decimal: None }
    }
}

/// One column of a file. Text where a number is expected, a missing column, ragged lines, a gap and an
/// unreadable file are errors that name the place.
pub fn read_csv(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Vec<f64>> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let file = std::fs::File::open(path).map_err(|e| in_file(DataError::new(e)))?;
    parse_csv(file, options).map_err(in_file)
}

/// [`read_csv`] from any reader.
pub fn parse_csv(input: impl Read, options: &CsvOptions) -> Result<Vec<f64>> {
    let table = TableOptions {
        columns: Some(vec![(options.column.clone(), Kind::Number)]),
        header: options.header,
        delimiter: options.delimiter,
        decimal: options.decimal,
        ..Default::default()
    };
    let Table { mut columns, lines } = parse_table(input, &table)?;
    let column = columns.remove(0);
    let Values::Numbers(mut series) = column.values else {
        unreachable!("the column was asked for as numbers")
    };
    if series.is_empty() {
        return Err(DataError::new("expected at least one line of numbers, got a header alone"));
    }
    match options.gaps {
        Gaps::Error => match column.missing.iter().position(|m| *m) {
            Some(gap) => {
                Err(DataError::at(lines[gap], &column.name, "expected a number, got an empty field"))
            }
            None => Ok(series),
        },
        Gaps::Linear => {
            let filled = fill_linear(&mut series, &column.missing);
            let reason = "a gap at an end of the series has no line to be filled from";
            filled.map_err(|gap| DataError::at(lines[gap], &column.name, reason))?;
            Ok(series)
        }
    }
}

/// Values on the line between the neighbours of each run of gaps; the first gap of a run that has no neighbour
/// on one side is the error.
fn fill_linear(series: &mut [f64], missing: &[bool]) -> std::result::Result<(), usize> {
    let mut first = 0;
    while first < series.len() {
        if !missing[first] {
            first += 1;
            continue;
        }
        let run = missing[first..].iter().take_while(|m| **m).count();
        let after = first + run;
        if first == 0 || after == series.len() {
            return Err(first);
        }
        let (a, b) = (series[first - 1], series[after]);
        for k in 0..run {
            series[first + k] = a + (b - a) * (k + 1) as f64 / (run + 1) as f64;
        }
        first = after;
    }
    Ok(())
}
