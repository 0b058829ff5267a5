//! The transpose of `steps.rs`, in reverse over the time steps of a chunk.
//!
//! A gradient of a complex z is ∂/∂Re z + i ∂/∂Im z, so z = ab gives g_a = g_z conj(b).

use super::{
    head::{BILINEAR, Cut, LANES, Modes, ZOH, ZOH_SMALL, block, fold, load, store},
    steps::{CHUNK, LowRank, Steps, ZERO, dot, drive, plus_product, plus_scaled},
};
use crate::{
    linalg::{
        math::fma,
        simd::{Level, simd},
    },
    ssm::{
        discretize::MAX_RANK,
        params::{C64, HeadGrads},
    },
};
use s4_backend::SsmSpec;

/// Gradients of a head's constants, and of the state between two time steps.
pub(super) struct Grads<'a> {
    lambda: &'a mut [f64],
    b: &'a mut [f64],
    c: &'a mut [f64],
    p: &'a mut [f64],
    /// (width): of Δ.
    dt: &'a mut [f64],
    /// Of the state.
    pub(super) state: &'a mut [f64],
    /// Of w.
    w: &'a mut [f64],
}

/// Numbers of scratch that [`Grads`] takes.
pub(super) fn grads_len(width: usize, spec: &SsmSpec) -> usize {
    width * (9 + 2 * spec.kernel_channels() + 2 * spec.rank)
}

/// x += z, of a vector [Re; Im].
#[inline(always)]
fn add(x: &mut [f64], width: usize, i: usize, z: [[f64; LANES]; 2]) {
    let sum = plus_scaled::<false>(load(x, width, i), 1.0, z);
    store(x, width, i, sum);
}

impl<'a> Grads<'a> {
    /// Zeros, but for the state, which is arbitrary.
    pub(super) fn take(scratch: &mut Cut<'a>, width: usize, spec: &SsmSpec) -> Self {
        let mut zeros = |len: usize| {
            let part = scratch.take(len);
            part.fill(0.0);
            part
        };
        Grads {
            lambda: zeros(2 * width),
            b: zeros(2 * width),
            c: zeros(2 * width * spec.kernel_channels()),
            p: zeros(2 * width * spec.rank),
            dt: zeros(width),
            state: zeros(2 * width),
            w: zeros(2 * width),
        }
    }

    /// Adds the gradients to those of the head.
    pub(super) fn add_to(&self, to: &mut HeadGrads<'_>, pairs: usize) {
        let width = self.dt.len();
        let add = |to: &mut [C64], from: &[f64]| {
            for (to, from) in to.chunks_exact_mut(pairs).zip(from.chunks_exact(2 * width)) {
                for (n, to) in to.iter_mut().enumerate() {
                    *to += C64::new(from[n], from[n + width]);
                }
            }
        };
        add(to.lambda, self.lambda);
        add(to.b, self.b);
        add(to.c, self.c);
        add(to.p, self.p);
        to.dt.iter_mut().zip(&*self.dt).for_each(|(to, from)| to.re += from);
    }

    /// Goes back over the first `count` time steps of a chunk, whose outputs, of the channels from number `first` on, have the
    /// gradients `steps.y`: from the gradient of the state after them to that of the state before them. The gradients of the
    /// inputs take the inputs' place.
    pub(super) fn run(
        &mut self,
        level: Level,
        modes: &Modes<'_>,
        steps: &mut Steps<'_>,
        (first, count): (usize, usize),
    ) {
        let rule = modes.rule(&steps.intervals[..count]);
        simd!(level, FMA => self.run_with::<FMA>(modes, steps, (first, count), rule));
    }

    #[inline(always)]
    fn run_with<const FMA: bool>(
        &mut self,
        modes: &Modes<'_>,
        steps: &mut Steps<'_>,
        (first, count): (usize, usize),
        rule: u8,
    ) {
        let channels = steps.y.len() / CHUNK;
        for t in (0..count).rev() {
            for channel in 0..channels {
                let dy = steps.y[channel * CHUNK + t];
                self.add_output::<FMA>(modes, steps, (first + channel, t), dy);
            }
            steps.u[t] = self.step::<FMA>(modes, steps, (t, rule));
        }
    }

