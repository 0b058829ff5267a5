//! Why a file was refused.

use std::fmt;

/// A refusal: where, what would have been right, what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The part of the file, or the tensor or option.
    pub at: String,
    /// What would have been accepted.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// Short for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal.
    pub fn new(at: impl fmt::Display, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Error { at: at.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.at, self.expected, self.got)
    }
}

impl std::error::Error for Error {}

/// At most this much of a file's own text goes into a message.
const SHOWN: usize = 80;

/// A name from a file, shortened and without control characters, in quotes.
pub(crate) fn quoted(name: &str) -> String {
    let mut out: String =
        name.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    format!("'{out}'")
}

/// The first few names.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let mut list: Vec<String> = names.take(MOST + 1).map(quoted).collect();
    if list.len() > MOST {
        list[MOST] = "…".into();
    }
    list.join(", ")
}
