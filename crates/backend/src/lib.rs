//! The contract between the network (`s4-nn`) and a device (`s4-cpu`, `s4-cuda`).
//!
//! A backend is one type that implements every family: [`Memory`], [`KernelOps`], [`ConvOps`], [`SsmOps`],
//! [`StepOps`], [`DenseOps`], [`OptimOps`], and [`CommOps`] for several devices. Operations are paper-sized (parameters and `u` to `y`) or
//! block-sized ([`DenseOps::mix_forward`]), so that a backend may fuse without changing a caller.
//!
//! Conventions, the same everywhere:
//! - activations are (batch, heads, len), consecutive time steps next to each other in memory; names of sizes are
//!   words, names of matrices the paper's letters (table in `crates/ssm/src/lib.rs`);
//! - `x_forward` stands beside `x_backward`; each takes one struct of named arguments, outputs first;
//! - parameter gradients **accumulate** (`+=`), every other output **overwrites**;
//! - operations are queued on the device and return before they have run; only [`Memory::download`] and
//!   [`Memory::wait_download`] wait for the device;
//! - a backend calls the struct's `check` before any work and answers [`Error`], never a panic; shapes and values
//!   are checked there and nowhere else;
//! - complex parameters are trailing (re, im) pairs; recurrent states are (batch, heads, 2, state/2), the
//!   real parts first, so that a state is a vector of `state` reals.
#![forbid(unsafe_code)]

mod activation;
mod call;
pub mod checks;
mod choices;
mod comm;
mod conv;
mod dense;
mod drop_path;
mod embedding;
mod error;
pub mod host_memory;
mod joint_norm;
mod kernel;
mod linear;
mod loss;
mod memory;
mod mix;
mod norm;
mod optim;
mod pooling;
pub mod random;
mod sample;
mod scalar;
mod spec;
mod ssm;
mod step;

pub use activation::*;
pub use call::{Algorithm, CallOptions};
pub use comm::{COMM_ID_BYTES, CommCall, CommId, CommOps, CommStop, Communicator, group_error, peer_error};
pub use conv::{ConvBackward, ConvForward, ConvOps, ConvShape};
pub use dense::{DenseOps, SeqShape};
pub use drop_path::DropPath;
pub use embedding::{EmbeddingBackward, EmbeddingForward};
pub use error::{Code, Error, Result};
pub use joint_norm::{
    BatchNormGradientSums, BatchNormInputGradient, BatchNormJoint, BatchNormMoments, joint_norm_len,
};
pub use kernel::{KernelBackward, KernelForward, KernelOps, SsmGrads, SsmParams};
pub use linear::{LinearBackward, LinearForward, LinearShape};
pub use loss::*;
pub use memory::Memory;
pub use mix::{MixBackward, MixCall, MixExtras, MixForward, MixGrads, MixParams, MixSpec};
pub use norm::{
    BatchNormBackward, BatchNormForward, BatchNormRecompute, LayerNormBackward, LayerNormForward,
    LayerNormRecompute,
};
pub use optim::{AdamW, AdamWUpdate, Clip, EmaUpdate, OptimOps, check_scale, check_sum_squares};
pub use pooling::*;
pub use sample::{PROGRESS, RESULTS, SampleTokens, Sampling};
pub use scalar::{Dtype, Scalar, all_finite};
pub use spec::{Discretization, Mode, SsmSpec, Transform};
pub use ssm::{
    SsmBackward, SsmCall, SsmForward, SsmInputNorm, SsmOps, SsmPass, SsmPrepare, check_intervals_layer,
};
pub use step::{SsmStep, SsmSteps, StepOps, check_layer, steps_one_by_one};

/// A device that implements every family of operations.
pub trait Backend: KernelOps + ConvOps + SsmOps + StepOps + DenseOps + OptimOps + CommOps {}
impl<B: KernelOps + ConvOps + SsmOps + StepOps + DenseOps + OptimOps + CommOps> Backend for B {}
