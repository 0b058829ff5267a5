//! A reader that counts bytes for error messages and takes no more memory than there are bytes in the file.

use crate::{DataError, Result};
use std::io::{ErrorKind, Read};

/// Bytes for which memory is reserved at a time, whatever size a header promises.
const PIECE_BYTES: usize = 1 << 20;

/// A reader that knows its offset in the file.
pub(super) struct ByteReader<R> {
    input: R,
    /// Bytes read so far.
    pub offset: u64,
}

impl<R: Read> ByteReader<R> {
    pub(super) fn new(input: R) -> Self {
        ByteReader { input, offset: 0 }
    }

    /// Reads until `buffer` is full or the input ends, and returns how many bytes were read.
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

    /// Reads the next N bytes; `what` names them in an error.
    pub(super) fn read_array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let filled = self.fill(&mut bytes)?;
        if filled < N { Err(self.ends_too_early(what, N as u64, filled as u64)) } else { Ok(bytes) }
    }

    /// Reads the next `count` bytes; `what` names them in an error.
    pub(super) fn read_vec(&mut self, what: &str, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            // Memory doubles with the bytes that were read, so that a false `count` costs at most twice the file's
            // size.
            let piece = (count - bytes.len() as u64).min(bytes.len().max(PIECE_BYTES) as u64) as usize;
            let begin = bytes.len();
            let memory = bytes.try_reserve_exact(piece);
            memory.map_err(|_| self.error(format!("no memory for {count} bytes of {what}")))?;
            bytes.resize(begin + piece, 0);
            let filled = self.fill(&mut bytes[begin..])?;
            if filled < piece {
                return Err(self.ends_too_early(what, count, (begin + filled) as u64));
            }
        }
        Ok(bytes)
    }

    /// Skips `count` bytes. That the file ends earlier is no error.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<()> {
        let mut discarded = [0; 4096];
        while count > 0 {
            let piece = count.min(discarded.len() as u64) as usize;
            if self.fill(&mut discarded[..piece])? < piece {
                break;
            }
            count -= piece as u64;
        }
        Ok(())
    }

    /// An error at the present offset.
    #[cold]
    pub(super) fn error(&self, reason: impl std::fmt::Display) -> DataError {
        DataError::at_byte(self.offset, reason)
    }

    #[cold]
    fn ends_too_early(&self, what: &str, wanted: u64, got: u64) -> DataError {
        self.error(format!("expected {wanted} bytes of {what}, the file ends after {got}"))
    }
}

/// Opens a file for reading; errors name it.
pub(super) fn open_file(path: &std::path::Path) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(|e| DataError::new(e).in_file(path))
}
