//! y = K̄∗u + D·u by FFT (paper eq. 4), any length, causal or two-sided.
//!
//! Two rows of one head go through one transform as real and imaginary part: K̄ is real, so its spectrum
//! multiplies both and nothing is unpacked. A row that goes alone takes the right-angle form: twisted by
//! w^t = e^{iπt/2m}, a circular product of m ≥ L points puts what wraps around into the imaginary part
//! (w^{±m} = ±i), so m points do for one row what 2L points do for two.

use crate::{
    Cpu, Level, Workspace,
    fft::{Fft, good_len},
    memory::{GRAIN, same_len},
    par::{Slots, slots_len},
};
use num_complex::Complex;
use rayon::prelude::*;
use s4_backend::{ConvOps, ConvShape, Error, Result, Scalar};
use std::sync::Arc;

/// Rows of a head from which they go two by two. Measured at 256 to 64k points: with few rows the kernel's own
/// transform weighs, and the right-angle form has half of it; with many, backward gains 10 % from pairs.
const PAIRS_FROM: usize = 8;

/// Everything that the shape alone fixes.
struct ConvPlan<T> {
    shape: ConvShape,
    /// Rows 0 … 2·pairs−1 go two by two, the rest alone.
    pairs: usize,
    /// Length n ≥ L + M − 1 for two rows (one more when two-sided), where rows go two by two.
    pair: Option<Fft>,
    /// Length m ≥ L and w^t for a lone row, where rows go alone.
    lone: Option<(Fft, Arc<Vec<Complex<T>>>)>,
    level: Level,
}

impl<T: Scalar> ConvPlan<T> {
    fn new(be: &Cpu<T>, op: &'static str, shape: &ConvShape) -> Result<Self> {
        let ConvShape { batch, heads, channels, len, kernel_len, two_sided } = *shape;
        if batch == 0 || heads == 0 || channels == 0 || len == 0 {
            return Err(Error::shape(op, "sizes of 1 or more", format!("{shape:?}")));
        }
        if kernel_len == 0 || kernel_len > len {
            return Err(Error::shape(op, format!("a kernel of 1 to {len} samples"), kernel_len));
        }
        let pairs = if batch < PAIRS_FROM { 0 } else { batch / 2 };
        let pair = (pairs > 0).then(|| be.fft(good_len(len + kernel_len - usize::from(!two_sided))));
        let lone = (2 * pairs < batch).then(|| {
            let n = good_len(len);
            (be.fft(n), be.twist(n))
        });
        Ok(ConvPlan { shape: *shape, pairs, pair, lone, level: be.level() })
    }

    /// Rows that the kernel has for each head.
    fn kernel_channels(&self) -> usize {
        self.shape.channels * if self.shape.two_sided { 2 } else { 1 }
    }

    fn points(&self) -> usize {
        let lone = self.lone.as_ref().map_or(0, |(fft, _)| fft.len());
        self.pair.as_ref().map_or(0, Fft::len).max(lone)
    }

    fn fft_scratch(&self) -> usize {
        let lone = self.lone.as_ref().map_or(0, |(fft, _)| fft.scratch());
        self.pair.as_ref().map_or(0, Fft::scratch).max(lone)
    }

    /// The kernel rows of channel `c` of head `h`: forward, and backward when two-sided.
    fn kernel_rows<'k>(&self, kernel: &'k [T], h: usize, c: usize) -> (&'k [T], Option<&'k [T]>) {
        let ConvShape { heads, channels, kernel_len, two_sided, .. } = self.shape;
        let row = |c: usize| &kernel[(c * heads + h) * kernel_len..][..kernel_len];
        (row(c), two_sided.then(|| row(channels + c)))
    }

    /// (1/n)·FFT of the kernel laid on the circle: k0_j at j, k1_j at −(1+j).
    fn pair_spectrum(
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
    fn lone_spectrum(
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
fn back_twist<T: Scalar>(twist: &[Complex<T>], j: usize) -> Complex<T> {
    twist.get(j + 1).map_or(Complex::new(T::zero(), -T::one()), |w| w.conj())
}

/// z = a + i b, padded with zeros.
#[inline(always)]
fn pack<T: Scalar>(z: &mut [Complex<T>], a: &[T], b: &[T]) {
    for ((z, &a), &b) in z.iter_mut().zip(a).zip(b) {
        *z = Complex::new(a, b);
    }
    z[a.len()..].fill(Complex::default());
}

/// z = a∘w, padded with zeros.
#[inline(always)]
fn pack_twisted<T: Scalar>(z: &mut [Complex<T>], a: &[T], twist: &[Complex<T>]) {
    for ((z, &a), w) in z.iter_mut().zip(a).zip(twist) {
        *z = w * a;
    }
    z[a.len()..].fill(Complex::default());
}

/// The shared rows of a (batch, features, len) buffer.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    data: &'a [T],
    features: usize,
    len: usize,
}

impl<'a, T> Rows<'a, T> {
    fn get(&self, row: usize, feature: usize) -> &'a [T] {
        &self.data[(row * self.features + feature) * self.len..][..self.len]
    }
}

