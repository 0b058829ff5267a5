//! One head in discrete time, in f64 (paper eq. 3 and Theorem 2), and back: the one discretization of this crate.
//!
//! Bilinear, with Dg = 1/(2/Δ − Λ), E = 2/Δ + Λ, M = I + 2Re(P* Dg P) and the Woodbury row R = M⁻¹ P* Dg:
//!
//! ```text
//! Ā = D₀ + Σ_r u_r v_r*,    D₀ = E Dg,    u_r = −Dg P_r,    v_r* = (4/Δ) R_r,
//! B̄ = 2 Dg B + Σ_r u_r · 2Re Σ v_r* (Δ/2) B
//! ```
//!
//! Inner products run over conjugate pairs: 2Re of the sum over the N/2 that are stored. With Δ per state,
//! diag(Δ) stands left of A, as everywhere. What is computed and kept is g = (2/Δ) Dg = 1/(1 − ΔΛ/2), which
//! does not vanish with Δ.
//!
//! Zero-order hold (diagonal A only): D₀ = e^{ΔΛ}, B̄ = Δ φ₁(ΔΛ) B with φ₁(z) = (eᶻ − 1)/z, φ₁(0) = 1.
//!
//! A gradient of a complex z is ∂/∂Re z + i ∂/∂Im z, so z = ab gives g_a = g_z conj(b).

use crate::{
    linalg::small,
    memory::pool::Pool,
    ssm::{
        params::{C64, Head, HeadGrads},
        recurrence::Transition,
    },
};
use s4_backend::{Discretization, SsmSpec};

/// The largest rank of P that a layer may have.
pub(crate) const MAX_RANK: usize = 8;

/// Real coordinates throughout: a vector of N reals is [Re; Im] of N/2 complex numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discrete {
    /// N: D₀.
    pub(crate) d0: Vec<f64>,
    /// N: g = (2/Δ) Dg; bilinear only.
    pub(crate) g: Vec<f64>,
    /// (R, N): columns u of the low-rank part.
    pub(crate) u: Vec<f64>,
    /// (R, N): rows v* of the low-rank part, not conjugated again.
    pub(crate) v: Vec<f64>,
    /// (R, R): M⁻¹.
    pub(crate) m_inv: Vec<f64>,
    /// N
    pub(crate) b_bar: Vec<f64>,
    /// (kernel channels, N)
    pub(crate) c: Vec<f64>,
}

impl Discrete {
    fn build(spec: &SsmSpec, mut vector: impl FnMut(usize) -> Vec<f64>) -> Self {
        let SsmSpec { state, rank, .. } = *spec;
        Discrete {
            d0: vector(state),
            g: vector(state),
            u: vector(rank * state),
            v: vector(rank * state),
            m_inv: vector(rank * rank),
            b_bar: vector(state),
            c: vector(spec.kernel_channels() * state),
        }
    }

    pub(crate) fn zeroed(spec: &SsmSpec) -> Self {
        Self::build(spec, |len| vec![0.0; len])
    }

    /// Storage out of a pool, with arbitrary contents.
    pub(crate) fn take(spec: &SsmSpec, pool: &mut Pool<f64>) -> Self {
        Self::build(spec, |len| pool.take(len))
    }

    /// Returns the storage.
    pub(crate) fn give(self, pool: &mut Pool<f64>) {
        let Discrete { d0, g, u, v, m_inv, b_bar, c } = self;
        for part in [d0, g, u, v, m_inv, b_bar, c] {
            pool.give(part);
        }
    }

    /// Ā as a map of columns, x′ = Āx.
    pub(crate) fn columns(&self) -> Transition<'_> {
        Transition { d0: &self.d0, out: &self.u, inn: &self.v }
    }

    pub(crate) fn clear(&mut self) {
        let Discrete { d0, g, u, v, m_inv, b_bar, c } = self;
        for part in [d0, g, u, v, m_inv, b_bar, c] {
            part.fill(0.0);
        }
    }
}

