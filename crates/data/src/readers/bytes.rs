//! Reading with a count of bytes, and never more memory than the bytes that come.

use crate::{DataError, Result};
use std::io::{ErrorKind, Read};

/// How much is reserved at once, whatever a header promises.
const PIECE: usize = 1 << 20;

/// A reader that knows where it is.
pub(super) struct Bytes<R> {
    input: R,
    /// Bytes read so far.
    pub offset: u64,
}

impl<R: Read> Bytes<R> {
    pub(super) fn new(input: R) -> Self {
        Bytes { input, offset: 0 }
    }

    /// Fills as much of `buffer` as there is and returns how much that was.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(DataError::at_byte(self.offset, e)),
            }
        }
        Ok(filled)
    }

    /// The next N bytes, which are `what`.
    pub(super) fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let filled = self.fill(&mut bytes)?;
        if filled < N { Err(self.short(what, N as u64, filled as u64)) } else { Ok(bytes) }
    }

    /// The next `count` bytes, which are `what`.
    pub(super) fn take_vec(&mut self, what: &str, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            // Doubles with what has come: a false count costs no more than twice the file.
            let piece = (count - bytes.len() as u64).min(bytes.len().max(PIECE) as u64) as usize;
            let begin = bytes.len();
            let memory = bytes.try_reserve_exact(piece);
            memory.map_err(|_| self.error(format!("no memory for {count} bytes of {what}")))?;
            bytes.resize(begin + piece, 0);
            let filled = self.fill(&mut bytes[begin..])?;
            if filled < piece {
                return Err(self.short(what, count, (begin + filled) as u64));
            }
        }
        Ok(bytes)
    }

    /// Passes over `count` bytes; what is missing at the end of the file is no error.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<()> {
        let mut sink = [0; 4096];
        while count > 0 {
            let piece = count.min(sink.len() as u64) as usize;
            if self.fill(&mut sink[..piece])? < piece {
                break;
            }
            count -= piece as u64;
        }
        Ok(())
    }

    /// An error at this place.
    #[cold]
    pub(super) fn error(&self, reason: impl std::fmt::Display) -> DataError {
        DataError::at_byte(self.offset, reason)
    }

    #[cold]
    fn short(&self, what: &str, wanted: u64, got: u64) -> DataError {
        self.error(format!("expected {wanted} bytes of {what}, the file ends after {got}"))
    }
}

/// Opens a file for reading; errors name it.
pub(super) fn open(path: &std::path::Path) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(|e| DataError::new(e).in_file(path))
}
