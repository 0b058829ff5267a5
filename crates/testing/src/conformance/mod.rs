//! What every backend must pass: each operation, forward and backward, against a plain f64 form that stands here or in
//! [`crate::truth`]; gradients against the form's transpose or its finite differences.
//!
//! Every operation runs twice on guarded buffers: the second run meets a workspace full of the first one's garbage and
//! must give the same bits; inputs lie between NaNs, outputs between sentinels, outputs that an operation overwrites
//! start as NaN, and inputs must be unchanged afterwards. A truth that is zero fails the check, unless zero is the point.
//!
//! ```text
//! conformance::run(&Cpu::<f32>::new(2)?).assert_passed();
//! ```

mod activation;
mod conv;
mod embedding;
mod kernel;
mod linear;
mod loss;
mod memory;
mod mix;
mod norm;
mod optim;
mod pooling;
mod report;
mod ssm;
mod step;
mod suite;

pub use report::{Comparison, Extent, Report};
use s4_backend::Backend;
use suite::Suite;

/// Operations that are checked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the family of the contract of that name")]
pub enum Family {
    Memory,
    Kernel,
    Conv,
    Ssm,
    Step,
    Linear,
    Norm,
    Mix,
    Pooling,
    Embedding,
    Loss,
    Optim,
}

impl Family {
    /// Every family of the contract.
    pub const ALL: [Family; 12] = [
        Family::Memory,
        Family::Kernel,
        Family::Conv,
        Family::Ssm,
        Family::Step,
        Family::Linear,
        Family::Norm,
        Family::Mix,
        Family::Pooling,
        Family::Embedding,
        Family::Loss,
        Family::Optim,
    ];

    /// The family of an operation; those of [`s4_backend::Memory`] have no prefix of their own.
    pub fn of(operation: &str) -> Family {
        match operation.split('_').next() {
            Some("kernel") => Family::Kernel,
            Some("conv") => Family::Conv,
            Some("ssm") if operation == "ssm_step" => Family::Step,
            Some("ssm") => Family::Ssm,
            Some("linear") => Family::Linear,
            Some("layer" | "batch") => Family::Norm,
            Some("mix") => Family::Mix,
            Some("mask" | "pool") => Family::Pooling,
            Some("embedding") => Family::Embedding,
            Some("loss") => Family::Loss,
            Some("sum" | "adamw" | "ema") => Family::Optim,
            _ => Family::Memory,
        }
    }
}

/// All families on one backend.
pub fn run<B: Backend>(be: &B) -> Report {
    run_families(be, &Family::ALL, Extent::All)
}

/// Some families on one backend.
pub fn run_families<B: Backend>(be: &B, families: &[Family], extent: Extent) -> Report {
    let mut suite = Suite::new(be, extent);
    for family in families {
        suite.guard = match family {
            Family::Kernel | Family::Conv | Family::Ssm | Family::Step => suite::ALIGNED_GUARD,
            _ => suite::GUARD,
        };
        match family {
            Family::Memory => suite.memory(),
            Family::Kernel => suite.kernel(),
            Family::Conv => suite.conv(),
            Family::Ssm => suite.ssm(),
            Family::Step => suite.step(),
            Family::Linear => suite.linear(),
            Family::Norm => suite.norm(),
            Family::Mix => suite.mix(),
            Family::Pooling => suite.pooling(),
            Family::Embedding => suite.embedding(),
            Family::Loss => suite.loss(),
            Family::Optim => suite.optim(),
        }
    }
    suite.report
}
