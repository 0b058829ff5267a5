//! Reading of recordings that libsndfile wrote, A-law and μ-law against its values, and resampling.

use s4_data::*;
use std::f64::consts::TAU;

fn test_file(name: &str) -> String {
    format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The sample that every test file has at this frame and channel: a sine of 440 Hz, a cosine of 1000 Hz.
fn true_sample(frame: usize, channel: usize, rate: f64) -> f64 {
    let t = frame as f64 / rate;
    if channel == 0 { 0.5 * (TAU * 440.0 * t).sin() } else { 0.25 * (TAU * 1000.0 * t).cos() }
}

/// Largest difference from the true samples, without the first and last `from` frames.
fn max_error(audio: &Audio, from: usize) -> f64 {
    let error = |(i, x): (usize, &f32)| {
        (f64::from(*x) - true_sample(i / audio.channels, i % audio.channels, f64::from(audio.rate))).abs()
    };
    let samples = audio.samples.iter().enumerate().skip(from * audio.channels);
    samples.take(audio.samples.len().saturating_sub(2 * from * audio.channels)).map(error).fold(0.0, f64::max)
}

#[test]
fn wav_of_every_coding() {
    for (name, tolerance) in [
        ("u8", 8e-3),
        ("i16", 4e-5),
        ("i24", 2e-7),
        ("i32", 1e-7),
        ("f32", 1e-7),
        ("f64", 1e-7),
        ("alaw", 1.7e-2),
        ("mulaw", 1.7e-2),
        ("extensible", 2e-7),
    ] {
        let audio = read_audio(test_file(&format!("{name}.wav"))).unwrap();
        assert_eq!((audio.rate, audio.channels, audio.samples.len()), (8000, 2, 400), "{name}");
        assert!(max_error(&audio, 0) < tolerance, "{name}: {}", max_error(&audio, 0));
    }
}

/// A WAV file with a header of these fields; `size` is the number of bytes that its data claims to have.
fn wav_file(tag: u16, channels: u16, bits: u16, data: &[u8], size: u32) -> Vec<u8> {
    let align = channels * bits.div_ceil(8);
    let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
    bytes.extend(tag.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(8000u32.to_le_bytes());
    bytes.extend((8000 * u32::from(align)).to_le_bytes());
    bytes.extend(align.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    bytes.extend(data);
    bytes
}

fn decoded_samples(bytes: Vec<u8>) -> Result<Vec<f32>> {
    Ok(AudioReader::new(std::io::Cursor::new(bytes))?.read_all()?.samples)
}

#[test]
fn telephone_codes_are_those_of_libsndfile() {
    let codes: Vec<u8> = (0..=255).collect();
    // (tag, sum of magnitudes, sum of value × code) of the 256 codes decoded to 16 bits by libsndfile 1.2.
    for (tag, magnitudes, weighted) in [(6, 1_564_672, 100_139_008i64), (7, 1_532_928, 98_107_392)] {
        let decoded = decoded_samples(wav_file(tag, 1, 8, &codes, 256)).unwrap();
        let values: Vec<i64> = decoded.iter().map(|x| (x * 32768.0) as i64).collect();
        assert_eq!(values.iter().map(|v| v.abs()).sum::<i64>(), magnitudes);
        assert_eq!(values.iter().enumerate().map(|(i, v)| i as i64 * v).sum::<i64>(), weighted);
    }
}

#[test]
fn wav_headers() {
    assert_eq!(decoded_samples(wav_file(1, 1, 8, &[0, 128, 192], 3)).unwrap(), [-1.0, 0.0, 0.5]);
    // Twelve bits stand in the upper part of sixteen.
    assert_eq!(decoded_samples(wav_file(1, 1, 12, &[0, 0x40], 2)).unwrap(), [0.5]);
    // The size that programs write when they cannot go back to fill it in: everything is read.
    assert_eq!(decoded_samples(wav_file(1, 1, 16, &[0, 0x40, 0, 0xC0], u32::MAX)).unwrap(), [0.5, -0.5]);
    for (bytes, said) in [
        (wav_file(1, 1, 16, &[0; 10], 12), "file ends"),
        (wav_file(1, 1, 16, &[0; 3], u32::MAX), "file ends"),
        (wav_file(1, 2, 16, &[0; 6], 6), "whole frames"),
        (wav_file(1, 0, 16, &[0; 6], 6), "channels"),
        (wav_file(1, 1, 64, &[0; 8], 8), "got format 1"),
        (wav_file(85, 1, 16, &[0; 8], 8), "got format 85"),
        (wav_file(1, 1, 16, &[0; 8], 8)[..40].to_vec(), "file ends"),
        (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0ab".to_vec(), "before the samples"),
        (b"RIFF\0\0\0\0WAVEfmt \xFF\xFF\xFF\xFF".to_vec(), "16 to 1,024"),
        (b"RIFF".to_vec(), "file ends"),
    ] {
        let failed = decoded_samples(bytes).unwrap_err();
        assert!(failed.offset.is_some() && failed.reason.contains(said), "{said}: {failed}");
    }
    let failed =
        decoded_samples(b"this is not a recording, it is text of some length".repeat(40)).unwrap_err();
    assert!(failed.reason.contains("WAV, FLAC, MP3 or Ogg"), "{failed}");
    let missing = read_audio(test_file("none.wav")).unwrap_err();
    assert!(missing.path.is_some(), "{missing}");
}

#[test]
fn pieces_are_the_whole() {
    for name in ["i16.wav", "tone.flac", "tone.mp3", "tone.ogg"] {
        let whole = read_audio(test_file(name)).unwrap();
        let mut reader = AudioReader::new(std::fs::File::open(test_file(name)).unwrap()).unwrap();
        let (mut pieces, mut frames) = (Vec::new(), 0);
        loop {
            let made = reader.next_frames(37, &mut pieces).unwrap();
            assert!(made <= 37);
            frames += made;
            if made == 0 {
                break;
            }
        }
        assert_eq!((pieces.len(), &pieces), (frames * whole.channels, &whole.samples), "{name}");
    }
}

#[test]
fn compressed_recordings() {
    let flac = read_audio(test_file("tone.flac")).unwrap();
    assert_eq!((flac.rate, flac.channels, flac.samples.len()), (8000, 2, 1600));
    assert!(max_error(&flac, 0) < 4e-5);
    let ogg = read_audio(test_file("tone.ogg")).unwrap();
    assert_eq!((ogg.rate, ogg.channels, ogg.samples.len()), (8000, 2, 3200));
    assert!(max_error(&ogg, 100) < 0.05, "{}", max_error(&ogg, 100));
    // The encoder's delay and padding are cut: 4,800 frames went in.
    let mp3 = read_audio(test_file("tone.mp3")).unwrap();
    assert_eq!((mp3.rate, mp3.channels, mp3.samples.len()), (16_000, 1, 4800));
    assert!(max_error(&mp3, 1200) < 0.02, "{}", max_error(&mp3, 1200));
}

#[test]
fn another_rate() {
    let tone = |frames: usize, rate: f64| -> Vec<f32> {
        (0..2 * frames).map(|i| true_sample(i / 2, i % 2, rate) as f32).collect()
    };
    for (from, to) in [(16_000u32, 8_000u32), (8_000, 16_000), (44_100, 16_000), (8_000, 8_000)] {
        let input = tone(from as usize, f64::from(from));
        let out = resample(&input, 2, from, to).unwrap();
        assert_eq!(out.len(), 2 * to as usize, "{from} to {to}");
        let audio = Audio { samples: out.clone(), rate: to, channels: 2 };
        assert!(
            max_error(&audio, to as usize / 20) < 2e-3,
            "{from} to {to}: {}",
            max_error(&audio, to as usize / 20)
        );
        // Pieces of any size give the same.
        let (mut resampler, mut pieces) = (Resampler::new(2, from, to).unwrap(), Vec::new());
        for _ in 0..2 {
            pieces.clear();
            input.chunks(2 * 333).for_each(|piece| resampler.push(piece, &mut pieces).unwrap());
            resampler.finish(&mut pieces).unwrap();
            assert_eq!(pieces, out, "{from} to {to}");
        }
    }
    assert_eq!(resample(&[], 1, 8000, 16_000).unwrap(), [0f32; 0]);
    assert_eq!(resample(&[0.0; 5], 1, 44_100, 8_000).unwrap().len(), 1);
    // Frequencies above the Nyquist frequency of the lower rate must vanish, not appear as aliases.
    let high: Vec<f32> = (0..16_000).map(|i| (TAU * 6000.0 * f64::from(i) / 16_000.0).sin() as f32).collect();
    let out = resample(&high, 1, 16_000, 8_000).unwrap();
    assert!(out[400..7600].iter().all(|x| x.abs() < 1e-3));
    for (channels, from, to) in
        [(0, 8000, 8000), (1, 0, 8000), (1, 8000, 0), (1, u32::MAX, 8000), (1, 999_983, 999_979)]
    {
        assert!(resample(&[0.0; 4], channels, from, to).is_err());
    }
    assert!(resample(&[0.0; 3], 2, 8000, 16_000).is_err());
}

#[test]
fn a_stream_is_the_recording_averaged_and_resampled() {
    for name in ["i16.wav", "tone.flac", "tone.ogg"] {
        let whole = read_audio(test_file(name)).unwrap();
        let mono: Vec<f32> = whole.samples.chunks(2).map(|frame| (frame[0] + frame[1]) / 2.0).collect();
        let expected = resample(&mono, 1, 8000, 3000).unwrap();
        let open = || AudioReader::new(std::fs::File::open(test_file(name)).unwrap()).unwrap();
        let all = AudioStream::new(open(), Some(3000), true).unwrap().read_all().unwrap();
        assert_eq!((all.rate, all.channels, &all.samples), (3000, 1, &expected), "{name}");
        let mut stream = AudioStream::new(open(), Some(3000), true).unwrap();
        let mut pieces = Vec::new();
        loop {
            let piece = stream.next_frames(7).unwrap();
            assert!(piece.samples.len() <= 7);
            if piece.samples.is_empty() {
                break;
            }
            pieces.extend(piece.samples);
        }
        assert_eq!(pieces, expected, "{name}");
        let plain = AudioStream::new(open(), None, false).unwrap().read_all().unwrap();
        assert_eq!(plain, whole, "{name}");
    }
}

#[test]
fn a_false_rate_takes_no_memory() {
    let mut wav = std::fs::read(test_file("i16.wav")).unwrap();
    wav[24..28].copy_from_slice(&1u32.to_le_bytes());
    let reader = AudioReader::new(std::io::Cursor::new(wav)).unwrap();
    let failed = AudioStream::new(reader, Some(16_000), true).err().unwrap();
    assert!(failed.reason.contains("250 or more frames"), "{failed}");
}

#[test]
fn samples_that_are_no_numbers_are_refused_by_their_place() {
    for (value, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "Infinity"), (f32::NEG_INFINITY, "-Infinity")] {
        let mut samples: Vec<f32> = (0..200_000).map(|i| (i as f32 / 9.0).sin()).collect();
        samples[2 * 70_001 + 1] = value;
        let data: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = wav_file(3, 2, 32, &data, data.len() as u32);
        for (rate, mono) in [(None, false), (None, true), (Some(16_000), false), (Some(5_000), true)] {
            let reader = AudioReader::new(std::io::Cursor::new(bytes.clone())).unwrap();
            let error = AudioStream::new(reader, rate, mono).unwrap().read_all().unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("expected finite samples, got {said} in sample 70001 of channel 1")),
                "{error}"
            );
        }
    }
}
