//! One step of the recurrence in real coordinates, and its transpose.
//!
//! A column x = [Re; Im] goes x′ = D₀∘x + Σ_r u_r·2Re(v_r·x), and a row w, kept as [Re; Im] of its
//! coefficients, goes w′ = wĀ = D₀∘w + Σ_r v_r·2Re(u_r·w): the same map with u and v exchanged, so both have
//! one function, called with (out, inn) = (u, v) for columns and (v, u) for rows.

/// Lanes of partial sums; they let a reduction be vectorised and fix its order.
const LANES: usize = 8;

/// Σ a_i b_i with partial sums in a fixed order.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a8, b8) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for l in 0..LANES {
            sums[l] += a[l] * b[l];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

/// 2Re Σ a x over half-stored pairs.
#[inline(always)]
pub(crate) fn pair_dot(a: &[f64], x: &[f64]) -> f64 {
    let h = x.len() / 2;
    2.0 * (dot(&a[..h], &x[..h]) - dot(&a[h..], &x[h..]))
}

/// x′ from x. `out`, `inn`: (R, N).
#[inline(always)]
pub(crate) fn step(next: &mut [f64], x: &[f64], d0: &[f64], out: &[f64], inn: &[f64]) {
    let state = x.len();
    let h = state / 2;
    {
        let (next_re, next_im) = next.split_at_mut(h);
        let ((x_re, x_im), (d_re, d_im)) = (x.split_at(h), d0.split_at(h));
        for n in 0..h {
            next_re[n] = d_re[n] * x_re[n] - d_im[n] * x_im[n];
            next_im[n] = d_re[n] * x_im[n] + d_im[n] * x_re[n];
        }
    }
    for (out, inn) in out.chunks_exact(state).zip(inn.chunks_exact(state)) {
        let s = pair_dot(inn, x);
        for n in 0..state {
            next[n] += out[n] * s;
        }
    }
}

/// Transpose of [`step`]: from `dnext`, the gradient of x′, to `dx` (overwritten) and to D₀, `out`, `inn`
/// (accumulated).
#[inline(always)]
pub(crate) fn step_backward(
    dx: &mut [f64],
    dd0: &mut [f64],
    dout: &mut [f64],
    dinn: &mut [f64],
    dnext: &[f64],
    x: &[f64],
    d0: &[f64],
    out: &[f64],
    inn: &[f64],
) {
    let state = x.len();
    let h = state / 2;
    {
        let ((dx_re, dx_im), (dd_re, dd_im)) = (dx.split_at_mut(h), dd0.split_at_mut(h));
        let ((x_re, x_im), (d_re, d_im)) = (x.split_at(h), d0.split_at(h));
        let (g_re, g_im) = dnext.split_at(h);
        for n in 0..h {
            dx_re[n] = g_re[n] * d_re[n] + g_im[n] * d_im[n];
            dx_im[n] = g_im[n] * d_re[n] - g_re[n] * d_im[n];
            dd_re[n] += g_re[n] * x_re[n] + g_im[n] * x_im[n];
            dd_im[n] += g_im[n] * x_re[n] - g_re[n] * x_im[n];
        }
    }
    let low_rank = out.chunks_exact(state).zip(inn.chunks_exact(state));
    let dlow_rank = dout.chunks_exact_mut(state).zip(dinn.chunks_exact_mut(state));
    for ((out, inn), (dout, dinn)) in low_rank.zip(dlow_rank) {
        let s = pair_dot(inn, x);
        let ds = 2.0 * dot(dnext, out);
        for n in 0..state {
            dout[n] += dnext[n] * s;
        }
        for n in 0..h {
            dinn[n] += ds * x[n];
            dinn[n + h] -= ds * x[n + h];
            dx[n] += ds * inn[n];
            dx[n + h] -= ds * inn[n + h];
        }
    }
}
