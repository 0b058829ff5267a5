//! What is fuzzed: a reader, its files, and what it may use.

use crate::containers::Container;
use std::path::Path;

/// What became of a file: `Ok(true)` where it was read, `Ok(false)` where it was refused as it should be, `Err` with the
/// fault of the reader where the value or the refusal is wrong.
pub type Outcome = Result<bool, String>;

/// A reader of foreign bytes, and the files that its cases are made of.
pub struct Reader {
    /// Its name, which is also that of its folder of findings.
    pub name: &'static str,
    /// Whole files that it reads.
    pub corpus: Vec<Vec<u8>>,
    /// How files of this format hold parts, so that a part can be changed without breaking what is around it.
    pub container: Container,
    /// Words of the format.
    pub words: &'static [&'static str],
    /// Bytes of memory that it may use for a file of this many bytes: (at least, for each byte).
    pub memory: (usize, usize),
    /// Reads a file and judges the outcome.
    pub read: Box<dyn Fn(&[u8]) -> Outcome>,
}

impl Reader {
    /// Most bytes of memory for a file of `len` bytes.
    pub fn most_memory(&self, len: usize) -> usize {
        self.memory.0 + self.memory.1 * len
    }
}

/// A file of the tests, by its path in the project.
pub(crate) fn test_file(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Bytes in a million, of the sizes that readers are allowed.
pub(crate) const MIB: usize = 1 << 20;
