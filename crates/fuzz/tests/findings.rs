//! Every file that a reader once failed on is read or refused; and every file of the corpora is read.

use s4_fuzz::{readers, run};
use std::{fs, path::Path, sync::Mutex};

/// Memory is counted for the process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn findings_are_read_or_refused() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    // The folder comes with the first finding.
    if !folder.exists() {
        return;
    }
    let readers = readers();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        let reader = readers.iter().find(|reader| reader.name == name).expect(&name);
        for file in fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap().path()) {
            let outcome = run::run(reader, &fs::read(&file).unwrap());
            assert!(outcome.is_ok(), "{}: {}", file.display(), outcome.unwrap_err());
        }
    }
}

#[test]
fn whole_files_are_read() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    for reader in readers() {
        let read = reader.corpus.iter().filter(|file| run::run(&reader, file) == Ok(true)).count();
        // Of the tables one is empty, and some hold no series of numbers.
        let least = if matches!(reader.name, "csv" | "table") { 4 } else { reader.corpus.len() };
        assert!(read >= least, "{}: {read} of {}", reader.name, reader.corpus.len());
    }
}
