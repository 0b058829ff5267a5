//! Checks of a call's arguments, written once for all backends: lengths of views, integers where the host can read
//! them, layers against plans. Each call struct has a `check` made of these; a backend calls it before any work.

use crate::{Error, Memory, Result, Scalar, SsmSpec};

/// Refuses `got` elements where `expected` are needed: `ERR_S4_SHAPE`, naming `what`.
pub fn same_len(op: &'static str, what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::shape(op, format!("{expected} elements of {what}"), got))
}

/// Checks of the views and options of operation `op` on `backend`. Every method returns an error that names the view or
/// option where it is wrong, and nothing where it is right.
pub(crate) struct ViewChecks<'b, B: Memory> {
    pub backend: &'b B,
    pub op: &'static str,
}

impl<B: Memory> ViewChecks<'_, B> {
    /// Refuses an input that has not `len` elements.
    pub fn input(&self, what: &str, view: B::Ref<'_>, len: usize) -> Result<()> {
        same_len(self.op, what, len, self.backend.ref_len(view))
    }
    /// Refuses an output that has not `len` elements.
    pub fn output(&self, what: &str, view: &B::Mut<'_>, len: usize) -> Result<()> {
        same_len(self.op, what, len, self.backend.mut_len(view))
    }
    /// Refuses an input that is given and has not `len` elements.
    pub fn optional_input(&self, what: &str, view: Option<B::Ref<'_>>, len: usize) -> Result<()> {
        view.map_or(Ok(()), |view| self.input(what, view, len))
    }
    /// Refuses an output that is given and has not `len` elements.
    pub fn optional_output(&self, what: &str, view: Option<&B::Mut<'_>>, len: usize) -> Result<()> {
        view.map_or(Ok(()), |view| self.output(what, view, len))
    }
    /// Refuses fewer than `count` integers, and integers outside `allowed` where the host can read them.
    pub fn integers(
        &self,
        what: &str,
        ints: &B::Ints,
        count: usize,
        allowed: std::ops::RangeInclusive<i64>,
    ) -> Result<()> {
        let len = self.backend.ints_len(ints);
        if len < count {
            return Err(Error::shape(self.op, format!("{count} {what}"), len));
        }
        let readable = self.backend.host_ints(ints).and_then(|values| values.get(..count)).unwrap_or(&[]);
        match readable.iter().find(|&&x| !allowed.contains(&i64::from(x))) {
            Some(x) => {
                Err(Error::value(self.op, format!("{what} from {} to {}", allowed.start(), allowed.end()), x))
            }
            None => Ok(()),
        }
    }
    /// Refuses fewer than `count` integers.
    pub fn room(&self, what: &str, ints: &B::Ints, count: usize) -> Result<()> {
        let len = self.backend.ints_len(ints);
        match len < count {
            true => Err(Error::shape(self.op, format!("{count} {what}"), len)),
            false => Ok(()),
        }
    }
    /// Refuses lengths of sequences that are not one for each of `batch`, each from 1 to `len`.
    pub fn lengths(&self, lengths: Option<&B::Ints>, batch: usize, len: usize) -> Result<()> {
        lengths.map_or(Ok(()), |l| self.integers("lengths", l, batch, 1..=len as i64))
    }
    /// Refuses sizes of 0; `sizes` are (name, size), and the error gives the name.
    pub fn sizes(&self, sizes: &[(&str, usize)]) -> Result<()> {
        match sizes.iter().find(|(_, size)| *size == 0) {
            Some((what, _)) => Err(Error::shape(self.op, format!("{what} of 1 or more"), 0)),
            None => Ok(()),
        }
    }
}

/// Refuses a factor of Δ that is not finite or not above 0.
pub fn rate(op: &'static str, rate: f64) -> Result<()> {
    if rate.is_finite() && rate > 0.0 {
        return Ok(());
    }
    Err(Error::value(op, "a finite rate above 0", rate))
}

/// Refuses intervals of a step (ratios to the training interval) that are not finite or not above 0. Called where
/// they are on the host, before they are uploaded.
pub fn intervals<T: Scalar>(op: &'static str, intervals: &[T]) -> Result<()> {
    match intervals.iter().find(|x| !(x.is_finite() && **x > T::zero())) {
        Some(x) => Err(Error::value(op, "finite intervals above 0", x)),
        None => Ok(()),
    }
}

/// Refuses a plan that was made for a layer other than `spec`; `plan` describes the layer it was made for.
pub fn plan_is_for_layer(op: &'static str, plan: &SsmSpec, spec: &SsmSpec) -> Result<()> {
    if plan == spec {
        return Ok(());
    }
    Err(Error::value(op, "the layer that the plan was made for", "another"))
}
