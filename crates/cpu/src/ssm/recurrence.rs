//! One step of the recurrence in real coordinates, and its transpose.
//!
//! A column x = [Re; Im] goes x′ = D₀∘x + Σ_r u_r·2Re(v_r·x), and a row w, kept as [Re; Im] of its
//! coefficients, goes w′ = wĀ = D₀∘w + Σ_r v_r·2Re(u_r·w): the same map with u and v exchanged, so both have
//! one function, called with (out, inn) = (u, v) for columns and (v, u) for rows.
//!
//! Every loop goes by blocks of a fixed length, each loaded whole before anything is stored: with lengths only
//! known at run time, plain loops would spend as much on tests for overlaps as on a step.

use s4_backend::Scalar;

/// Elements of a block; partial sums in as many lanes also fix the order of a reduction.
pub(crate) const LANES: usize = 8;

/// Runs a body for every block of h elements: i its start, L its length (1 for the elements after the last whole block).
macro_rules! blocks {
    ($h:expr, $i:ident, $l:ident => $body:expr) => {{
        let (h, mut $i) = ($h, 0);
        while h - $i >= LANES {
            const $l: usize = LANES;
            $body
            $i += $l;
        }
        while $i < h {
            const $l: usize = 1;
            $body
            $i += $l;
        }
    }};
}

#[inline(always)]
fn load<const L: usize>(x: &[f64], i: usize) -> [f64; L] {
    let mut block = [0.0; L];
    block.copy_from_slice(&x[i..][..L]);
    block
}

#[inline(always)]
fn store<const L: usize>(x: &mut [f64], i: usize, block: [f64; L]) {
    x[i..][..L].copy_from_slice(&block);
}

/// Σ a b + s·Σ c d, partial sums in a fixed order.
#[inline(always)]
fn dot2([a, b]: [&[f64]; 2], s: f64, [c, d]: [&[f64]; 2]) -> f64 {
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    blocks!(a.len(), i, L => {
        let (a, b, c, d) = (load::<L>(a, i), load::<L>(b, i), load::<L>(c, i), load::<L>(d, i));
        for l in 0..L {
            first[l] += a[l] * b[l];
        }
        for l in 0..L {
            second[l] += c[l] * d[l];
        }
    });
    for l in 0..LANES {
        first[l] += s * second[l];
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            first[l] += first[l + width];
        }
        width /= 2;
    }
    first[0]
}

/// 2Re Σ a x over conjugate pairs, of which N/2 are stored.
#[inline(always)]
pub(crate) fn pair_dot(a: &[f64], x: &[f64]) -> f64 {
    let ([a_re, a_im], [x_re, x_im]) = (re_im(a), re_im(x));
    2.0 * dot2([a_re, x_re], -1.0, [a_im, x_im])
}

/// [Re, Im].
#[inline(always)]
pub(crate) fn re_im<T>(x: &[T]) -> [&[T]; 2] {
    let h = x.len() / 2;
    [&x[..h], &x[h..][..h]]
}

/// [Re, Im], to write to.
#[inline(always)]
pub(crate) fn re_im_mut(x: &mut [f64]) -> [&mut [f64]; 2] {
    let h = x.len() / 2;
    let (re, im) = x.split_at_mut(h);
    [re, &mut im[..h]]
}

/// z = x·y or z + x·y (`ACCUMULATE`), elementwise complex; with `CONJ` x·conj(y).
#[inline(always)]
pub(crate) fn multiply_onto<const ACCUMULATE: bool, const CONJ: bool>(z: &mut [f64], x: &[f64], y: &[f64]) {
    let ([z_re, z_im], [x_re, x_im], [y_re, y_im]) = (re_im_mut(z), re_im(x), re_im(y));
    let sign = if CONJ { -1.0 } else { 1.0 };
    blocks!(z_re.len(), i, L => {
        let (a, b, c, d) = (load::<L>(x_re, i), load::<L>(x_im, i), load::<L>(y_re, i), load::<L>(y_im, i));
        let (mut re, mut im) = ([0.0; L], [0.0; L]);
        if ACCUMULATE {
            (re, im) = (load::<L>(z_re, i), load::<L>(z_im, i));
        }
        for l in 0..L {
            re[l] += a[l] * c[l] - sign * (b[l] * d[l]);
        }
        for l in 0..L {
            im[l] += b[l] * c[l] + sign * (a[l] * d[l]);
        }
        store(z_re, i, re);
        store(z_im, i, im);
    });
}

/// z += s·x
#[inline(always)]
pub(crate) fn add<T: Scalar>(z: &mut [f64], s: f64, x: &[T]) {
    let ([z_re, z_im], [x_re, x_im]) = (re_im_mut(z), re_im(x));
    add_scaled(z_re, s, x_re);
    add_scaled(z_im, s, x_im);
}

#[inline(always)]
fn add_scaled<T: Scalar>(z: &mut [f64], s: f64, x: &[T]) {
    blocks!(z.len(), i, L => {
        let (mut sum, x) = (load::<L>(z, i), &x[i..][..L]);
        for l in 0..L {
            sum[l] += s * Scalar::to_f64(x[l]);
        }
        store(z, i, sum);
    });
}

