//! Reads audio recordings as a stream of samples: WAV by this crate, FLAC, MP3 and Ogg Vorbis by the library symphonia.

use super::bytes::{ByteReader, open_file};
use super::wav::{AudioFormat, WavReader};
use crate::{DataError, Result};
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatReader, TrackType, probe::Hint};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};

/// A whole recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// (frames, channels), in −1 … 1.
    pub samples: Vec<f32>,
    /// Frames per second.
    pub rate: u32,
    /// Number of channels, the samples of one frame.
    pub channels: usize,
}

type Input = Chain<Cursor<[u8; 12]>, Box<dyn Read + Send + Sync>>;

enum Decoder {
    Wav(WavReader<Input>),
    Packets(PacketDecoder),
}

/// Decodes the packets of a compressed recording.
struct PacketDecoder {
    demuxer: Box<dyn FormatReader>,
    codec: Box<dyn AudioDecoder>,
    track: u32,
    format: AudioFormat,
    /// Samples of the last packet, of which the first `samples_taken` were given out.
    decoded: Vec<f32>,
    samples_taken: usize,
    /// Frames decoded so far.
    frames: u64,
    ended: bool,
}

/// Reads a recording piece by piece.
pub struct AudioReader {
    decoder: Decoder,
    /// Frames that were given out.
    frames: usize,
}

/// Reads a whole file.
pub fn read_audio(path: impl AsRef<Path>) -> Result<Audio> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let file = open_file(path)?;
    // A file has at most as many frames as bytes (but for silence in FLAC), so that a header with a false number of
    // frames makes us reserve no more memory than that.
    let file_bytes = file.metadata().map_or(0, |m| m.len());
    let mut reader = AudioReader::new(file).map_err(in_file)?;
    let AudioFormat { frames, channels, .. } = reader.format();
    let mut samples = Vec::new();
    let sample_count =
        usize::try_from(frames.unwrap_or(0).min(file_bytes)).unwrap_or(0).saturating_mul(channels);
    let memory = samples.try_reserve_exact(sample_count);
    memory.map_err(|_| in_file(DataError::new(format!("no memory for {sample_count} samples"))))?;
    reader.read_into(samples).map_err(in_file)
}

impl AudioReader {
    /// Recognises the format by the first bytes of `input`, which need not be buffered.
    pub fn new(input: impl Read + Send + Sync + 'static) -> Result<Self> {
        let mut input: Box<dyn Read + Send + Sync> = Box::new(BufReader::with_capacity(1 << 16, input));
        let first: [u8; 12] = ByteReader::new(&mut input).read_array("a recording")?;
        let wav = first.starts_with(b"RIFF") && first.ends_with(b"WAVE");
        let input = Cursor::new(first).chain(input);
        let decoder = match wav {
            true => Decoder::Wav(WavReader::new(input)?),
            false => Decoder::Packets(PacketDecoder::new(input)?),
        };
        Ok(AudioReader { decoder, frames: 0 })
    }

    /// Rate, channels, length.
    pub fn format(&self) -> AudioFormat {
        match &self.decoder {
            Decoder::Wav(wav) => wav.format(),
            Decoder::Packets(packets) => packets.format,
        }
    }

    /// Appends the next frames, at most `limit`, to `samples` (values −1 … 1, the channels of a frame next to each
    /// other) and returns how many there were; 0 at the end. A sample that is no finite number, as floats may be, is refused by its
    /// place: resampled it would be in all that is near it.
    pub fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        let before = samples.len();
        let (count, may_be_infinite) = match &mut self.decoder {
            Decoder::Wav(wav) => (wav.next_frames(limit, samples)?, wav.has_floats()),
            Decoder::Packets(packets) => (packets.next_frames(limit, samples)?, true),
        };
        let channels = self.format().channels;
        // The largest of their bits first, without a branch for each.
        let largest = |samples: &[f32]| samples.iter().fold(0, |most, x| most.max(x.abs().to_bits()));
        if may_be_infinite
            && !f32::from_bits(largest(&samples[before..])).is_finite()
            && let Some(at) = samples[before..].iter().position(|x| !x.is_finite())
        {
            let of_channel =
                if channels == 1 { String::new() } else { format!(" of channel {}", at % channels) };
            let value = samples[before + at];
            let value = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            return Err(DataError::new(format!(
                "expected finite samples, got {value} in sample {}{of_channel}",
                self.frames + at / channels
            )));
        }
        self.frames += count;
        Ok(count)
    }

    /// Reads all frames that were not read yet.
    pub fn read_all(&mut self) -> Result<Audio> {
        self.read_into(Vec::new())
    }

    fn read_into(&mut self, mut samples: Vec<f32>) -> Result<Audio> {
        let AudioFormat { rate, channels, .. } = self.format();
        // So many that they are in a cache still where they are looked at.
        while self.next_frames(1 << 15, &mut samples)? > 0 {}
        Ok(Audio { samples, rate, channels })
    }
}

