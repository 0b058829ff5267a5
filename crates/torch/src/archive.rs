//! Reads the zip archives that `torch.save` writes: `NAME/data.pkl`, `NAME/byteorder`, and `NAME/data/KEY` for every
//! storage.

use crate::error::{Error, Result, quoted};
use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};
use zip::{CompressionMethod, ZipArchive};

/// The bytes of an archive, in a file or in memory.
pub(crate) trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

/// Most entries that an archive may have.
const MAX_ENTRIES: usize = 1 << 18;
/// Largest size of a pickle in bytes; real ones take some 150 bytes per tensor.
pub(crate) const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// All compressed entries together may have this many times the archive's bytes when decompressed, or
/// `ALWAYS_ALLOWED_BYTES` where that is more.
const MAX_EXPANSION: u64 = 16;
const ALWAYS_ALLOWED_BYTES: u64 = 64 << 20;
/// Bytes that are read, and for which memory is reserved, at a time, so that a false size costs no memory.
const READ_BYTES: u64 = 1 << 20;

/// An open archive whose entries have been checked.
pub(crate) struct Archive {
    zip: ZipArchive<Box<dyn Source>>,
    /// The folder of all entries, `NAME/`.
    root: String,
    /// Names of entries without the root, with (index in the archive, size in bytes).
    entries: BTreeMap<String, (usize, u64)>,
    /// Bytes of the whole file.
    len: u64,
}

/// Refuses files whose first bytes are not those of a zip archive, with an error that says what they are.
fn refuse_other_formats(first_bytes: &[u8]) -> Result<()> {
    let found = if first_bytes.starts_with(b"PK\x03\x04") {
        return Ok(());
    } else if first_bytes.starts_with(b"PK\x05\x06") {
        "an empty zip archive"
    } else if first_bytes.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        "a legacy pickle (written before PyTorch 1.6, or with _use_new_zipfile_serialization=False); load it with \
         torch and save it again"
    } else if first_bytes.get(257..262) == Some(b"ustar") || first_bytes.starts_with(b"sys_info\0") {
        "a legacy tar archive (written before PyTorch 0.1.10); load it with torch and save it again"
    } else if first_bytes.first() == Some(&0x80) {
        "a bare pickle, which torch.save does not write"
    } else if first_bytes.get(8) == Some(&b'{') {
        "what looks like a safetensors file; its name should end in .safetensors"
    } else if first_bytes.is_empty() {
        "an empty file"
    } else {
        "something else"
    };
    Err(Error::new("file", "a zip archive of torch.save", found))
}

