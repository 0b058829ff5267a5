// Layer norm over the heads of x (B, H, L) at each time step of each sequence.
#include "common/base.cuh"

constexpr int HEAD_GROUPS = 16;  // a block's threads of one position divide its heads by threadIdx.y

// Sum of x over threadIdx.y, for each threadIdx.x (32).
DEV float sum_y(float x) {
  __shared__ float part[HEAD_GROUPS][33];
  __syncthreads();
  part[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  float s = 0.f;
#pragma unroll
  for (int k = 0; k < HEAD_GROUPS; ++k) s += part[k][threadIdx.x];
  return s;
}

// The heads of one position (sequence, time step) that a thread reads: x[h·L] for h = threadIdx.y + 16k. In registers
// where there are at most HEADS_PER_THREAD of them, else (0) read again each time.
template <int HEADS_PER_THREAD>
struct HeadsOfThread {
  const float* x;
  i64 L;
  int H;
  bool in;
  float kept[HEADS_PER_THREAD ? HEADS_PER_THREAD : 1];

  __device__ HeadsOfThread(const float* x, i64 L, int H, bool in) : x(x), L(L), H(H), in(in) {
#pragma unroll
    for (int k = 0; k < HEADS_PER_THREAD; ++k) {
      const int h = threadIdx.y + HEAD_GROUPS * k;
      kept[k] = in && h < H ? x[h * L] : 0.f;
    }
  }
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    if (!in) return;
    if (HEADS_PER_THREAD) {
#pragma unroll
      for (int k = 0; k < HEADS_PER_THREAD; ++k) {
        const int h = threadIdx.y + HEAD_GROUPS * k;
        if (h < H) f(h, kept[k], k);
      }
    } else {
      for (int h = threadIdx.y; h < H; h += HEAD_GROUPS) f(h, x[h * L], 0);
    }
  }
};

// y = γ(x − mean)·rstd + β, stats (B, 2, L): mean and rstd = 1/√(variance + eps). Block (32, 16): 32 positions × 16
// threads that divide the heads. Grid: positions / 32.
template <int HEADS_PER_THREAD>
DEV void layer_norm(float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H,
                    i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? quotient(p, L) : 0, t = in ? p - b * L : 0;
  const HeadsOfThread<HEADS_PER_THREAD> r(x + b * H * L + t, L, H, in);
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

// dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) (+ residual, where not null), with g = γ·dy and x̂ = (x − mean)·rstd. Block
// and grid as for layer_norm.
template <int HEADS_PER_THREAD>
DEV void layer_norm_dx(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ x,
                       const float* __restrict__ stats, const float* __restrict__ gamma,
                       const float* __restrict__ residual, i64 B, int H, i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? quotient(p, L) : 0, t = in ? p - b * L : 0, at = b * H * L + t;
  const float mean = stats[b * 2 * L + t], rstd = stats[b * 2 * L + L + t];
  const HeadsOfThread<HEADS_PER_THREAD> xs(x + at, L, H, in), ds(dy + at, L, H, in);
  auto x_at = [&](int h, int k) { return HEADS_PER_THREAD ? xs.kept[k] : x[at + h * L]; };
  float s1 = 0.f, s2 = 0.f;
  ds.each([&](int h, float d, int k) {
    const float g = gamma[h] * d;
    s1 += g, s2 += g * ((x_at(h, k) - mean) * rstd);
  });
  s1 = sum_y(s1) / H;
  s2 = sum_y(s2) / H;
  // The residual is read AHEAD heads before it is needed.
  constexpr int AHEAD = 8;
  float residual_ahead[AHEAD] = {};
  ds.each([&](int h, float d, int k) {
    if (HEADS_PER_THREAD && k % AHEAD == 0 && residual)
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) residual_ahead[j] = h + HEAD_GROUPS * j < H ? residual[at + (h + HEAD_GROUPS * j) * L] : 0.f;
    if (!HEADS_PER_THREAD && residual) residual_ahead[0] = residual[at + h * L];
    const float xh = (x_at(h, k) - mean) * rstd;
    dx[at + h * L] = residual_ahead[HEADS_PER_THREAD ? k % AHEAD : 0] + rstd * (gamma[h] * d - s1 - xh * s2);
  });
}

#define LAYER_NORM(suffix, HEADS_PER_THREAD)                                                                                      \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_##suffix(                                              \
      float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H, i64 L) { \
    layer_norm<HEADS_PER_THREAD>(y, stats, x, gamma, beta, eps, B, H, L);                                                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_dx_##suffix(                                           \
      float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ x,                              \
      const float* __restrict__ stats, const float* __restrict__ gamma, const float* __restrict__ residual, i64 B,    \
      int H, i64 L) {                                                                                                 \
    layer_norm_dx<HEADS_PER_THREAD>(dx, dy, x, stats, gamma, residual, B, H, L);                                                  \
  }
