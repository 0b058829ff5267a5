//! Recognises from the first lines of a text table how it is written: separator, decimal sign, header, kinds of
//! columns.

use super::field::{Appearance, Decimal, TimeFormat, field_appearance, trim};
use crate::{DataError, Result};
use csv::ByteRecord;

/// The separators that are recognised; those that no number contains come first.
const DELIMITERS: [u8; 4] = [b'\t', b';', b'|', b','];
/// Number of lines that are looked at.
const MAX_LINES: usize = 100;

/// The separator that occurs equally often in every line, or else the most frequent one of the first line; `None` where
/// no line has any.
pub(super) fn find_delimiter(sample: &[u8]) -> Option<u8> {
    let lines: Vec<&[u8]> =
        sample.split(|b| *b == b'\n').filter(|l| !trim(l).is_empty()).take(MAX_LINES).collect();
    // The last line may be incomplete, since the sample may end within it.
    let whole_lines = &lines[..if lines.len() > 1 { lines.len() - 1 } else { lines.len() }];
    let count = |line: &[u8], delimiter: u8| {
        let mut quoted = false;
        let is_unquoted_delimiter = |b: &u8| {
            quoted ^= *b == b'"';
            *b == delimiter && !quoted
        };
        line.iter().copied().filter(is_unquoted_delimiter).count()
    };
    let first = *whole_lines.first()?;
    let is_even_in_every_line = |d: &u8| {
        let n = count(first, *d);
        n > 0 && whole_lines.iter().all(|line| count(line, *d) == n)
    };
    DELIMITERS.into_iter().find(is_even_in_every_line).or_else(|| {
        let most = DELIMITERS.into_iter().max_by_key(|d| count(first, *d))?;
        (count(first, most) > 0).then_some(most)
    })
}

/// The first records of a sample. Where the sample is not the whole file, its last record is left out, since it may be
/// incomplete.
pub(super) fn first_records(sample: &[u8], delimiter: u8, is_whole_file: bool) -> Vec<ByteRecord> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(sample);
    let mut records: Vec<ByteRecord> = reader.byte_records().map_while(|r| r.ok()).take(MAX_LINES).collect();
    if !is_whole_file && records.len() > 1 && records.len() < MAX_LINES {
        records.pop();
    }
    records
}

/// The decimal sign: a comma where some fields are numbers with a comma and none is a number with a point.
pub(super) fn find_decimal_sign(records: &[ByteRecord], delimiter: u8) -> Decimal {
    let count_numbers_with = |sign: u8| {
        let number = |field: &&[u8]| {
            let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let field = trim(field);
            let field = field.strip_prefix(b"-").unwrap_or(field);
            field
                .iter()
                .position(|b| *b == sign)
                .is_some_and(|at| digits(&field[..at]) && digits(&field[at + 1..]))
        };
        records.iter().flat_map(|r| r.iter()).filter(number).count()
    };
    if delimiter != b',' && count_numbers_with(b',') > 0 && count_numbers_with(b'.') == 0 {
        Decimal::Comma
    } else {
        Decimal::Point
    }
}

/// The appearance (number, time, text, …) of every field of the first lines.
pub(super) struct FieldAppearances {
    rows: Vec<Vec<Appearance>>,
}

impl FieldAppearances {
    pub(super) fn new(
        records: &[ByteRecord],
        decimal: Decimal,
        missing_words: &[String],
        time_format: &TimeFormat,
    ) -> Self {
        let row = |r: &ByteRecord| {
            r.iter().map(|f| field_appearance(trim(f), decimal, missing_words, time_format)).collect()
        };
        FieldAppearances { rows: records.iter().map(row).collect() }
    }

    /// The appearance of most values of a column, `Missing` where it has none. The first line, which may be a header,
    /// does not count unless it is the only one.
    pub(super) fn column(&self, column: usize) -> Appearance {
        let skip = usize::from(self.rows.len() > 1);
        let values: Vec<Appearance> = self
            .rows
            .iter()
            .skip(skip)
            .filter_map(|row| row.get(column).copied())
            .filter(|field_appearance| *field_appearance != Appearance::Missing)
            .collect();
        let is_majority =
            |wanted: Appearance| values.iter().filter(|l| **l == wanted).count() * 2 > values.len();
        match values.is_empty() {
            true => Appearance::Missing,
            false if is_majority(Appearance::Number) => Appearance::Number,
            false if is_majority(Appearance::Time) => Appearance::Time,
            false => Appearance::Text,
        }
    }

    /// Whether the first line is a header. A line with text above columns of numbers but also with numbers of its own
    /// is refused, since it may be a header or not.
    pub(super) fn has_header(&self) -> Result<bool> {
        let Some(first) = self.rows.first() else { return Ok(false) };
        let has = |field_appearance: Appearance| first.contains(&field_appearance);
        if self.rows.len() == 1 {
            return Ok(has(Appearance::Text)
                && !has(Appearance::Number)
                && !has(Appearance::Time)
                && !has(Appearance::BadNumber));
        }
        let names_above = |field_appearance: Appearance| {
            let above = |(c, l): (usize, &Appearance)| {
                *l == field_appearance
                    && matches!(self.column(c), Appearance::Number | Appearance::Time | Appearance::Missing)
            };
            first.iter().enumerate().any(above)
        };
        let (names, numbers) =
            (names_above(Appearance::Text), has(Appearance::Number) || has(Appearance::Time));
        if names && numbers {
            return Err(DataError {
                row: Some(1),
                ..DataError::new(
                    "expected names or values, got some of both: say whether the first line is a header",
                )
            });
        }
        let all_text = first.iter().all(|l| matches!(l, Appearance::Text | Appearance::Missing))
            && has(Appearance::Text);
        Ok(names || all_text)
    }
}
