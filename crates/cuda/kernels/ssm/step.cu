// One time step of the recurrence in O(N) per head (paper Theorem 2): x′ = Ā x + B̄ u, y = 2Re C x′ + D u, by one warp
// per (sequence, head). Ā x is computed as x + (D₀ − 1)∘x + Σ_r u_r(2Re v_r·x), so that small Δ lose nothing to
// rounding near 1. Where each sequence has its own interval, Δ·interval is discretized in the kernel, in f64.
#include "ssm/params.cuh"

// out (H, 2 + 2R, P): (D₀ − 1), B̄, u_r, v_r of each head, from f64 to f32.
KERNEL step_constants(float2* out, const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar, int heads, int P, int R) {
  const int width = (2 + 2 * R) * P;
  for (i64 i = index(); i < (i64)heads * width; i += stride()) {
    const i64 h = i / width;
    const int e = (int)(i % width), kind = e / P;
    c64 x;
    if (kind == 0) x = d0[h * P + e] - c64{1, 0};
    else if (kind == 1) x = b_bar[h * P + e - P];
    else if (kind < 2 + R) x = u_r[h * R * P + e - 2 * P];
    else x = v_r[h * R * P + e - (2 + R) * P];
    out[i] = make_float2((float)x.re, (float)x.im);
  }
}

// Re(a·b).
DEV float re(float2 a, float2 b) { return a.x * b.x - a.y * b.y; }

// y (B, channels·H), state (B, H, 2, P) updated in place, u (B, H), consts from step_constants, c (channels, H, P, 2),
// d (channels, H). One warp per (sequence, head): grid (H, B); shared memory: 2P floats.
KERNEL step(float* y, float* state, const float* u, const float2* consts, const float* c, const float* d, int H, int P,
            int R, int channels) {
  extern __shared__ float next[];
  const int h = blockIdx.x, b = blockIdx.y, lane = threadIdx.x;
  const float2* q = consts + (i64)h * (2 + 2 * R) * P;
  float *re_x = state + ((i64)b * H + h) * 2 * P, *im_x = re_x + P;
  const float in = u[(i64)b * H + h];
  float rho[MAXR];
#pragma unroll
  for (int r = 0; r < MAXR; ++r) {
    if (r >= R) break;
    float s = 0.f;
    for (int n = lane; n < P; n += 32) s += re(q[(2 + R + r) * P + n], make_float2(re_x[n], im_x[n]));
    rho[r] = 2 * warp_sum(s);
  }
  for (int n = lane; n < P; n += 32) {
    const float xr = re_x[n], xi = im_x[n];
    const float2 e = q[n], b_bar = q[P + n];
    float dr = e.x * xr - e.y * xi + b_bar.x * in, di = e.x * xi + e.y * xr + b_bar.y * in;
#pragma unroll
    for (int r = 0; r < MAXR; ++r) {
      if (r >= R) break;
      const float2 u_r = q[(2 + r) * P + n];
      dr += rho[r] * u_r.x, di += rho[r] * u_r.y;
    }
    re_x[n] = next[n] = xr + dr;
    im_x[n] = next[P + n] = xi + di;
  }
  __syncwarp();
  for (int k = 0; k < channels; ++k) {
    const float2* ck = (const float2*)c + ((i64)k * H + h) * P;
    float s = 0.f;
    for (int n = lane; n < P; n += 32) s += re(ck[n], make_float2(next[n], next[P + n]));
    s = 2 * warp_sum(s);
    if (lane == 0) y[((i64)b * channels + k) * H + h] = s + d[(i64)k * H + h] * in;
  }
}

// As `step` for N ≤ 64, R ≤ 1 and one channel: a warp keeps the constants of its head in registers and takes SEQUENCES
// sequences at a time. Grid (H, blocks that divide the batch); several warps per block.
template <int SEQUENCES>
DEV void step_sequences(float* y, float* state, const float* u, const float2* consts, const float* c, const float* d, int H,
                   int P, int R, int B) {
  const int h = blockIdx.x, n = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const float2* q = consts + (i64)h * (2 + 2 * R) * P;
  const float2 none = make_float2(0.f, 0.f);
  const bool in = n < P;
  const float2 e = in ? q[n] : none, b_bar = in ? q[P + n] : none, u_r = in && R ? q[2 * P + n] : none,
               v_r = in && R ? q[3 * P + n] : none, ck = in ? ((const float2*)c)[(i64)h * P + n] : none;
  const float dh = d[h];
  for (int b0 = (blockIdx.y * warps + warp) * SEQUENCES; b0 < B; b0 += gridDim.y * warps * SEQUENCES) {
    float xr[SEQUENCES], xi[SEQUENCES], v[SEQUENCES], s[SEQUENCES];
#pragma unroll
    for (int k = 0; k < SEQUENCES; ++k) {
      const int b = min(b0 + k, B - 1);
      const float* x = state + ((i64)b * H + h) * 2 * P;
      xr[k] = in ? x[n] : 0.f, xi[k] = in ? x[P + n] : 0.f;
      v[k] = u[(i64)b * H + h];
      s[k] = re(v_r, make_float2(xr[k], xi[k]));
    }
#pragma unroll
    for (int o = 16; o; o >>= 1)
#pragma unroll
      for (int k = 0; k < SEQUENCES; ++k) s[k] += __shfl_xor_sync(~0u, s[k], o);
#pragma unroll
    for (int k = 0; k < SEQUENCES; ++k) {
      const float rho = 2 * s[k];
      const float dr = e.x * xr[k] - e.y * xi[k] + b_bar.x * v[k] + rho * u_r.x;
      const float di = e.x * xi[k] + e.y * xr[k] + b_bar.y * v[k] + rho * u_r.y;
      xr[k] += dr, xi[k] += di;
      s[k] = re(ck, make_float2(xr[k], xi[k]));
    }
#pragma unroll
    for (int o = 16; o; o >>= 1)
#pragma unroll
      for (int k = 0; k < SEQUENCES; ++k) s[k] += __shfl_xor_sync(~0u, s[k], o);
#pragma unroll
    for (int k = 0; k < SEQUENCES; ++k) {
      if (b0 + k >= B) break;
      float* x = state + ((i64)(b0 + k) * H + h) * 2 * P;
      if (in) x[n] = xr[k], x[P + n] = xi[k];
      if (n == 0) y[(i64)(b0 + k) * H + h] = 2 * s[k] + dh * v[k];
    }
  }
}

