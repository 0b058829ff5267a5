//! Reads WAV files (RIFF) as a stream: integers (PCM) of 8 to 32 bits, floats, A-law and μ-law.

use super::bytes::ByteReader;
use crate::{DataError, Result};
use std::io::Read;

/// Format of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Frames per second.
    pub rate: u32,
    /// Number of channels, the samples of one frame.
    pub channels: usize,
    /// How many frames there are, where the file says so.
    pub frames: Option<u64>,
}

/// How one sample is stored in bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleCoding {
    /// 8 bits, 128 is silence.
    U8,
    /// 16 bits with sign.
    I16,
    /// 24 bits with sign.
    I24,
    /// 32 bits with sign.
    I32,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// A-law of ITU-T G.711.
    ALaw,
    /// μ-law of ITU-T G.711.
    MuLaw,
}

impl SampleCoding {
    /// The coding of this name, as ffmpeg has them.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "u8" => SampleCoding::U8,
            "s16le" => SampleCoding::I16,
            "s24le" => SampleCoding::I24,
            "s32le" => SampleCoding::I32,
            "f32le" => SampleCoding::F32,
            "f64le" => SampleCoding::F64,
            "alaw" => SampleCoding::ALaw,
            "mulaw" => SampleCoding::MuLaw,
            _ => return None,
        })
    }
}

/// Reads the samples of a WAV file piece by piece.
pub struct WavReader<R> {
    input: ByteReader<R>,
    format: AudioFormat,
    coding: SampleCoding,
    /// Bytes of one frame.
    frame_bytes: usize,
    /// Bytes of samples that were not read yet. `None`: all until the end of the file, since the program that wrote it
    /// could not go back to fill in the size.
    bytes_left: Option<u64>,
    buffer: Vec<u8>,
}

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 16;
/// The size of samples in the header of a file that was written as a stream.
const UNKNOWN_SIZE: u32 = u32::MAX;

impl<R: Read> WavReader<R> {
    /// Reads the headers, up to the first sample.
    pub fn new(input: R) -> Result<Self> {
        let mut input = ByteReader::new(input);
        let [r, i, f, end, _, _, _, _, wave @ ..]: [u8; 12] = input.read_array("the header of WAV")?;
        if [r, i, f, end] != *b"RIFF" || wave != *b"WAVE" {
            return Err(DataError::at_byte(0, "expected a WAV file, got other first bytes"));
        }
        let mut found = None;
        loop {
            let id: [u8; 4] = input.read_array("a chunk's name")?;
            let size = u32::from_le_bytes(input.read_array("a chunk's size")?);
            match &id {
                b"fmt " => found = Some(read_format(&mut input, size)?),
                b"data" => {
                    let (format, coding, frame_bytes) =
                        found.ok_or_else(|| input.error("expected a format before the samples"))?;
                    let bytes_left = (size != UNKNOWN_SIZE).then_some(u64::from(size));
                    if bytes_left.is_some_and(|bytes_left| bytes_left % frame_bytes as u64 != 0) {
                        let reason =
                            format!("expected whole frames of {frame_bytes} bytes, got {size} bytes");
                        return Err(input.error(reason));
                    }
                    let format = AudioFormat { frames: bytes_left.map(|l| l / frame_bytes as u64), ..format };
                    return Ok(WavReader {
                        input,
                        format,
                        coding,
                        frame_bytes,
                        bytes_left,
                        buffer: Vec::new(),
                    });
                }
                _ => input.skip(u64::from(size) + u64::from(size & 1))?,
            }
        }
    }

    /// Rate, channels, length.
    pub fn format(&self) -> AudioFormat {
        self.format
    }

    /// Whether samples are stored as floats, which may be no finite numbers.
    pub fn has_floats(&self) -> bool {
        matches!(self.coding, SampleCoding::F32 | SampleCoding::F64)
    }

    /// Appends the next frames, at most `limit`, to `samples` (values −1 … 1, the channels of a frame next to each
    /// other) and returns how many there were; 0 at the end.
    pub fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        let mut frames_given = 0;
        while frames_given < limit {
            let buffer_bytes =
                (BUFFER_BYTES / self.frame_bytes).max(1).min(limit - frames_given) * self.frame_bytes;
            let wanted = self
                .bytes_left
                .map_or(buffer_bytes, |bytes_left| bytes_left.min(buffer_bytes as u64) as usize);
            if wanted == 0 {
                break;
            }
            self.buffer.resize(buffer_bytes.max(self.buffer.len()), 0);
            let filled_bytes = self.input.fill(&mut self.buffer[..wanted])?;
            if filled_bytes < wanted && (self.bytes_left.is_some() || filled_bytes % self.frame_bytes != 0) {
                return Err(self.input.error(format!(
                    "expected {} more bytes of samples, the file ends",
                    self.bytes_left
                        .map_or((self.frame_bytes - filled_bytes % self.frame_bytes) as u64, |l| l
                            - filled_bytes as u64)
                )));
            }
            let reserved = samples.try_reserve(filled_bytes / self.frame_bytes * self.format.channels);
            reserved.map_err(|_| self.input.error("no memory for more samples"))?;
            decode_samples(self.coding, &self.buffer[..filled_bytes], samples);
            self.bytes_left = self.bytes_left.map(|bytes_left| bytes_left - filled_bytes as u64);
            frames_given += filled_bytes / self.frame_bytes;
            if filled_bytes < wanted {
                break;
            }
        }
        Ok(frames_given)
    }
}

