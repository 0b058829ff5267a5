//! As much of ZIP (APPNOTE 6.3) as `.npz` uses: stored and deflated entries, 64-bit sizes, checksums.

use crate::{DataError, Result};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

/// One entry of the table of contents.
pub(super) struct Entry {
    pub name: String,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    at: u64,
}

fn short(at: usize) -> DataError {
    DataError::at_byte(at as u64, "expected more of a ZIP archive, the file ends")
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).ok_or_else(|| short(file.len()))?;
    file.get(at..end).and_then(|b| b.try_into().ok()).ok_or_else(|| short(file.len()))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16> {
    bytes(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Result<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

fn index(at: u64) -> Result<usize> {
    usize::try_from(at).map_err(|_| DataError::at_byte(at, "expected an offset inside the file"))
}

/// The table of contents.
pub(super) fn entries(file: &[u8]) -> Result<Vec<Entry>> {
    if !file.starts_with(b"PK") {
        return Err(DataError::at_byte(0, "expected a .npz file (a ZIP archive), got other first bytes"));
    }
    // The end record is 22 bytes and a comment of up to 64 KiB.
    let earliest = file.len().saturating_sub(22 + 0xFFFF);
    let end = (earliest..file.len().saturating_sub(21)).rev().find(|i| file[*i..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(|| short(file.len()))?;
    let (mut count, mut at) = (u64::from(u16_at(file, end + 10)?), u64::from(u32_at(file, end + 16)?));
    if end >= 20 && file[end - 20..].starts_with(b"PK\x06\x07") {
        let wide = index(u64_at(file, end - 12)?)?;
        if bytes::<4>(file, wide)? != *b"PK\x06\x06" {
            return Err(DataError::at_byte(wide as u64, "expected the 64-bit end of a ZIP archive"));
        }
        (count, at) = (u64_at(file, wide.saturating_add(32))?, u64_at(file, wide.saturating_add(48))?);
    }
    let mut at = index(at)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        if bytes::<4>(file, at)? != *b"PK\x01\x02" {
            return Err(DataError::at_byte(at as u64, "expected an entry of a ZIP archive"));
        }
        let lengths = [28, 30, 32].map(|o| u16_at(file, at + o).map(usize::from));
        let [name, extra, comment] = lengths;
        let (name, extra, comment) = (name?, extra?, comment?);
        let text = file.get(at + 46..at + 46 + name).ok_or_else(|| short(file.len()))?;
        let mut entry = Entry {
            name: String::from_utf8_lossy(text).into_owned(),
            method: u16_at(file, at + 10)?,
            crc: u32_at(file, at + 16)?,
            packed: u64::from(u32_at(file, at + 20)?),
            size: u64::from(u32_at(file, at + 24)?),
            at: u64::from(u32_at(file, at + 42)?),
        };
        if u16_at(file, at + 8)? & 1 != 0 {
            return Err(DataError::at_byte(at as u64, format!("\"{}\" is encrypted", entry.name)));
        }
        let fields = at + 46 + name;
        wide_sizes(file.get(fields..fields + extra).ok_or_else(|| short(file.len()))?, &mut entry)?;
        entries.push(entry);
        at = fields + extra + comment;
    }
    Ok(entries)
}

/// Sizes of 64 bits stand in an extra field, each only where its 32 bits are all ones.
fn wide_sizes(mut extra: &[u8], entry: &mut Entry) -> Result<()> {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length).ok_or_else(|| short(0))?;
        if id == 1 {
            let mut next = 0;
            for value in [&mut entry.size, &mut entry.packed, &mut entry.at] {
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

/// The bytes of an entry, checked.
pub(super) fn content(file: &[u8], entry: &Entry) -> Result<Vec<u8>> {
    let at = index(entry.at)?;
    let wrong = |reason: String| DataError::at_byte(entry.at, format!("\"{}\": {reason}", entry.name));
    if bytes::<4>(file, at)? != *b"PK\x03\x04" {
        return Err(wrong("expected an entry of a ZIP archive".into()));
    }
    // The lengths of the local header may differ from those of the table of contents.
    let begin = at + 30 + usize::from(u16_at(file, at + 26)?) + usize::from(u16_at(file, at + 28)?);
    let end = begin.checked_add(index(entry.packed)?).ok_or_else(|| short(file.len()))?;
    let packed = file.get(begin..end).ok_or_else(|| short(file.len()))?;
    // Deflate shrinks at most 1,032-fold: what promises more is not believed.
    if entry.size > (packed.len() as u64 + 1).saturating_mul(1032) {
        return Err(wrong(format!("{} bytes cannot come from {}", entry.size, packed.len())));
    }
    let content = match entry.method {
        0 => packed.to_vec(),
        8 => match decompress_to_vec_with_limit(packed, index(entry.size)?) {
            Ok(content) => content,
            Err(e) if e.status == TINFLStatus::HasMoreOutput => {
                return Err(wrong(format!("holds more than {} bytes", entry.size)));
            }
            Err(_) => return Err(wrong("is damaged".into())),
        },
        other => return Err(wrong(format!("compression {other} is not known, expected none or deflate"))),
    };
    if content.len() as u64 != entry.size || crc32(&content) != entry.crc {
        return Err(wrong("is damaged: its size or checksum is another".into()));
    }
    Ok(content)
}

/// CRC-32 of ISO 3309, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const fn row(n: u32) -> u32 {
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
            table[n] = row(n as u32);
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
