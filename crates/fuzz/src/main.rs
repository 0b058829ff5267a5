//! `s4-fuzz [--minutes N | --seconds N] [--cases N] [--seed N] [--reader NAME] [--case N] [--findings FOLDER]`
//!
//! Gives each reader new cases for its share of the time (or so many cases each), in a child process, so that a case
//! that ends the process or does not end is found too. Files that a reader fails on are written to `FOLDER/READER/`, by
//! default in `crates/fuzz/findings`. Exits with 1 where there are any. `--case` runs one case of one reader.

use s4_fuzz::{Reader, mutate, readers, run};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A case that takes longer does not end: the corpora are read in milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Faults after which a reader is given no more cases.
const MAX_FAULTS: usize = 20;
/// Exit code of a child whose last case did not end.
const DID_NOT_END: i32 = 70;

/// Options of the command line by their names.
struct Options(HashMap<String, String>);

impl Options {
    fn parse() -> Result<Self, String> {
        let mut arguments = std::env::args().skip(1);
        let mut options = HashMap::new();
        while let Some(name) = arguments.next() {
            let key = name.strip_prefix("--").ok_or(format!("expected an option, got {name}"))?;
            let value = arguments.next().ok_or(format!("expected a value of {name}"))?;
            options.insert(key.to_string(), value);
        }
        Ok(Options(options))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        self.text(name)
            .map(|x| x.parse().map_err(|_| format!("--{name}: expected a number, got {x}")))
            .transpose()
    }
}

fn say(line: &str) {
    // Nobody to tell where stdout is closed.
    drop(writeln!(io::stdout(), "{line}"));
}

/// How long and which cases one reader is given.
#[derive(Clone, Copy)]
struct Share {
    seed: u64,
    time: Duration,
    cases: u64,
}

/// What the child said of its cases.
#[derive(Default)]
struct Counts {
    cases: u64,
    read: u64,
    slowest: u64,
    faults: BTreeMap<u64, String>,
}

/// Runs cases from `from` on and says on stdout what was at fault. Before each it writes its number to `state`, since the
/// process may not live to say it.
fn child(reader: &Reader, share: Share, from: u64, state: &Path) -> io::Result<()> {
    run::catch_panics();
    let began = Instant::now();
    let case_began = Arc::new(AtomicU64::new(u64::MAX));
    let watched = case_began.clone();
    let milliseconds = move || began.elapsed().as_millis() as u64;
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(200));
            let since = watched.load(Ordering::Relaxed);
            if milliseconds().saturating_sub(since) > TIME_LIMIT.as_millis() as u64 {
                std::process::exit(DID_NOT_END);
            }
        }
    });
    let mut number_file = File::create(state)?;
    let (mut read, mut faults, mut slowest, mut number) = (0, 0, 0, from);
    while number < share.cases && (number == from || began.elapsed() < share.time) && faults < MAX_FAULTS {
        number_file.rewind()?;
        number_file.write_all(&number.to_le_bytes())?;
        let bytes = mutate::case(reader, share.seed, number);
        case_began.store(milliseconds(), Ordering::Relaxed);
        let outcome = run::run(reader, &bytes);
        slowest = slowest.max(milliseconds() - case_began.swap(u64::MAX, Ordering::Relaxed));
        match outcome {
            Ok(is_read) => read += u64::from(is_read),
            Err(fault) => {
                faults += 1;
                say(&format!("fault {number} {fault}"));
            }
        }
        number += 1;
    }
    say(&format!("end {number} {read} {slowest}"));
    Ok(())
}

