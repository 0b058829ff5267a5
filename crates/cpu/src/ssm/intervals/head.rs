//! What the time steps of one head are computed from, in f64, and the factors F of each time step.
//!
//! Arrays over modes are padded to a multiple of [`LANES`]; a padded mode has Δ = 0, so that it stays 0. A complex vector is
//! [Re; Im] of `width` numbers each.

use crate::{
    linalg::{complex_exp::complex_expm1, math::fma},
    ssm::params::{C64, Head},
};
use s4_backend::{Discretization, SsmSpec};

/// Modes that are computed side by side.
pub(super) const LANES: usize = 8;
/// Modes, padded.
pub(super) fn width(spec: &SsmSpec) -> usize {
    spec.pairs().next_multiple_of(LANES)
}

/// Rules by which F comes from Λ and a time step τ: bilinear; zero-order hold; zero-order hold where some |Λτ| is so small that
/// the derivative of F needs its series.
pub(super) const BILINEAR: u8 = 0;
pub(super) const ZOH: u8 = 1;
pub(super) const ZOH_SMALL: u8 = 2;

/// Below this |Λτ| the derivative of F is taken from its series: the quotient has lost five digits there, and the first
/// term that the series leaves out is below rounding.
const SMALL: f64 = 1e-5;

/// Cuts slices off a scratch.
pub(super) struct Cut<'a>(pub(super) &'a mut [f64]);

impl<'a> Cut<'a> {
    pub(super) fn take(&mut self, len: usize) -> &'a mut [f64] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        part
    }
}

/// The constants of a head.
pub(super) struct Modes<'a> {
    pub(super) width: usize,
    pub(super) rank: usize,
    zoh: bool,
    /// The smallest |ΛΔ|.
    slowest: f64,
    /// Λ
    pub(super) lambda: &'a mut [f64],
    /// 1/Λ, for zero-order hold.
    inverse: &'a mut [f64],
    /// (width): Δ, of an interval of 1.
    pub(super) dt: &'a mut [f64],
    pub(super) b: &'a mut [f64],
    /// (kernel channels, 2·width)
    pub(super) c: &'a mut [f64],
    /// (R, 2·width)
    pub(super) p: &'a mut [f64],
}

/// Numbers of scratch that the constants of a head take.
pub(super) fn modes_len(spec: &SsmSpec) -> usize {
    width(spec) * (7 + 2 * spec.kernel_channels() + 2 * spec.rank)
}

/// Writes complex numbers as [Re; Im], with zeros in the padding.
fn write(to: &mut [f64], from: &[C64]) {
    let (re, im) = to.split_at_mut(to.len() / 2);
    re.fill(0.0);
    im.fill(0.0);
    for ((re, im), z) in re.iter_mut().zip(im).zip(from) {
        (*re, *im) = (z.re, z.im);
    }
}

impl<'a> Modes<'a> {
    pub(super) fn load(scratch: &mut Cut<'a>, head: &Head<'_>) -> Self {
        let (spec, width) = (head.spec(), width(head.spec()));
        let mut modes = Modes {
            width,
            rank: spec.rank,
            zoh: spec.discretization == Discretization::Zoh,
            slowest: f64::INFINITY,
            lambda: scratch.take(2 * width),
            inverse: scratch.take(2 * width),
            dt: scratch.take(width),
            b: scratch.take(2 * width),
            c: scratch.take(2 * width * spec.kernel_channels()),
            p: scratch.take(2 * width * spec.rank),
        };
        write(modes.lambda, head.lambda);
        write(modes.b, head.b);
        for (channel, c) in modes.c.chunks_exact_mut(2 * width).enumerate() {
            write(c, head.c(channel));
        }
        for (r, p) in modes.p.chunks_exact_mut(2 * width).enumerate() {
            write(p, head.p(r));
        }
        modes.dt.fill(0.0);
        for n in 0..width {
            let mut lambda = C64::new(-1.0, 0.0);
            if n < spec.pairs() {
                lambda = head.lambda[n];
                modes.dt[n] = head.dt[n];
                // F = (e^{Λτ} − 1)/Λ at Λ = 0, its limit τ, comes out of any Λ that is small enough.
                if lambda.norm_sqr() < 1e-200 {
                    lambda = C64::new(1e-100, 0.0);
                }
                modes.slowest = modes.slowest.min(lambda.norm() * head.dt[n]);
            }
            let inverse = lambda.inv();
            (modes.lambda[n], modes.lambda[n + width]) = (lambda.re, lambda.im);
            (modes.inverse[n], modes.inverse[n + width]) = (inverse.re, inverse.im);
        }
        modes
    }

    /// The rule of time steps with these intervals.
    pub(super) fn rule(&self, intervals: &[f64]) -> u8 {
        if !self.zoh {
            return BILINEAR;
        }
        let least = intervals.iter().copied().fold(f64::INFINITY, f64::min);
        if self.slowest * least < SMALL { ZOH_SMALL } else { ZOH }
    }

