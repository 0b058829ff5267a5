//! Development only: what the tests of every crate share.
//!
//! - [`conformance`]: every operation of a backend against plain f64 forms;
//! - [`Perturbed`]: a backend with one wrong output, to show that the conformance suite can fail;
//! - [`golden`]: the one reader of the golden files;
//! - [`layer`] and [`truth`]: random layers and what they give by the oracles of `s4-ssm`, with gradients;
//! - [`relative`], [`noise`] and conversions.
#![forbid(unsafe_code)]

mod compare;
pub mod conformance;
pub mod golden;
pub mod layer;
mod noise;
mod perturbed;
pub mod truth;

pub use compare::{close, relative, relative_or_zero};
pub use noise::{cast, noise, wide};
pub use perturbed::{Output, Perturbed};
