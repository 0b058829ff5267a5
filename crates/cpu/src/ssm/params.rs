//! Parameters of the SSM in f64, and from the gradients of Δ, Λ, B, P and C those of the stored parameters.
//!
//! Every algorithm computes its constants from Δ = t(inv_dt)·rate, Λ = −f(a_real) − i·g(a_imag), B, P and C (the table in
//! `crates/ssm/src/lib.rs`). These arrays are small (a few numbers per pair and head), so f64 costs almost no time, and the
//! constants have no rounding errors of f32 exponentials and powers.

use crate::{Cpu, Workspace};
use num_complex::Complex;
use s4_backend::{Scalar, SsmGrads, SsmParams, SsmSpec};

pub(crate) type C64 = Complex<f64>;

/// All parameters of a layer in f64; storage comes from a workspace and goes back with [`Params64::give`].
pub(crate) struct Params64 {
    /// Δ, (H, N/2), repeated over the pairs when tied.
    pub dt: Vec<f64>,
    /// Λ, (S, N/2).
    pub lambda: Vec<C64>,
    /// B, (S, N/2).
    pub b: Vec<C64>,
    /// P, (R, S, N/2).
    pub p: Vec<C64>,
    /// C, (kernel channels, H, N/2).
    pub c: Vec<C64>,
    spec: SsmSpec,
}

/// The parameters of one head.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Δ by pair.
    pub dt: &'a [f64],
    pub lambda: &'a [C64],
    pub b: &'a [C64],
    p: &'a [C64],
    c: &'a [C64],
    spec: &'a SsmSpec,
    ssm: usize,
    head: usize,
}

impl<'a> Head<'a> {
    /// Row r of P.
    pub fn p(&self, r: usize) -> &'a [C64] {
        let n = self.spec.pairs();
        &self.p[(r * self.spec.n_ssm + self.ssm) * n..][..n]
    }
    /// C of kernel channel `channel`.
    pub fn c(&self, channel: usize) -> &'a [C64] {
        let n = self.spec.pairs();
        &self.c[(channel * self.spec.heads + self.head) * n..][..n]
    }
    pub fn spec(&self) -> &'a SsmSpec {
        self.spec
    }
    /// The head with another Δ by pair.
    pub fn with_dt(self, dt: &'a [f64]) -> Self {
        Head { dt, ..self }
    }
}

impl Params64 {
    /// Δ (times rate), Λ, B, P and C in f64: parameters after their transforms.
    pub fn load<T: Scalar>(
        params: &SsmParams<'_, Cpu<T>>,
        spec: &SsmSpec,
        rate: f64,
        ws: &mut Workspace<T>,
    ) -> Self {
        let n = spec.pairs();
        let mut loaded = Params64 {
            dt: ws.f64.take(spec.heads * n),
            lambda: ws.c64.take(spec.a_len()),
            b: ws.c64.take(spec.a_len()),
            p: ws.c64.take(spec.rank * spec.a_len()),
            c: ws.c64.take(spec.c_len() / 2),
            spec: *spec,
        };
        for (i, dt) in loaded.dt.iter_mut().enumerate() {
            let k = if spec.dt_per_state { i } else { i / n };
            *dt = spec.dt_transform.transformed(params.inv_dt[k].to_f64()) * rate;
        }
        for (l, (&re, &im)) in loaded.lambda.iter_mut().zip(params.a_real.iter().zip(params.a_imag)) {
            *l = C64::new(
                -spec.real_transform.transformed(re.to_f64()),
                -spec.imag_transform.transformed(im.to_f64()),
            );
        }
        for (dst, src) in [(&mut loaded.b, params.b), (&mut loaded.p, params.p), (&mut loaded.c, params.c)] {
            for (z, x) in dst.iter_mut().zip(src.chunks_exact(2)) {
                *z = C64::new(x[0].to_f64(), x[1].to_f64());
            }
        }
        loaded
    }

    /// Parameters of head h (SSM h mod S).
    pub fn head(&self, h: usize) -> Head<'_> {
        let n = self.spec.pairs();
        let ssm = h % self.spec.n_ssm;
        Head {
            dt: &self.dt[h * n..][..n],
            lambda: &self.lambda[ssm * n..][..n],
            b: &self.b[ssm * n..][..n],
            p: &self.p,
            c: &self.c,
            spec: &self.spec,
            ssm,
            head: h,
        }
    }

    /// Returns the storage.
    pub fn give<T>(self, ws: &mut Workspace<T>) {
        ws.f64.give(self.dt);
        ws.c64.give(self.lambda);
        ws.c64.give(self.b);
        ws.c64.give(self.p);
        ws.c64.give(self.c);
    }
}