    /// F of each time step, (steps, 2·width), with τ = Δ·interval: (e^{Λτ} − 1)/Λ, or τ/(1 − Λτ/2).
    #[inline(always)]
    pub(super) fn factors<const FMA: bool, const RULE: u8>(&self, factors: &mut [f64], intervals: &[f64]) {
        let width = self.width;
        for (t, &interval) in intervals.iter().enumerate() {
            // Intervals are often equal to the one before.
            if t > 0 && interval == intervals[t - 1] {
                factors.copy_within(2 * width * (t - 1)..2 * width * t, 2 * width * t);
                continue;
            }
            let f = &mut factors[2 * width * t..][..2 * width];
            for i in (0..width).step_by(LANES) {
                let ([l_re, l_im], dt) = (load(self.lambda, width, i), block(self.dt, i));
                let [v_re, v_im] = load(self.inverse, width, i);
                let (mut re, mut im) = ([0.0; LANES], [0.0; LANES]);
                for l in 0..LANES {
                    let tau = dt[l] * interval;
                    let (a, b) = (l_re[l] * tau, l_im[l] * tau);
                    if RULE == BILINEAR {
                        let (d_re, d_im) = (fma::<f64, FMA>(-0.5, a, 1.0), 0.5 * b);
                        let scale = tau / fma::<f64, FMA>(d_re, d_re, d_im * d_im);
                        (re[l], im[l]) = (d_re * scale, d_im * scale);
                    } else {
                        let (m_re, m_im) = complex_expm1::<FMA>(a, b);
                        re[l] = fma::<f64, FMA>(m_re, v_re[l], -(m_im * v_im[l]));
                        im[l] = fma::<f64, FMA>(m_re, v_im[l], m_im * v_re[l]);
                    }
                }
                store(f, width, i, [re, im]);
            }
        }
    }

    /// ∂F/∂Λ and ∂F/∂τ of a block of modes, from F and the interval.
    #[inline(always)]
    pub(super) fn derivatives<const FMA: bool, const RULE: u8>(
        &self,
        i: usize,
        [f_re, f_im]: [[f64; LANES]; 2],
        interval: f64,
    ) -> [[[f64; LANES]; 2]; 2] {
        let width = self.width;
        let ([l_re, l_im], dt) = (load(self.lambda, width, i), block(self.dt, i));
        let [v_re, v_im] = load(self.inverse, width, i);
        let zero = [[0.0; LANES]; 2];
        let (mut by_lambda, mut by_tau) = (zero, zero);
        for l in 0..LANES {
            let (f_re, f_im) = (f_re[l], f_im[l]);
            // ΛF
            let re = fma::<f64, FMA>(l_re[l], f_re, -(l_im[l] * f_im));
            let im = fma::<f64, FMA>(l_re[l], f_im, l_im[l] * f_re);
            if RULE == BILINEAR {
                // 1/(1 − Λτ/2) = 1 + ΛF/2, of which ∂F/∂τ is the square; ∂F/∂Λ = F²/2.
                let (g_re, g_im) = (fma::<f64, FMA>(0.5, re, 1.0), 0.5 * im);
                by_tau[0][l] = fma::<f64, FMA>(g_re, g_re, -(g_im * g_im));
                by_tau[1][l] = 2.0 * g_re * g_im;
                by_lambda[0][l] = 0.5 * fma::<f64, FMA>(f_re, f_re, -(f_im * f_im));
                by_lambda[1][l] = f_re * f_im;
                continue;
            }
            // ∂F/∂τ = e^{Λτ} = 1 + ΛF; ∂F/∂Λ = (τ e^{Λτ} − F)/Λ = τ²(1/2 + z/3 + z²/8 + z³/30 + …), z = Λτ.
            let tau = dt[l] * interval;
            (by_tau[0][l], by_tau[1][l]) = (1.0 + re, im);
            let (q_re, q_im) = (fma::<f64, FMA>(tau, 1.0 + re, -f_re), fma::<f64, FMA>(tau, im, -f_im));
            let quotient = [
                fma::<f64, FMA>(q_re, v_re[l], -(q_im * v_im[l])),
                fma::<f64, FMA>(q_re, v_im[l], q_im * v_re[l]),
            ];
            let mut value = quotient;
            if RULE == ZOH_SMALL {
                let (z_re, z_im) = (l_re[l] * tau, l_im[l] * tau);
                let mut s = [1.0 / 30.0, 0.0];
                for c in [0.125, 1.0 / 3.0, 0.5] {
                    s = [
                        fma::<f64, FMA>(s[0], z_re, fma::<f64, FMA>(-s[1], z_im, c)),
                        fma::<f64, FMA>(s[0], z_im, s[1] * z_re),
                    ];
                }
                let series = [s[0] * tau * tau, s[1] * tau * tau];
                let small = fma::<f64, FMA>(z_re, z_re, z_im * z_im) < SMALL * SMALL;
                value = [
                    if small { series[0] } else { quotient[0] },
                    if small { series[1] } else { quotient[1] },
                ];
            }
            (by_lambda[0][l], by_lambda[1][l]) = (value[0], value[1]);
        }
        [by_lambda, by_tau]
    }
}

/// A block of real numbers.
#[inline(always)]
pub(super) fn block(x: &[f64], i: usize) -> [f64; LANES] {
    let mut block = [0.0; LANES];
    block.copy_from_slice(&x[i..][..LANES]);
    block
}

/// A block of complex numbers of a vector [Re; Im].
#[inline(always)]
pub(super) fn load(x: &[f64], width: usize, i: usize) -> [[f64; LANES]; 2] {
    [block(x, i), block(x, width + i)]
}

/// Writes what [`load`] reads.
#[inline(always)]
pub(super) fn store(x: &mut [f64], width: usize, i: usize, [re, im]: [[f64; LANES]; 2]) {
    x[i..][..LANES].copy_from_slice(&re);
    x[width + i..][..LANES].copy_from_slice(&im);
}

/// The sum of a block, in a fixed order.
#[inline(always)]
pub(super) fn fold(mut sums: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}