#define STEP(name, SEQUENCES)                                                                                             \
  KERNEL name(float* y, float* state, const float* u, const float2* consts, const float* c, const float* d, int H,  \
              int P, int R, int B) {                                                                                 \
    step_sequences<SEQUENCES>(y, state, u, consts, c, d, H, P, R, B);                                                          \
  }
STEP(step_sequences_1, 1)
STEP(step_sequences_4, 4)

// As `step` with Δ·interval[b]: S4 by Theorem 2, S4D by its own discretization. Shared memory: 3P c64.
KERNEL step_interval(float* y, float* state, const float* u, const float* interval, const float* c, const float* d,
                     int channels, PARAMS) {
  PARAMS_HERE;
  extern __shared__ char memory[];
  const int h = blockIdx.x, b = blockIdx.y, lane = threadIdx.x, P = q.pairs, R = q.rank;
  c64 *dg = (c64*)memory, *t = dg + P, *x = t + P;
  __shared__ double m[MAXR][MAXR + 1];  // M = I + 2Re P*·Dg·P, and its right-hand side in column R
  float *re_x = state + ((i64)b * q.heads + h) * 2 * P, *im_x = re_x + P;
  const double in = u[(i64)b * q.heads + h], ratio = interval[b];
  for (int n = lane; n < P; n += 32) {
    const c64 s = {re_x[n], im_x[n]}, l = lambda(q, h, n), bn = input(q, h, n);
    const double dt = step_size(q, h, n) * ratio;
    if (q.zoh) {
      const c64 z = dt * l, e = cexpm1(z);
      const bool small = l.re * l.re + l.im * l.im < 1e-200;
      x[n] = (e + c64{1, 0}) * s + in * ((small ? c64{dt, 0} : e * inv(l)) * bn);
    } else {
      const double tau = 2.0 / dt;
      dg[n] = inv({tau - l.re, -l.im});
      t[n] = c64{tau + l.re, l.im} * s + (2 * in) * bn;
    }
  }
  __syncwarp();
  if (!q.zoh) {
    // t = E∘x − P(P*x) + 2Bu
    for (int r = 0; r < R; ++r) {
      double a = 0;
      for (int n = lane; n < P; n += 32) a += dot(c64{re_x[n], im_x[n]}, lowrank(q, r, h, n));
      a = 2 * warp_sum(a);
      for (int n = lane; n < P; n += 32) t[n] -= a * lowrank(q, r, h, n);
    }
    // x′ = Dg∘(t − P M⁻¹ P*(Dg∘t))
    for (int r = 0; r < R; ++r) {
      double a = 0;
      for (int n = lane; n < P; n += 32) a += dot(dg[n] * t[n], lowrank(q, r, h, n));
      a = 2 * warp_sum(a);
      if (lane == 0) m[r][R] = a;
      for (int s = 0; s < R; ++s) {
        double w = 0;
        for (int n = lane; n < P; n += 32) w += dot(dg[n] * lowrank(q, s, h, n), lowrank(q, r, h, n));
        w = 2 * warp_sum(w);
        if (lane == 0) m[r][s] = w + (r == s);
      }
    }
    __syncwarp();
    if (lane == 0)
      for (int k = 0; k < R; ++k) {  // Gauss–Jordan; M has a positive real part, so pivots do not vanish
        const double p = 1.0 / m[k][k];
        for (int j = k; j <= R; ++j) m[k][j] *= p;
        for (int i = 0; i < R; ++i)
          if (i != k) {
            const double f = m[i][k];
            for (int j = k; j <= R; ++j) m[i][j] -= f * m[k][j];
          }
      }
    __syncwarp();
    for (int n = lane; n < P; n += 32) {
      c64 v = t[n];
      for (int r = 0; r < R; ++r) v -= m[r][R] * lowrank(q, r, h, n);
      x[n] = dg[n] * v;
    }
  }
  for (int n = lane; n < P; n += 32) re_x[n] = (float)x[n].re, im_x[n] = (float)x[n].im;
  for (int k = 0; k < channels; ++k) {
    double s = 0;
    for (int n = lane; n < P; n += 32) s += dot(conj(load(c, ((i64)k * q.heads + h) * P + n)), x[n]);
    s = 2 * warp_sum(s);
    if (lane == 0) y[((i64)b * channels + k) * q.heads + h] = (float)(s + d[(i64)k * q.heads + h] * in);
  }
}
