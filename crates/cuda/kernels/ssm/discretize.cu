// From the parameters (Δ, Λ, P, B) of each head to its discrete recurrence, in f64, and the gradients back to them.
//
// With τ = 2/Δ, Dg = 1/(τ − Λ), M_rs = I + 2Re P_r*·Dg·P_s and the Woodbury row R_r = Σ_s M⁻¹_rs P̄_s Dg (paper Theorem
// 2, bilinear):
//   Ā x = D₀∘x + Σ_r u_r·(2Re v_r·x),   D₀ = Dg(τ + Λ),  u_r = −Dg P_r,  v_r = 2τ R_r,
//   B̄ = 2 Dg B + 2 Σ_r u_r h_r,  h = M⁻¹ q,  q_s = 2Re P_s*·Dg·B.
// S4D has rank 0; by zero-order hold D₀ = e^{ΔΛ}, B̄ = B·expm1(ΔΛ)/Λ.
//
// The gradient of a complex z is ∂/∂Re z + i ∂/∂Im z; where z = f(w), that of w is ḡ_z·conj f′(w). One warp per head, which goes
// through the code once: what counts is how much of it there is, and how often it waits.
#define TRANSFORM static __device__ __noinline__
#include "ssm/params.cuh"

// The (rank × rank) matrices and the vectors of one head.
struct RankMatrices {
  double m[MAXR][MAXR], m_inv[MAXR][MAXR], q[MAXR], h[MAXR];
};

// M⁻¹ by Gauss–Jordan with pivots, and h; by one thread.
DEV void invert(RankMatrices& s, int rank) {
  if (rank == 0) return;
  if (rank == 1) {
    s.m_inv[0][0] = 1.0 / s.m[0][0], s.h[0] = s.m_inv[0][0] * s.q[0];
    return;
  }
  double a[MAXR][2 * MAXR];
  for (int i = 0; i < rank; ++i)
    for (int j = 0; j < rank; ++j) a[i][j] = s.m[i][j], a[i][rank + j] = (i == j);
  for (int c = 0; c < rank; ++c) {
    int pivot = c;
    for (int i = c + 1; i < rank; ++i)
      if (fabs(a[i][c]) > fabs(a[pivot][c])) pivot = i;
    for (int j = 0; j < 2 * rank; ++j) {
      double x = a[c][j];
      a[c][j] = a[pivot][j], a[pivot][j] = x;
    }
    double d = 1.0 / a[c][c];
    for (int j = 0; j < 2 * rank; ++j) a[c][j] *= d;
    for (int i = 0; i < rank; ++i)
      if (i != c) {
        double f = a[i][c];
        for (int j = 0; j < 2 * rank; ++j) a[i][j] -= f * a[c][j];
      }
  }
  for (int i = 0; i < rank; ++i) {
    double x = 0;
    for (int j = 0; j < rank; ++j) s.m_inv[i][j] = a[i][rank + j], x += a[i][rank + j] * s.q[j];
    s.h[i] = x;
  }
}

// Λ, Dg and Δ of each pair of a head.
struct PairValues {
  c64 l, dg;
  double dt;
};

// Computes these, in shared memory, and the matrices of the rank for head h, by one warp.
DEV void prepare(RankMatrices& s, PairValues* of, const Params& q, int h) {
  const int lane = threadIdx.x;
  for (int n = lane; n < q.pairs; n += 32) {
    const c64 l = lambda(q, h, n);
    const double dt = step_size(q, h, n);
    of[n] = {l, inv({2.0 / dt - l.re, -l.im}), dt};
  }
  __syncwarp();
  for (int r = 0; r < q.rank; ++r) {
    double x = 0;
    for (int n = lane; n < q.pairs; n += 32) x += dot(of[n].dg * input(q, h, n), lowrank(q, r, h, n));
    x = warp_sum(x);
    if (lane == 0) s.q[r] = 2 * x;
    for (int t = 0; t < q.rank; ++t) {
      double g = 0;
      for (int n = lane; n < q.pairs; n += 32) g += dot(of[n].dg * lowrank(q, t, h, n), lowrank(q, r, h, n));
      g = warp_sum(g);
      if (lane == 0) s.m[r][t] = 2 * g + (r == t);
    }
  }
  if (lane == 0) invert(s, q.rank);
  __syncwarp();
}

