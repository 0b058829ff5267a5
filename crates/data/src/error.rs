//! The error of unusable data, with the place in the file.

use std::{fmt, path::Path};

/// Data that cannot be used. Callers give it the code `ERR_S4_DATA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataError {
    /// The file, where the data came from one.
    pub path: Option<String>,
    /// Line of the file, from 1, header included; or row of the series, from 1, where there is no file.
    pub row: Option<u64>,
    /// Name of the column, or its number from 1.
    pub column: Option<String>,
    /// Byte of the file, from 0, in formats without lines.
    pub offset: Option<u64>,
    /// What was expected and what was found.
    pub reason: String,
}

/// Result of everything here that can fail.
pub type Result<T> = std::result::Result<T, DataError>;

impl DataError {
    /// An error that concerns the data as a whole.
    #[cold]
    pub fn new(reason: impl fmt::Display) -> Self {
        DataError { reason: reason.to_string(), ..Default::default() }
    }

    /// An error of the field in this row and column.
    #[cold]
    pub fn at(row: u64, column: impl fmt::Display, reason: impl fmt::Display) -> Self {
        DataError { row: Some(row), column: Some(column.to_string()), ..DataError::new(reason) }
    }

    /// An error of a column as a whole.
    #[cold]
    pub fn of_column(column: impl fmt::Display, reason: impl fmt::Display) -> Self {
        DataError { column: Some(column.to_string()), ..DataError::new(reason) }
    }

    /// An error at the byte `offset` of the file.
    #[cold]
    pub fn at_byte(offset: u64, reason: impl fmt::Display) -> Self {
        DataError { offset: Some(offset), ..DataError::new(reason) }
    }

    /// The same error with `path` as its file, unless it already names one.
    #[cold]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.display().to_string());
        self
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        match (self.row, &self.column) {
            (Some(row), Some(column)) => write!(f, "row {row}, column {column}: ")?,
            (Some(row), None) => write!(f, "row {row}: ")?,
            (None, Some(column)) => write!(f, "column {column}: ")?,
            (None, None) => {}
        }
        if let Some(offset) = self.offset {
            write!(f, "byte {offset}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DataError {}
