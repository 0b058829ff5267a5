//! Another rate for a recording, by rubato's FFT resampler.

use crate::{DataError, Result};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

/// At least so many frames are transformed together.
const BLOCK: usize = 1024;
const HIGHEST_RATE: u32 = 1 << 20;
/// Rates without a large common divisor need transforms of about their own length.
const LONGEST_PERIOD: u32 = 1 << 18;

/// Changes the rate of a stream of frames, in pieces of any size: the pieces do not show in what comes out.
pub struct Resampler {
    inner: Option<Fft<f32>>,
    channels: usize,
    rates: (u32, u32),
    /// Frames that wait for a whole chunk.
    waiting: Vec<f32>,
    buffer: Vec<f32>,
    /// Frames still to be dropped: the delay of the filter.
    delay: usize,
    taken: u64,
    given: u64,
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn failed(error: impl std::fmt::Display) -> DataError {
    DataError::new(format!("resampling: {error}"))
}

/// A whole recording, (frames, channels), from one rate to another: ⌈frames·to/from⌉ frames.
pub fn resample(samples: &[f32], channels: usize, from: u32, to: u32) -> Result<Vec<f32>> {
    let mut resampler = Resampler::new(channels, from, to)?;
    let mut out = Vec::new();
    resampler.push(samples, &mut out)?;
    resampler.finish(&mut out)?;
    Ok(out)
}

impl Resampler {
    /// Rates are in frames a second, at most 2²⁰.
    pub fn new(channels: usize, from: u32, to: u32) -> Result<Self> {
        let rates = 1..=HIGHEST_RATE;
        if channels == 0 || channels > 1024 || !rates.contains(&from) || !rates.contains(&to) {
            return Err(DataError::new(format!(
                "expected 1 to 1,024 channels and rates of 1 to {HIGHEST_RATE}, got {channels}, {from} and {to}"
            )));
        }
        let divisor = gcd(from, to);
        if from.max(to) / divisor > LONGEST_PERIOD {
            return Err(DataError::new(format!("expected rates with a common measure, got {from} and {to}")));
        }
        let inner = if from == to {
            None
        } else {
            // An even number of periods: the filter's delay is half a block, and must be whole frames of both rates.
            let period = (from / divisor) as usize;
            let block = 2 * period * BLOCK.div_ceil(2 * period);
            let fft = Fft::new(from as usize, to as usize, block, channels, FixedSync::Both);
            Some(fft.map_err(failed)?)
        };
        let delay = inner.as_ref().map_or(0, |r| r.output_delay());
        let (waiting, buffer) = (Vec::new(), Vec::new());
        Ok(Resampler { inner, channels, rates: (from, to), waiting, buffer, delay, taken: 0, given: 0 })
    }

    /// Takes frames and appends those that are ready to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<()> {
        if !samples.len().is_multiple_of(self.channels) {
            return Err(DataError::new(format!(
                "expected whole frames of {} samples, got {} samples",
                self.channels,
                samples.len()
            )));
        }
        self.taken += (samples.len() / self.channels) as u64;
        if self.inner.is_none() {
            self.given = self.taken;
            out.extend_from_slice(samples);
            return Ok(());
        }
        self.waiting.extend_from_slice(samples);
        self.run(out, u64::MAX)
    }

    /// Appends what is still in the filter. The next push begins a new recording.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let (from, to) = (u128::from(self.rates.0), u128::from(self.rates.1));
        let total = (u128::from(self.taken) * to).div_ceil(from) as u64;
        while self.given < total {
            let needed = self.inner.as_ref().map_or(0, |r| r.input_frames_next());
            // Silence after the end pushes the last frames out.
            self.waiting.resize(needed.max(1) * self.channels, 0.0);
            self.run(out, total)?;
        }
        if let Some(inner) = &mut self.inner {
            inner.reset();
            self.delay = inner.output_delay();
        }
        self.waiting.clear();
        (self.taken, self.given) = (0, 0);
        Ok(())
    }

    /// Resamples whole chunks; no more than `total` frames are given in all.
    fn run(&mut self, out: &mut Vec<f32>, total: u64) -> Result<()> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let channels = self.channels;
        let frames = self.waiting.len() / channels;
        let mut begin = 0;
        while frames - begin >= inner.input_frames_next() {
            let room = inner.output_frames_next();
            self.buffer.resize(room * channels, 0.0);
            let input = InterleavedSlice::new(&self.waiting[..], channels, frames).map_err(failed)?;
            let mut output =
                InterleavedSlice::new_mut(&mut self.buffer[..], channels, room).map_err(failed)?;
            let indexing = Indexing {
                input_offset: begin,
                output_offset: 0,
                partial_len: None,
                active_channels_mask: None,
            };
            let done = inner.process_into_buffer(&input, &mut output, Some(&indexing));
            let (consumed, made) = done.map_err(failed)?;
            begin += consumed;
            let dropped = self.delay.min(made);
            self.delay -= dropped;
            let keep = ((made - dropped) as u64).min(total - self.given) as usize;
            out.extend_from_slice(&self.buffer[dropped * channels..][..keep * channels]);
            self.given += keep as u64;
        }
        self.waiting.drain(..begin * channels);
        Ok(())
    }
}
