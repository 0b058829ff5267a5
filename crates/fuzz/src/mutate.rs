//! Makes cases: files of a corpus, changed in one to eight places. The same reader, seed and number give the same case.

use crate::reader::Reader;
use s4_data::DataRng;

/// Longest case in bytes; the files of the corpora are shorter.
const MAX_LEN: usize = 1 << 19;

/// Numbers at the limits of the types that formats and readers use.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    1 << 40,
    (1 << 53) + 1,
    i64::MAX as u64,
    u64::MAX,
];

/// Numbers as texts hold them.
const NUMBERS_IN_TEXT: [&str; 20] = [
    "0",
    "1",
    "-1",
    "3",
    "255",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999999",
    "1e308",
    "1e999",
    "-0.0",
    "1e-320",
    "0.5",
    "NaN",
    "null",
];

/// The bytes of case `number`.
pub fn case(reader: &Reader, seed: u64, number: u64) -> Vec<u8> {
    let mut rng = DataRng::new(seed, number);
    let file = &reader.corpus[rng.below(reader.corpus.len())];
    let changed = match rng.below(3) {
        // What holds the parts stays sound, so that the reader of a part sees the change.
        0 | 1 => reader.container.with_changed_part(file, &mut rng, |part, rng| change(reader, part, rng)),
        _ => None,
    };
    let mut bytes = changed.unwrap_or_else(|| change(reader, file, &mut rng));
    bytes.truncate(MAX_LEN);
    bytes
}

fn change(reader: &Reader, bytes: &[u8], rng: &mut DataRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // Most cases have few changes, so that most of the file is still read.
    let changes = [1, 1, 1, 2, 2, 3, 5, 8][rng.below(8)];
    for _ in 0..changes {
        change_once(reader, &mut bytes, rng);
    }
    bytes
}

/// A place in the file: as often among its first bytes, where headers are, as anywhere.
fn place(bytes: &[u8], rng: &mut DataRng) -> usize {
    let reach = if rng.below(2) == 0 { bytes.len().min(128) } else { bytes.len() };
    rng.below(reach.max(1))
}

/// A range of bytes, short more often than long.
fn range(bytes: &[u8], rng: &mut DataRng) -> std::ops::Range<usize> {
    let begin = place(bytes, rng);
    let most = [4, 16, 64, bytes.len().max(1)][rng.below(4)];
    begin..(begin + 1 + rng.below(most)).min(bytes.len())
}

fn change_once(reader: &Reader, bytes: &mut Vec<u8>, rng: &mut DataRng) {
    if bytes.is_empty() {
        bytes.push(rng.below(256) as u8);
        return;
    }
    let at = place(bytes, rng);
    match rng.below(14) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.below(256) as u8,
        2 => bytes[at] = bytes[at].wrapping_add([1, 255, 16, 240][rng.below(4)]),
        3 => bytes.truncate(at),
        4 => {
            let range = range(bytes, rng);
            bytes.drain(range);
        }
        5 => {
            let part = bytes[range(bytes, rng)].to_vec();
            bytes.splice(at..at, part);
        }
        6 => {
            let part = bytes[range(bytes, rng)].to_vec();
            let end = (at + part.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
        7 => {
            let range = range(bytes, rng);
            let value = [0, 0xFF, rng.below(256) as u8][rng.below(3)];
            bytes[range].fill(value);
        }
        8 => {
            let count = 1 + rng.below(16);
            let added: Vec<u8> = (0..count).map(|_| rng.below(256) as u8).collect();
            bytes.splice(at..at, added);
        }
        9 => {
            // The rest of another file of the corpus, or of the same.
            let other = &reader.corpus[rng.below(reader.corpus.len())];
            if !other.is_empty() {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[place(other, rng).min(other.len())..]);
            }
        }
        10 if !reader.words.is_empty() => {
            let word = reader.words[rng.below(reader.words.len())].as_bytes();
            let end = [at, at + word.len()][rng.below(2)].min(bytes.len());
            bytes.splice(at..end, word.iter().copied());
        }
        11 | 12 => change_digits(bytes, at, rng),
        _ => write_number(bytes, at, rng),
    }
}

/// A number at a limit, in 1, 2, 4 or 8 bytes of either order.
fn write_number(bytes: &mut [u8], at: usize, rng: &mut DataRng) {
    let size = 1 << rng.below(4);
    let number = NUMBERS[rng.below(NUMBERS.len())];
    let little = number.to_le_bytes();
    let mut written = little[..size].to_vec();
    if rng.below(2) == 0 {
        written.reverse();
    }
    let end = (at + size).min(bytes.len());
    bytes[at..end].copy_from_slice(&written[..end - at]);
}

/// The next number in digits after `at` becomes another one.
fn change_digits(bytes: &mut Vec<u8>, at: usize, rng: &mut DataRng) {
    let Some(begin) = bytes[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) else {
        return;
    };
    let end = bytes[begin..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| begin + n);
    let number = NUMBERS_IN_TEXT[rng.below(NUMBERS_IN_TEXT.len())].as_bytes();
    bytes.splice(begin..end, number.iter().copied());
}
