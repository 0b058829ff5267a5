// One time step τ = Δ·interval of one head by one warp where A = diag(Λ) − PP* (S4), in f64, and its transpose.
//
//   x′ = x + F(Ax + Bu),   F = (I − τA/2)⁻¹τ
//
// With f = τ/(1 − Λτ/2), w = Λx − Pa + Bu and a = P*x: x′ = x + f(w − ½Ps), where Ms = P*fw and M = I + ½P*fP (Woodbury).
// The gradient of a complex z is ∂/∂Re z + i ∂/∂Im z.
#pragma once
#include "ssm/intervals.cuh"

// The constants of a head that a lane has.
template <int PAIRS>
struct Head {
  c64 lambda[PAIRS], b[PAIRS];
  double dt[PAIRS];
};

template <int PAIRS>
DEV Head<PAIRS> load_head(const Params& q, int h) {
  Head<PAIRS> k;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = threadIdx.x + 32 * m;
    const bool there = n < q.pairs;
    k.lambda[m] = there ? lambda(q, h, n) : c64{-1, 0};
    k.b[m] = there ? input(q, h, n) : c64{0, 0};
    k.dt[m] = there ? step_size(q, h, n) : 0.0;
  }
  return k;
}

// Element n of row r of P, 0 for a pair that does not exist.
DEV c64 p_row(const Params& q, int r, int h, int n) { return n < q.pairs ? lowrank(q, r, h, n) : c64{0, 0}; }

// f of a time step.
DEV c64 factor(c64 l, double tau) { return tau * inv(c64{1, 0} - (0.5 * tau) * l); }

// What a warp shares of the low-rank part of one time step.
struct LowRank {
  double a[MAXR], s[MAXR], m[MAXR][MAXR], m_inv[MAXR][MAXR];
};

// M⁻¹ by Gauss–Jordan, by one thread; M has a positive real part, so pivots do not vanish.
DEV void invert(LowRank& k, int R) {
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < R; ++j) k.m_inv[i][j] = i == j;
  for (int c = 0; c < R; ++c) {
    const double d = 1.0 / k.m[c][c];
    for (int j = 0; j < R; ++j) k.m[c][j] *= d, k.m_inv[c][j] *= d;
    for (int i = 0; i < R; ++i) {
      if (i == c) continue;
      const double e = k.m[i][c];
      for (int j = 0; j < R; ++j) k.m[i][j] -= e * k.m[c][j], k.m_inv[i][j] -= e * k.m_inv[c][j];
    }
  }
}

// f and w of a time step, and for rank > 0 a, s and M⁻¹ in `k`.
template <int PAIRS>
DEV void prepare_step(c64 (&f)[PAIRS], c64 (&w)[PAIRS], LowRank& k, const c64 (&x)[PAIRS], const Head<PAIRS>& head,
                      double in, double interval, const Params& q, int h) {
  const int lane = threadIdx.x, R = q.rank;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    f[m] = factor(head.lambda[m], head.dt[m] * interval);
    w[m] = head.lambda[m] * x[m] + in * head.b[m];
  }
  if (R == 0) return;
  __syncwarp();  // k may still be read
  for (int r = 0; r < R; ++r) {
    double a = 0;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) a += dot(x[m], p_row(q, r, h, lane + 32 * m));
    a = 2 * warp_sum(a);
    if (lane == 0) k.a[r] = a;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) w[m] -= a * p_row(q, r, h, lane + 32 * m);
  }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < R; ++t) {
      double e = 0;
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) e += dot(f[m] * p_row(q, t, h, lane + 32 * m), p_row(q, r, h, lane + 32 * m));
      e = warp_sum(e);
      if (lane == 0) k.m[r][t] = e + (r == t);
    }
  __syncwarp();
  if (lane == 0) invert(k, R);
  if (lane < R) k.s[lane] = 0;
  __syncwarp();
  for (int r = 0; r < R; ++r) {
    double rho = 0;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) rho += dot(f[m] * w[m], p_row(q, r, h, lane + 32 * m));
    rho = 2 * warp_sum(rho);
    if (lane < R) k.s[lane] += k.m_inv[lane][r] * rho;
  }
  __syncwarp();
}

