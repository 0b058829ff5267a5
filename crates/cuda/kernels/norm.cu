// Layer norm over heads at each (row, time); batch norm over (rows, time) at each head.
#include "common.cuh"

constexpr int SHARES = 16;  // of the heads, one a threadIdx.y

// Sum over threadIdx.y for each threadIdx.x (32).
DEV float sum_y(float x) {
  __shared__ float part[SHARES][33];
  __syncthreads();
  part[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  float s = 0.f;
#pragma unroll
  for (int k = 0; k < SHARES; ++k) s += part[k][threadIdx.x];
  return s;
}

// A thread's share of one position's heads, x[h·L] for h = threadIdx.y + 16k: in registers where there are at most
// KEPT of them, else read again each time.
template <int KEPT>
struct Heads {
  const float* x;
  i64 L;
  int H;
  bool in;
  float kept[KEPT ? KEPT : 1];

  __device__ Heads(const float* x, i64 L, int H, bool in) : x(x), L(L), H(H), in(in) {
#pragma unroll
    for (int k = 0; k < KEPT; ++k) {
      const int h = threadIdx.y + SHARES * k;
      kept[k] = in && h < H ? x[h * L] : 0.f;
    }
  }
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    if (!in) return;
    if (KEPT) {
#pragma unroll
      for (int k = 0; k < KEPT; ++k) {
        const int h = threadIdx.y + SHARES * k;
        if (h < H) f(h, kept[k], k);
      }
    } else {
      for (int h = threadIdx.y; h < H; h += SHARES) f(h, x[h * L], 0);
    }
  }
};

// Block (32, 16): 32 positions (row, time) × 16 shares of the heads. Grid: positions / 32.
template <int KEPT>
DEV void layer_norm(float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H,
                    i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? quotient(p, L) : 0, t = in ? p - b * L : 0;
  const Heads<KEPT> r(x + b * H * L + t, L, H, in);
  float s = 0.f;
  r.each([&](int, float v, int) { s += v; });
  const float mean = sum_y(s) / H;
  s = 0.f;
  r.each([&](int, float v, int) { s += (v - mean) * (v - mean); });
  const float rstd = 1.f / sqrtf(sum_y(s) / H + eps);
  float* o = y + b * H * L + t;
  r.each([&](int h, float v, int) { o[h * L] = fmaf(gamma[h] * rstd, v - mean, beta[h]); });
  if (in && threadIdx.y == 0) stats[b * 2 * L + t] = mean, stats[b * 2 * L + L + t] = rstd;
}

// With g = γ·dy and x̂ = (x − μ)·rstd: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)).
template <int KEPT>
DEV void layer_norm_dx(float* dx, const float* dy, const float* x, const float* stats, const float* gamma, int add, i64 B,
                       int H, i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? quotient(p, L) : 0, t = in ? p - b * L : 0, at = b * H * L + t;
  const float mean = stats[b * 2 * L + t], rstd = stats[b * 2 * L + L + t];
  const Heads<KEPT> xs(x + at, L, H, in), ds(dy + at, L, H, in);
  auto x_at = [&](int h, int k) { return KEPT ? xs.kept[k] : x[at + h * L]; };
  float s1 = 0.f, s2 = 0.f;
  ds.each([&](int h, float d, int k) {
    const float g = gamma[h] * d;
    s1 += g, s2 += g * ((x_at(h, k) - mean) * rstd);
  });
  s1 = sum_y(s1) / H;
  s2 = sum_y(s2) / H;
  ds.each([&](int h, float d, int k) {
    const float xh = (x_at(h, k) - mean) * rstd, v = rstd * (gamma[h] * d - s1 - xh * s2);
    dx[at + h * L] = add ? dx[at + h * L] + v : v;
  });
}

#define LAYER_NORM(suffix, KEPT)                                                                                      \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_##suffix(                                              \
      float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H, i64 L) { \
    layer_norm<KEPT>(y, stats, x, gamma, beta, eps, B, H, L);                                                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_dx_##suffix(                                           \
      float* dx, const float* dy, const float* x, const float* stats, const float* gamma, int add, i64 B, int H,      \
      i64 L) {                                                                                                        \
    layer_norm_dx<KEPT>(dx, dy, x, stats, gamma, add, B, H, L);                                                       \
  }
