//! The tests that every backend must pass: each operation, forward and backward, is compared with a plain
//! implementation in f64 (here or in [`crate::truth`]), its gradients with the transpose or the finite differences of
//! that.
//!
//! Every operation runs twice, and both runs must give the same bits, although the second finds in the workspace what
//! the first has left there. Elements of value NaN surround the inputs, which must not change; elements of a known
//! value surround the outputs and must not change either; outputs that an operation must overwrite start as NaN. A
//! comparison with a truth of zeros counts as failed, unless zeros are what is tested, because garbage near zero would
//! pass.
//!
//! ```text
//! conformance::run(&Cpu::<f32>::new(2)?).assert_passed();
//! ```

mod activation;
mod conv;
mod drop_path;
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
mod sample;
mod ssm;
mod step;
mod suite;

pub use report::{Comparison, Extent, Report};
use s4_backend::{Backend, random::Rng};
use suite::Suite;

/// A family of operations, which are tested together.
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
    DropPath,
    Pooling,
    Embedding,
    Loss,
    Optim,
    Sample,
}

impl Family {
    /// Every family of the contract.
    pub const ALL: [Family; 14] = [
        Family::Memory,
        Family::Kernel,
        Family::Conv,
        Family::Ssm,
        Family::Step,
        Family::Linear,
        Family::Norm,
        Family::Mix,
        Family::DropPath,
        Family::Pooling,
        Family::Embedding,
        Family::Loss,
        Family::Optim,
        Family::Sample,
    ];

    /// The family of an operation, by the prefix of its name; operations without a known prefix belong to
    /// [`s4_backend::Memory`].
    pub fn of(operation: &str) -> Family {
        match operation.split('_').next() {
            Some("kernel") => Family::Kernel,
            Some("conv") => Family::Conv,
            Some("ssm") if operation.starts_with("ssm_step") => Family::Step,
            Some("ssm") => Family::Ssm,
            Some("linear") => Family::Linear,
            Some("layer" | "batch") => Family::Norm,
            Some("mix") => Family::Mix,
            Some("drop") => Family::DropPath,
            Some("zero") if operation == "zero_beyond_lengths" => Family::Pooling,
            Some("pool") => Family::Pooling,
            Some("embedding") => Family::Embedding,
            Some("loss") => Family::Loss,
            Some("sample") => Family::Sample,
            Some("sum" | "scale" | "adamw" | "ema") => Family::Optim,
            _ => Family::Memory,
        }
    }
}

/// Tests all families of a backend, with every case.
pub fn run<B: Backend>(backend: &B) -> Report {
    run_families(backend, &Family::ALL, Extent::All)
}

/// Tests some families of a backend.
pub fn run_families<B: Backend>(backend: &B, families: &[Family], extent: Extent) -> Report {
    let mut suite = Suite::new(backend, extent);
    for family in families {
        // Numbers of its own for each family: they stay the same when another family, or a backend that lacks some of its
        // cases, draws more or fewer.
        suite.rng = Rng::new(20_211_031, *family as u32);
        suite.guard = match family {
            Family::Kernel | Family::Conv | Family::Ssm | Family::Step => suite::ALIGNED_GUARD_ELEMENTS,
            _ => suite::GUARD_ELEMENTS,
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
            Family::DropPath => suite.drop_path(),
            Family::Pooling => suite.pooling(),
            Family::Embedding => suite.embedding(),
            Family::Loss => suite.loss(),
            Family::Optim => suite.optim(),
            Family::Sample => suite.sample(),
        }
    }
    suite.report
}