/// Gives a reader its share of cases in child processes; every fault by the number of its case.
fn parent(reader: &Reader, share: Share, state: &Path) -> Result<Counts, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let (mut counts, began) = (Counts::default(), Instant::now());
    let mut from = 0;
    while from < share.cases && began.elapsed() < share.time && counts.faults.len() < MAX_FAULTS {
        let left = share.time.saturating_sub(began.elapsed()).as_millis();
        let output = Command::new(&program)
            .args(["--reader", reader.name, "--seed", &share.seed.to_string(), "--from", &from.to_string()])
            .args(["--cases", &share.cases.to_string(), "--milliseconds", &left.to_string(), "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut ended = false;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, number) = (words.next(), words.next().and_then(|n| n.parse::<u64>().ok()));
            match (kind, number, words.next()) {
                (Some("fault"), Some(number), Some(fault)) => {
                    counts.faults.insert(number, fault.to_string());
                }
                (Some("end"), Some(number), Some(figures)) => {
                    let mut figures = figures.split(' ').map(|n| n.parse::<u64>().unwrap_or_default());
                    counts.read += figures.next().unwrap_or_default();
                    counts.slowest = counts.slowest.max(figures.next().unwrap_or_default());
                    (counts.cases, ended) = (number, true);
                }
                _ => {}
            }
        }
        if ended && output.status.success() {
            break;
        }
        let last =
            fs::read(state).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map(u64::from_le_bytes);
        let last = last.ok_or(format!("the child said no number: {}", output.status))?;
        let why = match output.status.code() {
            Some(DID_NOT_END) => format!("no end after {} s", TIME_LIMIT.as_secs()),
            _ => format!(
                "the process died: {} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        };
        counts.faults.insert(last, why.replace('\n', " "));
        from = last + 1;
        counts.cases = from;
    }
    Ok(counts)
}

/// FNV-1a, for names of files.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Writes a case to `findings/READER/`.
fn keep(reader: &Reader, findings: &Path, bytes: &[u8]) -> Result<PathBuf, String> {
    let folder = findings.join(reader.name);
    let path = folder.join(format!("{:016x}", hash(bytes)));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

fn fuzz(options: &Options) -> Result<bool, String> {
    let all = readers();
    let wanted: Vec<&Reader> = match options.text("reader") {
        Some(name) => all.iter().filter(|reader| reader.name == name).collect(),
        None => all.iter().collect(),
    };
    if wanted.is_empty() {
        let names: Vec<&str> = all.iter().map(|reader| reader.name).collect();
        return Err(format!("--reader: expected one of {}", names.join(", ")));
    }
    let seconds = match options.number("minutes")? {
        Some(minutes) => Some(60 * minutes),
        None => options.number("seconds")?,
    };
    let cases = options.number("cases")?.unwrap_or(if seconds.is_none() { 2000 } else { u64::MAX });
    let time = Duration::from_secs(seconds.unwrap_or(u64::from(u32::MAX))) / wanted.len() as u32;
    let mut share = Share { seed: options.number("seed")?.unwrap_or(1), time, cases };
    let findings = options
        .text("findings")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("findings"), PathBuf::from);
    if let Some(state) = options.text("state") {
        share.time = Duration::from_millis(options.number("milliseconds")?.unwrap_or_default());
        let from = options.number("from")?.unwrap_or_default();
        return child(wanted[0], share, from, Path::new(state)).map(|()| true).map_err(|e| e.to_string());
    }
    if let Some(number) = options.number("case")? {
        let bytes = mutate::case(wanted[0], share.seed, number);
        say(&format!("{} bytes: {:?}", bytes.len(), run::run(wanted[0], &bytes)));
        return Ok(true);
    }
    let state = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let (mut total, mut faults) = (0, 0);
    for reader in wanted {
        let counts = parent(reader, share, state.path())?;
        total += counts.cases;
        say(&format!(
            "{:<20} {:>9} cases, {:>8} read, the rest refused; slowest {} ms; {} faults",
            reader.name,
            counts.cases,
            counts.read,
            counts.slowest,
            counts.faults.len()
        ));
        for (number, fault) in &counts.faults {
            let path = keep(reader, &findings, &mutate::case(reader, share.seed, *number))?;
            say(&format!("    case {number}: {fault}\n        {}", path.display()));
            faults += 1;
        }
    }
    say(&format!("seed {}: {total} cases, {faults} faults", share.seed));
    Ok(faults == 0)
}

fn main() -> ExitCode {
    match Options::parse().and_then(|options| fuzz(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            say(&reason);
            ExitCode::FAILURE
        }
    }
}