// φ = expm1(ΔΛ)/Λ = Δ·e1(x), x = ΔΛ, and dφ/dΛ = Δ²·e2(x); series where |x| is small.
DEV c64 e1(c64 x) {
  if (x.re * x.re + x.im * x.im > 1e-2) return cexpm1(x) * inv(x);
  c64 s = {0, 0}, p = {1, 0};
  double f = 1;
  for (int k = 1; k < 14; ++k) f /= k, s += f * p, p = p * x;
  return s;
}
DEV c64 e2(c64 x) {
  if (x.re * x.re + x.im * x.im > 1e-2) {
    c64 e = cexpm1(x), i = inv(x);
    return ((e + c64{1, 0}) * x - e) * i * i;
  }
  c64 s = {0, 0}, p = {1, 0};
  double f = 1;  // Σ x^m (m+1)/(m+2)!
  for (int m = 0; m < 13; ++m) f /= m + 2, s += (f * (m + 1)) * p, p = p * x;
  return s;
}

KERNEL discretize(c64* d0, c64* u_r, c64* v_r, c64* b_bar, PARAMS) {
  PARAMS_HERE;
  extern __shared__ char memory[];
  PairValues* of = (PairValues*)memory;
  __shared__ RankMatrices s;
  const int h = blockIdx.x, lane = threadIdx.x, P = q.pairs;
  prepare(s, of, q, h);
  for (int n = lane; n < P; n += 32) {
    const i64 i = (i64)h * P + n;
    const c64 l = of[n].l, dg = of[n].dg, b = input(q, h, n);
    const double dt = of[n].dt, tau = 2.0 / dt;
    if (q.zoh) {
      const c64 x = dt * l;
      d0[i] = cexpm1(x) + c64{1, 0};
      b_bar[i] = dt * (e1(x) * b);
      continue;
    }
    d0[i] = dg * c64{tau + l.re, l.im};
    c64 x = 2.0 * (dg * b);
    for (int r = 0; r < q.rank; ++r) {
      const c64 x_r = -1.0 * (dg * lowrank(q, r, h, n));
      u_r[((i64)h * q.rank + r) * P + n] = x_r;
      x += (2.0 * s.h[r]) * x_r;
      c64 y = {0, 0};
      for (int t = 0; t < q.rank; ++t) y += s.m_inv[r][t] * conj(lowrank(q, t, h, n));
      v_r[((i64)h * q.rank + r) * P + n] = (2.0 * tau) * (y * dg);
    }
    b_bar[i] = x;
  }
}

// Adds x to complex number i of an array of (re, im) pairs in f32.
DEV void add(float* p, i64 i, c64 x) { p[2 * i] += (float)x.re, p[2 * i + 1] += (float)x.im; }

