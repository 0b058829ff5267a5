//! Formats that hold parts behind lengths or checksums. A part is changed and the rest is made to fit, so that the change
//! reaches what reads the part.

use s4_data::DataRng;
use std::io::{Cursor, Read, Write};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// How a format holds its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// No parts.
    Plain,
    /// A ZIP archive: entries with lengths and checksums.
    Zip,
    /// A safetensors file: a header in JSON behind its length.
    Safetensors,
    /// A PNG picture: chunks with lengths and checksums.
    Png,
}

impl Container {
    /// The file with one of its parts changed; `None` where it has none.
    pub fn with_changed_part(
        self,
        file: &[u8],
        rng: &mut DataRng,
        change: impl FnOnce(&[u8], &mut DataRng) -> Vec<u8>,
    ) -> Option<Vec<u8>> {
        match self {
            Container::Plain => None,
            Container::Zip => zip_with_changed_entry(file, rng, change),
            Container::Safetensors => {
                let (length, rest) = file.split_first_chunk::<8>()?;
                let (header, data) =
                    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
                let header = change(header, rng);
                Some([&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat())
            }
            Container::Png => png_with_changed_chunk(file, rng, change),
        }
    }
}

fn zip_with_changed_entry(
    file: &[u8],
    rng: &mut DataRng,
    change: impl FnOnce(&[u8], &mut DataRng) -> Vec<u8>,
) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(file)).ok()?;
    let mut entries = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).ok()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        entries.push((entry.name().ok()?.into_owned(), bytes));
    }
    // A pickle is what most code reads: it is changed as often as all other entries together.
    let pickle = entries.iter().position(|(name, _)| name.ends_with("data.pkl"));
    let at = match pickle {
        Some(at) if rng.below(2) == 0 => at,
        _ => rng.below(entries.len()),
    };
    entries[at].1 = change(&entries[at].1, rng);
    let method = [CompressionMethod::Stored, CompressionMethod::Deflated][rng.below(2)];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(name, SimpleFileOptions::default().compression_method(method)).ok()?;
        zip.write_all(&bytes).ok()?;
    }
    Some(zip.finish().ok()?.into_inner())
}

const PNG_SIGNATURE_BYTES: usize = 8;

fn png_with_changed_chunk(
    file: &[u8],
    rng: &mut DataRng,
    change: impl FnOnce(&[u8], &mut DataRng) -> Vec<u8>,
) -> Option<Vec<u8>> {
    if !file.starts_with(b"\x89PNG") {
        return None;
    }
    let (signature, mut rest) = file.split_at_checked(PNG_SIGNATURE_BYTES)?;
    let mut chunks = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // Name and contents, then four bytes of checksum.
        let (chunk, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize + 4)?;
        chunks.push(chunk.to_vec());
        rest = after.get(4..)?;
    }
    let at = rng.below(chunks.len().max(1));
    let chunk = chunks.get_mut(at)?;
    let changed = change(&chunk[4..], rng);
    chunk.splice(4.., changed);
    let mut out = signature.to_vec();
    for chunk in chunks {
        let mut sum = flate2::Crc::new();
        sum.update(&chunk);
        out.extend(((chunk.len() - 4) as u32).to_be_bytes());
        out.extend(&chunk);
        out.extend(sum.sum().to_be_bytes());
    }
    Some(out)
}
