//! Checks of arguments on the host, made before any work, so that a refused call changes nothing.

use s4_backend::{Backend, Error, Result, Scalar, SsmSpec, all_finite};

/// Most elements that one array may have.
const MAX_ELEMENTS: usize = 1 << 40;

/// The number of elements of an array of these sizes. `ERR_S4_SHAPE` where a size is 0 or there are more than 2^40.
pub fn elements(op: &'static str, what: &str, sizes: &[usize]) -> Result<usize> {
    let wrong_shape = || {
        Error::shape(
            op,
            format!("{what} with sizes of at least 1 and at most 2^40 elements"),
            format!("{sizes:?}"),
        )
    };
    if sizes.contains(&0) {
        return Err(wrong_shape());
    }
    sizes
        .iter()
        .try_fold(1usize, |n, &s| n.checked_mul(s))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(wrong_shape)
}

/// Checks that x has as many elements as an array of these sizes, and gives that number. `ERR_S4_SHAPE` otherwise, or where
/// a size is 0.
pub fn shaped<T>(op: &'static str, what: &str, x: &[T], sizes: &[usize]) -> Result<usize> {
    let n = elements(op, what, sizes)?;
    if x.len() != n {
        return Err(Error::shape(op, format!("{what} of shape {sizes:?}"), format!("{} elements", x.len())));
    }
    Ok(n)
}

/// Refuses NaN and infinity, naming the first.
pub fn finite<T: Scalar>(op: &'static str, what: &str, x: &[T]) -> Result<()> {
    if all_finite(x) { Ok(()) } else { Err(not_finite(op, what, x)) }
}

/// As [`finite`], on the backend's threads, for arrays as large as a batch of sequences.
pub fn finite_on<B: Backend>(be: &B, op: &'static str, what: &str, x: &[B::Scalar]) -> Result<()> {
    if be.all_finite(x) { Ok(()) } else { Err(not_finite(op, what, x)) }
}

/// `ERR_S4_VALUE` that names the first number of x that is not finite.
fn not_finite<T: Scalar>(op: &'static str, what: &str, x: &[T]) -> Error {
    let at = x.iter().position(|v| !v.is_finite()).unwrap_or(0);
    Error::value(op, format!("finite numbers in {what}"), format!("{} at index {at}", x[at]))
}

/// Checks that there is one length for each of `batch` sequences, each from 1 to `len`.
pub fn lengths(op: &'static str, lengths: &[i32], batch: usize, len: usize) -> Result<()> {
    shaped(op, "lengths", lengths, &[batch])?;
    match lengths.iter().find(|&&l| l < 1 || l as usize > len) {
        Some(l) => Err(Error::value(op, format!("lengths from 1 to {len}"), l)),
        None => Ok(()),
    }
}

/// Time steps of a batch that are no padding.
pub fn time_steps(batch: usize, len: usize, lengths: Option<&[i32]>) -> usize {
    match lengths {
        Some(lengths) => lengths.iter().map(|&l| l as usize).sum(),
        None => batch * len,
    }
}

/// Checks that every index is below n, and not negative unless `skip` says that a negative one leaves its item out.
pub fn indices(op: &'static str, what: &str, x: &[i32], n: usize, skip: bool) -> Result<()> {
    match x.iter().find(|&&v| if v < 0 { !skip } else { v as usize >= n }) {
        Some(v) => Err(Error::value(op, format!("{what} from 0 to {}", n - 1), v)),
        None => Ok(()),
    }
}

/// Checks the intervals of whole sequences, where a call has them: one for each time step, finite and above 0, and a layer
/// that can use them.
pub fn call_intervals<B: Backend>(
    be: &B,
    op: &'static str,
    intervals: Option<&[B::Scalar]>,
    (batch, len): (usize, usize),
    spec: &SsmSpec,
) -> Result<()> {
    let Some(intervals) = intervals else { return Ok(()) };
    be.check_intervals(op, spec)?;
    shaped(op, "intervals", intervals, &[batch, len])?;
    s4_backend::checks::intervals(op, intervals)
}

/// Checks n intervals (ratios of a time step to that of training): each finite and above 0.
pub fn intervals<T: Scalar>(op: &'static str, x: &[T], n: usize) -> Result<()> {
    shaped(op, "interval", x, &[n])?;
    s4_backend::checks::intervals(op, x)
}
