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

// With g = γ·dy and x̂ = (x − μ)·rstd: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) (+ residual).
template <int KEPT>
DEV void layer_norm_dx(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ x,
                       const float* __restrict__ stats, const float* __restrict__ gamma,
                       const float* __restrict__ residual, i64 B, int H, i64 L) {
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
  // The residual is read some heads ahead.
  constexpr int AHEAD = 8;
  float past[AHEAD] = {};
  ds.each([&](int h, float d, int k) {
    if (KEPT && k % AHEAD == 0 && residual)
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) past[j] = h + SHARES * j < H ? residual[at + (h + SHARES * j) * L] : 0.f;
    if (!KEPT && residual) past[0] = residual[at + h * L];
    const float xh = (x_at(h, k) - mean) * rstd;
    dx[at + h * L] = past[KEPT ? k % AHEAD : 0] + rstd * (gamma[h] * d - s1 - xh * s2);
  });
}

#define LAYER_NORM(suffix, KEPT)                                                                                      \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_##suffix(                                              \
      float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H, i64 L) { \
    layer_norm<KEPT>(y, stats, x, gamma, beta, eps, B, H, L);                                                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(512) layer_norm_dx_##suffix(                                           \
      float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ x,                              \
      const float* __restrict__ stats, const float* __restrict__ gamma, const float* __restrict__ residual, i64 B,    \
      int H, i64 L) {                                                                                                 \
    layer_norm_dx<KEPT>(dx, dy, x, stats, gamma, residual, B, H, L);                                                  \
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

// y of a forward before, from its statistics: n elements.
KERNEL layer_norm_again(float* y, const float* stats, const float* x, const float* gamma, const float* beta, i64 n, i64 H,
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

// Batch norm: a warp has up to PIECE samples of one head of one row in registers. What its pieces give is put together
// by a block a head; another kernel over the pieces then writes.
constexpr int PIECE = 1024;

struct Piece {
  int h, n;     // head; samples that count
  i64 at, room; // first sample; samples that are there
  i64 slot;     // among the pieces of its head, which stand together

  // Piece number blockIdx.x·8 + warp of (B, H, pieces); false beyond the last. Block 256.
  __device__ bool find(const int* lengths, int B, int H, i64 L, int pieces) {
    const i64 w = (i64)blockIdx.x * 8 + (threadIdx.x >> 5), line = quotient(w, pieces), b = quotient(line, H);
    if (b >= B) return false;
    const i64 from = (w - line * pieces) * PIECE;
    h = (int)(line - b * H);
    at = line * L + from;
    room = min(L - from, (i64)PIECE);
    n = (int)max(min((i64)row_len(lengths, (int)b, (int)L) - from, room), (i64)0);
    slot = ((i64)h * B + b) * pieces + w - line * pieces;
    return true;
  }
  // Where quad k of a lane starts.
  __device__ static int quad(int k) { return 4 * ((threadIdx.x & 31) + 32 * k); }
  // Samples of an array, zero beyond those that count.
  __device__ void read(float (&v)[32], const float* x, bool vec) const {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float q[4] = {};
      const int t = quad(k);
      if (t < n) read4(q, x + at + t, n - t, vec);
#pragma unroll
      for (int i = 0; i < 4; ++i) v[4 * k + i] = t + i < n ? q[i] : 0.f;
    }
  }
};

// (mean, Σ (x − mean)²) of each piece.
KERNEL batch_norm_pieces(float2* part, const float* x, const int* lengths, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  float v[32], s = 0.f;
  p.read(v, x, L % 4 == 0 && aligned(x));
#pragma unroll
  for (int k = 0; k < 32; ++k) s += v[k];
  const float mean = p.n ? warp_sum(s) / p.n : 0.f;
  s = 0.f;
#pragma unroll
  for (int k = 0; k < 32; ++k)
    if (Piece::quad(k / 4) + k % 4 < p.n) s += (v[k] - mean) * (v[k] - mean);
  s = warp_sum(s);
  if ((threadIdx.x & 31) == 0) part[p.slot] = make_float2(mean, s);
}

// Samples that count in piece number k of a head, of B·pieces.
DEV double counted(const int* lengths, int k, i64 L, int pieces) {
  const int b = k / pieces;
  return (double)max(min((i64)row_len(lengths, b, (int)L) - (i64)(k - b * pieces) * PIECE, (i64)PIECE), (i64)0);
}

// One block a head: `stats` (2, H), and `running`, which is updated when training and used otherwise.
KERNEL batch_norm_stats(float* stats, float* running, const float2* part, const int* lengths, double eps, double momentum,
                        int training, int B, int H, i64 L, int pieces) {
  const int h = blockIdx.x;
  float mean, rstd;
  if (training) {
    const float2* mine = part + (i64)h * B * pieces;
    double count = 0, s = 0;
    for (int k = threadIdx.x; k < B * pieces; k += blockDim.x) {
      const double n = counted(lengths, k, L, pieces);
      count += n, s += n * mine[k].x;
    }
    count = block_sum(count);
    const double middle = block_sum(s) / count;
    s = 0;
    for (int k = threadIdx.x; k < B * pieces; k += blockDim.x) {
      const double d = mine[k].x - middle;
      s += mine[k].y + counted(lengths, k, L, pieces) * d * d;
    }
    const double variance = block_sum(s) / count;
    mean = (float)middle, rstd = (float)(1.0 / sqrt(variance + eps));
    if (threadIdx.x == 0) {
      const double unbiased = variance * count / fmax(count - 1.0, 1.0);
      running[h] = (float)((1.0 - momentum) * running[h] + momentum * middle);
      running[H + h] = (float)((1.0 - momentum) * running[H + h] + momentum * unbiased);
    }
  } else {
    mean = running[h];
    rstd = (float)(1.0 / sqrt((double)running[H + h] + eps));
  }
  if (threadIdx.x == 0) stats[h] = mean, stats[H + h] = rstd;
}

// y = γ(x − μ)·rstd + β; 0 beyond lengths.
KERNEL batch_norm_apply(float* y, const float* stats, const float* x, const float* gamma, const float* beta,
                        const int* lengths, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(y);
  const float mean = stats[p.h], g = gamma[p.h] * stats[H + p.h], shift = beta[p.h];
  float v[32];
  p.read(v, x, vec);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int t = Piece::quad(k);
    float q[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = t + i < p.n ? fmaf(g, v[4 * k + i] - mean, shift) : 0.f;
    if (t < p.room) write4(y + p.at + t, q, p.room - t, vec);
  }
}

// (Σ dy, Σ dy·(x − μ)) of each piece.
KERNEL batch_norm_sums(float2* part, const float* dy, const float* x, const float* stats, const int* lengths, int B, int H,
                       i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(dy);
  const float mean = stats[p.h];
  float v[32], d[32], s1 = 0.f, s2 = 0.f;
  p.read(v, x, vec);
  p.read(d, dy, vec);
#pragma unroll
  for (int k = 0; k < 32; ++k) s1 += d[k], s2 += d[k] * (v[k] - mean);
  s1 = warp_sum(s1), s2 = warp_sum(s2);
  if ((threadIdx.x & 31) == 0) part[p.slot] = make_float2(s1, s2);
}

// One block a head: dγ += Σ dy·x̂, dβ += Σ dy; means = (mean(dy), mean(dy·x̂)·rstd), 0 when not training.
KERNEL batch_norm_dparams(float* dgamma, float* dbeta, float2* means, const float2* part, const float* stats,
                          const int* lengths, int training, int B, int H, i64 L, int pieces) {
  const int h = blockIdx.x;
  const float2* mine = part + (i64)h * B * pieces;
  double count = 0, s1 = 0, s2 = 0;
  for (int k = threadIdx.x; k < B * pieces; k += blockDim.x)
    count += counted(lengths, k, L, pieces), s1 += mine[k].x, s2 += mine[k].y;
  count = block_sum(count);
  s1 = block_sum(s1);
  s2 = block_sum(s2) * stats[H + h];
  if (threadIdx.x) return;
  dgamma[h] += (float)s2, dbeta[h] += (float)s1;
  means[h] = training ? make_float2((float)(s1 / count), (float)(s2 / count) * stats[H + h]) : make_float2(0.f, 0.f);
}

// dx = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)) (+ residual).
KERNEL batch_norm_dx(float* dx, const float* dy, const float* x, const float* residual, const float* stats,
                     const float2* means, const float* gamma, const int* lengths, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(dy) && aligned(dx) && aligned(residual);
  const float mean = stats[p.h], g = gamma[p.h] * stats[H + p.h];
  const float2 m = means[p.h];
  // Two quads at a time: few registers, so that many warps have their reads on the way.
#pragma unroll 1
  for (int k = 0; k < 8; k += 2) {
    float v[2][4], d[2][4], q[2][4] = {};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int t = Piece::quad(k + j);
      if (t >= p.room) continue;
      read4(v[j], x + p.at + t, p.room - t, vec);
      read4(d[j], dy + p.at + t, p.room - t, vec);
      if (residual) read4(q[j], residual + p.at + t, p.room - t, vec);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int t = Piece::quad(k + j);
      if (t >= p.room) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (t + i < p.n) q[j][i] += g * fmaf(mean - v[j][i], m.y, d[j][i] - m.x);
      write4(dx + p.at + t, q[j], p.room - t, vec);
    }
  }
}
