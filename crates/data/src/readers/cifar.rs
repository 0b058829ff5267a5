//! CIFAR-10's binary version (Krizhevsky 2009): records of a label and 32 × 32 red, green and blue bytes.

use super::bytes::{ByteReader, open_file};
use crate::{DataError, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

const SIDE_PIXELS: usize = 32;
const CHANNEL_BYTES: usize = SIDE_PIXELS * SIDE_PIXELS;
const RECORD_BYTES: usize = 1 + 3 * CHANNEL_BYTES;

/// Colour pictures with a label each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cifar10 {
    /// (count, 32, 32, 3): red, green and blue of a pixel stand together.
    pub pixels: Vec<u8>,
    /// (count), 0 to 9.
    pub labels: Vec<u8>,
}

/// Reads CIFAR-10 files a given number of pictures at a time.
pub struct Cifar10Reader<R> {
    input: ByteReader<R>,
}

/// Reads a whole file such as `data_batch_1.bin`.
pub fn read_cifar10(path: impl AsRef<Path>) -> Result<Cifar10> {
    let path = path.as_ref();
    let mut reader: Cifar10Reader<BufReader<File>> = Cifar10Reader::new(BufReader::new(open_file(path)?));
    reader.next_pictures(usize::MAX).map(Option::unwrap_or_default).map_err(|e| e.in_file(path))
}

impl<R: Read> Cifar10Reader<R> {
    /// Reads records from the beginning of `input`.
    pub fn new(input: R) -> Self {
        Cifar10Reader { input: ByteReader::new(input) }
    }

    /// The next pictures, at most `limit`; `None` at the end.
    pub fn next_pictures(&mut self, limit: usize) -> Result<Option<Cifar10>> {
        let mut pictures = Cifar10::default();
        let mut record = [0; RECORD_BYTES];
        while pictures.labels.len() < limit {
            let begin = self.input.offset;
            match self.input.fill(&mut record)? {
                0 => break,
                RECORD_BYTES => {}
                short => {
                    let reason =
                        format!("expected records of {RECORD_BYTES} bytes, the file ends after {short}");
                    return Err(DataError::at_byte(begin, reason));
                }
            }
            if record[0] > 9 {
                return Err(DataError::at_byte(
                    begin,
                    format!("expected a label of 0 to 9, got {}", record[0]),
                ));
            }
            pictures.labels.push(record[0]);
            let (red, rest) = record[1..].split_at(CHANNEL_BYTES);
            let (green, blue) = rest.split_at(CHANNEL_BYTES);
            let colours = red.iter().zip(green).zip(blue);
            pictures.pixels.extend(colours.flat_map(|((r, g), b)| [*r, *g, *b]));
        }
        Ok(if pictures.labels.is_empty() && limit > 0 { None } else { Some(pictures) })
    }
}
