//! Recordings piece by piece, at the rate and with the channels that are asked for.

use super::audio::{Audio, AudioReader};
use super::resample::Resampler;
use crate::{DataError, Result};

/// How many times more frames resampling may give: a header with a false rate would else take all of the memory.
const MAX_RATIO: u32 = 64;
/// Frames that are decoded at a time.
const BLOCK_FRAMES: usize = 1 << 16;

/// A recording whose frames are resampled, and averaged over channels, as they are read.
pub struct AudioStream {
    reader: AudioReader,
    resampler: Option<Resampler>,
    rate: u32,
    channels: usize,
    /// Samples that were read of the recording, in its own channels.
    block: Vec<f32>,
    /// Samples in `channels` that were not given out yet, from `taken` on.
    ready: Vec<f32>,
    taken: usize,
    has_ended: bool,
}

impl AudioStream {
    /// Reads `reader` at `rate` frames per second (`None`: its own), with one channel if `mono`.
    pub fn new(reader: AudioReader, rate: Option<u32>, mono: bool) -> Result<Self> {
        let format = reader.format();
        let channels = if mono { 1 } else { format.channels };
        let resampler = match rate {
            Some(rate) if rate / MAX_RATIO > format.rate => {
                let least = rate / MAX_RATIO;
                return Err(DataError::new(format!(
                    "expected a recording of {least} or more frames a second, to be resampled to {rate}, got {}",
                    format.rate
                )));
            }
            Some(rate) if rate != format.rate => Some(Resampler::new(channels, format.rate, rate)?),
            _ => None,
        };
        Ok(AudioStream {
            reader,
            resampler,
            rate: rate.unwrap_or(format.rate),
            channels,
            block: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            has_ended: false,
        })
    }

    /// The next frames, as many as `limit` but at the end.
    pub fn next_frames(&mut self, limit: usize) -> Result<Audio> {
        let wanted = limit.saturating_mul(self.channels);
        while self.ready.len() - self.taken < wanted && !self.has_ended {
            self.read_block()?;
        }
        let end = self.ready.len().min(self.taken.saturating_add(wanted));
        let samples = self.ready[self.taken..end].to_vec();
        self.taken = end;
        Ok(Audio { samples, rate: self.rate, channels: self.channels })
    }

    /// All frames that were not read yet.
    pub fn read_all(&mut self) -> Result<Audio> {
        while !self.has_ended {
            self.read_block()?;
        }
        self.ready.drain(..self.taken);
        self.taken = 0;
        Ok(Audio { samples: std::mem::take(&mut self.ready), rate: self.rate, channels: self.channels })
    }

    fn read_block(&mut self) -> Result<()> {
        self.ready.drain(..self.taken);
        self.taken = 0;
        self.block.clear();
        if self.reader.next_frames(BLOCK_FRAMES, &mut self.block)? == 0 {
            self.has_ended = true;
            return match &mut self.resampler {
                Some(resampler) => resampler.finish(&mut self.ready),
                None => Ok(()),
            };
        }
        let own_channels = self.reader.format().channels;
        if self.channels != own_channels {
            average_channels(&mut self.block, own_channels);
        }
        match &mut self.resampler {
            Some(resampler) => resampler.push(&self.block, &mut self.ready)?,
            None => self.ready.extend_from_slice(&self.block),
        }
        Ok(())
    }
}

/// Replaces each frame by the mean of its channels.
fn average_channels(samples: &mut Vec<f32>, channels: usize) {
    let frames = samples.len() / channels;
    for frame in 0..frames {
        let sum: f32 = samples[frame * channels..][..channels].iter().sum();
        samples[frame] = sum / channels as f32;
    }
    samples.truncate(frames);
}