// The gradients of (D₀, B̄, u_r, v_r) are in `gradient_part_count` parts per head, each (2 + 2R) × P, and are summed here.
// Results, f64 per head: g_dt, g_re and g_im (Δ, Re Λ, Im Λ), complex g_b (H, P) and g_p (H, R, P). Where the gradients of the stored
// parameters are given, and each head has an SSM of its own, they are added to those instead. One warp per head.
KERNEL discretize_backward(double* g_dt, double* g_re, double* g_im, c64* g_b, c64* g_p, float* dinv_dt, float* da_real, float* da_imag,
                           float* db, float* dp, c64* gradient_parts, int gradient_part_count, PARAMS) {
  PARAMS_HERE;
  extern __shared__ char memory[];
  PairValues* of = (PairValues*)memory;
  __shared__ RankMatrices s;
  __shared__ double dh[MAXR], dm_inv[MAXR][MAXR], dq[MAXR], dm[MAXR][MAXR];
  const int h = blockIdx.x, lane = threadIdx.x, P = q.pairs, R = q.rank, width = (2 + 2 * R) * P;
  prepare(s, of, q, h);
  c64* g = gradient_parts + (i64)h * gradient_part_count * width;
  constexpr int SUMS = 4;  // by one lane at a time
  for (int first = lane; first < width; first += 32 * SUMS) {
    c64 x[SUMS];
#pragma unroll
    for (int m = 0; m < SUMS; ++m) x[m] = first + 32 * m < width ? g[first + 32 * m] : c64{0, 0};
#pragma unroll 4
    for (int k = 1; k < gradient_part_count; ++k)
#pragma unroll
      for (int m = 0; m < SUMS; ++m)
        if (first + 32 * m < width) x[m] += g[(i64)k * width + first + 32 * m];
#pragma unroll
    for (int m = 0; m < SUMS; ++m)
      if (first + 32 * m < width) g[first + 32 * m] = x[m];
  }
  __syncwarp();
  const c64 *gd0 = g, *gb_bar = g + P, *gu = g + 2 * P, *gv = g + (2 + R) * P;
  for (int r = 0; r < R; ++r) {
    double x = 0;
    for (int n = lane; n < P; n += 32) x -= dot(gb_bar[n], of[n].dg * lowrank(q, r, h, n));
    x = 2 * warp_sum(x);
    if (lane == 0) dh[r] = x;
    for (int t = 0; t < R; ++t) {
      double y = 0;
      for (int n = lane; n < P; n += 32)
        y += (4.0 / of[n].dt) * dot(gv[r * P + n], conj(lowrank(q, t, h, n)) * of[n].dg);
      y = warp_sum(y);
      if (lane == 0) dm_inv[r][t] = y + x * s.q[t];
    }
  }
  __syncwarp();
  if (lane == 0 && R == 1) {
    const double m_inv = s.m_inv[0][0];
    dq[0] = m_inv * dh[0], dm[0][0] = -(m_inv * dm_inv[0][0] * m_inv);
  } else if (lane == 0) {
    for (int t = 0; t < R; ++t) {
      double x = 0;
      for (int r = 0; r < R; ++r) x += s.m_inv[r][t] * dh[r];
      dq[t] = x;
    }
    // dM = −M⁻ᵀ dM⁻¹ M⁻ᵀ
    double left[MAXR][MAXR];
    for (int a = 0; a < R; ++a)
      for (int c = 0; c < R; ++c) {
        double x = 0;
        for (int k = 0; k < R; ++k) x += s.m_inv[k][a] * dm_inv[k][c];
        left[a][c] = x;
      }
    for (int a = 0; a < R; ++a)
      for (int c = 0; c < R; ++c) {
        double x = 0;
        for (int k = 0; k < R; ++k) x += left[a][k] * s.m_inv[c][k];
        dm[a][c] = -x;
      }
  }
  __syncwarp();
  double of_step = 0;
  for (int n = lane; n < P; n += 32) {
    const i64 i = (i64)h * P + n;
    const c64 l = of[n].l, b = input(q, h, n), D = of[n].dg;
    const double dt = of[n].dt, tau = 2.0 / dt;
    c64 gl, of_b;
    double ddt;
    if (q.zoh) {
      const c64 x = dt * l, d = cexpm1(x) + c64{1, 0};
      of_b = gb_bar[n] * conj(dt * e1(x));
      const c64 gphi = gb_bar[n] * conj(b);
      gl = gd0[n] * conj(dt * d) + gphi * conj((dt * dt) * e2(x));
      ddt = dot(gd0[n], l * d) + dot(gphi, d);
    } else {
      c64 gdg = gb_bar[n] * conj(2.0 * b);
      c64 gb = gb_bar[n] * conj(2.0 * D);
      double dtau = 0;
      for (int t = 0; t < R; ++t) {
        const c64 p = lowrank(q, t, h, n);
        gdg += (2 * dq[t]) * (p * conj(b));
        gb += (2 * dq[t]) * (p * conj(D));
        c64 gp = (2 * dq[t]) * (D * b);
        c64 gy = {0, 0};
        for (int r = 0; r < R; ++r) gy += s.m_inv[r][t] * gv[r * P + n];
        gdg += (2 * tau) * (gy * p);
        gp += (2 * tau) * (conj(gy) * D);
        dtau += 2 * dot(gy * p, D);
        const c64 gut = gu[t * P + n] + (2 * s.h[t]) * gb_bar[n];
        gdg -= gut * conj(p);
        gp -= gut * conj(D);
        for (int r = 0; r < R; ++r) {
          const c64 pr = lowrank(q, r, h, n);
          gdg += (2 * dm[r][t]) * (pr * conj(p));
          gp += (2 * dm[r][t]) * (pr * conj(D));
          gp += (2 * dm[t][r]) * (D * pr);
        }
        if (dp) add(dp, ((i64)t * q.ssms + h) * P + n, gp);
        else g_p[((i64)h * R + t) * P + n] = gp;
      }
      gdg += gd0[n] * conj(c64{tau + l.re, l.im});
      gl = gd0[n] * conj(D);
      dtau += dot(gd0[n], D);
      const c64 D2 = D * D;
      dtau -= dot(gdg, D2);
      gl += gdg * conj(D2);
      ddt = -0.5 * tau * tau * dtau;
      of_b = gb;
    }
    const i64 a = (i64)(h % q.ssms) * P + n;
    const double re = -gl.re * transform_derivative(q.t_real, q.a_real[a]), im = -gl.im * transform_derivative(q.t_imag, q.a_imag[a]);
    const double step = ddt * q.rate * transform_derivative(q.t_dt, q.inv_dt[q.per_state ? i : h]);
    if (!db) {
      g_re[i] = re, g_im[i] = im, g_dt[i] = step, g_b[i] = of_b;
      continue;
    }
    da_real[i] += (float)re, da_imag[i] += (float)im;
    add(db, i, of_b);
    if (q.per_state) dinv_dt[i] += (float)step;
    of_step += step;
  }
  if (!db || q.per_state) return;
  of_step = warp_sum(of_step);
  if (lane == 0) dinv_dt[h] += (float)of_step;
}

