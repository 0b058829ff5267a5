//! The time steps of one chunk: from the state before them to the state after each, and the outputs.

use super::head::{BILINEAR, Cut, LANES, Modes, ZOH, ZOH_SMALL, fold, load, store};
use crate::{
    linalg::{
        math::fma,
        simd::{Level, simd},
        small,
    },
    ssm::discretize::MAX_RANK,
};
use s4_backend::SsmSpec;

/// Time steps of a chunk: forward saves the state before each, and backward computes those within it once more.
pub(super) const CHUNK: usize = 64;

/// What is computed of the time steps of a chunk.
pub(super) struct Steps<'a> {
    /// (CHUNK)
    pub(super) u: &'a mut [f64],
    /// (CHUNK)
    pub(super) intervals: &'a mut [f64],
    /// (CHUNK, 2·width): F.
    pub(super) factors: &'a mut [f64],
    /// (CHUNK + 1, 2·width): the state before the first time step, and after each.
    pub(super) states: &'a mut [f64],
    /// (channels, CHUNK): outputs 2Re(Cx) after each time step, or their gradients.
    pub(super) y: &'a mut [f64],
    /// (CHUNK, [`LowRank::len`])
    low_rank: &'a mut [f64],
}

/// Of one time step: a = P*x (R), s = M⁻¹P*Fw (R), M⁻¹ (R, R) with M = I + ½P*FP.
pub(super) struct LowRank<'a> {
    pub(super) a: &'a mut [f64],
    pub(super) s: &'a mut [f64],
    pub(super) m_inv: &'a mut [f64],
}

impl<'a> LowRank<'a> {
    fn len(rank: usize) -> usize {
        rank * (2 + rank)
    }
    fn of(flat: &'a mut [f64], rank: usize, t: usize) -> Self {
        let (a, rest) = flat[Self::len(rank) * t..][..Self::len(rank)].split_at_mut(rank);
        let (s, m_inv) = rest.split_at_mut(rank);
        LowRank { a, s, m_inv }
    }
}

/// Numbers of scratch that [`Steps`] takes.
pub(super) fn steps_len(width: usize, spec: &SsmSpec) -> usize {
    CHUNK * (2 + 4 * width + spec.channels + LowRank::len(spec.rank)) + 2 * width
}

/// Re Σ conj(a) b, in lanes.
#[inline(always)]
fn add_dot<const FMA: bool>(
    sum: &mut [f64; LANES],
    [a_re, a_im]: [[f64; LANES]; 2],
    [b_re, b_im]: [[f64; LANES]; 2],
) {
    for l in 0..LANES {
        sum[l] = fma::<f64, FMA>(a_re[l], b_re[l], fma::<f64, FMA>(a_im[l], b_im[l], sum[l]));
    }
}

/// Re Σ conj(a) b over the modes.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f64], b: &[f64], width: usize) -> f64 {
    let mut sum = [0.0; LANES];
    for i in (0..width).step_by(LANES) {
        add_dot::<FMA>(&mut sum, load(a, width, i), load(b, width, i));
    }
    fold(sum)
}

/// Λx + Bu.
#[inline(always)]
pub(super) fn drive<const FMA: bool>(
    [l_re, l_im]: [[f64; LANES]; 2],
    [b_re, b_im]: [[f64; LANES]; 2],
    [x_re, x_im]: [[f64; LANES]; 2],
    u: f64,
) -> [[f64; LANES]; 2] {
    let mut w = [[0.0; LANES]; 2];
    for l in 0..LANES {
        let (re, im) = (b_re[l] * u, b_im[l] * u);
        w[0][l] = fma::<f64, FMA>(l_re[l], x_re[l], fma::<f64, FMA>(-l_im[l], x_im[l], re));
        w[1][l] = fma::<f64, FMA>(l_re[l], x_im[l], fma::<f64, FMA>(l_im[l], x_re[l], im));
    }
    w
}

