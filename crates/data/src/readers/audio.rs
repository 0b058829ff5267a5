//! Recordings of any known format as samples, read as a stream: WAV directly, FLAC, MP3 and Ogg Vorbis by
//! symphonia.

use super::bytes::{Bytes, open};
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
    /// Samples of a frame.
    pub channels: usize,
}

type Input = Chain<Cursor<[u8; 12]>, Box<dyn Read + Send + Sync>>;

enum Decoding {
    Wav(WavReader<Input>),
    Packets(Packets),
}

/// Packets of a compressed recording.
struct Packets {
    demuxer: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    format: AudioFormat,
    /// Samples decoded and not yet asked for begin at `taken`.
    decoded: Vec<f32>,
    taken: usize,
    /// Frames decoded so far.
    frames: u64,
    ended: bool,
}

/// Reads a recording piece by piece.
pub struct AudioReader {
    decoding: Decoding,
}

/// Reads a whole file.
pub fn read_audio(path: impl AsRef<Path>) -> Result<Audio> {
    let path = path.as_ref();
    let in_file = |e: DataError| e.in_file(path);
    let file = open(path)?;
    // No file has more frames than bytes, silence in FLAC aside: a false header reserves no more than that.
    let most = file.metadata().map_or(0, |m| m.len());
    let mut reader = AudioReader::new(file).map_err(in_file)?;
    let AudioFormat { frames, channels, .. } = reader.format();
    let mut samples = Vec::new();
    let room = usize::try_from(frames.unwrap_or(0).min(most)).unwrap_or(0).saturating_mul(channels);
    let memory = samples.try_reserve_exact(room);
    memory.map_err(|_| in_file(DataError::new(format!("no memory for {room} samples"))))?;
    reader.read_into(samples).map_err(in_file)
}

impl AudioReader {
    /// Finds out the format by the first bytes. The input is buffered here.
    pub fn new(input: impl Read + Send + Sync + 'static) -> Result<Self> {
        let mut input: Box<dyn Read + Send + Sync> = Box::new(BufReader::with_capacity(1 << 16, input));
        let first: [u8; 12] = Bytes::new(&mut input).take("a recording")?;
        let wav = first.starts_with(b"RIFF") && first.ends_with(b"WAVE");
        let input = Cursor::new(first).chain(input);
        let decoding = match wav {
            true => Decoding::Wav(WavReader::new(input)?),
            false => Decoding::Packets(Packets::new(input)?),
        };
        Ok(AudioReader { decoding })
    }

    /// Rate, channels, length.
    pub fn format(&self) -> AudioFormat {
        match &self.decoding {
            Decoding::Wav(wav) => wav.format(),
            Decoding::Packets(packets) => packets.format,
        }
    }

    /// Appends at most `limit` frames to `samples`, channels of a frame together, in −1 … 1, and returns how
    /// many; 0 at the end.
    pub fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        match &mut self.decoding {
            Decoding::Wav(wav) => wav.next_frames(limit, samples),
            Decoding::Packets(packets) => packets.next_frames(limit, samples),
        }
    }

    /// Reads all frames that were not read yet.
    pub fn read_all(&mut self) -> Result<Audio> {
        self.read_into(Vec::new())
    }

    fn read_into(&mut self, mut samples: Vec<f32>) -> Result<Audio> {
        let AudioFormat { rate, channels, .. } = self.format();
        while self.next_frames(1 << 20, &mut samples)? > 0 {}
        Ok(Audio { samples, rate, channels })
    }
}

/// What symphonia says, in words for users.
fn reason(error: Error) -> DataError {
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

impl Packets {
    fn new(input: Input) -> Result<Self> {
        let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(input)), Default::default());
        let probe = symphonia::default::get_probe();
        let demuxer = probe.probe(&Hint::new(), stream, Default::default(), Default::default());
        let demuxer = demuxer.map_err(reason)?;
        let unknown = || DataError::new("expected a recording with one known track of sound");
        let track = demuxer.default_track(TrackType::Audio).ok_or_else(unknown)?;
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(unknown)?;
        let options = AudioDecoderOptions::default().verify(true);
        let decoder =
            symphonia::default::get_codecs().make_audio_decoder(parameters, &options).map_err(reason)?;
        let (id, frames) = (track.id, track.num_frames);
        let rate = parameters.sample_rate.unwrap_or(0);
        let channels = parameters.channels.as_ref().map_or(0, |c| c.count());
        let format = AudioFormat { rate, channels, frames };
        let mut packets = Packets {
            demuxer,
            decoder,
            track: id,
            format,
            decoded: Vec::new(),
            taken: 0,
            frames: 0,
            ended: false,
        };
        if rate == 0 || channels == 0 {
            // Only the first packet says.
            packets.next_packet()?;
            if packets.format.rate == 0 || packets.format.channels == 0 {
                return Err(unknown());
            }
        }
        Ok(packets)
    }

    fn next_frames(&mut self, limit: usize, samples: &mut Vec<f32>) -> Result<usize> {
        let mut made = 0;
        while made < limit {
            let channels = self.format.channels;
            let ready = &self.decoded[self.taken..];
            if ready.is_empty() {
                if self.ended {
                    break;
                }
                self.next_packet()?;
                continue;
            }
            let frames = (ready.len() / channels).min(limit - made);
            let memory = samples.try_reserve(frames * channels);
            memory.map_err(|_| DataError::new("no memory for more samples"))?;
            samples.extend_from_slice(&ready[..frames * channels]);
            self.taken += frames * channels;
            made += frames;
        }
        Ok(made)
    }

    /// Decodes the next packet of the track into `decoded`, or marks the end.
    fn next_packet(&mut self) -> Result<()> {
        self.decoded.clear();
        self.taken = 0;
        let frames = self.frames;
        let after = |e: Error| DataError { row: Some(frames + 1), ..reason(e) };
        loop {
            let Some(packet) = self.demuxer.next_packet().map_err(after)? else { return self.end() };
            if packet.track_id != self.track {
                continue;
            }
            let buffer = self.decoder.decode(&packet).map_err(after)?;
            let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
            if buffer.frames() == 0 {
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
            self.frames += buffer.frames() as u64;
            buffer.copy_to_vec_interleaved(&mut self.decoded);
            return Ok(());
        }
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        if let Some(promised) = self.format.frames.filter(|promised| *promised > self.frames) {
            return Err(DataError {
                row: Some(self.frames + 1),
                ..DataError::new(format!("expected {promised} frames, the file ends after {}", self.frames))
            });
        }
        if self.decoder.finalize().verify_ok == Some(false) {
            return Err(DataError::new("the recording is damaged: its checksum is another"));
        }
        Ok(())
    }
}
