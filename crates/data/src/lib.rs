//! Datasets: readers of tables, arrays, recordings and pictures, windows over series, splits, scaling, shuffles
//! that repeat, and generators of the tasks of the S4 papers.
#![forbid(unsafe_code)]

mod error;
mod generators;
mod normalizer;
mod readers;
mod rng;
mod windows;

pub use error::*;
pub use generators::*;
pub use normalizer::*;
pub use readers::*;
pub use rng::*;
pub use windows::*;