/// A head in discrete time and its D, and where their gradients are summed.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadState {
    pub(crate) discrete: Discrete,
    /// (channels)
    pub(crate) d: Vec<f64>,
    pub(crate) ddiscrete: Discrete,
    pub(crate) dd: Vec<f64>,
}

impl HeadState {
    pub(crate) fn zeroed(spec: &SsmSpec) -> Self {
        let discrete = Discrete::zeroed(spec);
        HeadState {
            discrete: discrete.clone(),
            d: vec![0.0; spec.channels],
            ddiscrete: discrete,
            dd: vec![0.0; spec.channels],
        }
    }
}

/// Complex number n of a vector in real coordinates.
pub(crate) fn get(x: &[f64], n: usize) -> C64 {
    C64::new(x[n], x[n + x.len() / 2])
}

/// Writes what [`get`] reads.
pub(crate) fn put(x: &mut [f64], n: usize, z: C64) {
    let pairs = x.len() / 2;
    (x[n], x[n + pairs]) = (z.re, z.im);
}

/// eᶻ − 1 without cancellation: (e^a − 1) − 2e^a sin²(b/2) + i e^a sin b for z = a + ib.
fn expm1(z: C64) -> C64 {
    let (sine, em1) = ((0.5 * z.im).sin(), z.re.exp_m1());
    C64::new(em1 - 2.0 * (em1 + 1.0) * sine * sine, (em1 + 1.0) * z.im.sin())
}

/// φ₁(z) = (eᶻ − 1)/z; its series near 0, where the quotient is 0/0.
fn phi1(z: C64) -> C64 {
    if z.norm() < 1e-2 { series(z, [1.0, 2.0, 6.0, 24.0, 120.0, 720.0, 5040.0]) } else { expm1(z) / z }
}

/// φ₁′(z) = (eᶻ − φ₁(z))/z.
fn phi1_prime(z: C64) -> C64 {
    if z.norm() < 1e-2 {
        series(z, [2.0, 3.0, 8.0, 30.0, 144.0, 840.0, 5760.0])
    } else {
        (z.exp() - phi1(z)) / z
    }
}

/// Σ zᵏ/cₖ, whose first term left out is below the rounding of the sum for |z| < 1e-2.
fn series(z: C64, c: [f64; 7]) -> C64 {
    c.iter().rev().fold(C64::ZERO, |sum, c| sum * z + 1.0 / c)
}

/// g = 1/(1 − ΔΛ/2).
fn resolvent(dt: f64, lambda: C64) -> C64 {
    (1.0 - lambda * (0.5 * dt)).inv()
}

/// D₀ − 1, formed without the subtraction: for a slow mode D₀ is so close to 1 that rounding it to f32 would
/// move the mode. `out`: N.
pub(crate) fn increment(out: &mut [f64], head: &Head<'_>) {
    let spec = head.spec();
    for n in 0..spec.pairs() {
        let z = head.lambda[n] * head.dt[n];
        let value = match spec.discretization {
            Discretization::Bilinear => z * resolvent(head.dt[n], head.lambda[n]),
            Discretization::Zoh => expm1(z),
        };
        put(out, n, value);
    }
}