/// Reads the chunk `fmt `: the format, the coding of samples and the bytes of a frame.
fn read_format<R: Read>(input: &mut ByteReader<R>, size: u32) -> Result<(AudioFormat, SampleCoding, usize)> {
    if !(16..=1024).contains(&size) {
        return Err(input.error(format!("expected a format of 16 to 1,024 bytes, got {size}")));
    }
    let fields = input.read_vec("the format", u64::from(size + (size & 1)))?;
    let u16_at = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
    let (tag, channels, align, bits) =
        (u16_at(0), usize::from(u16_at(2)), usize::from(u16_at(12)), u16_at(14));
    let rate = u32::from_le_bytes([fields[4], fields[5], fields[6], fields[7]]);
    // The extensible form has the tag at the beginning of a longer identifier.
    let tag = if tag == 0xFFFE && size >= 40 { u16_at(24) } else { tag };
    if channels == 0 || rate == 0 {
        return Err(input.error(format!("expected channels and a rate, got {channels} and {rate}")));
    }
    let width = align / channels;
    if width * channels != align || (bits != 0 && usize::from(bits.div_ceil(8)) != width) {
        let reason = format!("expected frames of {channels} whole samples of {bits} bits, got {align} bytes");
        return Err(input.error(reason));
    }
    let coding = match (tag, width) {
        (1, 1) => SampleCoding::U8,
        (1, 2) => SampleCoding::I16,
        (1, 3) => SampleCoding::I24,
        (1, 4) => SampleCoding::I32,
        (3, 4) => SampleCoding::F32,
        (3, 8) => SampleCoding::F64,
        (6, 1) => SampleCoding::ALaw,
        (7, 1) => SampleCoding::MuLaw,
        _ => {
            return Err(input.error(format!(
                "expected PCM of 8 to 32 bits, floats, A-law or μ-law, got format {tag} of {width} bytes"
            )));
        }
    };
    Ok((AudioFormat { rate, channels, frames: None }, coding, align))
}

/// Appends the samples in `bytes`, which are whole, as numbers −1 … 1.
pub fn decode_samples(coding: SampleCoding, bytes: &[u8], samples: &mut Vec<f32>) {
    const fn table(a_law: bool) -> [f32; 256] {
        let (mut table, mut code) = ([0.0; 256], 0);
        while code < 256 {
            let linear = if a_law { a_law_value(code as u8) } else { mu_law_value(code as u8) };
            table[code] = linear as f32 / 32768.0;
            code += 1;
        }
        table
    }
    static A_LAW: [f32; 256] = table(true);
    static MU_LAW: [f32; 256] = table(false);
    let by_table = |table: &'static [f32; 256]| bytes.iter().map(move |b| table[usize::from(*b)]);
    match coding {
        SampleCoding::U8 => samples.extend(bytes.iter().map(|b| (f32::from(*b) - 128.0) / 128.0)),
        SampleCoding::I16 => {
            let scale = 1.0 / 32768.0;
            let (chunks, _) = bytes.as_chunks::<2>();
            samples.extend(chunks.iter().map(|c| f32::from(i16::from_le_bytes(*c)) * scale));
        }
        SampleCoding::I24 => {
            let scale = 1.0 / 2147483648.0;
            let (chunks, _) = bytes.as_chunks::<3>();
            samples.extend(chunks.iter().map(|[a, b, c]| i32::from_le_bytes([0, *a, *b, *c]) as f32 * scale));
        }
        SampleCoding::I32 => {
            let scale = 1.0 / 2147483648.0;
            let (chunks, _) = bytes.as_chunks::<4>();
            samples.extend(chunks.iter().map(|c| i32::from_le_bytes(*c) as f32 * scale));
        }
        SampleCoding::F32 => samples.extend(bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c))),
        SampleCoding::F64 => {
            samples.extend(bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c) as f32))
        }
        SampleCoding::ALaw => samples.extend(by_table(&A_LAW)),
        SampleCoding::MuLaw => samples.extend(by_table(&MU_LAW)),
    }
}

/// The 16-bit value of an A-law code (ITU-T G.711): a sign, three bits of exponent and four of mantissa, every other
/// bit inverted. The value's 13 bits are its upper ones.
const fn a_law_value(code: u8) -> i32 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, (code & 15) as i32);
    let magnitude = match exponent {
        0 => (mantissa << 4) + 8,
        e => ((mantissa << 4) + 0x108) << (e - 1),
    };
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

/// The 16-bit value of a μ-law code (ITU-T G.711): all bits inverted, a bias of 33 (132 in 16 bits). The value's 14
/// bits are its upper ones.
const fn mu_law_value(code: u8) -> i32 {
    let code = !code;
    let (exponent, mantissa) = ((code >> 4) & 7, (code & 15) as i32);
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}
