//! The error of a file that is refused.

use std::fmt;

/// The reason for which a file is refused: the place, what was expected there, what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The part of the file, the tensor or the option that is wrong.
    pub at: String,
    /// What would have been accepted.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error at this place of the file.
    pub fn new(at: impl fmt::Display, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Error { at: at.to_string(), expected: expected.to_string(), got: shortened(got.to_string()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.at, self.expected, self.got)
    }
}

impl std::error::Error for Error {}

/// Most characters that a message shows of what was found, which may hold names from the file.
const MAX_SHOWN: usize = 1000;

/// The text, cut where it is too long for a message. (The backend's errors have the same; this crate stands without it.)
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Characters of a name from a file that an error message shows.
const MAX_NAME_SHOWN: usize = 80;

/// A name from a file, shortened and without control characters, in quotes.
pub(crate) fn quoted(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_NAME_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(MAX_NAME_SHOWN).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

/// The first few names, quoted and separated by commas.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MAX_NAMES: usize = 5;
    let mut list: Vec<String> = names.take(MAX_NAMES + 1).map(quoted).collect();
    if list.len() > MAX_NAMES {
        list[MAX_NAMES] = "…".into();
    }
    list.join(", ")
}