/// An error of symphonia in words for users.
fn data_error(error: Error) -> DataError {
    DataError::new(match error {
        Error::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "expected more of a recording, the file ends".into()
        }
        Error::Unsupported(_) => {
            "expected a recording as WAV, FLAC, MP3 or Ogg Vorbis, got something else".into()
        }
        other => format!("the recording is damaged: {other}"),
    })
}

impl PacketDecoder {
    fn new(input: Input) -> Result<Self> {
        let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(input)), Default::default());
        let probe = symphonia::default::get_probe();
        let demuxer = probe.probe(&Hint::new(), stream, Default::default(), Default::default());
        let demuxer = demuxer.map_err(data_error)?;
        let unknown = || DataError::new("expected a recording with one known track of sound");
        let track = demuxer.default_track(TrackType::Audio).ok_or_else(unknown)?;
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(unknown)?;
        let options = AudioDecoderOptions::default().verify(true);
        let codec =
            symphonia::default::get_codecs().make_audio_decoder(parameters, &options).map_err(data_error)?;
        let (id, frames) = (track.id, track.num_frames);
        let rate = parameters.sample_rate.unwrap_or(0);
        let channels = parameters.channels.as_ref().map_or(0, |c| c.count());
        let format = AudioFormat { rate, channels, frames };
        let mut packets = PacketDecoder {
            demuxer,
            codec,
            track: id,
            format,
            decoded: Vec::new(),
            samples_taken: 0,
            frames: 0,
            ended: false,
        };
        if rate == 0 || channels == 0 {
            // The header has no rate or channels: the first packet does.
            packets.next_packet()?;
            if packets.format.rate == 0 || packets.format.channels == 0 {
                return Err(unknown());
            }
        }
        Ok(packets)
    }

    fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        let mut frames_given = 0;
        while frames_given < limit {
            let channels = self.format.channels;
            let ready = &self.decoded[self.samples_taken..];
            if ready.is_empty() {
                if self.ended {
                    break;
                }
                self.next_packet()?;
                continue;
            }
            let frames = (ready.len() / channels).min(limit - frames_given);
            let memory = samples.try_reserve(frames * channels);
            memory.map_err(|_| DataError::new("no memory for more samples"))?;
            samples.extend_from_slice(&ready[..frames * channels]);
            self.samples_taken += frames * channels;
            frames_given += frames;
        }
        Ok(frames_given)
    }

    /// Decodes the next packet of the track into `decoded`, or marks the end.
    fn next_packet(&mut self) -> Result<()> {
        self.decoded.clear();
        self.samples_taken = 0;
        let frames = self.frames;
        let after = |e: Error| DataError { row: Some(frames + 1), ..data_error(e) };
        loop {
            let Some(packet) = self.demuxer.next_packet().map_err(after)? else { return self.finish() };
            if packet.track_id != self.track {
                continue;
            }
            let decoded_frames = self.codec.decode(&packet).map_err(after)?;
            let (rate, channels) = (decoded_frames.spec().rate(), decoded_frames.spec().channels().count());
            if decoded_frames.frames() == 0 {
                continue;
            }
            if self.format.rate == 0 || self.format.channels == 0 {
                self.format = AudioFormat { rate, channels, ..self.format };
            }
            if (rate, channels) != (self.format.rate, self.format.channels) {
                let reason = format!(
                    "expected {} Hz and {} channels throughout, got {rate} and {channels}",
                    self.format.rate, self.format.channels
                );
                return Err(DataError { row: Some(frames + 1), ..DataError::new(reason) });
            }
            self.frames += decoded_frames.frames() as u64;
            decoded_frames.copy_to_vec_interleaved(&mut self.decoded);
            return Ok(());
        }
    }

    /// Notes that the recording has ended; an error where frames are missing or the checksum is wrong.
    fn finish(&mut self) -> Result<()> {
        self.ended = true;
        if let Some(promised) = self.format.frames.filter(|promised| *promised > self.frames) {
            return Err(DataError {
                row: Some(self.frames + 1),
                ..DataError::new(format!("expected {promised} frames, the file ends after {}", self.frames))
            });
        }
        if self.codec.finalize().verify_ok == Some(false) {
            return Err(DataError::new("the recording is damaged: its checksum is another"));
        }
        Ok(())
    }
}
