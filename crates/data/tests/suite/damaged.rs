//! Files of every format, cut at every length and with random bytes changed: readers must return data or an error,
//! never panic, and never take more memory than a file of that size can need.

use s4_data::*;
use std::io::Cursor;

/// Reads a file's bytes and gives the number of values.
type ReadFile = fn(&[u8]) -> Result<usize>;

fn read_audio_bytes(bytes: &[u8]) -> Result<usize> {
    let mut reader = AudioReader::new(Cursor::new(bytes.to_vec()))?;
    let mut samples = Vec::new();
    while reader.next_frames(1 << 16, &mut samples)? > 0 {
        // A changed header may promise an endless silence, but no file of some kilobytes decodes to this.
        assert!(samples.len() < 50_000_000);
    }
    Ok(samples.len())
}

fn read_table_bytes(bytes: &[u8]) -> Result<usize> {
    parse_table(bytes, &TableOptions::default()).map(|t| t.rows())
}

fn read_cifar_bytes(bytes: &[u8]) -> Result<usize> {
    Cifar10Reader::new(bytes).next_pictures(usize::MAX).map(|p| p.map_or(0, |p| p.labels.len()))
}

fn read_npy_bytes(bytes: &[u8]) -> Result<usize> {
    parse_npy(bytes).map(|a| a.values.len())
}

fn read_npz_bytes(bytes: &[u8]) -> Result<usize> {
    parse_npz(bytes).map(|a| a.len())
}

fn read_idx_bytes(bytes: &[u8]) -> Result<usize> {
    parse_idx(bytes).map(|a| a.values.len())
}

fn read_picture_bytes(bytes: &[u8]) -> Result<usize> {
    decode_picture(bytes, Colours::Rgb).map(|p| p.pixels.len())
}

/// (name, bytes, reader, whether every shorter file must be an error).
fn test_files() -> Vec<(&'static str, Vec<u8>, ReadFile, bool)> {
    let file =
        |name: &str| std::fs::read(format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut test_files: Vec<(&'static str, Vec<u8>, ReadFile, bool)> = Vec::new();

    let wavs = [
        "u8.wav",
        "i16.wav",
        "i24.wav",
        "i32.wav",
        "f32.wav",
        "f64.wav",
        "alaw.wav",
        "mulaw.wav",
        "extensible.wav",
    ];
    for name in wavs {
        // What follows the samples may be missing.
        test_files.push((name, file(name), read_audio_bytes, !matches!(name, "f32.wav" | "f64.wav")));
    }
    test_files.push(("tone.flac", file("tone.flac"), read_audio_bytes, true));
    test_files.push(("tone.mp3", file("tone.mp3"), read_audio_bytes, true));
    test_files.push(("tone.ogg", file("tone.ogg"), read_audio_bytes, false));
    for name in ["f4.npy", "fortran.npy", "half.npy"] {
        test_files.push((name, file(name), read_npy_bytes, true));
    }
    test_files.push(("two.npz", file("two.npz"), read_npz_bytes, true));
    test_files.push(("plain.npz", file("plain.npz"), read_npz_bytes, true));
    test_files.push(("rgb.png", file("rgb.png"), read_picture_bytes, false));
    test_files.push(("grey.png", file("grey.png"), read_picture_bytes, false));
    test_files.push(("rgb.jpg", file("rgb.jpg"), read_picture_bytes, true));
    test_files.push(("grey.jpg", file("grey.jpg"), read_picture_bytes, true));
    let pictures: Vec<u8> =
        [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5].into_iter().chain([9; 50]).collect();
    test_files.push(("idx", pictures, read_idx_bytes, true));
    test_files.push(("cifar", (0..2 * 3073).map(|i| (i % 7) as u8).collect(), read_cifar_bytes, false));
    let csv = "date,load,name\n2020-01-01 00:00,1.5,\"a, b\"\n2020-01-01 01:00,,c\n2020-01-01 02:00,-3e2,d\n";
    test_files.push(("csv", csv.into(), read_table_bytes, false));
    test_files.push(("column", "x\n1\n\n2.5\nNaN\n3\n".into(), read_table_bytes, false));
    test_files
}

/// Whether reading succeeded; an error must have a reason.
fn is_read(name: &str, what: &str, result: Result<usize>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.reason.is_empty(), "{name} {what}");
            false
        }
    }
}

#[test]
fn whole_files_are_read() {
    for (name, bytes, read, _) in test_files() {
        assert!(read(&bytes).is_ok(), "{name}: {:?}", read(&bytes));
    }
}

#[test]
fn cut_files_are_errors() {
    for (name, bytes, read, every_cut_is_an_error) in test_files() {
        for length in 0..bytes.len() {
            let ok = is_read(name, &format!("cut at {length}"), read(&bytes[..length]));
            assert!(
                !(ok && every_cut_is_an_error),
                "{name} cut at {length} of {} was taken for whole",
                bytes.len()
            );
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    for (k, (name, bytes, read, _)) in test_files().into_iter().enumerate() {
        let mut rng = DataRng::new(99, k as u64);
        for round in 0..600 {
            let mut changed = bytes.clone();
            // Errors in headers are the dangerous ones, so half of the changes are among the first bytes.
            let reach = if round % 2 == 0 { bytes.len().min(96) } else { bytes.len() };
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(reach);
                changed[at] = match rng.below(4) {
                    0 => 0xFF,
                    1 => 0,
                    2 => changed[at] ^ (1 << rng.below(8)),
                    _ => rng.below(256) as u8,
                };
            }
            if rng.below(4) == 0 {
                changed.truncate(rng.below(changed.len()));
            }
            is_read(name, &format!("round {round}"), read(&changed));
        }
    }
}

#[test]
fn changed_compressed_sound_is_noticed() {
    // FLAC has checksums: no changed byte of its frames may pass for sound.
    let bytes = std::fs::read(format!("{}/tests/files/tone.flac", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for at in (bytes.len() - 600)..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read_audio_bytes(&changed).is_err(), "byte {at}");
    }
}