LAYER_NORM(128, 8)
LAYER_NORM(256, 16)
LAYER_NORM(512, 32)
LAYER_NORM(any, 0)

// dγ[h] += Σ dy·x̂, dβ[h] += Σ dy over all sequences and time steps. One block per head, whose threads go through all sequences' quads.
KERNEL layer_norm_dparams(float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats, int B, int H,
                          i64 L) {
  const int h = blockIdx.x;
  const bool vec = L % 4 == 0 && aligned(dy) && aligned(x) && aligned(stats);
  const int width = vec ? 4 : 1;
  const i64 quads = L / width, all = B * quads;
  float g = 0.f, s = 0.f;
#pragma unroll 2
  for (i64 q = threadIdx.x; q < all; q += blockDim.x) {
    const i64 b = quotient(q, quads), t = (q - b * quads) * width, at = (b * H + h) * L + t;
    float d[4], v[4], mean[4], rstd[4];
    read4(d, dy + at, width, vec);
    read4(v, x + at, width, vec);
    read4(mean, stats + b * 2 * L + t, width, vec);
    read4(rstd, stats + b * 2 * L + L + t, width, vec);
#pragma unroll
    for (int i = 0; i < 4; ++i) s += d[i], g += d[i] * ((v[i] - mean[i]) * rstd[i]);
  }
  g = block_sum(g);
  s = block_sum(s);
  if (threadIdx.x == 0) dgamma[h] += g, dbeta[h] += s;
}

// y (n = B·H·L elements) of an earlier forward pass, from its statistics (B, 2, L).
KERNEL layer_norm_recompute(float* y, const float* stats, const float* x, const float* gamma, const float* beta, i64 n, i64 H,
                        i64 L) {
  const bool vec = L % 4 == 0 && aligned(y) && aligned(x) && aligned(stats);
  const int width = vec ? 4 : 1;
  for (i64 e = index() * width; e < n; e += stride() * width) {
    const i64 line = quotient(e, L), t = e - line * L, b = quotient(line, H), h = line - b * H;
    const float *mean = stats + b * 2 * L + t, *rstd = mean + L, g = gamma[h], shift = beta[h];
    float v[4], m[4], r[4];
    read4(v, x + e, width, vec);
    read4(m, mean, width, vec);
    read4(r, rstd, width, vec);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = fmaf(g * r[i], v[i] - m[i], shift);
    write4(y + e, v, width, vec);
  }
}

// Layer norm of sequences of one time step, x (B, H): one block per sequence. stats (B, 2): mean, 1/√(variance + eps).
// A thread keeps its first elements in registers.
KERNEL layer_norm_one_step(float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, int H) {
  constexpr int HEADS_PER_THREAD = 2;
  const i64 b = blockIdx.x;
  x += b * H, y += b * H;
  float v[HEADS_PER_THREAD], g[HEADS_PER_THREAD], c[HEADS_PER_THREAD], s = 0.f;
#pragma unroll
  for (int i = 0; i < HEADS_PER_THREAD; ++i) {
    const int h = threadIdx.x + i * blockDim.x;
    v[i] = h < H ? x[h] : 0.f, g[i] = h < H ? gamma[h] : 0.f, c[i] = h < H ? beta[h] : 0.f;
  }
#pragma unroll
  for (int i = 0; i < HEADS_PER_THREAD; ++i) s += v[i];
  const int rest = threadIdx.x + HEADS_PER_THREAD * blockDim.x;
  for (int h = rest; h < H; h += blockDim.x) s += x[h];
  const float mean = block_sum(s) / H;
  s = 0.f;
#pragma unroll
  for (int i = 0; i < HEADS_PER_THREAD; ++i)
    if (threadIdx.x + i * blockDim.x < H) s += (v[i] - mean) * (v[i] - mean);
  for (int h = rest; h < H; h += blockDim.x) s += (x[h] - mean) * (x[h] - mean);
  const float rstd = 1.f / sqrtf(block_sum(s) / H + eps);
#pragma unroll
  for (int i = 0; i < HEADS_PER_THREAD; ++i) {
    const int h = threadIdx.x + i * blockDim.x;
    if (h < H) y[h] = fmaf(g[i] * rstd, v[i] - mean, c[i]);
  }
  for (int h = rest; h < H; h += blockDim.x) y[h] = fmaf(gamma[h] * rstd, x[h] - mean, beta[h]);
  if (threadIdx.x == 0) stats[2 * b] = mean, stats[2 * b + 1] = rstd;
}
