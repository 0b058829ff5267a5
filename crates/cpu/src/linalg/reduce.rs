//! Adding up partial results in a fixed order.

use s4_backend::Scalar;

/// dst += Σ_p partials[p·stride + offset ..], part after part.
pub(crate) fn add_parts<T: Scalar>(dst: &mut [T], partials: &[T], parts: usize, offset: usize) {
    let stride = partials.len() / parts;
    for (i, d) in dst.iter_mut().enumerate() {
        let mut s = T::zero();
        for p in 0..parts {
            s += partials[p * stride + offset + i];
        }
        *d += s;
    }
}

/// The integers of `ints` that a call uses, or an error where there are too few.
pub(crate) fn ints<'a>(
    op: &'static str,
    ints: &'a crate::Ints,
    count: usize,
) -> s4_backend::Result<&'a [i32]> {
    ints.as_slice()
        .get(..count)
        .ok_or_else(|| s4_backend::Error::shape(op, format!("{count} integers"), ints.as_slice().len()))
}

/// Lengths of the rows, each in 1..=len.
pub(crate) fn lengths<'a>(
    op: &'static str,
    lengths: Option<&'a crate::Ints>,
    batch: usize,
    len: usize,
) -> s4_backend::Result<Option<&'a [i32]>> {
    let Some(lengths) = lengths else { return Ok(None) };
    let lengths = ints(op, lengths, batch)?;
    match lengths.iter().find(|&&l| l < 1 || l as usize > len) {
        Some(l) => Err(s4_backend::Error::value(op, format!("lengths from 1 to {len}"), l)),
        None => Ok(Some(lengths)),
    }
}
