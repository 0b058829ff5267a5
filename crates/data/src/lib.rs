//! Datasets: CSV columns, windows over a series, splits in time, normalisation, shuffles that repeat, and
//! generators of the toy tasks of the S4 papers. Everything is f64 or integers; whoever feeds a model casts.
#![forbid(unsafe_code)]

mod error;
mod normalizer;
mod rng;
mod series_csv;
mod synthetic;
mod windows;

pub use error::*;
pub use normalizer::*;
pub use rng::*;
pub use series_csv::*;
pub use synthetic::*;
pub use windows::*;
