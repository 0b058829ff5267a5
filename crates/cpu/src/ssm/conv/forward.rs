//! The convolution y = K̄∗u + D·u of one head, by FFT.

use super::plan::{ConvInputs, ConvPlan, pack, pack_twisted};
use num_complex::Complex;
use s4_backend::{ConvShape, Scalar};

impl<T: Scalar> ConvPlan<T> {
    /// y = K̄∗u + D·u of head `h` for the whole batch. `y`: batch·channels slices of length len, in the order (batch,
    /// channels); `scratch` as [`ConvPlan::points`] and [`ConvPlan::fft_scratch`] say.
    pub(super) fn forward_head(
        &self,
        h: usize,
        y: &mut [&mut [T]],
        inputs: ConvInputs<'_, T>,
        scratch: &mut [Complex<T>],
    ) {
        let ConvInputs { u, kernel, d } = inputs;
        let ConvShape { heads, channels, .. } = self.shape;
        let points = self.points();
        let (spectra, rest) = scratch.split_at_mut(points * channels);
        let (z, rest) = rest.split_at_mut(points);
        let (work, fft_scratch) = rest.split_at_mut(points);
        let skip = |c: usize| d.map_or(T::zero(), |d| d[c * heads + h]);
        if let Some(fft) = &self.fft_of_two {
            let n = fft.len();
            let (z, work) = (&mut z[..n], &mut work[..n]);
            for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                self.kernel_spectrum_for_sequence_pairs(
                    fft,
                    &mut s[..n],
                    self.kernel_rows(kernel, h, c),
                    fft_scratch,
                );
            }
            for (b, y) in y.chunks_exact_mut(2 * channels).enumerate() {
                let (ua, ub) = (u.sequence(2 * b, h), u.sequence(2 * b + 1, h));
                self.level.run(
                    #[inline(always)]
                    || pack(z, ua, ub),
                );
                fft.forward(z, fft_scratch);
                let (ya, yb) = y.split_at_mut(channels);
                for (c, s) in spectra.chunks_exact(points).enumerate() {
                    self.level.run(
                        #[inline(always)]
                        || {
                            for ((w, z), s) in work.iter_mut().zip(z.iter()).zip(s) {
                                *w = z * s;
                            }
                        },
                    );
                    fft.inverse(work, fft_scratch);
                    let d = skip(c);
                    let (ya, yb) = (&mut *ya[c], &mut *yb[c]);
                    self.level.run(
                        #[inline(always)]
                        || {
                            for (t, w) in work[..ua.len()].iter().enumerate() {
                                ya[t] = w.re + d * ua[t];
                                yb[t] = w.im + d * ub[t];
                            }
                        },
                    );
                }
            }
        }
        if let Some((fft, twist)) = &self.fft_of_one {
            let m = fft.len();
            let (z, work) = (&mut z[..m], &mut work[..m]);
            for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                self.kernel_spectrum_for_single_sequences(
                    fft,
                    twist,
                    &mut s[..m],
                    self.kernel_rows(kernel, h, c),
                    fft_scratch,
                );
            }
            for (b, y) in y.chunks_exact_mut(channels).enumerate().skip(2 * self.pairs) {
                let u = u.sequence(b, h);
                self.level.run(
                    #[inline(always)]
                    || pack_twisted(z, u, twist),
                );
                fft.forward(z, fft_scratch);
                for ((c, s), y) in spectra.chunks_exact(points).enumerate().zip(y) {
                    self.level.run(
                        #[inline(always)]
                        || {
                            for ((w, z), s) in work.iter_mut().zip(z.iter()).zip(s) {
                                *w = z * s;
                            }
                        },
                    );
                    fft.inverse(work, fft_scratch);
                    let d = skip(c);
                    self.level.run(
                        #[inline(always)]
                        || {
                            // Re(z w^{−t})
                            for (((y, &u), z), w) in y.iter_mut().zip(u).zip(work.iter()).zip(twist.iter()) {
                                *y = z.re * w.re + z.im * w.im + d * u;
                            }
                        },
                    );
                }
            }
        }
    }
}
