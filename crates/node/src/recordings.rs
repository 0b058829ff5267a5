//! Audio recordings, read and resampled away from the JavaScript thread.

use crate::{
    background::{Background, in_background},
    buffer::{Data, copied, copied_bytes},
    datasets::refused,
    error::to_js_result,
};
use napi::bindgen_prelude::{AsyncTask, Either, Float32Array, Uint8Array};
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_data::{Audio, AudioReader, AudioStream, DataError, SampleCoding};
use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A recording, or a piece of one.
#[napi(object, object_from_js = false)]
pub struct AudioData {
    /// (frames, channels), in −1 … 1.
    #[napi(ts_type = "Float32Array")]
    pub samples: Data,
    /// Frames a second.
    pub sample_rate: u32,
    /// Samples of a frame.
    pub channels: u32,
}

impl From<Audio> for AudioData {
    fn from(audio: Audio) -> Self {
        AudioData {
            samples: Data::F32(audio.samples),
            sample_rate: audio.rate,
            channels: audio.channels as u32,
        }
    }
}

/// Where the bytes of a recording are: a path, or the bytes themselves.
enum Source {
    Path(String),
    Bytes(Vec<u8>),
}

impl Source {
    fn of(source: Either<String, Uint8Array>) -> Result<Self> {
        Ok(match source {
            Either::A(path) => Source::Path(path),
            Either::B(bytes) => Source::Bytes(copied_bytes(&bytes)?),
        })
    }

    /// An error of the recording, with its path.
    fn named(op: &'static str, path: &Option<String>, error: DataError) -> Error {
        let error = match path {
            Some(path) => error.in_file(Path::new(path)),
            None => error,
        };
        refused(op, "a recording", error)
    }

    fn open(self, op: &'static str, rate: Option<u32>, mono: bool) -> Result<(Option<String>, AudioStream)> {
        let (path, reader) = match self {
            Source::Path(path) => {
                let file = std::fs::File::open(&path).map_err(DataError::new);
                let reader = file.and_then(AudioReader::new);
                (Some(path), reader)
            }
            Source::Bytes(bytes) => (None, AudioReader::new(Cursor::new(bytes))),
        };
        let stream = reader.and_then(|reader| AudioStream::new(reader, rate, mono));
        let stream = stream.map_err(|e| Self::named(op, &path, e))?;
        Ok((path, stream))
    }
}

/// A whole recording; at another rate and with its channels averaged where these are asked for.
#[napi(ts_return_type = "Promise<AudioData>")]
pub fn read_audio(
    source: Either<String, Uint8Array>,
    sample_rate: Option<u32>,
    mono: bool,
) -> napi::Result<AsyncTask<Background<AudioData>>> {
    let source = to_js_result(|| Source::of(source))?;
    Ok(in_background(move || {
        // Where nothing is changed, the plain reader knows beforehand how long the recording is.
        if let (Source::Path(path), None, false) = (&source, sample_rate, mono) {
            let audio = s4_data::read_audio(path).map_err(|e| refused("readAudio", "a recording", e))?;
            return Ok(audio.into());
        }
        let (path, mut stream) = source.open("readAudio", sample_rate, mono)?;
        let audio = stream.read_all().map_err(|e| Source::named("readAudio", &path, e))?;
        Ok(audio.into())
    }))
}

/// What is open of a recording that is read piece by piece.
enum Reading {
    Unopened(Source),
    Open(Option<String>, Box<AudioStream>),
    /// After an error.
    Failed,
}

/// A recording that is read piece by piece.
#[napi]
pub struct NativeAudioPieces {
    reading: Arc<Mutex<Reading>>,
    sample_rate: Option<u32>,
    mono: bool,
}

#[napi]
impl NativeAudioPieces {
    /// Reads nothing yet.
    #[napi(constructor)]
    pub fn new(
        source: Either<String, Uint8Array>,
        sample_rate: Option<u32>,
        mono: bool,
    ) -> napi::Result<Self> {
        let source = to_js_result(|| Source::of(source))?;
        Ok(NativeAudioPieces { reading: Arc::new(Mutex::new(Reading::Unopened(source))), sample_rate, mono })
    }

    /// The next frames, at most `limit`; none at the end. One call at a time.
    #[napi(ts_return_type = "Promise<AudioData>")]
    pub fn next(&self, limit: u32) -> AsyncTask<Background<AudioData>> {
        let (reading, rate, mono) = (self.reading.clone(), self.sample_rate, self.mono);
        let op = "audioChunks";
        in_background(move || {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            let (path, mut stream) = match std::mem::replace(&mut *reading, Reading::Failed) {
                Reading::Unopened(source) => {
                    let (path, stream) = source.open(op, rate, mono)?;
                    (path, Box::new(stream))
                }
                Reading::Open(path, stream) => (path, stream),
                Reading::Failed => {
                    return Err(Error::value(op, "a recording that can be read", "one that could not"));
                }
            };
            let piece = stream.next_frames(limit as usize).map_err(|e| Source::named(op, &path, e))?;
            *reading = Reading::Open(path, stream);
            Ok(piece.into())
        })
    }
}

/// Samples (frames, channels) at another rate.
#[napi(ts_return_type = "Promise<Float32Array>")]
pub fn resample(
    samples: Float32Array,
    channels: u32,
    from: u32,
    to: u32,
) -> napi::Result<AsyncTask<Background<Data>>> {
    let samples = to_js_result(|| copied(&samples))?;
    Ok(in_background(move || {
        let resampled = s4_data::resample(&samples, channels as usize, from, to);
        resampled.map(Data::F32).map_err(|e| refused("resample", "samples and rates", e))
    }))
}

/// The samples in bytes without a header, in −1 … 1. The bytes are whole samples.
#[napi(ts_return_type = "Float32Array")]
pub fn decode_pcm(
    bytes: Uint8Array,
    #[napi(ts_arg_type = "'u8' | 's16le' | 's24le' | 's32le' | 'f32le' | 'f64le' | 'alaw' | 'mulaw'")] format: String,
) -> napi::Result<Data> {
    to_js_result(|| {
        let coding = SampleCoding::from_name(&format)
            .ok_or_else(|| Error::value("pcmFrames", "a format of samples", &format))?;
        let mut samples = Vec::new();
        s4_data::decode_samples(coding, &bytes, &mut samples);
        Ok(Data::F32(samples))
    })
}
