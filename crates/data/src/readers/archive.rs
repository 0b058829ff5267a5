//! Reads ZIP archives (APPNOTE 6.3) as far as `.npz` files use the format: entries without compression or with
//! deflate, 64-bit sizes, checksums.

use crate::{DataError, Result};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

/// One file of an archive, as the archive's table of contents (central directory) describes it.
pub(super) struct Entry {
    pub name: String,
    compression_method: u16,
    crc32: u32,
    compressed_bytes: u64,
    bytes: u64,
    /// Offset of the entry's own header in the archive.
    header_offset: u64,
}

fn ends_too_early(at: usize) -> DataError {
    DataError::at_byte(at as u64, "expected more of a ZIP archive, the file ends")
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).ok_or_else(|| ends_too_early(file.len()))?;
    file.get(at..end).and_then(|b| b.try_into().ok()).ok_or_else(|| ends_too_early(file.len()))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Result<u64> {
    bytes_at(file, at).map(u64::from_le_bytes)
}

fn usize_of(at: u64) -> Result<usize> {
    usize::try_from(at).map_err(|_| DataError::at_byte(at, "expected an offset inside the file"))
}

/// The entries of an archive's table of contents.
pub(super) fn read_entries(file: &[u8]) -> Result<Vec<Entry>> {
    if !file.starts_with(b"PK") {
        return Err(DataError::at_byte(0, "expected a .npz file (a ZIP archive), got other first bytes"));
    }
    // The archive ends with a record of 22 bytes and a comment of up to 64 KiB.
    let earliest = file.len().saturating_sub(22 + 0xFFFF);
    let end = (earliest..file.len().saturating_sub(21)).rev().find(|i| file[*i..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(|| ends_too_early(file.len()))?;
    let (mut count, mut at) = (u64::from(u16_at(file, end + 10)?), u64::from(u32_at(file, end + 16)?));
    if end >= 20 && file[end - 20..].starts_with(b"PK\x06\x07") {
        let zip64_end = usize_of(u64_at(file, end - 12)?)?;
        if bytes_at::<4>(file, zip64_end)? != *b"PK\x06\x06" {
            return Err(DataError::at_byte(zip64_end as u64, "expected the 64-bit end of a ZIP archive"));
        }
        (count, at) =
            (u64_at(file, zip64_end.saturating_add(32))?, u64_at(file, zip64_end.saturating_add(48))?);
    }
    let mut at = usize_of(at)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        if bytes_at::<4>(file, at)? != *b"PK\x01\x02" {
            return Err(DataError::at_byte(at as u64, "expected an entry of a ZIP archive"));
        }
        let lengths = [28, 30, 32].map(|o| u16_at(file, at + o).map(usize::from));
        let [name_len, extra_len, comment_len] = lengths;
        let (name_len, extra_len, comment_len) = (name_len?, extra_len?, comment_len?);
        let name_bytes = file.get(at + 46..at + 46 + name_len).ok_or_else(|| ends_too_early(file.len()))?;
        let mut entry = Entry {
            name: String::from_utf8_lossy(name_bytes).into_owned(),
            compression_method: u16_at(file, at + 10)?,
            crc32: u32_at(file, at + 16)?,
            compressed_bytes: u64::from(u32_at(file, at + 20)?),
            bytes: u64::from(u32_at(file, at + 24)?),
            header_offset: u64::from(u32_at(file, at + 42)?),
        };
        if u16_at(file, at + 8)? & 1 != 0 {
            return Err(DataError::at_byte(at as u64, format!("\"{}\" is encrypted", entry.name)));
        }
        let extra_start = at + 46 + name_len;
        read_64_bit_sizes(
            file.get(extra_start..extra_start + extra_len).ok_or_else(|| ends_too_early(file.len()))?,
            &mut entry,
        )?;
        entries.push(entry);
        at = extra_start + extra_len + comment_len;
    }
    Ok(entries)
}

/// Replaces sizes and offsets of an entry that need 64 bits: their 32 bits are then all ones, and the extra field holds
/// the value.
fn read_64_bit_sizes(mut extra: &[u8], entry: &mut Entry) -> Result<()> {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length).ok_or_else(|| ends_too_early(0))?;
        if id == 1 {
            let mut next = 0;
            for value in [&mut entry.bytes, &mut entry.compressed_bytes, &mut entry.header_offset] {
                if *value == u64::from(u32::MAX) {
                    *value = u64_at(field, next)?;
                    next += 8;
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Ok(())
}

/// The uncompressed bytes of an entry, after a comparison of their number and checksum.
pub(super) fn read_content(file: &[u8], entry: &Entry) -> Result<Vec<u8>> {
    let at = usize_of(entry.header_offset)?;
    let wrong =
        |reason: String| DataError::at_byte(entry.header_offset, format!("\"{}\": {reason}", entry.name));
    if bytes_at::<4>(file, at)? != *b"PK\x03\x04" {
        return Err(wrong("expected an entry of a ZIP archive".into()));
    }
    // The name and the extra field of the entry's own header may have other lengths than those in the table of
    // contents.
    let begin = at + 30 + usize::from(u16_at(file, at + 26)?) + usize::from(u16_at(file, at + 28)?);
    let end =
        begin.checked_add(usize_of(entry.compressed_bytes)?).ok_or_else(|| ends_too_early(file.len()))?;
    let compressed = file.get(begin..end).ok_or_else(|| ends_too_early(file.len()))?;
    // Deflate compresses at most 1,032-fold: an entry that claims more is damaged, and would cost memory.
    if entry.bytes > (compressed.len() as u64 + 1).saturating_mul(1032) {
        return Err(wrong(format!("{} bytes cannot come from {}", entry.bytes, compressed.len())));
    }
    let content = match entry.compression_method {
        0 => compressed.to_vec(),
        8 => match decompress_to_vec_with_limit(compressed, usize_of(entry.bytes)?) {
            Ok(content) => content,
            Err(e) if e.status == TINFLStatus::HasMoreOutput => {
                return Err(wrong(format!("holds more than {} bytes", entry.bytes)));
            }
            Err(_) => return Err(wrong("is damaged".into())),
        },
        other => return Err(wrong(format!("compression {other} is not known, expected none or deflate"))),
    };
    if content.len() as u64 != entry.bytes || crc32(&content) != entry.crc32 {
        return Err(wrong("is damaged: its size or checksum is another".into()));
    }
    Ok(content)
}

/// CRC-32 of ISO 3309, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const fn table_entry(n: u32) -> u32 {
        let (mut crc, mut bit) = (n, 0);
        while bit < 4 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        crc
    }
    const TABLE: [u32; 16] = {
        let (mut table, mut n) = ([0; 16], 0);
        while n < 16 {
            table[n] = table_entry(n as u32);
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |crc, byte| {
        let crc = crc ^ u32::from(*byte);
        let crc = (crc >> 4) ^ TABLE[(crc & 15) as usize];
        (crc >> 4) ^ TABLE[(crc & 15) as usize]
    })
}
