//! Changes the sampling rate of recordings, by the FFT resampler of the library rubato.

use crate::{DataError, Result};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

/// Smallest number of frames that are transformed together.
const MIN_BLOCK_FRAMES: usize = 1024;
/// Highest sampling rate, in frames per second.
const MAX_RATE: u32 = 1 << 20;
/// Limit of the rates divided by their greatest common divisor, since the FFT is about that long.
const MAX_PERIOD: u32 = 1 << 18;

/// Changes the sampling rate of a stream of frames, which come in pieces of any size; the result does not depend on how
/// the stream is cut into pieces.
pub struct Resampler {
    fft_resampler: Option<Fft<f32>>,
    channels: usize,
    rates: (u32, u32),
    /// Samples that wait until there are enough for a block.
    waiting_samples: Vec<f32>,
    buffer: Vec<f32>,
    /// Frames of the result that are still to be dropped, since the filter delays its output.
    delay_frames: usize,
    frames_taken: u64,
    frames_given: u64,
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn resampling_error(error: impl std::fmt::Display) -> DataError {
    DataError::new(format!("resampling: {error}"))
}

/// Resamples a whole recording (frames, channels) from one rate to another; gives ⌈frames·to/from⌉ frames.
pub fn resample(samples: &[f32], channels: usize, from: u32, to: u32) -> Result<Vec<f32>> {
    let mut resampler = Resampler::new(channels, from, to)?;
    let mut resampled = Vec::new();
    resampler.push(samples, &mut resampled)?;
    resampler.finish(&mut resampled)?;
    Ok(resampled)
}

impl Resampler {
    /// A resampler from the rate `from` to the rate `to`, in frames per second, at most 2²⁰.
    pub fn new(channels: usize, from: u32, to: u32) -> Result<Self> {
        let rates = 1..=MAX_RATE;
        if channels == 0 || channels > 1024 || !rates.contains(&from) || !rates.contains(&to) {
            return Err(DataError::new(format!(
                "expected 1 to 1,024 channels and rates of 1 to {MAX_RATE}, got {channels}, {from} and {to}"
            )));
        }
        let divisor = gcd(from, to);
        if from.max(to) / divisor > MAX_PERIOD {
            return Err(DataError::new(format!("expected rates with a common measure, got {from} and {to}")));
        }
        let fft_resampler = if from == to {
            None
        } else {
            // The filter's delay is half a block and must be a whole number of frames at both rates, so that a block
            // has an even number of periods.
            let period = (from / divisor) as usize;
            let block = 2 * period * MIN_BLOCK_FRAMES.div_ceil(2 * period);
            let resampler = Fft::new(from as usize, to as usize, block, channels, FixedSync::Both);
            Some(resampler.map_err(resampling_error)?)
        };
        let delay_frames = fft_resampler.as_ref().map_or(0, |r| r.output_delay());
        let (waiting_samples, buffer) = (Vec::new(), Vec::new());
        Ok(Resampler {
            fft_resampler,
            channels,
            rates: (from, to),
            waiting_samples,
            buffer,
            delay_frames,
            frames_taken: 0,
            frames_given: 0,
        })
    }

    /// Takes frames of the recording and appends the resampled frames that are ready to `resampled`.
    pub fn push(&mut self, samples: &[f32], resampled: &mut Vec<f32>) -> Result<()> {
        if !samples.len().is_multiple_of(self.channels) {
            return Err(DataError::new(format!(
                "expected whole frames of {} samples, got {} samples",
                self.channels,
                samples.len()
            )));
        }
        self.frames_taken += (samples.len() / self.channels) as u64;
        if self.fft_resampler.is_none() {
            self.frames_given = self.frames_taken;
            resampled.extend_from_slice(samples);
            return Ok(());
        }
        self.waiting_samples.extend_from_slice(samples);
        self.resample_blocks(resampled, u64::MAX)
    }

    /// Ends the recording and appends its last frames to `resampled`. The next push begins a new recording.
    pub fn finish(&mut self, resampled: &mut Vec<f32>) -> Result<()> {
        let (from, to) = (u128::from(self.rates.0), u128::from(self.rates.1));
        let total = (u128::from(self.frames_taken) * to).div_ceil(from) as u64;
        while self.frames_given < total {
            let needed = self.fft_resampler.as_ref().map_or(0, |r| r.input_frames_next());
            // The last frames leave the filter when silence follows them.
            self.waiting_samples.resize(needed.max(1) * self.channels, 0.0);
            self.resample_blocks(resampled, total)?;
        }
        if let Some(fft_resampler) = &mut self.fft_resampler {
            fft_resampler.reset();
            self.delay_frames = fft_resampler.output_delay();
        }
        self.waiting_samples.clear();
        (self.frames_taken, self.frames_given) = (0, 0);
        Ok(())
    }

    /// Resamples the waiting samples, as many as make whole blocks. At most `total` frames are given for a recording.
    fn resample_blocks(&mut self, resampled: &mut Vec<f32>, total: u64) -> Result<()> {
        let Some(fft_resampler) = &mut self.fft_resampler else { return Ok(()) };
        let channels = self.channels;
        let frames = self.waiting_samples.len() / channels;
        let mut begin = 0;
        while frames - begin >= fft_resampler.input_frames_next() {
            let output_frames = fft_resampler.output_frames_next();
            self.buffer.resize(output_frames * channels, 0.0);
            let input = InterleavedSlice::new(&self.waiting_samples[..], channels, frames)
                .map_err(resampling_error)?;
            let mut output = InterleavedSlice::new_mut(&mut self.buffer[..], channels, output_frames)
                .map_err(resampling_error)?;
            let indexing = Indexing {
                input_offset: begin,
                output_offset: 0,
                partial_len: None,
                active_channels_mask: None,
            };
            let done = fft_resampler.process_into_buffer(&input, &mut output, Some(&indexing));
            let (consumed, frames_made) = done.map_err(resampling_error)?;
            begin += consumed;
            let dropped = self.delay_frames.min(frames_made);
            self.delay_frames -= dropped;
            let keep = ((frames_made - dropped) as u64).min(total - self.frames_given) as usize;
            resampled.extend_from_slice(&self.buffer[dropped * channels..][..keep * channels]);
            self.frames_given += keep as u64;
        }
        self.waiting_samples.drain(..begin * channels);
        Ok(())
    }
}