    /// Adds what an output 2Re(Cx) after time step t gives to the gradients of the state and of C.
    #[inline(always)]
    fn add_output<const FMA: bool>(
        &mut self,
        modes: &Modes<'_>,
        steps: &Steps<'_>,
        (channel, t): (usize, usize),
        dy: f64,
    ) {
        let (width, vector) = (modes.width, 2 * modes.width);
        let (c, x) = (&modes.c[channel * vector..][..vector], &steps.states[(t + 1) * vector..][..vector]);
        let dc = &mut self.c[channel * vector..][..vector];
        for i in (0..width).step_by(LANES) {
            let conj = |[re, im]: [[f64; LANES]; 2]| [re, im.map(|x| -x)];
            store(dc, width, i, plus_scaled::<FMA>(load(dc, width, i), 2.0 * dy, conj(load(x, width, i))));
            let state = plus_scaled::<FMA>(load(self.state, width, i), 2.0 * dy, conj(load(c, width, i)));
            store(self.state, width, i, state);
        }
    }

    /// Goes back over time step t: from the gradient of the state after it to that of the state before it. Gives the gradient
    /// of u.
    #[inline(always)]
    fn step<const FMA: bool>(
        &mut self,
        modes: &Modes<'_>,
        steps: &mut Steps<'_>,
        (t, rule): (usize, u8),
    ) -> f64 {
        if modes.rank > 0 {
            return self.low_rank_step::<FMA>(modes, steps, t);
        }
        match rule {
            BILINEAR => self.diagonal_step::<FMA, BILINEAR>(modes, steps, t),
            ZOH => self.diagonal_step::<FMA, ZOH>(modes, steps, t),
            _ => self.diagonal_step::<FMA, ZOH_SMALL>(modes, steps, t),
        }
    }

    /// Adds to the gradients of Λ and Δ what that of F, `df`, gives.
    #[inline(always)]
    fn add_factor<const FMA: bool, const RULE: u8>(
        &mut self,
        modes: &Modes<'_>,
        i: usize,
        (f, df): ([[f64; LANES]; 2], [[f64; LANES]; 2]),
        interval: f64,
    ) {
        let width = modes.width;
        let [by_lambda, by_tau] = modes.derivatives::<FMA, RULE>(i, f, interval);
        let dlambda = plus_product::<FMA, true>(load(self.lambda, width, i), by_lambda, df);
        store(self.lambda, width, i, dlambda);
        let mut ddt = block(self.dt, i);
        for l in 0..LANES {
            let real = fma::<f64, FMA>(by_tau[0][l], df[0][l], by_tau[1][l] * df[1][l]);
            ddt[l] = fma::<f64, FMA>(interval, real, ddt[l]);
        }
        self.dt[i..][..LANES].copy_from_slice(&ddt);
    }

    /// The transpose of x′ = x + F(Λx + Bu).
    #[inline(always)]
    fn diagonal_step<const FMA: bool, const RULE: u8>(
        &mut self,
        modes: &Modes<'_>,
        steps: &Steps<'_>,
        t: usize,
    ) -> f64 {
        let (width, vector) = (modes.width, 2 * modes.width);
        let (u, interval) = (steps.u[t], steps.intervals[t]);
        let (x, f) = (&steps.states[t * vector..][..vector], &steps.factors[t * vector..][..vector]);
        let mut du = [0.0; LANES];
        for i in (0..width).step_by(LANES) {
            let (lambda, b) = (load(modes.lambda, width, i), load(modes.b, width, i));
            let (x, f, g) = (load(x, width, i), load(f, width, i), load(self.state, width, i));
            let w = drive::<FMA>(lambda, b, x, u);
            let (df, dw) = (plus_product::<FMA, true>(ZERO, w, g), plus_product::<FMA, true>(ZERO, f, g));
            self.add_factor::<FMA, RULE>(modes, i, (f, df), interval);
            store(self.lambda, width, i, plus_product::<FMA, true>(load(self.lambda, width, i), x, dw));
            store(self.b, width, i, plus_scaled::<FMA>(load(self.b, width, i), u, dw));
            store(self.state, width, i, plus_product::<FMA, true>(g, lambda, dw));
            for l in 0..LANES {
                du[l] = fma::<f64, FMA>(b[0][l], dw[0][l], fma::<f64, FMA>(b[1][l], dw[1][l], du[l]));
            }
        }
        fold(du)
    }

