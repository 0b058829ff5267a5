//! One head in discrete time, in f64: Ā = D₀ + Σ_r u_r v_r*, B̄ (paper eq. 3 and Theorem 3), and back.
//!
//! With g = 1/(1 − ΔΛ/2), D_g = (Δ/2) g, G = (I + P*D_g P)⁻¹:
//!
//! - D₀ = (1 + ΔΛ/2) g, u_r = −D_g P_r, v_r = 2 Σ_s G_rs conj(P_s) g (a row, not conjugated),
//! - Āx = D₀∘x + Σ_r u_r σ_r, σ_r = 2Re Σ v_r x,
//! - B̄ = Δ g B + Σ_r u_r · 2Re Σ v_r (Δ/2) B.
//!
//! With Δ per state, diag(Δ) stands left of A, as everywhere. Zero-order hold (diagonal A only):
//! D₀ = e^{ΔΛ}, B̄ = Δ φ₁(ΔΛ) B with φ₁(z) = (eᶻ − 1)/z.
//!
//! A gradient of a complex z is ∂/∂Re z + i ∂/∂Im z, so z = ab gives g_a = g_z conj(b).

use crate::params::{C64, Head, HeadGrads};
use s4_backend::{Disc, SsmSpec};

/// Real coordinates throughout: a vector of N reals is [Re; Im] of N/2 complex numbers.
#[derive(Clone, Debug)]
pub(crate) struct Discrete {
    /// N
    pub(crate) d0: Vec<f64>,
    /// (R, N): columns of the low-rank part.
    pub(crate) u: Vec<f64>,
    /// (R, N): rows of the low-rank part.
    pub(crate) v: Vec<f64>,
    /// N
    pub(crate) b_bar: Vec<f64>,
    /// (kernel channels, N)
    pub(crate) c: Vec<f64>,
}

impl Discrete {
    pub(crate) fn zeroed(state: usize, rank: usize, kernel_channels: usize) -> Self {
        Discrete {
            d0: vec![0.0; state],
            u: vec![0.0; rank * state],
            v: vec![0.0; rank * state],
            b_bar: vec![0.0; state],
            c: vec![0.0; kernel_channels * state],
        }
    }

    pub(crate) fn clear(&mut self) {
        for part in [&mut self.d0, &mut self.u, &mut self.v, &mut self.b_bar, &mut self.c] {
            part.fill(0.0);
        }
    }
}

fn get(x: &[f64], n: usize) -> C64 {
    C64::new(x[n], x[n + x.len() / 2])
}

fn put(x: &mut [f64], n: usize, z: C64) {
    let half = x.len() / 2;
    (x[n], x[n + half]) = (z.re, z.im);
}

