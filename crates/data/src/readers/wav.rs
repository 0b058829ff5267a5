//! WAV (RIFF, the forms of Microsoft's multimedia standards): PCM of 8 to 32 bits, floats, A-law and μ-law, read as
//! a stream and without a detour.

use super::bytes::Bytes;
use crate::{DataError, Result};
use std::io::Read;

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Frames per second.
    pub rate: u32,
    /// Samples of a frame.
    pub channels: usize,
    /// How many frames there are, where the file says so.
    pub frames: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    U8,
    I16,
    I24,
    I32,
    F32,
    F64,
    ALaw,
    MuLaw,
}

/// Reads the samples of a WAV file piece by piece.
pub struct WavReader<R> {
    input: Bytes<R>,
    format: AudioFormat,
    coding: Coding,
    /// Bytes of a frame.
    frame: usize,
    /// Bytes of samples still to come; `None`: to the end of the file, as programs write that could not go back.
    left: Option<u64>,
    buffer: Vec<u8>,
}

const PIECE: usize = 1 << 16;
const STREAMED: u32 = u32::MAX;

impl<R: Read> WavReader<R> {
    /// Reads everything before the samples.
    pub fn new(input: R) -> Result<Self> {
        let mut input = Bytes::new(input);
        let [r, i, f, end, _, _, _, _, wave @ ..]: [u8; 12] = input.take("the header of WAV")?;
        if [r, i, f, end] != *b"RIFF" || wave != *b"WAVE" {
            return Err(DataError::at_byte(0, "expected a WAV file, got other first bytes"));
        }
        let mut found = None;
        loop {
            let id: [u8; 4] = input.take("a chunk's name")?;
            let size = u32::from_le_bytes(input.take("a chunk's size")?);
            match &id {
                b"fmt " => found = Some(read_format(&mut input, size)?),
                b"data" => {
                    let (format, coding, frame) =
                        found.ok_or_else(|| input.error("expected a format before the samples"))?;
                    let left = (size != STREAMED).then_some(u64::from(size));
                    if left.is_some_and(|left| left % frame as u64 != 0) {
                        let reason = format!("expected whole frames of {frame} bytes, got {size} bytes");
                        return Err(input.error(reason));
                    }
                    let format = AudioFormat { frames: left.map(|l| l / frame as u64), ..format };
                    return Ok(WavReader { input, format, coding, frame, left, buffer: Vec::new() });
                }
                _ => input.skip(u64::from(size) + u64::from(size & 1))?,
            }
        }
    }

    /// Rate, channels, length.
    pub fn format(&self) -> AudioFormat {
        self.format
    }

    /// Appends at most `limit` frames to `samples`, channels of a frame together, in −1 … 1, and returns how
    /// many; 0 at the end.
    pub fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        let mut made = 0;
        while made < limit {
            let room = (PIECE / self.frame).max(1).min(limit - made) * self.frame;
            let wanted = self.left.map_or(room, |left| left.min(room as u64) as usize);
            if wanted == 0 {
                break;
            }
            self.buffer.resize(room.max(self.buffer.len()), 0);
            let filled = self.input.fill(&mut self.buffer[..wanted])?;
            if filled < wanted && (self.left.is_some() || filled % self.frame != 0) {
                return Err(self.input.error(format!(
                    "expected {} more bytes of samples, the file ends",
                    self.left.map_or((self.frame - filled % self.frame) as u64, |l| l - filled as u64)
                )));
            }
            let room = samples.try_reserve(filled / self.frame * self.format.channels);
            room.map_err(|_| self.input.error("no memory for more samples"))?;
            decode(self.coding, &self.buffer[..filled], samples);
            self.left = self.left.map(|left| left - filled as u64);
            made += filled / self.frame;
            if filled < wanted {
                break;
            }
        }
        Ok(made)
    }
}

fn read_format<R: Read>(input: &mut Bytes<R>, size: u32) -> Result<(AudioFormat, Coding, usize)> {
    if !(16..=1024).contains(&size) {
        return Err(input.error(format!("expected a format of 16 to 1,024 bytes, got {size}")));
    }
    let fields = input.take_vec("the format", u64::from(size + (size & 1)))?;
    let short = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
    let (tag, channels, align, bits) = (short(0), usize::from(short(2)), usize::from(short(12)), short(14));
    let rate = u32::from_le_bytes([fields[4], fields[5], fields[6], fields[7]]);
    // The extensible form has the tag at the beginning of a longer identifier.
    let tag = if tag == 0xFFFE && size >= 40 { short(24) } else { tag };
    if channels == 0 || rate == 0 {
        return Err(input.error(format!("expected channels and a rate, got {channels} and {rate}")));
    }
    let width = align / channels;
    if width * channels != align || (bits != 0 && usize::from(bits.div_ceil(8)) != width) {
        let reason = format!("expected frames of {channels} whole samples of {bits} bits, got {align} bytes");
        return Err(input.error(reason));
    }
    let coding = match (tag, width) {
        (1, 1) => Coding::U8,
        (1, 2) => Coding::I16,
        (1, 3) => Coding::I24,
        (1, 4) => Coding::I32,
        (3, 4) => Coding::F32,
        (3, 8) => Coding::F64,
        (6, 1) => Coding::ALaw,
        (7, 1) => Coding::MuLaw,
        _ => {
            return Err(input.error(format!(
                "expected PCM of 8 to 32 bits, floats, A-law or μ-law, got format {tag} of {width} bytes"
            )));
        }
    };
    Ok((AudioFormat { rate, channels, frames: None }, coding, align))
}

fn decode(coding: Coding, bytes: &[u8], samples: &mut Vec<f32>) {
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
        Coding::U8 => samples.extend(bytes.iter().map(|b| (f32::from(*b) - 128.0) / 128.0)),
        Coding::I16 => {
            let scale = 1.0 / 32768.0;
            let (chunks, _) = bytes.as_chunks::<2>();
            samples.extend(chunks.iter().map(|c| f32::from(i16::from_le_bytes(*c)) * scale));
        }
        Coding::I24 => {
            let scale = 1.0 / 2147483648.0;
            let (chunks, _) = bytes.as_chunks::<3>();
            samples.extend(chunks.iter().map(|[a, b, c]| i32::from_le_bytes([0, *a, *b, *c]) as f32 * scale));
        }
        Coding::I32 => {
            let scale = 1.0 / 2147483648.0;
            let (chunks, _) = bytes.as_chunks::<4>();
            samples.extend(chunks.iter().map(|c| i32::from_le_bytes(*c) as f32 * scale));
        }
        Coding::F32 => samples.extend(bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c))),
        Coding::F64 => samples.extend(bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c) as f32)),
        Coding::ALaw => samples.extend(by_table(&A_LAW)),
        Coding::MuLaw => samples.extend(by_table(&MU_LAW)),
    }
}

/// ITU-T G.711: a sign, three bits of exponent, four of mantissa, every other bit inverted; 13 bits, left-justified.
const fn a_law_value(code: u8) -> i32 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, (code & 15) as i32);
    let magnitude = match exponent {
        0 => (mantissa << 4) + 8,
        e => ((mantissa << 4) + 0x108) << (e - 1),
    };
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

/// ITU-T G.711: all bits inverted, a bias of 33 (132 when left-justified); 14 bits, left-justified.
const fn mu_law_value(code: u8) -> i32 {
    let code = !code;
    let (exponent, mantissa) = ((code >> 4) & 7, (code & 15) as i32);
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}
