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
