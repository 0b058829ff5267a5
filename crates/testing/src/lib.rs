//! Test support for all crates; no part of the product.
//!
//! - [`conformance`]: compares every operation of a backend with a plain implementation in f64;
//! - [`Perturbed`]: a backend with one wrong output, to show that the conformance tests find it;
//! - [`golden`]: reads the golden files, arrays computed by the official code;
//! - [`layer`] and [`truth`]: random layers, and their outputs and gradients by the oracles of `s4-ssm`;
//! - [`intervals`]: the same for time steps with intervals of their own;
//! - [`relative`], [`noise`] and conversions.
#![forbid(unsafe_code)]

mod compare;
pub mod conformance;
pub mod golden;
pub mod intervals;
pub mod layer;
mod noise;
mod perturbed;
pub mod truth;

pub use compare::{close, relative, relative_or_zero};
pub use noise::{cast, noise, wide};
pub use perturbed::{Output, Perturbed};
