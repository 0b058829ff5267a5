//! The readers of data sets: text tables, arrays, pictures, sound.

use crate::{
    containers::Container,
    reader::{MIB, Outcome, Reader, test_file},
};
use s4_data::*;
use std::io::Cursor;

/// A refusal must say why; a value must pass `judge`.
fn judged<T>(result: Result<T>, judge: impl FnOnce(&T) -> std::result::Result<(), String>) -> Outcome {
    match result {
        Ok(value) => judge(&value).map(|()| true),
        Err(error) if error.reason.is_empty() => Err("an error without a reason".into()),
        // A message is for people: it must not repeat the file.
        Err(error) if error.to_string().len() > 4000 => {
            Err(format!("an error message of {} bytes", error.to_string().len()))
        }
        Err(_) => Ok(false),
    }
}

fn require(what: &str, holds: bool) -> std::result::Result<(), String> {
    if holds { Ok(()) } else { Err(format!("a wrong value: {what}")) }
}

fn judge_array(array: &NumberArray) -> std::result::Result<(), String> {
    let elements = array.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    require("as many elements as the shape says", elements == Some(array.values.len()))
}

fn read_table_bytes(bytes: &[u8]) -> Outcome {
    let options = TableOptions::default();
    let plain = parse_table(bytes, &options);
    // On all threads the same; in pieces, where fewer lines may be known at first, whatever is sound.
    let shared = s4_data::read_table_bytes(bytes, &options);
    let same = match (&plain, &shared) {
        // NaN is no number equal to itself.
        (Ok(plain), Ok(shared)) => format!("{:?}", plain.columns) == format!("{:?}", shared.columns),
        (Err(plain), Err(shared)) => plain.reason == shared.reason,
        _ => false,
    };
    require("the same on all threads", same)?;
    let mut pieces = TablePieces::new(options);
    let mut is_sound = true;
    for piece in bytes.chunks(97) {
        match pieces.push(piece) {
            Ok(rows) => rows.iter().try_for_each(equal_lengths)?,
            Err(_) => {
                is_sound = false;
                break;
            }
        }
    }
    if is_sound {
        judged(pieces.finish(), equal_lengths)?;
    }
    judged(plain, equal_lengths)
}

/// Whether the columns of a table have as many values as it has rows.
fn equal_lengths(table: &Table) -> std::result::Result<(), String> {
    let is_whole = table.columns.iter().all(|column| {
        let values = match &column.values {
            ColumnValues::Numbers(x) => x.len(),
            ColumnValues::Times(x) => x.len(),
            ColumnValues::Text(x) => x.len(),
        };
        values == table.rows() && column.missing.len() == table.rows()
    });
    require("columns of equal length", is_whole)
}

fn read_csv_bytes(bytes: &[u8]) -> Outcome {
    for gaps in [Gaps::Error, Gaps::Linear] {
        for header in [None, Some(true), Some(false)] {
            let options = CsvOptions { gaps, header, ..Default::default() };
            judged(parse_csv(bytes, &options), |series| {
                require("finite numbers", series.iter().all(|x| x.is_finite()))
            })?;
        }
    }
    judged(parse_csv(bytes, &CsvOptions::default()), |_| Ok(()))
}

fn read_picture_bytes(bytes: &[u8]) -> Outcome {
    for colours in [Colours::AsStored, Colours::Grey, Colours::Rgb] {
        judged(decode_picture(bytes, colours), |p| {
            let pixels = p.width * p.height * p.channels;
            require("as many bytes as pixels", p.pixels.len() == pixels && p.count == 1 && pixels > 0)
        })?;
    }
    judged(decode_picture(bytes, Colours::AsStored), |_| Ok(()))
}

fn read_audio_bytes(bytes: &[u8]) -> Outcome {
    let mut samples = Vec::new();
    let mut read = || -> Result<bool> {
        let mut reader = AudioReader::new(Cursor::new(bytes.to_vec()))?;
        let format = reader.format();
        let mut sound = format.channels > 0 && format.rate > 0;
        // Piece by piece, as a caller reads a long recording.
        loop {
            samples.clear();
            let frames = reader.next_frames(1 << 12, &mut samples)?;
            sound &= samples.len() == frames * format.channels;
            if frames == 0 {
                return Ok(sound);
            }
        }
    };
    judged(read(), |sound| require("whole frames", *sound))?;
    let mono = || -> Result<bool> {
        let mut stream = AudioStream::new(AudioReader::new(Cursor::new(bytes.to_vec()))?, None, true)?;
        loop {
            let piece = stream.next_frames(1 << 12)?;
            if piece.samples.is_empty() {
                return Ok(piece.channels == 1);
            }
        }
    };
    judged(mono(), |is_mono| require("one channel", *is_mono))
}

fn read_cifar_bytes(bytes: &[u8]) -> Outcome {
    judged(Cifar10Reader::new(bytes).next_pictures(usize::MAX), |pictures| {
        let Some(p) = pictures else { return Ok(()) };
        let labels = p.labels.iter().all(|&label| label < 10);
        require("labels with pictures", labels && p.pixels.len() == p.labels.len() * 32 * 32 * 3)
    })
}

