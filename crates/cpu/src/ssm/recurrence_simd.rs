//! [`recurrence`] in explicit vectors of f64, a pass over memory for each function where the plain form takes several.
//! The plain form is what each must equal; it also takes the N/2 that no vector divides.

use crate::ssm::recurrence::{self, Transition, TransitionGrads};
use pulp::Simd;

fn divides<S: Simd>(state: usize) -> bool {
    (state / 2) % S::F64_LANES == 0
}

/// [Re, Im] in vectors.
#[inline(always)]
fn re_im<S: Simd>(x: &[f64]) -> [&[S::f64s]; 2] {
    let h = x.len() / 2;
    [&x[..h], &x[h..][..h]].map(
        #[inline(always)]
        |x| S::as_simd_f64s(x).0,
    )
}

/// [Re, Im] in vectors, to write to.
#[inline(always)]
fn re_im_mut<S: Simd>(x: &mut [f64]) -> [&mut [S::f64s]; 2] {
    let h = x.len() / 2;
    let (re, im) = x.split_at_mut(h);
    [S::as_mut_simd_f64s(re).0, S::as_mut_simd_f64s(&mut im[..h]).0]
}

/// As [`recurrence::pair_dot`], in vectors; falls back to it where the pairs fill no whole vectors.
#[inline(always)]
pub(crate) fn pair_dot<S: Simd>(simd: S, a: &[f64], x: &[f64]) -> f64 {
    if !divides::<S>(x.len()) {
        return recurrence::pair_dot(a, x);
    }
    let ([a_re, a_im], [x_re, x_im]) = (re_im::<S>(a), re_im::<S>(x));
    let h = x_re.len();
    let (a_re, a_im, x_im) = (&a_re[..h], &a_im[..h], &x_im[..h]);
    let (mut re, mut im) = (simd.splat_f64s(0.0), simd.splat_f64s(0.0));
    for n in 0..h {
        re = simd.mul_add_e_f64s(a_re[n], x_re[n], re);
        im = simd.mul_add_e_f64s(a_im[n], x_im[n], im);
    }
    2.0 * simd.reduce_sum_f64s(simd.sub_f64s(re, im))
}

/// z = x·conj(y) or z + x·conj(y) (`ACCUMULATE`), elementwise complex.
#[inline(always)]
pub(crate) fn multiply_conj<S: Simd, const ACCUMULATE: bool>(simd: S, z: &mut [f64], x: &[f64], y: &[f64]) {
    if !divides::<S>(x.len()) {
        return recurrence::multiply_onto::<ACCUMULATE, true>(z, x, y);
    }
    let ([z_re, z_im], [x_re, x_im], [y_re, y_im]) = (re_im_mut::<S>(z), re_im::<S>(x), re_im::<S>(y));
    let h = z_re.len();
    let (z_im, x_re, x_im, y_re, y_im) = (&mut z_im[..h], &x_re[..h], &x_im[..h], &y_re[..h], &y_im[..h]);
    for n in 0..h {
        let (a, b, c, d) = (x_re[n], x_im[n], y_re[n], y_im[n]);
        let (mut re, mut im) = (simd.mul_f64s(b, d), simd.mul_f64s(b, c));
        if ACCUMULATE {
            (re, im) = (simd.mul_add_e_f64s(b, d, z_re[n]), simd.mul_add_e_f64s(b, c, z_im[n]));
        }
        z_re[n] = simd.mul_add_e_f64s(a, c, re);
        z_im[n] = simd.negate_mul_add_e_f64s(a, d, im);
    }
}

