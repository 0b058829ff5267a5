//! CIFAR-10's binary version (Krizhevsky 2009): records of a label and 32 × 32 red, green and blue bytes.

use super::bytes::{Bytes, open};
use crate::{DataError, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// Colour pictures with a label each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cifar10 {
    /// (count, 32, 32, 3): red, green and blue of a pixel stand together.
    pub pixels: Vec<u8>,
    /// (count), 0 to 9.
    pub labels: Vec<u8>,
}

/// Reads a file piece by piece.
pub struct Cifar10Reader<R> {
    input: Bytes<R>,
}

/// The whole of a file such as `data_batch_1.bin`.
pub fn read_cifar10(path: impl AsRef<Path>) -> Result<Cifar10> {
    let path = path.as_ref();
    let mut reader: Cifar10Reader<BufReader<File>> = Cifar10Reader::new(BufReader::new(open(path)?));
    reader.next_pictures(usize::MAX).map(Option::unwrap_or_default).map_err(|e| e.in_file(path))
}

impl<R: Read> Cifar10Reader<R> {
    /// From the first record on.
    pub fn new(input: R) -> Self {
        Cifar10Reader { input: Bytes::new(input) }
    }

    /// The next pictures, at most `limit`; `None` at the end.
    pub fn next_pictures(&mut self, limit: usize) -> Result<Option<Cifar10>> {
        let mut made = Cifar10::default();
        let mut record = [0; RECORD];
        while made.labels.len() < limit {
            let begin = self.input.offset;
            match self.input.fill(&mut record)? {
                0 => break,
                RECORD => {}
                short => {
                    let reason = format!("expected records of {RECORD} bytes, the file ends after {short}");
                    return Err(DataError::at_byte(begin, reason));
                }
            }
            if record[0] > 9 {
                return Err(DataError::at_byte(
                    begin,
                    format!("expected a label of 0 to 9, got {}", record[0]),
                ));
            }
            made.labels.push(record[0]);
            let (red, rest) = record[1..].split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            let colours = red.iter().zip(green).zip(blue);
            made.pixels.extend(colours.flat_map(|((r, g), b)| [*r, *g, *b]));
        }
        Ok(if made.labels.is_empty() && limit > 0 { None } else { Some(made) })
    }
}
