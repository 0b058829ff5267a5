//! What can be wrong with data, and where.

use std::fmt;

/// Data that cannot be used. Callers give it the code `ERR_S4_DATA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataError {
    /// Line of the file, from 1, header included; or row of the series, from 1, where there is no file.
    pub row: Option<u64>,
    /// Name of the column, or its number from 1.
    pub column: Option<String>,
    /// What was expected and what was found.
    pub reason: String,
}

/// Result of everything here that can fail.
pub type Result<T> = std::result::Result<T, DataError>;

impl DataError {
    /// An error that is not of one place.
    #[cold]
    pub fn new(reason: impl fmt::Display) -> Self {
        DataError { row: None, column: None, reason: reason.to_string() }
    }

    /// An error of one field.
    #[cold]
    pub fn at(row: u64, column: impl fmt::Display, reason: impl fmt::Display) -> Self {
        DataError { row: Some(row), column: Some(column.to_string()), reason: reason.to_string() }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.row, &self.column) {
            (Some(row), Some(column)) => write!(f, "row {row}, column {column}: {}", self.reason),
            (Some(row), None) => write!(f, "row {row}: {}", self.reason),
            (None, Some(column)) => write!(f, "column {column}: {}", self.reason),
            (None, None) => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for DataError {}