/// As [`recurrence::step`], in vectors; falls back to it where the pairs fill no whole vectors.
#[inline(always)]
pub(crate) fn step<S: Simd>(simd: S, next: &mut [f64], x: &[f64], a: Transition<'_>) {
    let Transition { d0, out, inn } = a;
    let state = d0.len();
    let (next, x) = (&mut next[..state], &x[..state]);
    if !divides::<S>(state) {
        return recurrence::step(next, x, a);
    }
    {
        let ([to_re, to_im], [x_re, x_im], [d_re, d_im]) =
            (re_im_mut::<S>(next), re_im::<S>(x), re_im::<S>(d0));
        let h = to_re.len();
        let to_im = &mut to_im[..h];
        let (x_re, x_im, d_re, d_im) = (&x_re[..h], &x_im[..h], &d_re[..h], &d_im[..h]);
        for n in 0..h {
            let (a, b, c, d) = (x_re[n], x_im[n], d_re[n], d_im[n]);
            to_re[n] = simd.negate_mul_add_e_f64s(b, d, simd.mul_f64s(a, c));
            to_im[n] = simd.mul_add_e_f64s(a, d, simd.mul_f64s(b, c));
        }
    }
    for (out, inn) in out.chunks_exact(state).zip(inn.chunks_exact(state)) {
        let s = simd.splat_f64s(pair_dot(simd, inn, x));
        let ([to_re, to_im], [out_re, out_im]) = (re_im_mut::<S>(next), re_im::<S>(out));
        let h = to_re.len();
        let (to_im, out_re, out_im) = (&mut to_im[..h], &out_re[..h], &out_im[..h]);
        for n in 0..h {
            to_re[n] = simd.mul_add_e_f64s(s, out_re[n], to_re[n]);
            to_im[n] = simd.mul_add_e_f64s(s, out_im[n], to_im[n]);
        }
    }
}