/// φ₁(z) = (eᶻ − 1)/z without cancellation.
fn phi1(z: C64) -> C64 {
    if z.norm() < 1e-2 {
        series(z, [1.0, 2.0, 6.0, 24.0, 120.0, 720.0, 5040.0])
    } else {
        // eᶻ − 1 = (e^a − 1)cos b − 2 sin²(b/2) + i e^a sin b
        let half = (z.im / 2.0).sin();
        C64::new(z.re.exp_m1() * z.im.cos() - 2.0 * half * half, z.re.exp() * z.im.sin()) / z
    }
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

/// G = M⁻¹ for a small real M, by Gauss–Jordan with pivoting.
fn inverse(mut m: Vec<f64>, rank: usize) -> Vec<f64> {
    let mut inv = vec![0.0; rank * rank];
    for i in 0..rank {
        inv[i * rank + i] = 1.0;
    }
    for col in 0..rank {
        let pivot = (col..rank)
            .max_by(|&i, &j| m[i * rank + col].abs().total_cmp(&m[j * rank + col].abs()))
            .unwrap_or(col);
        for k in 0..rank {
            m.swap(col * rank + k, pivot * rank + k);
            inv.swap(col * rank + k, pivot * rank + k);
        }
        let scale = 1.0 / m[col * rank + col];
        for k in 0..rank {
            m[col * rank + k] *= scale;
            inv[col * rank + k] *= scale;
        }
        for row in (0..rank).filter(|&row| row != col) {
            let f = m[row * rank + col];
            for k in 0..rank {
                m[row * rank + k] -= f * m[col * rank + k];
                inv[row * rank + k] -= f * inv[col * rank + k];
            }
        }
    }
    inv
}

/// g = 1/(1 − ΔΛ/2) for every pair.
fn resolvents(head: &Head) -> Vec<C64> {
    head.lambda.iter().zip(head.dt).map(|(l, &dt)| (1.0 - l * (0.5 * dt)).inv()).collect()
}

/// G = (I + P*D_g P)⁻¹.
fn woodbury(head: &Head<'_>, g: &[C64], rank: usize) -> Vec<f64> {
    let h = g.len();
    let mut m = vec![0.0; rank * rank];
    for r in 0..rank {
        for s in 0..rank {
            let sum: f64 = (0..h).map(|n| (head.p(r)[n].conj() * g[n] * head.p(s)[n]).re * head.dt[n]).sum();
            m[r * rank + s] = sum + f64::from(u8::from(r == s));
        }
    }
    inverse(m, rank)
}

/// Ā, B̄, C from the parameters of a head.
pub(crate) fn discretize(out: &mut Discrete, head: &Head<'_>, spec: &SsmSpec) {
    let (h, state, rank) = (spec.pairs(), spec.state, spec.rank);
    for (kc, out) in out.c.chunks_mut(state).enumerate() {
        let c = head.c(kc);
        for n in 0..h {
            put(out, n, c[n]);
        }
    }
    if spec.disc == Disc::Zoh {
        for n in 0..h {
            let z = head.lambda[n] * head.dt[n];
            put(&mut out.d0, n, z.exp());
            put(&mut out.b_bar, n, head.b[n] * phi1(z) * head.dt[n]);
        }
        return;
    }
    let g = resolvents(head);
    let woodbury = woodbury(head, &g, rank);
    for n in 0..h {
        put(&mut out.d0, n, (1.0 + head.lambda[n] * (0.5 * head.dt[n])) * g[n]);
        put(&mut out.b_bar, n, g[n] * head.b[n] * head.dt[n]);
    }
    for r in 0..rank {
        let (u, v) = (&mut out.u[r * state..][..state], &mut out.v[r * state..][..state]);
        let mut sigma = 0.0;
        for n in 0..h {
            put(u, n, -(g[n] * head.p(r)[n] * (0.5 * head.dt[n])));
            let row: C64 = (0..rank).map(|s| head.p(s)[n].conj() * woodbury[r * rank + s]).sum();
            let row = row * g[n] * 2.0;
            put(v, n, row);
            sigma += (row * head.b[n]).re * head.dt[n];
        }
        for n in 0..state {
            out.b_bar[n] += u[n] * sigma;
        }
    }
}

/// Gradients of a head from those of Ā's parts, B̄ and C; `grad` accumulates.
pub(crate) fn discretize_backward(
    grad: &mut HeadGrads<'_>,
    dout: &Discrete,
    out: &Discrete,
    head: &Head<'_>,
    spec: &SsmSpec,
) {
    let (h, state, rank) = (spec.pairs(), spec.state, spec.rank);
    for (dc, grad) in dout.c.chunks(state).zip(grad.c.chunks_mut(h)) {
        for n in 0..h {
            grad[n] += get(dc, n);
        }
    }
    if spec.disc == Disc::Zoh {
        for n in 0..h {
            let (dt, z) = (head.dt[n], head.lambda[n] * head.dt[n]);
            let (phi, db) = (phi1(z), get(&dout.b_bar, n));
            grad.b[n] += db * (phi * dt).conj();
            grad.dt[n].re += (db.conj() * head.b[n] * phi).re;
            let dz = get(&dout.d0, n) * get(&out.d0, n).conj() + db * (head.b[n] * phi1_prime(z) * dt).conj();
            grad.lambda[n] += dz * dt;
            grad.dt[n].re += (dz.conj() * head.lambda[n]).re;
        }
        return;
    }
    let g = resolvents(head);
    let woodbury = woodbury(head, &g, rank);
    // Gradients of g and of D_g = (Δ/2) g.
    let (mut dg, mut ddg) = (vec![C64::ZERO; h], vec![C64::ZERO; h]);
    // B̄ = Δ g B + Σ_r u_r σ_r
    let (mut du, mut dv) = (dout.u.clone(), dout.v.clone());
    for n in 0..h {
        let db = get(&dout.b_bar, n);
        grad.b[n] += db * (g[n] * head.dt[n]).conj();
        dg[n] += db * (head.b[n] * head.dt[n]).conj();
        grad.dt[n].re += (db.conj() * g[n] * head.b[n]).re;
    }
    for r in 0..rank {
        let (u, v) = (&out.u[r * state..][..state], &out.v[r * state..][..state]);
        let dsigma: f64 = dout.b_bar.iter().zip(u).map(|(a, b)| a * b).sum();
        let sigma: f64 = (0..h).map(|n| (get(v, n) * head.b[n]).re * head.dt[n]).sum();
        for n in 0..state {
            du[r * state + n] += dout.b_bar[n] * sigma;
        }
        let dv = &mut dv[r * state..][..state];
        for n in 0..h {
            let v = get(v, n);
            let with = get(dv, n) + head.b[n].conj() * (dsigma * head.dt[n]);
            put(dv, n, with);
            grad.b[n] += v.conj() * (dsigma * head.dt[n]);
            grad.dt[n].re += dsigma * (v * head.b[n]).re;
        }
    }
    // v_r = 2 Σ_s G_rs conj(P_s) g
    let mut dwood = vec![0.0; rank * rank];
    for r in 0..rank {
        for n in 0..h {
            let dv = get(&dv[r * state..][..state], n);
            for s in 0..rank {
                let (p, w) = (head.p(s)[n], woodbury[r * rank + s]);
                dwood[r * rank + s] += 2.0 * (dv.conj() * p.conj() * g[n]).re;
                grad.p[s * h + n] += (dv * g[n].conj()).conj() * (2.0 * w);
                dg[n] += dv * p * (2.0 * w);
            }
        }
    }
    // G = M⁻¹: dM = −Gᵀ dG Gᵀ; M_rs = δ_rs + 2Re Σ conj(P_r) D_g P_s
    for r in 0..rank {
        for s in 0..rank {
            let mut dm = 0.0;
            for a in 0..rank {
                for b in 0..rank {
                    dm -= woodbury[a * rank + r] * dwood[a * rank + b] * woodbury[s * rank + b];
                }
            }
            for n in 0..h {
                let (pr, ps) = (head.p(r)[n], head.p(s)[n]);
                let d = g[n] * (0.5 * head.dt[n]);
                grad.p[r * h + n] += d * ps * (2.0 * dm);
                grad.p[s * h + n] += pr * d.conj() * (2.0 * dm);
                ddg[n] += pr * ps.conj() * (2.0 * dm);
            }
        }
    }
    // u_r = −D_g P_r
    for r in 0..rank {
        for n in 0..h {
            let du = get(&du[r * state..][..state], n);
            grad.p[r * h + n] -= du * (g[n] * (0.5 * head.dt[n])).conj();
            ddg[n] -= du * head.p(r)[n].conj();
        }
    }
    for n in 0..h {
        let dt = head.dt[n];
        // D_g = (Δ/2) g; D₀ = 2g − 1; g = 1/(1 − z/2), z = ΔΛ
        grad.dt[n].re += 0.5 * (ddg[n].conj() * g[n]).re;
        let dg = dg[n] + ddg[n] * (0.5 * dt) + get(&dout.d0, n) * 2.0;
        let dz = dg * (g[n] * g[n] * 0.5).conj();
        grad.lambda[n] += dz * dt;
        grad.dt[n].re += (dz.conj() * head.lambda[n]).re;
    }
}
