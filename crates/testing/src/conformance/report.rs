//! The results of a run of the conformance tests, and how many cases it has.

use std::fmt;

/// The comparison of one output with its truth: how far it is away, and how far it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The operation of the contract.
    pub operation: String,
    /// The output that was compared, by the field of the operation's arguments (`"grads.c"` for a part of one).
    pub output: String,
    /// The sizes and options of the call, or the reason of a failure.
    pub case: String,
    /// ‖got − want‖/‖want‖; infinite for any other failure.
    pub error: f64,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Hash of the output's bits, which must be the same in every run, on the CPU also with any number of threads.
    pub bits: u64,
}

impl Comparison {
    /// Whether the error is within the tolerance; NaN is not.
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

/// The results of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every comparison, in order.
    pub comparisons: Vec<Comparison>,
}

impl Report {
    /// Panics unless every comparison has passed and there was at least one; the message has a line for each failure.
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed: Vec<String> =
            self.comparisons.iter().filter(|c| !c.passed()).map(|c| c.to_string()).collect();
        assert!(!self.comparisons.is_empty(), "nothing was checked");
        assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    }
}

/// How many cases of a family are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every case.
    All,
    /// A few small cases, which still test every output.
    Few,
}