fn read_npz_bytes(bytes: &[u8]) -> Outcome {
    judged(parse_npz(bytes), |arrays| arrays.iter().try_for_each(|(_, array)| judge_array(array)))
}

fn data_files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| test_file(&format!("crates/data/tests/files/{name}"))).collect()
}

/// Text tables as people have them.
fn tables() -> Vec<Vec<u8>> {
    let mut long = String::from("date,load,name\n");
    for hour in 0..48 {
        long += &format!("2020-01-{:02} {:02}:00,{}.5,row {hour}\n", 1 + hour / 24, hour % 24, hour * 3);
    }
    let others = [
        "date,load,name\n2020-01-01 00:00,1.5,\"a, b\"\n2020-01-01 01:00,,c\n2020-01-01 02:00,-3e2,d\n",
        "x\n1\n\n2.5\nNaN\n3\n",
        "1;2,5\n3;4,5\n",
        "a\tb\r\n1\t2\r\n3\t4\r\n",
        "\u{feff}\"t\"\"x\",y\n\"1\n2\",3\n",
        "time,v\n1577836800,1\n1577840400,2\n",
        "when,v\n01/02/2020 13:45:00,1\n2020-02-30T00:00:00Z,2\n2020-01-01T00:00:00+99:00,3\n",
        "",
    ];
    others.iter().map(|text| text.as_bytes().to_vec()).chain([long.into_bytes()]).collect()
}

fn idx_files() -> Vec<Vec<u8>> {
    let pictures = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5].into_iter().chain([9; 50]).collect();
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3, 4];
    let doubles = [0, 0, 14, 1, 0, 0, 0, 2].into_iter().chain([63; 16]).collect();
    vec![pictures, labels, doubles]
}

/// All readers of data sets.
pub(crate) fn all() -> Vec<Reader> {
    let reader = |name, corpus, container, words, memory, read: fn(&[u8]) -> Outcome| Reader {
        name,
        corpus,
        container,
        words,
        memory,
        read: Box::new(read),
    };
    let plain = Container::Plain;
    let text_words: &[&str] = &[
        "\"",
        "\n",
        ",",
        ";",
        "\t",
        "\r\n",
        "NaN",
        "inf",
        "1e999",
        "-",
        "2020-01-01T00:00:00Z",
        "24:00",
        "\u{feff}",
        "é",
        "9999-12-31",
        "-9999-01-01",
        "\0",
    ];
    let npy_words: &[&str] = &[
        "'descr'",
        "'<f8'",
        "'>i4'",
        "'|b1'",
        "True",
        "False",
        "(",
        ")",
        "(0,)",
        ",",
        "'fortran_order'",
        "L",
    ];
    let wav_words: &[&str] =
        &["RIFF", "WAVE", "fmt ", "data", "fact", "LIST", "OggS", "fLaC", "ID3", "\u{1}vorbis"];
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
    vec![
        reader("table", tables(), plain, text_words, (4 * MIB, 96), read_table_bytes),
        reader("csv", tables(), plain, text_words, (4 * MIB, 96), read_csv_bytes),
        reader(
            "npy",
            data_files(&["f4.npy", "fortran.npy", "half.npy"]),
            plain,
            npy_words,
            (4 * MIB, 64),
            |bytes| judged(parse_npy(bytes), judge_array),
        ),
        // Deflate folds 1,032 bytes into one, and an array is held twice while it is converted.
        reader(
            "npz",
            data_files(&["two.npz", "plain.npz"]),
            Container::Zip,
            npy_words,
            (8 * MIB, 4 * 1032),
            read_npz_bytes,
        ),
        reader("idx", idx_files(), plain, &[], (4 * MIB, 64), |bytes| judged(parse_idx(bytes), judge_array)),
        reader(
            "cifar",
            vec![(0..2 * 3073).map(|i| (i % 7) as u8).collect()],
            plain,
            &[],
            (4 * MIB, 16),
            read_cifar_bytes,
        ),
        // Deflate folds 1,032 bytes into one, each of up to eight pixels; a pixel becomes a byte and then three.
        reader(
            "png",
            data_files(&["rgb.png", "grey.png"]),
            Container::Png,
            &["IHDR", "IDAT", "PLTE", "tRNS", "IEND", "iCCP", "acTL", "fcTL", "fdAT", "gAMA"],
            (4 * MIB, 1032 * 8 * 4),
            read_picture_bytes,
        ),
        reader(
            "jpeg",
            data_files(&["rgb.jpg", "grey.jpg"]),
            plain,
            &["\u{0}", "JFIF", "Exif", "ICC_PROFILE"],
            (8 * MIB, 1 << 13),
            read_picture_bytes,
        ),
        // With the mark of another format in it a file may be read as that one, by its decoder with buffers of its own.
        reader("wav", data_files(&wavs), plain, wav_words, (16 * MIB, 64), read_audio_bytes),
        reader("flac", data_files(&["tone.flac"]), plain, wav_words, (16 * MIB, 64), read_audio_bytes),
        reader("mp3", data_files(&["tone.mp3"]), plain, wav_words, (16 * MIB, 64), read_audio_bytes),
        reader("ogg", data_files(&["tone.ogg"]), plain, wav_words, (64 * MIB, 64), read_audio_bytes),
    ]
}
