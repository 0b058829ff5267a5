//! Datasets: readers of tables, arrays, recordings and pictures, windows over series, splits, scaling, shuffles
//! that repeat, and generators of the tasks of the S4 papers.
#![forbid(unsafe_code)]

mod calendar;
mod error;
mod generators;
mod readers;
mod rng;
mod scaler;
mod split;
mod windows;

pub use calendar::*;
pub use error::*;
pub use generators::*;
pub use readers::*;
pub use rng::*;
pub use scaler::*;
pub use split::*;
pub use windows::*;
