//! The contract on the CPU, generic over f32 and f64.
//!
//! Each file holds one idea, the readable form first and the fast form beside it. Work is split in parts
//! that depend on the sizes alone, never on the number of threads, so results are the same bits on any pool.
//!
//! `ssm` is the paper; `dense` is what stands around it in a model; `linalg` and `memory` serve both. `unsafe`
//! stands in `linalg/gemm.rs` (the call of the matrix library, and tiles that tasks write side by side) and in
//! `linalg/prefetch.rs` (instructions of x86-64 for what passes the caches once).

#![deny(unsafe_code)]

mod comm;
mod dense;
mod linalg;
mod memory;
mod ops;
mod ssm;

pub use linalg::simd::Level;
pub use memory::{
    cpu::{Cpu, Ints},
    workspace::Workspace,
};
pub use ssm::{sequence::SsmPlan, step::StepPlan};