/// As [`recurrence::step_backward`], in vectors; falls back to it where the pairs fill no whole vectors.
#[inline(always)]
pub(crate) fn step_backward<S: Simd>(
    simd: S,
    dx: &mut [f64],
    da: TransitionGrads<'_>,
    dnext: &[f64],
    x: &[f64],
    a: Transition<'_>,
) {
    let (Transition { d0, out, inn }, TransitionGrads { d0: dd0, out: dout, inn: dinn }) = (a, da);
    let state = d0.len();
    let (dx, dnext, x) = (&mut dx[..state], &dnext[..state], &x[..state]);
    if !divides::<S>(state) {
        let da = TransitionGrads { d0: dd0, out: dout, inn: dinn };
        return recurrence::step_backward(dx, da, dnext, x, a);
    }
    let ([g_re, g_im], [x_re, x_im], [d_re, d_im]) = (re_im::<S>(dnext), re_im::<S>(x), re_im::<S>(d0));
    let h = g_re.len();
    let (g_im, x_re, x_im, d_re, d_im) = (&g_im[..h], &x_re[..h], &x_im[..h], &d_re[..h], &d_im[..h]);
    {
        let ([dx_re, dx_im], [dd_re, dd_im]) = (re_im_mut::<S>(dx), re_im_mut::<S>(dd0));
        let (dx_re, dx_im, dd_re, dd_im) =
            (&mut dx_re[..h], &mut dx_im[..h], &mut dd_re[..h], &mut dd_im[..h]);
        for n in 0..h {
            let (a, b) = (g_re[n], g_im[n]);
            let (c, d, e, f) = (d_re[n], d_im[n], x_re[n], x_im[n]);
            dx_re[n] = simd.mul_add_e_f64s(a, c, simd.mul_add_e_f64s(b, d, dx_re[n]));
            dx_im[n] = simd.mul_add_e_f64s(b, c, simd.negate_mul_add_e_f64s(a, d, dx_im[n]));
            dd_re[n] = simd.mul_add_e_f64s(a, e, simd.mul_add_e_f64s(b, f, dd_re[n]));
            dd_im[n] = simd.mul_add_e_f64s(b, e, simd.negate_mul_add_e_f64s(a, f, dd_im[n]));
        }
    }
    let low_rank = out.chunks_exact(state).zip(inn.chunks_exact(state));
    let dlow_rank = dout.chunks_exact_mut(state).zip(dinn.chunks_exact_mut(state));
    for ((out, inn), (dout, dinn)) in low_rank.zip(dlow_rank) {
        let ([out_re, out_im], [inn_re, inn_im]) = (re_im::<S>(out), re_im::<S>(inn));
        let (out_re, out_im, inn_re, inn_im) = (&out_re[..h], &out_im[..h], &inn_re[..h], &inn_im[..h]);
        let zero = simd.splat_f64s(0.0);
        let (mut s_re, mut s_im, mut ds_re, mut ds_im) = (zero, zero, zero, zero);
        for n in 0..h {
            s_re = simd.mul_add_e_f64s(inn_re[n], x_re[n], s_re);
            s_im = simd.mul_add_e_f64s(inn_im[n], x_im[n], s_im);
            ds_re = simd.mul_add_e_f64s(out_re[n], g_re[n], ds_re);
            ds_im = simd.mul_add_e_f64s(out_im[n], g_im[n], ds_im);
        }
        let s = simd.splat_f64s(2.0 * simd.reduce_sum_f64s(simd.sub_f64s(s_re, s_im)));
        let ds = simd.splat_f64s(2.0 * simd.reduce_sum_f64s(simd.add_f64s(ds_re, ds_im)));
        let ([dx_re, dx_im], [dout_re, dout_im]) = (re_im_mut::<S>(dx), re_im_mut::<S>(dout));
        let [dinn_re, dinn_im] = re_im_mut::<S>(dinn);
        let (dx_re, dx_im, dout_re, dout_im, dinn_re, dinn_im) = (
            &mut dx_re[..h],
            &mut dx_im[..h],
            &mut dout_re[..h],
            &mut dout_im[..h],
            &mut dinn_re[..h],
            &mut dinn_im[..h],
        );
        for n in 0..h {
            dx_re[n] = simd.mul_add_e_f64s(ds, inn_re[n], dx_re[n]);
            dx_im[n] = simd.negate_mul_add_e_f64s(ds, inn_im[n], dx_im[n]);
            dout_re[n] = simd.mul_add_e_f64s(s, g_re[n], dout_re[n]);
            dout_im[n] = simd.mul_add_e_f64s(s, g_im[n], dout_im[n]);
            dinn_re[n] = simd.mul_add_e_f64s(ds, x_re[n], dinn_re[n]);
            dinn_im[n] = simd.negate_mul_add_e_f64s(ds, x_im[n], dinn_im[n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use s4_backend::random::Rng;

    struct Both<'a>(&'a [Vec<f64>]);

    impl pulp::WithSimd for Both<'_> {
        type Output = [Vec<f64>; 2];
        fn with_simd<S: Simd>(self, simd: S) -> [Vec<f64>; 2] {
            let [dx, dd, dout, dinn, g, x, d0, out, inn] = self.0 else { panic!("nine vectors") };
            [false, true].map(|plain| {
                let (mut dx, mut dd, mut dout, mut dinn) =
                    (dx.clone(), dd.clone(), dout.clone(), dinn.clone());
                let (mut next, mut z) = (vec![f64::NAN; d0.len()], vec![f64::NAN; d0.len()]);
                let first = &inn[..d0.len().min(inn.len())];
                let mut sum = 0.0;
                let a = Transition { d0, out, inn };
                let da = TransitionGrads { d0: &mut dd, out: &mut dout, inn: &mut dinn };
                if plain {
                    recurrence::step_backward(&mut dx, da, g, x, a);
                    recurrence::step(&mut next, x, a);
                    recurrence::multiply_onto::<false, true>(&mut z, x, d0);
                    recurrence::multiply_onto::<true, true>(&mut z, x, g);
                    if !first.is_empty() {
                        sum = recurrence::pair_dot(first, x);
                    }
                } else {
                    step_backward(simd, &mut dx, da, g, x, a);
                    step(simd, &mut next, x, a);
                    multiply_conj::<S, false>(simd, &mut z, x, d0);
                    multiply_conj::<S, true>(simd, &mut z, x, g);
                    if !first.is_empty() {
                        sum = pair_dot(simd, first, x);
                    }
                }
                [dx, dd, dout, dinn, next, z, vec![sum]].concat()
            })
        }
    }

    #[test]
    fn vectors_equal_the_plain_form() {
        let mut rng = Rng::new(11, 0);
        for (state, rank) in [(64, 1), (64, 2), (16, 0), (20, 1), (6, 3)] {
            let sizes = [1, 1, rank, rank, 1, 1, 1, rank, rank];
            let all = sizes.map(|n| (0..n * state).map(|_| rng.normal()).collect::<Vec<f64>>());
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                if level <= Level::detect() {
                    let [fast, plain] = level.dispatch(Both(&all));
                    let err = fast.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(
                        fast.iter().all(|x| x.is_finite()) && err <= 1e-12,
                        "{state} {rank} {level:?}: {err:e}"
                    );
                }
            }
        }
    }
}
