//! The relative error of a result.

/// The Euclidean norm.
fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// The relative error ‖got − want‖/‖want‖; infinite where the lengths differ or a number is not finite.
///
/// # Panics
/// Where every number of `want` is zero, because a relative error has no meaning there: see [`relative_or_zero`].
#[track_caller]
pub fn relative(got: &[f64], want: &[f64]) -> f64 {
    assert!(want.iter().any(|&x| x != 0.0), "a truth of {} zeros proves nothing", want.len());
    relative_or_zero(got, want)
}

/// As [`relative`], except that the error is ‖got‖ where every number of `want` is zero.
pub fn relative_or_zero(got: &[f64], want: &[f64]) -> f64 {
    let difference = norm(got.iter().zip(want).map(|(a, b)| a - b));
    let size = norm(want.iter().copied());
    let error = if size == 0.0 { difference } else { difference / size };
    if got.len() == want.len() && error.is_finite() { error } else { f64::INFINITY }
}

/// Asserts that the relative error of `got`, by [`relative`], is at most `tolerance`; `what` names it in the message.
#[track_caller]
pub fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    let error = relative(got, want);
    assert!(error <= tolerance, "{what}: error {error:e} above {tolerance:e}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_or_of_another_length_is_wrong() {
        assert_eq!(relative(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert_eq!(relative(&[3.0], &[2.0]), 0.5);
        for wrong in [&[f64::NAN][..], &[f64::INFINITY], &[1.0, 1.0], &[]] {
            assert_eq!(relative(wrong, &[1.0]), f64::INFINITY);
        }
        assert_eq!(relative(&[1.0], &[f64::NAN]), f64::INFINITY);
        assert_eq!((relative_or_zero(&[0.0], &[0.0]), relative_or_zero(&[3.0], &[0.0])), (0.0, 3.0));
    }

    #[test]
    #[should_panic(expected = "proves nothing")]
    fn a_truth_of_zeros_is_refused() {
        relative(&[0.0], &[0.0]);
    }
}
