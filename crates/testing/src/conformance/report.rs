//! What a run of the suite finds, and how much of it is run.

use std::fmt;

/// One result of a run: how far a computed quantity lies from its truth, and how far it may.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
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

impl Comparison {
    /// Fails closed: NaN is a failure.
    pub fn passed(&self) -> bool {
        self.error.is_finite() && self.error <= self.tolerance
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { operation, output, case, error, tolerance, .. } = self;
        write!(f, "{operation} {output}: {error:.3e} > {tolerance:.0e} ({case})")
    }
}

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every comparison, in order.
    pub comparisons: Vec<Comparison>,
    /// What the backend answered `ERR_S4_UNSUPPORTED` to, where it may, by name.
    pub skipped: Vec<String>,
}

impl Report {
    /// Panics with a line for every failed check; also where nothing was checked.
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed: Vec<String> =
            self.comparisons.iter().filter(|c| !c.passed()).map(|c| c.to_string()).collect();
        assert!(!self.comparisons.is_empty(), "nothing was checked");
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