/// Ā, B̄, C from the parameters of a head.
pub(crate) fn discretize(out: &mut Discrete, head: &Head<'_>) {
    let spec = head.spec();
    let (pairs, state, rank) = (spec.pairs(), spec.state, spec.rank);
    for (channel, out) in out.c.chunks_mut(state).enumerate() {
        let c = head.c(channel);
        for n in 0..pairs {
            put(out, n, c[n]);
        }
    }
    if spec.discretization == Discretization::Zoh {
        for n in 0..pairs {
            let z = head.lambda[n] * head.dt[n];
            put(&mut out.d0, n, z.exp());
            put(&mut out.b_bar, n, head.b[n] * phi1(z) * head.dt[n]);
        }
        return;
    }
    for n in 0..pairs {
        let (dt, lambda) = (head.dt[n], head.lambda[n]);
        let g = resolvent(dt, lambda);
        put(&mut out.g, n, g);
        put(&mut out.d0, n, (1.0 + lambda * (0.5 * dt)) * g);
        put(&mut out.b_bar, n, g * head.b[n] * dt);
    }
    // M = I + 2Re(P* Dg P)
    let mut m = [0.0; MAX_RANK * MAX_RANK];
    let m = &mut m[..rank * rank];
    for (i, m) in m.iter_mut().enumerate() {
        let (p, q) = (head.p(i / rank), head.p(i % rank));
        let sum: f64 = (0..pairs).map(|n| (p[n].conj() * get(&out.g, n) * q[n]).re * head.dt[n]).sum();
        *m = sum + f64::from(u8::from(i / rank == i % rank));
    }
    small::invert(m, &mut out.m_inv, rank);
    for r in 0..rank {
        let (u, v) = (&mut out.u[r * state..][..state], &mut out.v[r * state..][..state]);
        let mut sigma = 0.0;
        for n in 0..pairs {
            let g = get(&out.g, n);
            put(u, n, -(g * head.p(r)[n] * (0.5 * head.dt[n])));
            let row: C64 = (0..rank).map(|s| head.p(s)[n].conj() * out.m_inv[r * rank + s]).sum();
            let row = row * g * 2.0;
            put(v, n, row);
            sigma += (row * head.b[n]).re * head.dt[n];
        }
        for (b_bar, u) in out.b_bar.iter_mut().zip(u) {
            *b_bar += *u * sigma;
        }
    }
}

/// Gradients of a head's Δ, Λ, B, P and C from `ddiscrete`, the gradients of Ā's parts, B̄ and C. Adds to `grad`; what
/// `ddiscrete` holds afterwards is of no use.
pub(crate) fn discretize_backward(
    grad: &mut HeadGrads<'_>,
    ddiscrete: &mut Discrete,
    discrete: &Discrete,
    head: &Head<'_>,
) {
    let spec = head.spec();
    let (pairs, state, rank) = (spec.pairs(), spec.state, spec.rank);
    for (dc, grad) in ddiscrete.c.chunks(state).zip(grad.c.chunks_mut(pairs)) {
        for n in 0..pairs {
            grad[n] += get(dc, n);
        }
    }
    if spec.discretization == Discretization::Zoh {
        for n in 0..pairs {
            let (dt, z) = (head.dt[n], head.lambda[n] * head.dt[n]);
            let (phi, db) = (phi1(z), get(&ddiscrete.b_bar, n));
            grad.b[n] += db * (phi * dt).conj();
            grad.dt[n].re += (db.conj() * head.b[n] * phi).re;
            let dz = get(&ddiscrete.d0, n) * get(&discrete.d0, n).conj()
                + db * (head.b[n] * phi1_prime(z) * dt).conj();
            grad.lambda[n] += dz * dt;
            grad.dt[n].re += (dz.conj() * head.lambda[n]).re;
        }
        return;
    }
    // D₀ = 2g − 1; B̄ = Δ g B + Σ_r u_r σ_r, σ_r = Σ Re(v_r B) Δ
    for n in 0..pairs {
        let (db, g) = (get(&ddiscrete.b_bar, n), get(&discrete.g, n));
        grad.b[n] += db * (g * head.dt[n]).conj();
        grad.dt[n].re += (db.conj() * g * head.b[n]).re;
        let dg = get(&ddiscrete.d0, n) * 2.0 + db * (head.b[n] * head.dt[n]).conj();
        put(&mut ddiscrete.g, n, dg);
    }
    for r in 0..rank {
        let (u, v) = (&discrete.u[r * state..][..state], &discrete.v[r * state..][..state]);
        let (du, dv) = (&mut ddiscrete.u[r * state..][..state], &mut ddiscrete.v[r * state..][..state]);
        let dsigma: f64 = ddiscrete.b_bar.iter().zip(u).map(|(a, b)| a * b).sum();
        let sigma: f64 = (0..pairs).map(|n| (get(v, n) * head.b[n]).re * head.dt[n]).sum();
        for (du, db) in du.iter_mut().zip(&ddiscrete.b_bar) {
            *du += db * sigma;
        }
        for n in 0..pairs {
            let v = get(v, n);
            let sum = get(dv, n) + head.b[n].conj() * (dsigma * head.dt[n]);
            put(dv, n, sum);
            grad.b[n] += v.conj() * (dsigma * head.dt[n]);
            grad.dt[n].re += dsigma * (v * head.b[n]).re;
        }
    }
    low_rank_backward(grad, ddiscrete, discrete, head);
    for n in 0..pairs {
        // g = 1/(1 − z/2), z = ΔΛ
        let g = get(&discrete.g, n);
        let dz = get(&ddiscrete.g, n) * (g * g * 0.5).conj();
        grad.lambda[n] += dz * head.dt[n];
        grad.dt[n].re += (dz.conj() * head.lambda[n]).re;
    }
}

