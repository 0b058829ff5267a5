//! What a table's first lines say about how it is written.

use super::field::{Decimal, Look, TimeForm, look, trim};
use crate::{DataError, Result};
use csv::ByteRecord;

/// Separators, the ones that numbers do not contain first.
const DELIMITERS: [u8; 4] = [b'\t', b';', b'|', b','];
const LINES: usize = 100;

/// The separator that every line has equally often, else the one most frequent in the first line; `None` where
/// no line has any.
pub(super) fn delimiter(sample: &[u8]) -> Option<u8> {
    let lines: Vec<&[u8]> =
        sample.split(|b| *b == b'\n').filter(|l| !trim(l).is_empty()).take(LINES).collect();
    // The sample may end within a line.
    let whole = &lines[..if lines.len() > 1 { lines.len() - 1 } else { lines.len() }];
    let count = |line: &[u8], delimiter: u8| {
        let mut quoted = false;
        let counts = |b: &u8| {
            quoted ^= *b == b'"';
            *b == delimiter && !quoted
        };
        line.iter().copied().filter(counts).count()
    };
    let first = *whole.first()?;
    let even = |d: &u8| {
        let n = count(first, *d);
        n > 0 && whole.iter().all(|line| count(line, *d) == n)
    };
    DELIMITERS.into_iter().find(even).or_else(|| {
        let most = DELIMITERS.into_iter().max_by_key(|d| count(first, *d))?;
        (count(first, most) > 0).then_some(most)
    })
}

/// The first records of a sample; the last is left out where the sample ends before the file.
pub(super) fn records(sample: &[u8], delimiter: u8, whole: bool) -> Vec<ByteRecord> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(sample);
    let mut records: Vec<ByteRecord> = reader.byte_records().map_while(|r| r.ok()).take(LINES).collect();
    if !whole && records.len() > 1 && records.len() < LINES {
        records.pop();
    }
    records
}

/// A comma where fields are numbers with a comma and none has a point.
pub(super) fn decimal(records: &[ByteRecord], delimiter: u8) -> Decimal {
    let with = |sign: u8| {
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
    if delimiter != b',' && with(b',') > 0 && with(b'.') == 0 { Decimal::Comma } else { Decimal::Point }
}

/// What the fields of each column look like, line by line.
pub(super) struct Looks {
    rows: Vec<Vec<Look>>,
}

impl Looks {
    pub(super) fn new(records: &[ByteRecord], decimal: Decimal, words: &[String], form: &TimeForm) -> Self {
        let row = |r: &ByteRecord| r.iter().map(|f| look(trim(f), decimal, words, form)).collect();
        Looks { rows: records.iter().map(row).collect() }
    }

    /// What most values of a column look like after the first line, or in it where it is alone; `Missing` where there are none.
    pub(super) fn column(&self, column: usize) -> Look {
        let skip = usize::from(self.rows.len() > 1);
        let values: Vec<Look> = self
            .rows
            .iter()
            .skip(skip)
            .filter_map(|row| row.get(column).copied())
            .filter(|look| *look != Look::Missing)
            .collect();
        let share = |wanted: Look| values.iter().filter(|l| **l == wanted).count() * 2 > values.len();
        match values.is_empty() {
            true => Look::Missing,
            false if share(Look::Number) => Look::Number,
            false if share(Look::Time) => Look::Time,
            false => Look::Text,
        }
    }

    /// Whether the first line holds names. A line that has both names above numbers and numbers of its own is
    /// refused: it may be either.
    pub(super) fn header(&self) -> Result<bool> {
        let Some(first) = self.rows.first() else { return Ok(false) };
        let has = |look: Look| first.contains(&look);
        if self.rows.len() == 1 {
            return Ok(has(Look::Text) && !has(Look::Number) && !has(Look::Time) && !has(Look::BadNumber));
        }
        let names_above = |look: Look| {
            let above = |(c, l): (usize, &Look)| {
                *l == look && matches!(self.column(c), Look::Number | Look::Time | Look::Missing)
            };
            first.iter().enumerate().any(above)
        };
        let (names, numbers) = (names_above(Look::Text), has(Look::Number) || has(Look::Time));
        if names && numbers {
            return Err(DataError {
                row: Some(1),
                ..DataError::new(
                    "expected names or values, got some of both: say whether the first line is a header",
                )
            });
        }
        let all_text = first.iter().all(|l| matches!(l, Look::Text | Look::Missing)) && has(Look::Text);
        Ok(names || all_text)
    }
}