    /// The transpose of x′ = x + F(w − ½Ps), w = Λx − Pa + Bu, a = 2Re Σ P*x, Ms = 2Re Σ P*Fw, M = I + Re Σ P*FP.
    #[inline(always)]
    fn low_rank_step<const FMA: bool>(&mut self, modes: &Modes<'_>, steps: &mut Steps<'_>, t: usize) -> f64 {
        let (width, rank, vector) = (modes.width, modes.rank, 2 * modes.width);
        let (u, interval) = (steps.u[t], steps.intervals[t]);
        let LowRank { a, s, m_inv } = steps.low_rank(rank, t);
        let (mut a_of, mut s_of) = ([0.0; MAX_RANK], [0.0; MAX_RANK]);
        a_of[..rank].copy_from_slice(a);
        s_of[..rank].copy_from_slice(s);
        let mut inverse = [0.0; MAX_RANK * MAX_RANK];
        inverse[..rank * rank].copy_from_slice(m_inv);
        let (x, f) = (&steps.states[t * vector..][..vector], &steps.factors[t * vector..][..vector]);
        let p = |r: usize| &modes.p[r * vector..][..vector];
        // dh = conj(F) g, the gradient of w − ½Ps; it begins dw.
        for i in (0..width).step_by(LANES) {
            let dh = plus_product::<FMA, true>(ZERO, load(f, width, i), load(self.state, width, i));
            store(self.w, width, i, dh);
        }
        let mut drho = [0.0; MAX_RANK];
        for r in 0..rank {
            let ds = -0.5 * dot::<FMA>(p(r), self.w, width);
            for (c, drho) in drho[..rank].iter_mut().enumerate() {
                *drho += inverse[r * rank + c] * ds;
            }
        }
        for i in (0..width).step_by(LANES) {
            let (lambda, b) = (load(modes.lambda, width, i), load(modes.b, width, i));
            let (f, g, x) = (load(f, width, i), load(self.state, width, i), load(x, width, i));
            let mut w = drive::<FMA>(lambda, b, x, u);
            for r in 0..rank {
                w = plus_scaled::<FMA>(w, -a_of[r], load(p(r), width, i));
            }
            let fw = plus_product::<FMA, false>(ZERO, f, w);
            let dh = load(self.w, width, i);
            // The gradient of Fw, of ρ = 2Re Σ P*Fw, is 2P·dρ.
            let (mut h, mut dfw, mut df) = (w, ZERO, ZERO);
            for r in 0..rank {
                let p_r = load(p(r), width, i);
                h = plus_scaled::<FMA>(h, -0.5 * s_of[r], p_r);
                dfw = plus_scaled::<FMA>(dfw, 2.0 * drho[r], p_r);
                let mut dp = plus_scaled::<FMA>(ZERO, -0.5 * s_of[r], dh);
                dp = plus_scaled::<FMA>(dp, 2.0 * drho[r], fw);
                // dM = −dρ sᵀ
                for c in 0..rank {
                    let p_c = load(p(c), width, i);
                    dp = plus_scaled::<FMA>(dp, -drho[r] * s_of[c], plus_product::<FMA, false>(ZERO, f, p_c));
                    dp = plus_scaled::<FMA>(dp, -drho[c] * s_of[r], plus_product::<FMA, true>(ZERO, f, p_c));
                    df =
                        plus_scaled::<FMA>(df, -drho[r] * s_of[c], plus_product::<FMA, true>(ZERO, p_c, p_r));
                }
                add(&mut self.p[r * vector..][..vector], width, i, dp);
            }
            df = plus_product::<FMA, true>(df, h, g);
            df = plus_product::<FMA, true>(df, w, dfw);
            self.add_factor::<FMA, BILINEAR>(modes, i, (f, df), interval);
            store(self.w, width, i, plus_product::<FMA, true>(dh, f, dfw));
        }
        // w = Λx − Pa + Bu
        let mut da = [0.0; MAX_RANK];
        for (r, da) in da[..rank].iter_mut().enumerate() {
            *da = -dot::<FMA>(p(r), self.w, width);
        }
        for i in (0..width).step_by(LANES) {
            let (dw, x) = (load(self.w, width, i), load(x, width, i));
            let mut g =
                plus_product::<FMA, true>(load(self.state, width, i), load(modes.lambda, width, i), dw);
            for r in 0..rank {
                g = plus_scaled::<FMA>(g, 2.0 * da[r], load(p(r), width, i));
                let dp = plus_scaled::<FMA>(plus_scaled::<FMA>(ZERO, -a_of[r], dw), 2.0 * da[r], x);
                add(&mut self.p[r * vector..][..vector], width, i, dp);
            }
            store(self.state, width, i, g);
            store(self.lambda, width, i, plus_product::<FMA, true>(load(self.lambda, width, i), x, dw));
            store(self.b, width, i, plus_scaled::<FMA>(load(self.b, width, i), u, dw));
        }
        dot::<FMA>(modes.b, self.w, width)
    }
}
