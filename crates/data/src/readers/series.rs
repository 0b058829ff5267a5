//! Reads one column of a text table as a series of numbers.

use super::{Column, ColumnKind, ColumnValues, Decimal, Table, TableOptions, parse_table};
use crate::{DataError, Result};
use std::{io::Read, path::Path};

/// What is done about a field without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// Reading fails with an error that names the row.
    #[default]
    Error,
    /// The value is interpolated linearly between the values before and after, which must exist.
    Linear,
}

/// How to read a column of a file. An option that is `None` is recognised from the file's first lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// The column that is read.
    pub column: Column,
    /// Whether the first line holds the names of columns.
    pub header: Option<bool>,
    /// What is done about fields without a value.
    pub gaps: Gaps,
    /// The byte that separates fields.
    pub delimiter: Option<u8>,
    /// The sign before the fraction of a number.
    pub decimal: Option<Decimal>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { column: Column::Last, header: None, gaps: Gaps::Error, delimiter: None, decimal: None }
    }
}

/// Reads one column of a file. Text instead of a number, a missing column, lines of different lengths, a missing value
/// and an unreadable file are errors that name the place.
pub fn read_csv(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Vec<f64>> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let file = std::fs::File::open(path).map_err(|e| in_file(DataError::new(e)))?;
    parse_csv(file, options).map_err(in_file)
}

/// As [`read_csv`], but from any reader.
pub fn parse_csv(input: impl Read, options: &CsvOptions) -> Result<Vec<f64>> {
    let table = TableOptions {
        columns: Some(vec![(options.column.clone(), ColumnKind::Number)]),
        header: options.header,
        delimiter: options.delimiter,
        decimal: options.decimal,
        ..Default::default()
    };
    let Table { mut columns, lines } = parse_table(input, &table)?;
    let column = columns.remove(0);
    let ColumnValues::Numbers(mut series) = column.values else {
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

/// Replaces each run of missing values by linear interpolation between the values around it. The error is the index of
/// the first value of a run at an end of the series.
fn fill_linear(series: &mut [f64], missing: &[bool]) -> std::result::Result<(), usize> {
    let mut index = 0;
    while index < series.len() {
        if !missing[index] {
            index += 1;
            continue;
        }
        let run_length = missing[index..].iter().take_while(|m| **m).count();
        let after = index + run_length;
        if index == 0 || after == series.len() {
            return Err(index);
        }
        let (a, b) = (series[index - 1], series[after]);
        for k in 0..run_length {
            let (steps, gaps) = ((k + 1) as f64, (run_length + 1) as f64);
            let value = a + (b - a) * steps / gaps;
            // Between numbers near the largest of f64 the product overflows where the value does not.
            series[index + k] =
                if value.is_finite() { value } else { a * (1.0 - steps / gaps) + b * (steps / gaps) };
        }
        index = after;
    }
    Ok(())
}
