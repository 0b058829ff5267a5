//! The transpose of the convolution of one head: du and the gradient of the kernel.

use super::plan::{ConvInputs, ConvPlan, SequenceArray, back_twist, pack, pack_twisted};
use num_complex::Complex;
use s4_backend::{ConvShape, Scalar};

impl<T: Scalar> ConvPlan<T> {
    /// Transpose of [`ConvPlan::forward_head`]. `du`: a slice of length len for each sequence, overwritten, or no slices;
    /// `dkernel`: a slice of the kernel's length for each kernel channel, accumulated.
    pub(super) fn backward_head(
        &self,
        h: usize,
        du: &mut [&mut [T]],
        dkernel: &mut [&mut [T]],
        dy: SequenceArray<'_, T>,
        inputs: ConvInputs<'_, T>,
        scratch: &mut [Complex<T>],
    ) {
        let ConvInputs { u, kernel, d } = inputs;
        let ConvShape { batch, heads, channels, .. } = self.shape;
        let points = self.points();
        let (spectra, rest) = scratch.split_at_mut(points * channels);
        let (sums, rest) = rest.split_at_mut(points * channels);
        let (zu, rest) = rest.split_at_mut(points);
        let (zy, rest) = rest.split_at_mut(points);
        let (work, fft_scratch) = rest.split_at_mut(points);
        let want_du = !du.is_empty();
        let skip = |c: usize| d.map_or(T::zero(), |d| d[c * heads + h]);
        // One pass over the spectrum: dK̂ += d̂y·conj(û), dû += d̂y·conj(K̂).
        let products = |first: bool,
                        zy: &[Complex<T>],
                        zu: &[Complex<T>],
                        s: &[Complex<T>],
                        sum: &mut [Complex<T>],
                        work: &mut [Complex<T>]| {
            self.level.run(
                #[inline(always)]
                || {
                    for ((sum, y), u) in sum.iter_mut().zip(zy).zip(zu) {
                        *sum += y * u.conj();
                    }
                    if want_du {
                        if first {
                            for ((w, y), s) in work.iter_mut().zip(zy).zip(s) {
                                *w = y * s.conj();
                            }
                        } else {
                            for ((w, y), s) in work.iter_mut().zip(zy).zip(s) {
                                *w += y * s.conj();
                            }
                        }
                    }
                },
            )
        };
        if let Some(fft) = &self.fft_of_two {
            let n = fft.len();
            let (zu, zy, work) = (&mut zu[..n], &mut zy[..n], &mut work[..n]);
            sums.fill(Complex::default());
            if want_du {
                for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                    self.kernel_spectrum_for_sequence_pairs(
                        fft,
                        &mut s[..n],
                        self.kernel_rows(kernel, h, c),
                        fft_scratch,
                    );
                }
            }
            for b in 0..self.pairs {
                let (ua, ub) = (u.sequence(2 * b, h), u.sequence(2 * b + 1, h));
                self.level.run(
                    #[inline(always)]
                    || pack(zu, ua, ub),
                );
                fft.forward(zu, fft_scratch);
                for c in 0..channels {
                    let (ya, yb) = (dy.sequence(2 * b, c * heads + h), dy.sequence(2 * b + 1, c * heads + h));
                    self.level.run(
                        #[inline(always)]
                        || pack(zy, ya, yb),
                    );
                    fft.forward(zy, fft_scratch);
                    let (s, sum) = (&spectra[c * points..][..n], &mut sums[c * points..][..n]);
                    products(c == 0, zy, zu, s, sum, work);
                }
                if want_du {
                    fft.inverse(work, fft_scratch);
                    let [da, db] = &mut du[2 * b..2 * b + 2] else { unreachable!("two rows") };
                    self.level.run(
                        #[inline(always)]
                        || {
                            for ((da, db), w) in da.iter_mut().zip(db.iter_mut()).zip(work.iter()) {
                                *da = w.re;
                                *db = w.im;
                            }
                        },
                    );
                }
            }
            for c in 0..channels {
                let sum = &mut sums[c * points..][..n];
                fft.inverse(sum, fft_scratch);
                let scale = T::one() / T::from_f64(n as f64);
                for (dk, z) in dkernel[c].iter_mut().zip(sum.iter()) {
                    *dk += z.re * scale;
                }
                if self.shape.bidirectional {
                    for (dk, z) in dkernel[channels + c].iter_mut().zip(sum.iter().rev()) {
                        *dk += z.re * scale;
                    }
                }
            }
        }
        if let Some((fft, twist)) = &self.fft_of_one {
            let m = fft.len();
            let (zu, zy, work) = (&mut zu[..m], &mut zy[..m], &mut work[..m]);
            sums.fill(Complex::default());
            if want_du {
                for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                    self.kernel_spectrum_for_single_sequences(
                        fft,
                        twist,
                        &mut s[..m],
                        self.kernel_rows(kernel, h, c),
                        fft_scratch,
                    );
                }
            }
            for b in 2 * self.pairs..batch {
                let ul = u.sequence(b, h);
                self.level.run(
                    #[inline(always)]
                    || pack_twisted(zu, ul, twist),
                );
                fft.forward(zu, fft_scratch);
                for c in 0..channels {
                    let yl = dy.sequence(b, c * heads + h);
                    self.level.run(
                        #[inline(always)]
                        || pack_twisted(zy, yl, twist),
                    );
                    fft.forward(zy, fft_scratch);
                    let (s, sum) = (&spectra[c * points..][..m], &mut sums[c * points..][..m]);
                    products(c == 0, zy, zu, s, sum, work);
                }
                if want_du {
                    fft.inverse(work, fft_scratch);
                    let du = &mut *du[b];
                    self.level.run(
                        #[inline(always)]
                        || {
                            for ((du, z), w) in du.iter_mut().zip(work.iter()).zip(twist.iter()) {
                                *du = z.re * w.re + z.im * w.im;
                            }
                        },
                    );
                }
            }
            for c in 0..channels {
                let sum = &mut sums[c * points..][..m];
                fft.inverse(sum, fft_scratch);
                let scale = T::one() / T::from_f64(m as f64);
                for ((dk, z), w) in dkernel[c].iter_mut().zip(sum.iter()).zip(twist.iter()) {
                    *dk += (z.re * w.re + z.im * w.im) * scale;
                }
                if self.shape.bidirectional {
                    for (j, (dk, z)) in dkernel[channels + c].iter_mut().zip(sum.iter().rev()).enumerate() {
                        // Lag −(1+j) is untwisted by w^{1+j}.
                        *dk += (z * back_twist(twist, j).conj()).re * scale;
                    }
                }
            }
        }
        if d.is_some() {
            for (b, du) in du.iter_mut().enumerate() {
                for c in 0..channels {
                    let (d, dy) = (skip(c), dy.sequence(b, c * heads + h));
                    self.level.run(
                        #[inline(always)]
                        || {
                            for (du, &dy) in du.iter_mut().zip(dy) {
                                *du += d * dy;
                            }
                        },
                    );
                }
            }
        }
    }
}

/// Σ a b, partial sums in a fixed order.
#[inline(always)]
pub(super) fn dot<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0;
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let mut sums = [T::zero(); LANES];
        let (a16, b16) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let rest: f64 = a16.remainder().iter().zip(b16.remainder()).map(|(&a, &b)| (a * b).to_f64()).sum();
        for (a, b) in a16.zip(b16) {
            for l in 0..LANES {
                sums[l] += a[l] * b[l];
            }
        }
        total += rest + sums.into_iter().map(Scalar::to_f64).sum::<f64>();
    }
    total
}