/// z + s·a.
#[inline(always)]
pub(super) fn plus_scaled<const FMA: bool>(
    mut z: [[f64; LANES]; 2],
    s: f64,
    a: [[f64; LANES]; 2],
) -> [[f64; LANES]; 2] {
    for part in 0..2 {
        for l in 0..LANES {
            z[part][l] = fma::<f64, FMA>(s, a[part][l], z[part][l]);
        }
    }
    z
}

/// z + a·b, or z + conj(a)·b.
#[inline(always)]
pub(super) fn plus_product<const FMA: bool, const CONJ: bool>(
    mut z: [[f64; LANES]; 2],
    [a_re, a_im]: [[f64; LANES]; 2],
    [b_re, b_im]: [[f64; LANES]; 2],
) -> [[f64; LANES]; 2] {
    for l in 0..LANES {
        let im = if CONJ { -a_im[l] } else { a_im[l] };
        z[0][l] = fma::<f64, FMA>(a_re[l], b_re[l], fma::<f64, FMA>(-im, b_im[l], z[0][l]));
        z[1][l] = fma::<f64, FMA>(a_re[l], b_im[l], fma::<f64, FMA>(im, b_re[l], z[1][l]));
    }
    z
}

pub(super) const ZERO: [[f64; LANES]; 2] = [[0.0; LANES]; 2];

impl<'a> Steps<'a> {
    pub(super) fn take(scratch: &mut Cut<'a>, width: usize, spec: &SsmSpec) -> Self {
        Steps {
            u: scratch.take(CHUNK),
            intervals: scratch.take(CHUNK),
            factors: scratch.take(CHUNK * 2 * width),
            states: scratch.take((CHUNK + 1) * 2 * width),
            y: scratch.take(CHUNK * spec.channels),
            low_rank: scratch.take(CHUNK * LowRank::len(spec.rank)),
        }
    }

