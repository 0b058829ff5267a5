//! Measures the speed of readers and generators: `cargo bench -p s4-data`. Files are written to a temporary folder and
//! read from the page cache; the best of three runs counts. On Linux the speed is also given for the CPU time of the
//! calling thread, which other programs on the machine affect less than the time of the clock.

use s4_data::*;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// CPU time of this thread so far, in seconds; `None` where the system does not tell.
fn thread_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<f64>().ok().map(|ns| ns / 1e9)
}

/// Runs three times and gives the best speed, in what `run` returns per second: by the clock, and by the CPU time of
/// this thread.
fn best_speed(mut run: impl FnMut() -> f64) -> (f64, Option<f64>) {
    let mut best = (0f64, None);
    for _ in 0..3 {
        let (begin, before) = (Instant::now(), thread_seconds());
        let amount = run();
        best.0 = best.0.max(amount / begin.elapsed().as_secs_f64());
        if let (Some(before), Some(after)) = (before, thread_seconds()) {
            best.1 = Some(best.1.unwrap_or(0f64).max(amount / (after - before)));
        }
    }
    best
}

fn megabytes(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |m| m.len() as f64 / 1e6)
}

/// Writes a table of seven columns of numbers, with a column of dates before them if `dates`, as the ETT data sets
/// have.
fn write_table(path: &Path, dates: bool, digits: usize) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "{}HUFL,HULL,MUFL,MULL,LUFL,LULL,OT", if dates { "date," } else { "" })?;
    let mut rng = DataRng::new(1, 1);
    for i in 0..600_000u32 {
        if dates {
            let (day, hour) = (i / 24 % 28 + 1, i % 24);
            write!(file, "{:04}-{:02}-{day:02} {hour:02}:00:00,", 2000 + i / 9000, i / 700 % 12 + 1)?;
        }
        for c in 0..7 {
            write!(file, "{:.digits$}{}", 40.0 * rng.normal(), if c < 6 { "," } else { "\n" })?;
        }
    }
    file.flush()
}

fn write_wav(path: &Path, bits: u16, frames: u32) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let width = u32::from(bits / 8);
    file.write_all(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0")?;
    file.write_all(&16_000u32.to_le_bytes())?;
    file.write_all(&(16_000 * width).to_le_bytes())?;
    file.write_all(&(width as u16).to_le_bytes())?;
    file.write_all(&bits.to_le_bytes())?;
    file.write_all(b"data")?;
    file.write_all(&(frames * width).to_le_bytes())?;
    let mut rng = DataRng::new(2, 2);
    for _ in 0..frames {
        file.write_all(&rng.next_u64().to_le_bytes()[..width as usize])?;
    }
    file.flush()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut stdout = std::io::stdout();
    let mut report = |what: &str, speed: (f64, Option<f64>), unit: &str| {
        let own = speed.1.map(|s| format!(" ({s:.0} by the thread's own time)")).unwrap_or_default();
        writeln!(stdout, "{what:<44}{:>10.0} {unit}{own}", speed.0)
    };
    // For work on all threads of a pool, the CPU time of this thread says nothing.
    let pool = |speed: (f64, Option<f64>)| (speed.0, None);
    for (name, dates, digits) in [
        ("CSV, date and 7 numbers of 3 digits", true, 3),
        ("CSV, 7 numbers of 3 digits", false, 3),
        ("CSV, 7 numbers of 15 digits", false, 15),
    ] {
        let path = folder.path().join("table.csv");
        write_table(&path, dates, digits)?;
        let read =
            || read_table(&path, &TableOptions::default()).map_or(0.0, |t| f64::from(u8::from(t.rows() > 0)));
        report(name, best_speed(|| megabytes(&path) * read()), "MB/s")?;
    }
    for bits in [8, 16, 24, 32] {
        let path = folder.path().join("sound.wav");
        write_wav(&path, bits, 40_000_000)?;
        let whole = best_speed(|| read_audio(&path).map_or(0.0, |_| megabytes(&path)));
        report(&format!("WAV of {bits} bits, whole file"), whole, "MB/s")?;
        let streamed = best_speed(|| {
            let read = || -> Result<f64> {
                let file = std::fs::File::open(&path).map_err(DataError::new)?;
                let mut reader = AudioReader::new(file)?;
                let mut samples = Vec::new();
                while reader.next_frames(1 << 16, &mut samples)? > 0 {
                    samples.clear();
                }
                Ok(megabytes(&path))
            };
            read().unwrap_or(0.0)
        });
        report(&format!("WAV of {bits} bits, in pieces"), streamed, "MB/s")?;
    }
    let sound: Vec<f32> = (0..16_000 * 60).map(|i| (i as f32 * 0.1).sin()).collect();
    let resampled =
        best_speed(|| resample(&sound, 1, 16_000, 8_000).map_or(0.0, |_| sound.len() as f64 / 1e6));
    report("resampling 16 to 8 kHz", resampled, "million frames/s")?;

    let pathfinder = Pathfinder::new(PathfinderRules::pathfinder())?;
    let made = pathfinder.examples(1, 0..4000);
    let mut paths = Vec::new();
    for (i, pixels) in made.pixels.chunks(3 * 1024).enumerate().take(1300) {
        let path = folder.path().join(format!("{i}.jpg"));
        let picture = image::RgbImage::from_raw(32, 32, pixels.to_vec()).ok_or("a picture of 32 × 32")?;
        picture.save(&path)?;
        paths.push(path);
    }
    let pictures = || read_pictures(&paths, Colours::Rgb).map_or(0.0, |p| p.count as f64);
    report("JPEG of 32 × 32, files", pool(best_speed(|| (0..4).map(|_| pictures()).sum())), "pictures/s")?;

    report("ListOps", pool(best_speed(|| listops(20_000, 1).map_or(0.0, |l| l.count() as f64))), "trees/s")?;
    let draw = |p: &Pathfinder, n: u64| pool(best_speed(|| p.examples(1, 0..n).labels.len() as f64));
    report("Pathfinder, 32 × 32", draw(&pathfinder, 6_000), "pictures/s")?;
    let path_x = Pathfinder::new(PathfinderRules::path_x())?;
    report("Path-X, 128 × 128", draw(&path_x, 1_000), "pictures/s")?;
    Ok(())
}