impl<T: Scalar> ConvPlan<T> {
    /// All rows of head `h`; `y`: its (batch, channels) rows.
    fn forward_head(
        &self,
        h: usize,
        y: &mut [&mut [T]],
        u: Rows<'_, T>,
        kernel: &[T],
        d: Option<&[T]>,
        scratch: &mut [Complex<T>],
    ) {
        let ConvShape { heads, channels, .. } = self.shape;
        let points = self.points();
        let (spectra, rest) = scratch.split_at_mut(points * channels);
        let (z, rest) = rest.split_at_mut(points);
        let (work, fft_scratch) = rest.split_at_mut(points);
        let skip = |c: usize| d.map_or(T::zero(), |d| d[c * heads + h]);
        if let Some(fft) = &self.pair {
            let n = fft.len();
            let (z, work) = (&mut z[..n], &mut work[..n]);
            for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                self.pair_spectrum(fft, &mut s[..n], self.kernel_rows(kernel, h, c), fft_scratch);
            }
            for (b, y) in y.chunks_exact_mut(2 * channels).enumerate() {
                let (ua, ub) = (u.get(2 * b, h), u.get(2 * b + 1, h));
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
        if let Some((fft, twist)) = &self.lone {
            let m = fft.len();
            let (z, work) = (&mut z[..m], &mut work[..m]);
            for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                self.lone_spectrum(fft, twist, &mut s[..m], self.kernel_rows(kernel, h, c), fft_scratch);
            }
            for (b, y) in y.chunks_exact_mut(channels).enumerate().skip(2 * self.pairs) {
                let u = u.get(b, h);
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

    /// Transpose of [`ConvPlan::forward_head`]. `du`: (batch) rows or none; `dkernel`: (kernel channels) rows.
    fn backward_head(
        &self,
        h: usize,
        du: &mut [&mut [T]],
        dkernel: &mut [&mut [T]],
        dy: Rows<'_, T>,
        u: Rows<'_, T>,
        kernel: &[T],
        d: Option<&[T]>,
        scratch: &mut [Complex<T>],
    ) {
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
        if let Some(fft) = &self.pair {
            let n = fft.len();
            let (zu, zy, work) = (&mut zu[..n], &mut zy[..n], &mut work[..n]);
            sums.fill(Complex::default());
            if want_du {
                for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                    self.pair_spectrum(fft, &mut s[..n], self.kernel_rows(kernel, h, c), fft_scratch);
                }
            }
            for b in 0..self.pairs {
                let (ua, ub) = (u.get(2 * b, h), u.get(2 * b + 1, h));
                self.level.run(
                    #[inline(always)]
                    || pack(zu, ua, ub),
                );
                fft.forward(zu, fft_scratch);
                for c in 0..channels {
                    let (ya, yb) = (dy.get(2 * b, c * heads + h), dy.get(2 * b + 1, c * heads + h));
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
                if self.shape.two_sided {
                    for (dk, z) in dkernel[channels + c].iter_mut().zip(sum.iter().rev()) {
                        *dk += z.re * scale;
                    }
                }
            }
        }
        if let Some((fft, twist)) = &self.lone {
            let m = fft.len();
            let (zu, zy, work) = (&mut zu[..m], &mut zy[..m], &mut work[..m]);
            sums.fill(Complex::default());
            if want_du {
                for (c, s) in spectra.chunks_exact_mut(points).enumerate() {
                    self.lone_spectrum(fft, twist, &mut s[..m], self.kernel_rows(kernel, h, c), fft_scratch);
                }
            }
            for b in 2 * self.pairs..batch {
                let ul = u.get(b, h);
                self.level.run(
                    #[inline(always)]
                    || pack_twisted(zu, ul, twist),
                );
                fft.forward(zu, fft_scratch);
                for c in 0..channels {
                    let yl = dy.get(b, c * heads + h);
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
                if self.shape.two_sided {
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
                    let (d, dy) = (skip(c), dy.get(b, c * heads + h));
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
fn dot<T: Scalar>(a: &[T], b: &[T]) -> f64 {
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

/// The rows of a (outer, heads, len) buffer, all rows of head 0 first: what lets every head be one task.
pub(crate) fn rows_by_head<T>(data: &mut [T], len: usize, heads: usize) -> Vec<&mut [T]> {
    let outer = data.len() / (len * heads);
    let mut rows: Vec<&mut [T]> = Vec::new();
    rows.resize_with(outer * heads, Default::default);
    for (i, row) in data.chunks_exact_mut(len).enumerate() {
        rows[(i % heads) * outer + i / heads] = row;
    }
    rows
}

impl<T: Scalar> ConvOps for Cpu<T> {
    fn conv_forward(
        &self,
        y: &mut [T],
        u: &[T],
        kernel: &[T],
        d: Option<&[T]>,
        shape: &ConvShape,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "conv_forward";
        let plan = ConvPlan::new(self, OP, shape)?;
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = *shape;
        same_len(OP, batch * channels * heads * len, y.len())?;
        same_len(OP, batch * heads * len, u.len())?;
        same_len(OP, plan.kernel_channels() * heads * kernel_len, kernel.len())?;
        same_len(OP, d.map_or(0, |_| channels * heads), d.map_or(0, <[T]>::len))?;
        let each = plan.points() * (channels + 2) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let u = Rows { data: u, features: heads, len };
        let mut rows = rows_by_head(y, len, heads);
        let task = |(h, y): (usize, &mut [&mut [T]])| {
            plan.forward_head(h, y, u, kernel, d, &mut slots.lock());
        };
        let per_head = batch * channels;
        if batch * heads * len < 2 * GRAIN {
            rows.chunks_mut(per_head).enumerate().for_each(task);
        } else {
            self.install(|| rows.par_chunks_mut(per_head).enumerate().for_each(task));
        }
        drop(slots);
        ws.complex.give(scratch);
        Ok(())
    }

    fn conv_backward(
        &self,
        du: Option<&mut [T]>,
        dkernel: &mut [T],
        dd: Option<&mut [T]>,
        dy: &[T],
        u: &[T],
        kernel: &[T],
        d: Option<&[T]>,
        shape: &ConvShape,
        ws: &mut Workspace<T>,
    ) -> Result<()> {
        const OP: &str = "conv_backward";
        let plan = ConvPlan::new(self, OP, shape)?;
        let ConvShape { batch, heads, channels, len, kernel_len, .. } = *shape;
        same_len(OP, batch * channels * heads * len, dy.len())?;
        same_len(OP, batch * heads * len, u.len())?;
        same_len(OP, plan.kernel_channels() * heads * kernel_len, kernel.len())?;
        same_len(OP, kernel.len(), dkernel.len())?;
        same_len(OP, d.map_or(0, |_| channels * heads), d.map_or(0, <[T]>::len))?;
        same_len(OP, d.map_or(0, <[T]>::len), dd.as_ref().map_or(0, |dd| dd.len()))?;
        if let Some(du) = &du {
            same_len(OP, u.len(), du.len())?;
        }
        let each = plan.points() * (2 * channels + 3) + plan.fft_scratch();
        let mut scratch = ws.complex.take(slots_len(self, each));
        let slots = Slots::new(&mut scratch, each);
        let (u, dy) =
            (Rows { data: u, features: heads, len }, Rows { data: dy, features: channels * heads, len });
        let mut du_rows = du.map_or_else(Vec::new, |du| rows_by_head(du, len, heads));
        let mut dk_rows = rows_by_head(dkernel, kernel_len, heads);
        // A head without du still needs an (empty) part of it: zip against as many chunks as heads.
        let per_head = du_rows.len() / heads;
        self.install(|| {
            let dk = dk_rows.par_chunks_mut(plan.kernel_channels()).enumerate();
            let task = |h: usize, du: &mut [&mut [T]], dk: &mut [&mut [T]]| {
                plan.backward_head(h, du, dk, dy, u, kernel, d, &mut slots.lock());
            };
            if per_head == 0 {
                dk.for_each(|(h, dk)| task(h, &mut [], dk));
            } else {
                dk.zip(du_rows.par_chunks_mut(per_head)).for_each(|((h, dk), du)| task(h, du, dk));
            }
            if let Some(dd) = dd {
                let level = self.level();
                dd.par_iter_mut().enumerate().for_each(|(feature, dd)| {
                    let rows = (0..batch).map(|b| (dy.get(b, feature), u.get(b, feature % heads)));
                    let sum: f64 = level.run(
                        #[inline(always)]
                        || rows.map(|(dy, u)| dot(dy, u)).sum(),
                    );
                    *dd += T::from_f64(sum);
                });
            }
        });
        drop(slots);
        ws.complex.give(scratch);
        Ok(())
    }
}
