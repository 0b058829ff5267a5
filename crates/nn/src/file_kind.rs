//! Names the kind of a file that is no safetensors file, for an error that says what to do with it.

/// For an error: what kind of file these bytes are, where they are of a known kind that is not safetensors. `None` where
/// they may be a damaged safetensors file.
pub fn foreign_kind(bytes: &[u8]) -> Option<&'static str> {
    const PYTORCH: &str = "a PyTorch file (.pt, .pth): write its state_dict() with safetensors.torch.save_file in Python, \
                           then read that";
    let begins_with = |magic: &[u8]| bytes.starts_with(magic);
    if bytes.is_empty() {
        return Some("an empty file");
    }
    if begins_with(b"PK\x03\x04") {
        return Some(PYTORCH);
    }
    // A Python pickle of protocol 2 to 5, which is how PyTorch saved before 1.6.
    if bytes[0] == 0x80 && bytes.get(1).is_some_and(|v| (2..=5).contains(v)) {
        return Some(PYTORCH);
    }
    if begins_with(b"\x93NUMPY") {
        return Some("a NumPy file (.npy): write its arrays with safetensors.numpy.save_file in Python");
    }
    if begins_with(b"\x89HDF\r\n\x1a\n") {
        return Some("an HDF5 file: write its tensors with the safetensors package in Python");
    }
    if begins_with(b"\x1f\x8b") {
        return Some("a gzip file: unpack it first");
    }
    if begins_with(b"version https://git-lfs") {
        return Some("a pointer of Git LFS: fetch the file itself with `git lfs pull`");
    }
    // A safetensors file begins with the length of its header in eight bytes, most of which are 0. Where all eight are
    // characters the file is text.
    let is_text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    if bytes.len() >= 8 && bytes[..8].iter().all(is_text) || bytes.len() < 8 && bytes.iter().all(is_text) {
        return Some("a text file: expected a file that SequenceModel.save or a safetensors writer wrote");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named() {
        for (bytes, word) in [
            (&b"PK\x03\x04archive/data.pkl"[..], "PyTorch"),
            (b"\x80\x02}q\x00.", "PyTorch"),
            (b"\x93NUMPY\x01\x00", "NumPy"),
            (b"time,value\n1,2\n", "text"),
            (b"{}\n", "text"),
            (b"", "empty"),
        ] {
            assert!(foreign_kind(bytes).unwrap().contains(word), "{word}");
        }
        let sound = safetensors::serialize(Vec::<(&str, safetensors::tensor::TensorView<'_>)>::new(), None);
        assert_eq!(foreign_kind(&sound.unwrap()), None);
    }
}
