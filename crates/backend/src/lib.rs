//! The contract between the network (`s4-nn`) and a device (`s4-cpu`, `s4-cuda`).
//!
//! A backend is one type that implements every family: [`Memory`], [`KernelOps`], [`ConvOps`], [`SsmOps`],
//! [`StepOps`], [`DenseOps`], [`OptimOps`]. Operations are paper-sized (parameters and `u` to `y`) or
//! block-sized ([`DenseOps::mix_forward`]), so that a backend may fuse without changing a caller.
//!
//! Conventions, the same everywhere:
//! - activations are (batch, heads, len), time contiguous; sizes are words, matrices are the paper's letters;
//! - `x_forward` stands beside `x_backward`; arguments are outputs, inputs, sizes, in that order;
//! - parameter gradients **accumulate** (`+=`), every other output **overwrites**;
//! - operations enqueue; only [`Memory::download`] and [`Memory::synchronize`] wait for the device;
//! - arguments were validated by the caller against [`shape`]; a backend still checks every length once
//!   and answers [`Error`], never a panic;
//! - complex parameters are trailing (re, im) pairs; recurrent states are (batch, heads, 2, state/2), the
//!   real parts first, so that a state is a vector of `state` reals.
#![forbid(unsafe_code)]

pub mod conformance;
mod conv;
mod dense;
mod error;
mod kernel;
mod memory;
mod optim;
pub mod random;
mod scalar;
pub mod shape;
mod ssm;
mod step;

pub use conv::{ConvOps, ConvShape};
pub use dense::*;
pub use error::{Code, Error, Result};
pub use kernel::{KernelOps, SsmGrads, SsmParams};
pub use memory::Memory;
pub use optim::{AdamW, Clip, OptimOps};
pub use scalar::{Dtype, Scalar, all_finite};
pub use shape::*;
pub use ssm::{Algorithm, SsmCall, SsmOps};
pub use step::StepOps;

/// A device that can do everything.
pub trait Backend: KernelOps + ConvOps + SsmOps + StepOps + DenseOps + OptimOps {}
impl<B: KernelOps + ConvOps + SsmOps + StepOps + DenseOps + OptimOps> Backend for B {}
