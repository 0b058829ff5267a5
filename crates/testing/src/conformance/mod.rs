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
mod ssm;
mod step;
mod suite;

use s4_backend::Backend;
use std::fmt;
use suite::Suite;

/// One compared quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The operation of the contract.
    pub operation: String,
    /// The field of its arguments that was compared, `"grads.c"` for a part.
    pub output: String,
    /// Shapes and options, or what was wrong.
    pub case: String,
    /// ‖got − want‖/‖want‖; infinite where something else was wrong.
    pub error: f64,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Hash of the result's bits: the same on every run, and on the CPU with every number of threads.
    pub bits: u64,
}

impl Check {
    /// Fails closed: NaN is a failure.
    pub fn passed(&self) -> bool {
        self.error.is_finite() && self.error <= self.tolerance
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { operation, output, case, error, tolerance, .. } = self;
        write!(f, "{operation} {output}: {error:.3e} > {tolerance:.0e} ({case})")
    }
}

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every comparison, in order.
    pub checks: Vec<Check>,
    /// What the backend answered `ERR_S4_UNSUPPORTED` to, where it may, by name.
    pub skipped: Vec<String>,
}

impl Report {
    /// Panics with a line for every failed check; also where nothing was checked.
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed: Vec<String> = self.checks.iter().filter(|c| !c.passed()).map(|c| c.to_string()).collect();
        assert!(!self.checks.is_empty(), "nothing was checked");
        assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    }
}

/// How much of a family is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every case.
    All,
    /// A few small ones that still exercise every output.
    Few,
}

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
