//! Fuzzing of every reader of foreign bytes. Cases are files of the tests, changed at random ([`mutate`]) but
//! reproducibly: a case is known by its reader, seed and number. A reader must give a right value or an error with a
//! reason, soon, with memory in proportion to the file, and never a panic ([`run`]).
//!
//! The program `s4-fuzz` (`npm run fuzz`) makes new cases; the files in `findings/` are those that once failed, and
//! `cargo test` reads each of them.
#![forbid(unsafe_code)]

mod containers;
mod data_readers;
mod model_readers;
pub mod mutate;
mod official_readers;
pub mod reader;
pub mod run;

pub use reader::Reader;

/// All readers. Panics where a file of the tests is missing.
pub fn readers() -> Vec<Reader> {
    let mut all = data_readers::all();
    all.extend(model_readers::all());
    all.extend(official_readers::all());
    all
}

/// The allocator of every program of this crate, which knows the largest use since it was last asked to forget.
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
