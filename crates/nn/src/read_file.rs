//! Reads whole files, whose size is looked at against this process's memory before.

use s4_backend::{Code, Error, Result, host_memory};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Bytes that are asked for at once of a pipe or device, whose size is not known.
const PIECE: usize = 1 << 20;

/// All bytes of a file. `ERR_S4_CHECKPOINT` where it cannot be read, `ERR_S4_MEMORY` where it is larger than the memory that there
/// is.
pub fn read_whole(op: &'static str, path: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |e: io::Error| Error::new(Code::Checkpoint, op, format!("a readable file {}", path.display()), e);
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let len = if metadata.is_file() { metadata.len() } else { 0 };
    host_memory::check(op, "the file", len.into())?;
    let mut bytes: Vec<u8> = host_memory::reserved(op, "the file", len as usize, len as usize)?;
    loop {
        // A file that ends where it said needs no more room than its size: the first of these reads its end.
        let mut piece = [0; 32];
        file.by_ref()
            .take(bytes.capacity().saturating_sub(bytes.len()) as u64)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let n = file.read(&mut piece).map_err(unreadable)?;
        if n == 0 {
            return Ok(bytes);
        }
        let room = bytes.len().max(PIECE);
        let mut larger = host_memory::reserved(op, "the file", bytes.len() + room, bytes.len() + room)?;
        larger.extend_from_slice(&bytes);
        larger.extend_from_slice(&piece[..n]);
        bytes = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_whatever_they_say_of_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for len in [0, 1, 31, 33, 100_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_whole("test", &path).unwrap(), bytes);
        }
        assert_eq!(read_whole("test", folder.path()).unwrap_err().code, Code::Checkpoint);
        assert_eq!(read_whole("test", &folder.path().join("none")).unwrap_err().code, Code::Checkpoint);
        // Its size is 0 in the file system.
        #[cfg(target_os = "linux")]
        assert!(!read_whole("test", Path::new("/proc/self/status")).unwrap().is_empty());
        // A file with a hole is as large as it says, and that is more than any memory.
        let file = File::create(&path).unwrap();
        if file.set_len(1 << 43).is_ok() && host_memory::memory_left().is_some() {
            assert_eq!(read_whole("test", &path).unwrap_err().code, Code::Memory);
        }
    }
}