/// Gradients of one head in f64. For complex z the pair (∂/∂Re z, ∂/∂Im z) is written as one complex number.
pub(crate) struct HeadGrads<'a> {
    /// ∂/∂Δ by pair, in the real parts.
    pub dt: &'a mut [C64],
    pub lambda: &'a mut [C64],
    pub b: &'a mut [C64],
    /// (R, N/2)
    pub p: &'a mut [C64],
    /// (kernel channels, N/2)
    pub c: &'a mut [C64],
}

/// Complex numbers that the gradients of one head take.
pub(crate) fn head_grads_len(spec: &SsmSpec) -> usize {
    spec.pairs() * (3 + spec.rank + spec.kernel_channels())
}

/// Cuts one head's part of a flat gradient buffer of heads × [`head_grads_len`].
pub(crate) fn head_grads<'a>(flat: &'a mut [C64], spec: &SsmSpec) -> HeadGrads<'a> {
    let n = spec.pairs();
    let (dt, rest) = flat.split_at_mut(n);
    let (lambda, rest) = rest.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (p, c) = rest.split_at_mut(n * spec.rank);
    HeadGrads { dt, lambda, b, p, c }
}

/// Carries the gradients of all heads (heads × [`head_grads_len`]) through the transforms and adds them to
/// `grads`. Heads that share an SSM are summed in head order, so the result does not depend on threads.
pub(crate) fn accumulate<T: Scalar>(
    grads: &mut SsmGrads<'_, Cpu<T>>,
    flat: &mut [C64],
    params: &SsmParams<'_, Cpu<T>>,
    spec: &SsmSpec,
    rate: f64,
) {
    let n = spec.pairs();
    let stride = head_grads_len(spec);
    let add = |dst: &mut T, x: f64| *dst += T::from_f64(x);
    for h in 0..spec.heads {
        let g = head_grads(&mut flat[h * stride..][..stride], spec);
        if spec.dt_per_state {
            for (i, d) in g.dt.iter().enumerate() {
                let k = h * n + i;
                add(
                    &mut grads.inv_dt[k],
                    d.re * rate * spec.dt_transform.derivative(params.inv_dt[k].to_f64()),
                );
            }
        } else {
            let sum: f64 = g.dt.iter().map(|d| d.re).sum();
            add(&mut grads.inv_dt[h], sum * rate * spec.dt_transform.derivative(params.inv_dt[h].to_f64()));
        }
        for channel in 0..spec.kernel_channels() {
            let at = (channel * spec.heads + h) * n;
            for (i, z) in g.c[channel * n..][..n].iter().enumerate() {
                add(&mut grads.c[2 * (at + i)], z.re);
                add(&mut grads.c[2 * (at + i) + 1], z.im);
            }
        }
    }
    // Sums over the heads of an SSM are made in f64 before they touch the (possibly f32) gradient.
    for s in 0..spec.n_ssm {
        for i in 0..n {
            let (mut lambda, mut b) = (C64::default(), C64::default());
            for h in (s..spec.heads).step_by(spec.n_ssm) {
                lambda += flat[h * stride + n + i];
                b += flat[h * stride + 2 * n + i];
            }
            let k = s * n + i;
            add(&mut grads.a_real[k], -lambda.re * spec.real_transform.derivative(params.a_real[k].to_f64()));
            add(&mut grads.a_imag[k], -lambda.im * spec.imag_transform.derivative(params.a_imag[k].to_f64()));
            add(&mut grads.b[2 * k], b.re);
            add(&mut grads.b[2 * k + 1], b.im);
            for r in 0..spec.rank {
                let mut p = C64::default();
                for h in (s..spec.heads).step_by(spec.n_ssm) {
                    p += flat[h * stride + (3 + r) * n + i];
                }
                let k = (r * spec.n_ssm + s) * n + i;
                add(&mut grads.p[2 * k], p.re);
                add(&mut grads.p[2 * k + 1], p.im);
            }
        }
    }
}

/// The parameters under a shorter borrow.
pub(crate) fn shorten<'short, 'long: 'short, T: Scalar>(
    params: &SsmParams<'long, Cpu<T>>,
) -> SsmParams<'short, Cpu<T>> {
    let &SsmParams { inv_dt, a_real, a_imag, b, c, p, d } = params;
    SsmParams { inv_dt, a_real, a_imag, b, c, p, d }
}