/// From u, v and M⁻¹ to P and g; Dg = (Δ/2) g is led back to Δ and g at once.
fn low_rank_backward(grad: &mut HeadGrads<'_>, dout: &mut Discrete, out: &Discrete, head: &Head<'_>) {
    let spec = head.spec();
    let (pairs, state, rank) = (spec.pairs(), spec.state, spec.rank);
    // v_r = 2 Σ_s M⁻¹_rs conj(P_s) g
    dout.m_inv.fill(0.0);
    for r in 0..rank {
        let dv = &dout.v[r * state..][..state];
        for n in 0..pairs {
            let (g, dv) = (get(&out.g, n), get(dv, n));
            let mut dg = get(&dout.g, n);
            for s in 0..rank {
                let (p, w) = (head.p(s)[n], out.m_inv[r * rank + s]);
                dout.m_inv[r * rank + s] += 2.0 * (dv.conj() * p.conj() * g).re;
                grad.p[s * pairs + n] += (dv * g.conj()).conj() * (2.0 * w);
                dg += dv * p * (2.0 * w);
            }
            put(&mut dout.g, n, dg);
        }
    }
    let mut add_dg = |grad_dt: &mut C64, n: usize, d_dg: C64| {
        let dg = get(&dout.g, n) + d_dg * (0.5 * head.dt[n]);
        put(&mut dout.g, n, dg);
        grad_dt.re += 0.5 * (d_dg.conj() * get(&out.g, n)).re;
    };
    // The gradient of M is −M⁻ᵀ (gradient of M⁻¹) M⁻ᵀ; M_rs = δ_rs + 2Re Σ conj(P_r) Dg P_s
    for r in 0..rank {
        for s in 0..rank {
            let mut dm = 0.0;
            for a in 0..rank {
                for b in 0..rank {
                    dm -= out.m_inv[a * rank + r] * dout.m_inv[a * rank + b] * out.m_inv[s * rank + b];
                }
            }
            for n in 0..pairs {
                let (pr, ps) = (head.p(r)[n], head.p(s)[n]);
                let dg = get(&out.g, n) * (0.5 * head.dt[n]);
                grad.p[r * pairs + n] += dg * ps * (2.0 * dm);
                grad.p[s * pairs + n] += pr * dg.conj() * (2.0 * dm);
                add_dg(&mut grad.dt[n], n, pr * ps.conj() * (2.0 * dm));
            }
        }
    }
    // u_r = −Dg P_r
    for r in 0..rank {
        let du = &dout.u[r * state..][..state];
        for n in 0..pairs {
            let du = get(du, n);
            grad.p[r * pairs + n] -= du * (get(&out.g, n) * (0.5 * head.dt[n])).conj();
            add_dg(&mut grad.dt[n], n, -(du * head.p(r)[n].conj()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi1_is_continuous_and_one_at_zero() {
        assert_eq!(phi1(C64::ZERO), C64::ONE);
        assert_eq!(phi1_prime(C64::ZERO), C64::new(0.5, 0.0));
        for angle in [0.0, 0.7, 1.6, 3.1] {
            let z = C64::cis(angle) * 1e-2;
            let (below, above) = (z * (1.0 - 1e-12), z * (1.0 + 1e-12));
            assert!((phi1(below) - phi1(above)).norm() <= 1e-13);
            assert!((phi1_prime(below) - phi1_prime(above)).norm() <= 1e-12);
        }
    }
}
