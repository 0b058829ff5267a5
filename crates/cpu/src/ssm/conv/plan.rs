//! What the shape of a convolution fixes, and spectra of the kernel.

use crate::{
    Cpu, Level,
    linalg::fft::{Fft, good_len},
};
use num_complex::Complex;
use s4_backend::{ConvShape, Scalar};
use std::sync::Arc;

/// Batch size from which sequences are transformed two by two. Measured at 256 to 64k points: with few sequences the kernel's own
/// transform weighs, and the right-angle form needs half the points for it; with many, backward gains 10 % from pairs.
const PAIRS_FROM: usize = 8;

/// The transforms for a convolution's shape, and which sequences go through them two by two.
pub(super) struct ConvPlan<T> {
    pub(super) shape: ConvShape,
    /// Sequences 0 … 2·pairs−1 go two by two, the sequences after them one by one.
    pub(super) pairs: usize,
    /// Length n ≥ L + M − 1 for two sequences (one more when two-sided), where sequences go two by two.
    pub(super) fft_of_two: Option<Fft>,
    /// Length m ≥ L and w^t for a lone sequence, where sequences go alone.
    pub(super) fft_of_one: Option<(Fft, Arc<Vec<Complex<T>>>)>,
    pub(super) level: Level,
}

impl<T: Scalar> ConvPlan<T> {
    pub(super) fn new(be: &Cpu<T>, shape: &ConvShape) -> Self {
        let ConvShape { batch, len, kernel_len, bidirectional, .. } = *shape;
        let pairs = if batch < PAIRS_FROM { 0 } else { batch / 2 };
        let fft_of_two =
            (pairs > 0).then(|| be.fft(good_len(len + kernel_len - usize::from(!bidirectional))));
        let fft_of_one = (2 * pairs < batch).then(|| {
            let n = good_len(len);
            (be.fft(n), be.twist(n))
        });
        ConvPlan { shape: *shape, pairs, fft_of_two, fft_of_one, level: be.level() }
    }

    pub(super) fn points(&self) -> usize {
        let lone = self.fft_of_one.as_ref().map_or(0, |(fft, _)| fft.len());
        self.fft_of_two.as_ref().map_or(0, Fft::len).max(lone)
    }

    pub(super) fn fft_scratch(&self) -> usize {
        let lone = self.fft_of_one.as_ref().map_or(0, |(fft, _)| fft.scratch());
        self.fft_of_two.as_ref().map_or(0, Fft::scratch).max(lone)
    }

    /// The kernels of channel `c` of head `h`: the causal one, and the anticausal one when two-sided.
    pub(super) fn kernel_rows<'k>(&self, kernel: &'k [T], h: usize, c: usize) -> (&'k [T], Option<&'k [T]>) {
        let ConvShape { heads, channels, kernel_len, bidirectional, .. } = self.shape;
        let row = |c: usize| &kernel[(c * heads + h) * kernel_len..][..kernel_len];
        (row(c), bidirectional.then(|| row(channels + c)))
    }

    /// (1/n)·FFT of the kernel laid on the circle: k0_j at j, k1_j at −(1+j).
    pub(super) fn kernel_spectrum_for_sequence_pairs(
        &self,
        fft: &Fft,
        out: &mut [Complex<T>],
        k: (&[T], Option<&[T]>),
        scratch: &mut [Complex<T>],
    ) {
        let n = fft.len();
        let scale = T::one() / T::from_f64(n as f64);
        self.level.run(
            #[inline(always)]
            || {
                for (z, &k) in out.iter_mut().zip(k.0) {
                    *z = Complex::new(k * scale, T::zero());
                }
                out[k.0.len()..].fill(Complex::default());
                for (z, &k) in out.iter_mut().rev().zip(k.1.unwrap_or(&[])) {
                    z.re += k * scale;
                }
            },
        );
        fft.forward(out, scratch);
    }

    /// (1/m)·FFT of the twisted kernel: k0_j w^j at j, k1_j w^{−(1+j)} at −(1+j).
    pub(super) fn kernel_spectrum_for_single_sequences(
        &self,
        fft: &Fft,
        twist: &[Complex<T>],
        out: &mut [Complex<T>],
        k: (&[T], Option<&[T]>),
        scratch: &mut [Complex<T>],
    ) {
        let m = fft.len();
        let scale = T::one() / T::from_f64(m as f64);
        self.level.run(
            #[inline(always)]
            || {
                for ((z, &k), w) in out.iter_mut().zip(k.0).zip(twist) {
                    *z = w * (k * scale);
                }
                out[k.0.len()..].fill(Complex::default());
                for (j, &k) in k.1.unwrap_or(&[]).iter().enumerate() {
                    out[m - 1 - j] += back_twist(twist, j) * (k * scale);
                }
            },
        );
        fft.forward(out, scratch);
    }
}

/// w^{−(1+j)}; the table ends before w^m = i.
#[inline(always)]
pub(super) fn back_twist<T: Scalar>(twist: &[Complex<T>], j: usize) -> Complex<T> {
    twist.get(j + 1).map_or(Complex::new(T::zero(), -T::one()), |w| w.conj())
}

/// z = a + i b, padded with zeros.
#[inline(always)]
pub(super) fn pack<T: Scalar>(z: &mut [Complex<T>], a: &[T], b: &[T]) {
    for ((z, &a), &b) in z.iter_mut().zip(a).zip(b) {
        *z = Complex::new(a, b);
    }
    z[a.len()..].fill(Complex::default());
}

/// z = a∘w, padded with zeros.
#[inline(always)]
pub(super) fn pack_twisted<T: Scalar>(z: &mut [Complex<T>], a: &[T], twist: &[Complex<T>]) {
    for ((z, &a), w) in z.iter_mut().zip(a).zip(twist) {
        *z = w * a;
    }
    z[a.len()..].fill(Complex::default());
}

/// A (batch, features, len) array to read: sequence(b, feature) is the len time steps of one feature of sequence b.
#[derive(Clone, Copy)]
pub(super) struct SequenceArray<'a, T> {
    pub(super) data: &'a [T],
    pub(super) features: usize,
    pub(super) len: usize,
}

impl<'a, T> SequenceArray<'a, T> {
    pub(super) fn sequence(&self, b: usize, feature: usize) -> &'a [T] {
        &self.data[(b * self.features + feature) * self.len..][..self.len]
    }
}

/// The arrays that a convolution reads.
#[derive(Clone, Copy)]
pub(super) struct ConvInputs<'a, T> {
    pub(super) u: SequenceArray<'a, T>,
    pub(super) kernel: &'a [T],
    pub(super) d: Option<&'a [T]>,
}