    pub(super) fn low_rank(&mut self, rank: usize, t: usize) -> LowRank<'_> {
        LowRank::of(self.low_rank, rank, t)
    }

    /// The factors of the first `count` time steps, and the state after each.
    pub(super) fn run(&mut self, level: Level, modes: &Modes<'_>, count: usize) {
        simd!(level, FMA => self.run_with::<FMA>(modes, count));
    }

    #[inline(always)]
    fn run_with<const FMA: bool>(&mut self, modes: &Modes<'_>, count: usize) {
        let intervals = &self.intervals[..count];
        match modes.rule(intervals) {
            BILINEAR => modes.factors::<FMA, BILINEAR>(self.factors, intervals),
            ZOH => modes.factors::<FMA, ZOH>(self.factors, intervals),
            _ => modes.factors::<FMA, ZOH_SMALL>(self.factors, intervals),
        }
        for t in 0..count {
            if modes.rank == 0 { self.diagonal_step::<FMA>(modes, t) } else { self.step::<FMA>(modes, t) }
        }
    }

    /// x′ = x + F(Λx + Bu).
    #[inline(always)]
    fn diagonal_step<const FMA: bool>(&mut self, modes: &Modes<'_>, t: usize) {
        let (width, u, vector) = (modes.width, self.u[t], 2 * modes.width);
        let (x, next) = self.states[t * vector..][..2 * vector].split_at_mut(vector);
        let f = &self.factors[t * vector..][..vector];
        for i in (0..width).step_by(LANES) {
            let before = load(x, width, i);
            let w = drive::<FMA>(load(modes.lambda, width, i), load(modes.b, width, i), before, u);
            store(next, width, i, plus_product::<FMA, false>(before, load(f, width, i), w));
        }
    }

    /// x′ = x + F(w − ½Ps) with w = Λx − Pa + Bu, a = P*x and s = M⁻¹P*Fw: the solution of x′ − x = τ(A(x′ + x)/2 + Bu).
    #[inline(always)]
    fn step<const FMA: bool>(&mut self, modes: &Modes<'_>, t: usize) {
        let (width, rank, u, vector) = (modes.width, modes.rank, self.u[t], 2 * modes.width);
        let LowRank { a, s, m_inv } = LowRank::of(self.low_rank, rank, t);
        let (x, next) = self.states[t * vector..][..2 * vector].split_at_mut(vector);
        let f = &self.factors[t * vector..][..vector];
        let p = |r: usize| &modes.p[r * vector..][..vector];
        for (r, a) in a.iter_mut().enumerate() {
            *a = 2.0 * dot::<FMA>(p(r), x, width);
        }
        // Fw
        for i in (0..width).step_by(LANES) {
            let (lambda, b) = (load(modes.lambda, width, i), load(modes.b, width, i));
            let mut w = drive::<FMA>(lambda, b, load(x, width, i), u);
            for (r, &a) in a.iter().enumerate() {
                w = plus_scaled::<FMA>(w, -a, load(p(r), width, i));
            }
            store(next, width, i, plus_product::<FMA, false>(ZERO, load(f, width, i), w));
        }
        let mut m = [0.0; MAX_RANK * MAX_RANK];
        let m = &mut m[..rank * rank];
        let mut rho = [0.0; MAX_RANK];
        for r in 0..rank {
            rho[r] = 2.0 * dot::<FMA>(p(r), next, width);
            for c in 0..rank {
                let mut sum = [0.0; LANES];
                for i in (0..width).step_by(LANES) {
                    let fp = plus_product::<FMA, false>(ZERO, load(f, width, i), load(p(c), width, i));
                    add_dot::<FMA>(&mut sum, load(p(r), width, i), fp);
                }
                m[r * rank + c] = fold(sum) + f64::from(u8::from(r == c));
            }
        }
        small::invert(m, m_inv, rank);
        for (r, s) in s.iter_mut().enumerate() {
            *s = (0..rank).map(|c| m_inv[r * rank + c] * rho[c]).sum();
        }
        for i in (0..width).step_by(LANES) {
            let mut h = ZERO;
            for (r, &s) in s.iter().enumerate() {
                h = plus_scaled::<FMA>(h, -0.5 * s, load(p(r), width, i));
            }
            let mut after = plus_product::<FMA, false>(load(next, width, i), load(f, width, i), h);
            let before = load(x, width, i);
            for part in 0..2 {
                for l in 0..LANES {
                    after[part][l] += before[part][l];
                }
            }
            store(next, width, i, after);
        }
    }

    /// The outputs of the first `count` time steps, of the channels from number `first` on.
    pub(super) fn outputs(&mut self, level: Level, modes: &Modes<'_>, first: usize, count: usize) {
        simd!(level, FMA => self.outputs_with::<FMA>(modes, first, count));
    }

    #[inline(always)]
    fn outputs_with<const FMA: bool>(&mut self, modes: &Modes<'_>, first: usize, count: usize) {
        let (width, vector) = (modes.width, 2 * modes.width);
        for (channel, y) in self.y.chunks_exact_mut(CHUNK).enumerate() {
            let c = &modes.c[(first + channel) * vector..][..vector];
            for (t, y) in y[..count].iter_mut().enumerate() {
                let x = &self.states[(t + 1) * vector..][..vector];
                let mut sum = [0.0; LANES];
                for i in (0..width).step_by(LANES) {
                    let ([c_re, c_im], [x_re, x_im]) = (load(c, width, i), load(x, width, i));
                    for l in 0..LANES {
                        sum[l] =
                            fma::<f64, FMA>(c_re[l], x_re[l], fma::<f64, FMA>(-c_im[l], x_im[l], sum[l]));
                    }
                }
                *y = 2.0 * fold(sum);
            }
        }
    }

    /// Moves the state after `count` time steps to where the next chunk begins.
    pub(super) fn advance(&mut self, width: usize, count: usize) {
        self.states.copy_within(count * 2 * width..(count + 1) * 2 * width, 0);
    }
}
