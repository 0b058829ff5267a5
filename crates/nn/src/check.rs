//! Checks of host arguments, made before any work.

use s4_backend::{Backend, Error, Result, Scalar, all_finite};

/// Largest number of elements of one array.
const MAX_ELEMENTS: usize = 1 << 40;

/// Product of sizes, each at least 1, without overflow.
pub fn elements(op: &'static str, what: &str, sizes: &[usize]) -> Result<usize> {
    let bad = || {
        Error::shape(
            op,
            format!("{what} with sizes of at least 1 and at most 2^40 elements"),
            format!("{sizes:?}"),
        )
    };
    if sizes.contains(&0) {
        return Err(bad());
    }
    sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).filter(|&n| n <= MAX_ELEMENTS).ok_or_else(bad)
}

/// An array of exactly these sizes.
pub fn shaped<T>(op: &'static str, what: &str, x: &[T], sizes: &[usize]) -> Result<usize> {
    let n = elements(op, what, sizes)?;
    if x.len() != n {
        return Err(Error::shape(op, format!("{what} of shape {sizes:?}"), format!("{} elements", x.len())));
    }
    Ok(n)
}

/// No NaN, no Inf.
pub fn finite<T: Scalar>(op: &'static str, what: &str, x: &[T]) -> Result<()> {
    if all_finite(x) { Ok(()) } else { Err(not_finite(op, what, x)) }
}

/// As [`finite`], by the backend's threads: for whole sequences.
pub fn finite_on<B: Backend>(be: &B, op: &'static str, what: &str, x: &[B::Scalar]) -> Result<()> {
    if be.all_finite(x) { Ok(()) } else { Err(not_finite(op, what, x)) }
}

fn not_finite<T: Scalar>(op: &'static str, what: &str, x: &[T]) -> Error {
    let at = x.iter().position(|v| !v.is_finite()).unwrap_or(0);
    Error::value(op, format!("finite numbers in {what}"), format!("{} at index {at}", x[at]))
}

/// Lengths of rows: one a row, each from 1 to len.
pub fn lengths(op: &'static str, lengths: &[i32], batch: usize, len: usize) -> Result<()> {
    shaped(op, "lengths", lengths, &[batch])?;
    match lengths.iter().find(|&&l| l < 1 || l as usize > len) {
        Some(l) => Err(Error::value(op, format!("lengths from 1 to {len}"), l)),
        None => Ok(()),
    }
}

/// Integers in 0..n, or negative where `skip` is allowed.
pub fn indices(op: &'static str, what: &str, x: &[i32], n: usize, skip: bool) -> Result<()> {
    match x.iter().find(|&&v| if v < 0 { !skip } else { v as usize >= n }) {
        Some(v) => Err(Error::value(op, format!("{what} from 0 to {}", n - 1), v)),
        None => Ok(()),
    }
}

/// Ratios of steps to the training interval: `n` positive finite numbers.
pub fn intervals<T: Scalar>(op: &'static str, x: &[T], n: usize) -> Result<()> {
    shaped(op, "interval", x, &[n])?;
    s4_backend::checks::intervals(op, x)
}