/// z += s·[Re x; −Im x], what the coefficients x give as a row in real coordinates.
#[inline(always)]
pub(crate) fn add_row<T: Scalar>(z: &mut [f64], s: f64, x: &[T]) {
    let ([z_re, z_im], [x_re, x_im]) = (re_im_mut(z), re_im(x));
    add_scaled(z_re, s, x_re);
    add_scaled(z_im, -s, x_im);
}

/// The map of a step: x′ = D₀∘x + Σ_r out_r·2Re(inn_r·x).
#[derive(Clone, Copy)]
pub(crate) struct Transition<'a> {
    /// N
    pub(crate) d0: &'a [f64],
    /// (R, N)
    pub(crate) out: &'a [f64],
    /// (R, N)
    pub(crate) inn: &'a [f64],
}

/// Where the gradients of a [`Transition`] accumulate.
pub(crate) struct TransitionGrads<'a> {
    pub(crate) d0: &'a mut [f64],
    pub(crate) out: &'a mut [f64],
    pub(crate) inn: &'a mut [f64],
}

impl TransitionGrads<'_> {
    /// A shorter borrow.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> TransitionGrads<'_> {
        TransitionGrads { d0: self.d0, out: self.out, inn: self.inn }
    }
}

/// x′ from x.
#[inline(always)]
pub(crate) fn step(next: &mut [f64], x: &[f64], a: Transition<'_>) {
    let Transition { d0, out, inn } = a;
    let state = x.len();
    let next = &mut next[..state];
    multiply_onto::<false, false>(next, x, d0);
    for (out, inn) in out.chunks_exact(state).zip(inn.chunks_exact(state)) {
        add(next, pair_dot(inn, x), out);
    }
}

/// Transpose of [`step`]: from `dnext`, the gradient of x′, to `dx` and the transition, all accumulated.
#[inline(always)]
pub(crate) fn step_backward(
    dx: &mut [f64],
    da: TransitionGrads<'_>,
    dnext: &[f64],
    x: &[f64],
    a: Transition<'_>,
) {
    let (Transition { d0, out, inn }, TransitionGrads { d0: dd0, out: dout, inn: dinn }) = (a, da);
    let state = x.len();
    let ([g_re, g_im], [x_re, x_im], [d_re, d_im]) = (re_im(dnext), re_im(x), re_im(d0));
    {
        let ([dx_re, dx_im], [dd_re, dd_im]) = (re_im_mut(dx), re_im_mut(dd0));
        blocks!(g_re.len(), i, L => {
            let (a, b) = (load::<L>(g_re, i), load::<L>(g_im, i));
            let (c, d, e, f) = (load::<L>(d_re, i), load::<L>(d_im, i), load::<L>(x_re, i), load::<L>(x_im, i));
            let (mut re, mut im) = (load::<L>(dx_re, i), load::<L>(dx_im, i));
            let (mut dd, mut di) = (load::<L>(dd_re, i), load::<L>(dd_im, i));
            for l in 0..L {
                re[l] += a[l] * c[l] + b[l] * d[l];
            }
            for l in 0..L {
                im[l] += b[l] * c[l] - a[l] * d[l];
            }
            for l in 0..L {
                dd[l] += a[l] * e[l] + b[l] * f[l];
            }
            for l in 0..L {
                di[l] += b[l] * e[l] - a[l] * f[l];
            }
            store(dx_re, i, re);
            store(dx_im, i, im);
            store(dd_re, i, dd);
            store(dd_im, i, di);
        });
    }
    let low_rank = out.chunks_exact(state).zip(inn.chunks_exact(state));
    let dlow_rank = dout.chunks_exact_mut(state).zip(dinn.chunks_exact_mut(state));
    for ((out, inn), (dout, dinn)) in low_rank.zip(dlow_rank) {
        let [out_re, out_im] = re_im(out);
        let (s, ds) = (pair_dot(inn, x), 2.0 * dot2([g_re, out_re], 1.0, [g_im, out_im]));
        add(dout, s, dnext);
        let ([dx_re, dx_im], [inn_re, inn_im]) = (re_im_mut(dx), re_im(inn));
        let [dinn_re, dinn_im] = re_im_mut(dinn);
        blocks!(g_re.len(), i, L => {
            let (mut re, mut im) = (load::<L>(dx_re, i), load::<L>(dx_im, i));
            let (mut dr, mut di) = (load::<L>(dinn_re, i), load::<L>(dinn_im, i));
            let (c, d, e, f) = (load::<L>(inn_re, i), load::<L>(inn_im, i), load::<L>(x_re, i), load::<L>(x_im, i));
            for l in 0..L {
                re[l] += ds * c[l];
            }
            for l in 0..L {
                im[l] -= ds * d[l];
            }
            for l in 0..L {
                dr[l] += ds * e[l];
            }
            for l in 0..L {
                di[l] -= ds * f[l];
            }
            store(dx_re, i, re);
            store(dx_im, i, im);
            store(dinn_re, i, dr);
            store(dinn_im, i, di);
        });
    }
}