// Sums the gradients over the heads that share an SSM, in an order that depends on sizes alone, and adds them to those
// of the stored f32 parameters. One warp per (SSM, pair): grid (n_ssm, P).
KERNEL add_parameter_gradients(float* dinv_dt, float* da_real, float* da_imag, float* db, float* dp, const double* g_dt,
                               const double* g_re, const double* g_im, const c64* g_b, const c64* g_p, int heads,
                               int pairs, int ssms, int rank, int per_state) {
  const int s = blockIdx.x, n = blockIdx.y, lane = threadIdx.x;
  double re = 0, im = 0;
  c64 b = {0, 0};
  for (int h = s + ssms * lane; h < heads; h += 32 * ssms) {
    const i64 i = (i64)h * pairs + n;
    re += g_re[i], im += g_im[i], b += g_b[i];
    if (per_state) dinv_dt[i] += (float)g_dt[i];
  }
  re = warp_sum(re), im = warp_sum(im), b = {warp_sum(b.re), warp_sum(b.im)};
  const i64 o = (i64)s * pairs + n;
  if (lane == 0) {
    da_real[o] += (float)re, da_imag[o] += (float)im;
    db[2 * o] += (float)b.re, db[2 * o + 1] += (float)b.im;
  }
  for (int r = 0; r < rank; ++r) {
    c64 p = {0, 0};
    for (int h = s + ssms * lane; h < heads; h += 32 * ssms) p += g_p[((i64)h * rank + r) * pairs + n];
    p = {warp_sum(p.re), warp_sum(p.im)};
    const i64 w = ((i64)r * ssms + s) * pairs + n;
    if (lane == 0) dp[2 * w] += (float)p.re, dp[2 * w + 1] += (float)p.im;
  }
}

// Where a whole head has one Δ: dinv_dt[h] += the sum of g_dt (H, P) over the head's pairs. One warp per head.
KERNEL add_step_gradients(float* dinv_dt, const double* g_dt, int pairs) {
  double x = 0;
  for (int n = threadIdx.x; n < pairs; n += 32) x += g_dt[(i64)blockIdx.x * pairs + n];
  x = warp_sum(x);
  if (threadIdx.x == 0) dinv_dt[blockIdx.x] += (float)x;
}