// x ← the state after a time step.
template <int PAIRS>
DEV void step(c64 (&x)[PAIRS], LowRank& k, const Head<PAIRS>& head, double in, double interval, const Params& q, int h) {
  c64 f[PAIRS], w[PAIRS];
  prepare_step(f, w, k, x, head, in, interval, q, h);
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    for (int r = 0; r < q.rank; ++r) w[m] -= (0.5 * k.s[r]) * p_row(q, r, h, threadIdx.x + 32 * m);
    x[m] += f[m] * w[m];
  }
}

// The gradients of a head's constants that a lane sums up; those of P are in memory.
template <int PAIRS>
struct HeadGradients {
  c64 lambda[PAIRS], b[PAIRS];
  double dt[PAIRS];
};

// Adds to the gradients of Λ and Δ what df, that of f, gives: ∂f/∂τ = 1/(1 − Λτ/2)², ∂f/∂Λ = f²/2.
DEV void add_factor(c64& dlambda, double& ddt, c64 df, c64 f, c64 l, double interval) {
  const c64 g = c64{1, 0} + 0.5 * (l * f);
  dlambda += df * conj(0.5 * (f * f));
  ddt += interval * dot(df, g * g);
}

// Goes back over a time step whose state before it was x: g, the gradient of the state after it, becomes that of the state
// before it. Gives this lane's part of the gradient of the input. dp (R, 32·PAIRS) in shared memory.
template <int PAIRS>
DEV double step_backward(c64 (&g)[PAIRS], HeadGradients<PAIRS>& sums, c64* dp, LowRank& k, const c64 (&x)[PAIRS],
                         const Head<PAIRS>& head, double in, double interval, const Params& q, int h) {
  const int lane = threadIdx.x, R = q.rank;
  c64 f[PAIRS], w[PAIRS], dw[PAIRS];
  prepare_step(f, w, k, x, head, in, interval, q, h);
  double drho[MAXR];
#pragma unroll
  for (int r = 0; r < MAXR; ++r) drho[r] = 0;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) dw[m] = g[m] * conj(f[m]);
  for (int r = 0; r < R; ++r) {
    double ds = 0;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) ds += dot(dw[m], p_row(q, r, h, lane + 32 * m));
    ds = -0.5 * warp_sum(ds);
#pragma unroll
    for (int t = 0; t < MAXR; ++t)
      if (t < R) drho[t] += k.m_inv[r][t] * ds;
  }
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const c64 dh = dw[m], fw = f[m] * w[m];
    c64 v = w[m], dfw = {0, 0}, df = {0, 0};  // v = w − ½Ps
#pragma unroll
    for (int r = 0; r < MAXR; ++r) {
      if (r >= R) break;
      const c64 p = p_row(q, r, h, lane + 32 * m);
      v -= (0.5 * k.s[r]) * p;
      dfw += (2 * drho[r]) * p;
      c64 sum = (2 * drho[r]) * fw - (0.5 * k.s[r]) * dh;
#pragma unroll
      for (int t = 0; t < MAXR; ++t) {  // dM = −dρ sᵀ
        if (t >= R) break;
        const c64 o = p_row(q, t, h, lane + 32 * m);
        sum -= (drho[r] * k.s[t]) * (f[m] * o) + (drho[t] * k.s[r]) * (conj(f[m]) * o);
        df -= (drho[r] * k.s[t]) * (p * conj(o));
      }
      dp[r * 32 * PAIRS + lane + 32 * m] += sum;
    }
    df += g[m] * conj(v) + dfw * conj(w[m]);
    add_factor(sums.lambda[m], sums.dt[m], df, f[m], head.lambda[m], interval);
    dw[m] += dfw * conj(f[m]);
  }
  double du = 0;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    sums.lambda[m] += dw[m] * conj(x[m]);
    sums.b[m] += in * dw[m];
    g[m] += dw[m] * conj(head.lambda[m]);
    du += dot(dw[m], head.b[m]);
  }
  for (int r = 0; r < R; ++r) {
    double da = 0;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) da -= dot(dw[m], p_row(q, r, h, lane + 32 * m));
    da = warp_sum(da);
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      g[m] += (2 * da) * p_row(q, r, h, lane + 32 * m);
      dp[r * 32 * PAIRS + lane + 32 * m] += (2 * da) * x[m] - k.a[r] * dw[m];
    }
  }
  return du;
}