LAYER_NORM(128, 8)
LAYER_NORM(256, 16)
LAYER_NORM(512, 32)
LAYER_NORM(any, 0)

// dγ[h] += Σ dy·x̂, dβ[h] += Σ dy. One block a head.
KERNEL layer_norm_dparams(float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats, int B, int H,
                          i64 L) {
  const int h = blockIdx.x;
  float g = 0.f, s = 0.f;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L;
    const float *mean = stats + (i64)b * 2 * L, *rstd = mean + L;
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) {
      const float d = dy[at + t];
      s += d, g += d * ((x[at + t] - mean[t]) * rstd[t]);
    }
  }
  g = block_sum(g);
  s = block_sum(s);
  if (threadIdx.x == 0) dgamma[h] += g, dbeta[h] += s;
}

DEV double count_of(const int* lengths, int B, i64 L) {
  if (!lengths) return (double)B * L;
  double s = 0;
  for (int b = threadIdx.x; b < B; b += blockDim.x) s += lengths[b];
  return block_sum(s);
}

// One block a head. `running` is updated when training, used otherwise; 0 beyond lengths.
KERNEL batch_norm(float* y, float* stats, float* running, const float* x, const float* gamma, const float* beta,
                  const int* lengths, double eps, double momentum, int training, int B, int H, i64 L) {
  const int h = blockIdx.x;
  float mean, rstd;
  if (training) {
    const double count = count_of(lengths, B, L);
    double s = 0;
    for (int b = 0; b < B; ++b) {
      const float* r = x + ((i64)b * H + h) * L;
      const i64 n = row_len(lengths, b, (int)L);
      float part = 0.f;
      for (i64 t = threadIdx.x; t < n; t += blockDim.x) part += r[t];
      s += part;
    }
    mean = (float)(block_sum(s) / count);
    s = 0;
    for (int b = 0; b < B; ++b) {
      const float* r = x + ((i64)b * H + h) * L;
      const i64 n = row_len(lengths, b, (int)L);
      float part = 0.f;
      for (i64 t = threadIdx.x; t < n; t += blockDim.x) part += (r[t] - mean) * (r[t] - mean);
      s += part;
    }
    const double variance = block_sum(s) / count;
    rstd = (float)(1.0 / sqrt(variance + eps));
    if (threadIdx.x == 0) {
      const double unbiased = variance * count / fmax(count - 1.0, 1.0);
      running[h] = (float)((1.0 - momentum) * running[h] + momentum * mean);
      running[H + h] = (float)((1.0 - momentum) * running[H + h] + momentum * unbiased);
    }
  } else {
    mean = running[h];
    rstd = (float)(1.0 / sqrt((double)running[H + h] + eps));
  }
  if (threadIdx.x == 0) stats[h] = mean, stats[H + h] = rstd;
  const float g = gamma[h] * rstd, be = beta[h];
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) y[at + t] = t < n ? fmaf(g, x[at + t] - mean, be) : 0.f;
  }
}

// Training: dx = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)); otherwise γ·rstd·dy. One block a head.
KERNEL batch_norm_backward(float* dx, float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats,
                           const float* gamma, const int* lengths, int training, int add, int B, int H, i64 L) {
  const int h = blockIdx.x;
  const float mean = stats[h], rstd = stats[H + h];
  const double count = count_of(lengths, B, L);
  double s1 = 0, s2 = 0;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    float p = 0.f, q = 0.f;
    for (i64 t = threadIdx.x; t < n; t += blockDim.x) p += dy[at + t], q += dy[at + t] * (x[at + t] - mean);
    s1 += p, s2 += q;
  }
  s1 = block_sum(s1);
  s2 = block_sum(s2) * rstd;
  if (threadIdx.x == 0) dgamma[h] += (float)s2, dbeta[h] += (float)s1;
  const float m1 = training ? (float)(s1 / count) : 0.f, m2 = training ? (float)(s2 / count) * rstd : 0.f;
  const float g = gamma[h] * rstd;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) {
      const float d = t < n ? g * fmaf(mean - x[at + t], m2, dy[at + t] - m1) : 0.f;
      dx[at + t] = add ? dx[at + t] + d : d;
    }
  }
}