/// Whether a name is a relative path without special characters or `..`.
fn is_plain_path(name: &str) -> bool {
    name.len() <= 1024
        && !name.contains(['\\', '\0', ':'])
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

impl Archive {
    pub fn open(mut source: Box<dyn Source>) -> Result<Self> {
        let io = |e: std::io::Error| Error::new("file", "a readable file", e);
        let len = source.seek(SeekFrom::End(0)).map_err(io)?;
        source.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut first_bytes = Vec::new();
        (&mut source).take(512).read_to_end(&mut first_bytes).map_err(io)?;
        refuse_other_formats(&first_bytes)?;
        source.seek(SeekFrom::Start(0)).map_err(io)?;
        let bad = |e: zip::result::ZipError| Error::new("file", "a sound zip archive", e);
        let mut zip = ZipArchive::new(source).map_err(bad)?;
        if zip.offset() != 0 {
            return Err(Error::new("file", "an archive that starts where the file does", zip.offset()));
        }
        if zip.is_empty() || zip.len() > MAX_ENTRIES {
            return Err(Error::new("file", format!("from 1 to {MAX_ENTRIES} entries"), zip.len()));
        }
        if zip.has_duplicate_names() {
            return Err(Error::new("file", "entries of different names", "the same name twice"));
        }
        if zip.has_overlapping_files().map_err(bad)? {
            return Err(Error::new("file", "entries with bytes of their own", "entries that overlap"));
        }
        let mut names = Vec::with_capacity(zip.len());
        let mut decompressed_bytes = 0u64;
        for i in 0..zip.len() {
            let entry = zip.by_index_data(i).map_err(bad)?;
            let name = entry.name().map_err(bad)?.into_owned();
            if !is_plain_path(&name) || entry.is_symlink() {
                return Err(Error::new("file", "plain relative names of entries", quoted(&name)));
            }
            if entry.encrypted() {
                return Err(Error::new("file", "no encryption", quoted(&name)));
            }
            let (size, compressed) = (entry.size(), entry.compressed_size());
            match entry.compression() {
                CompressionMethod::Stored if size == compressed && size <= len => {}
                CompressionMethod::Stored => {
                    return Err(Error::new(
                        quoted(&name),
                        format!("{compressed} bytes, as the archive has"),
                        format!("a size of {size}"),
                    ));
                }
                CompressionMethod::Deflated => {
                    decompressed_bytes = decompressed_bytes.saturating_add(size);
                    let most = len.saturating_mul(MAX_EXPANSION).max(ALWAYS_ALLOWED_BYTES);
                    if decompressed_bytes > most || compressed > len {
                        return Err(Error::new(
                            quoted(&name),
                            format!("entries that unfold to at most {most} bytes"),
                            decompressed_bytes,
                        ));
                    }
                }
                other => {
                    return Err(Error::new(
                        quoted(&name),
                        "an entry stored or deflated",
                        format!("{other:?}"),
                    ));
                }
            }
            names.push((name, i, size));
        }
        let roots: Vec<&str> = names
            .iter()
            .filter_map(|(name, ..)| name.strip_suffix("data.pkl"))
            .filter(|root| root.ends_with('/') && root.matches('/').count() == 1)
            .collect();
        let root = match roots.as_slice() {
            [one] => one.to_string(),
            [] => return Err(Error::new("file", "an entry NAME/data.pkl", "none")),
            _ => return Err(Error::new("file", "one entry NAME/data.pkl", roots.len())),
        };
        let mut entries = BTreeMap::new();
        for (name, i, size) in names {
            match name.strip_prefix(&root) {
                Some(rest) => entries.insert(rest.to_string(), (i, size)),
                None => {
                    return Err(Error::new(
                        "file",
                        format!("entries under {}", quoted(&root)),
                        quoted(&name),
                    ));
                }
            };
        }
        if entries.contains_key("constants.pkl") || entries.keys().any(|name| name.starts_with("code/")) {
            return Err(Error::new(
                "file",
                "a checkpoint of torch.save",
                "a TorchScript archive, which holds code; save its state_dict instead",
            ));
        }
        let mut archive = Archive { zip, root, entries, len };
        if archive.size("byteorder").is_some() {
            let order = archive.read("byteorder", 16)?;
            if order != b"little" {
                return Err(Error::new("byteorder", "'little'", quoted(&String::from_utf8_lossy(&order))));
            }
        }
        Ok(archive)
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Size of an entry in bytes; `None` where there is no such entry.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|(_, size)| *size)
    }

    /// Reads an entry of at most `most` bytes and compares its checksum.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let at = || format!("{}{name}", self.root);
        let Some(&(index, size)) = self.entries.get(name) else {
            return Err(Error::new(at(), "an entry", "none"));
        };
        if size > most {
            return Err(Error::new(at(), format!("at most {most} bytes"), size));
        }
        let bad = |e: String| Error::new(at(), "a sound entry", e);
        let mut entry = self.zip.by_index(index).map_err(|e| bad(e.to_string()))?;
        let mut bytes = Vec::new();
        loop {
            let want = READ_BYTES.min(size.saturating_sub(bytes.len() as u64) + 1);
            bytes
                .try_reserve(want as usize)
                .map_err(|_| bad(format!("{size} bytes, more than the memory")))?;
            let got = (&mut entry).take(want).read_to_end(&mut bytes).map_err(|e| bad(e.to_string()))?;
            if bytes.len() as u64 > size {
                return Err(bad("more bytes than it says".into()));
            }
            if got == 0 {
                break;
            }
        }
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(bad(format!("{} bytes of {size}", bytes.len()))),
        }
    }
}
