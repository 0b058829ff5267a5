//! Every format cut short at every length and with bytes changed: an answer or an error, never a panic, and never
//! more memory than a file of that size can need.

use s4_data::*;
use std::io::Cursor;

type Reader = fn(&[u8]) -> Result<usize>;

fn audio(bytes: &[u8]) -> Result<usize> {
    let mut reader = AudioReader::new(Cursor::new(bytes.to_vec()))?;
    let mut samples = Vec::new();
    while reader.next_frames(1 << 16, &mut samples)? > 0 {
        // A changed header may promise an endless silence, but no file of some kilobytes decodes to this.
        assert!(samples.len() < 50_000_000);
    }
    Ok(samples.len())
}

fn table(bytes: &[u8]) -> Result<usize> {
    parse_table(bytes, &TableOptions::default()).map(|t| t.rows())
}

fn cifar(bytes: &[u8]) -> Result<usize> {
    Cifar10Reader::new(bytes).next_pictures(usize::MAX).map(|p| p.map_or(0, |p| p.labels.len()))
}

fn npy(bytes: &[u8]) -> Result<usize> {
    parse_npy(bytes).map(|a| a.values.len())
}

fn npz(bytes: &[u8]) -> Result<usize> {
    parse_npz(bytes).map(|a| a.len())
}

fn idx(bytes: &[u8]) -> Result<usize> {
    parse_idx(bytes).map(|a| a.values.len())
}

fn picture(bytes: &[u8]) -> Result<usize> {
    decode_picture(bytes, Colours::Rgb).map(|p| p.pixels.len())
}

fn cases() -> Vec<(&'static str, Vec<u8>, Reader, bool)> {
    let file =
        |name: &str| std::fs::read(format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut cases: Vec<(&'static str, Vec<u8>, Reader, bool)> = Vec::new();
    // Whether every shorter file is an error.
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
        cases.push((name, file(name), audio, !matches!(name, "f32.wav" | "f64.wav")));
    }
    cases.push(("tone.flac", file("tone.flac"), audio, true));
    cases.push(("tone.mp3", file("tone.mp3"), audio, true));
    cases.push(("tone.ogg", file("tone.ogg"), audio, false));
    for name in ["f4.npy", "fortran.npy", "half.npy"] {
        cases.push((name, file(name), npy, true));
    }
    cases.push(("two.npz", file("two.npz"), npz, true));
    cases.push(("plain.npz", file("plain.npz"), npz, true));
    cases.push(("rgb.png", file("rgb.png"), picture, false));
    cases.push(("grey.png", file("grey.png"), picture, false));
    cases.push(("rgb.jpg", file("rgb.jpg"), picture, true));
    cases.push(("grey.jpg", file("grey.jpg"), picture, true));
    let pictures: Vec<u8> =
        [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5].into_iter().chain([9; 50]).collect();
    cases.push(("idx", pictures, idx, true));
    cases.push(("cifar", (0..2 * 3073).map(|i| (i % 7) as u8).collect(), cifar, false));
    let csv = "date,load,name\n2020-01-01 00:00,1.5,\"a, b\"\n2020-01-01 01:00,,c\n2020-01-01 02:00,-3e2,d\n";
    cases.push(("csv", csv.into(), table, false));
    cases.push(("column", "x\n1\n\n2.5\nNaN\n3\n".into(), table, false));
    cases
}

fn answered(name: &str, what: &str, result: Result<usize>) -> bool {
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
    for (name, bytes, read, _) in cases() {
        assert!(read(&bytes).is_ok(), "{name}: {:?}", read(&bytes));
    }
}

#[test]
fn cut_files_are_errors() {
    for (name, bytes, read, strict) in cases() {
        for length in 0..bytes.len() {
            let ok = answered(name, &format!("cut at {length}"), read(&bytes[..length]));
            assert!(!(ok && strict), "{name} cut at {length} of {} was taken for whole", bytes.len());
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    for (k, (name, bytes, read, _)) in cases().into_iter().enumerate() {
        let mut rng = DataRng::new(99, k as u64);
        for round in 0..600 {
            let mut changed = bytes.clone();
            // Headers are where harm is done: half of the changes fall there.
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
            answered(name, &format!("round {round}"), read(&changed));
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
        assert!(audio(&changed).is_err(), "byte {at}");
    }
}
