// Layer norm over the heads of x (B, H, L) at each time step of each sequence.
//
// A tile is 32 consecutive positions (sequence, time step). A block of (32, W) threads goes through the tiles
// blockIdx.x, blockIdx.x + gridDim.x, … With Q positions a thread, 4 where float4 fits and else 1, a warp covers Q heads
// of a tile at once, and a block W·Q. Where all heads fit in registers, the next tile is read into them while this one is
// written.
#include "common/base.cuh"

constexpr int TILE = 32;
constexpr int ELEMENTS = 32;  // of a tile that a thread keeps in registers

template <int Q>
constexpr int ACROSS = TILE / Q;  // lanes of a warp that have the same heads

template <int Q>
DEV int lane_across() { return threadIdx.x % ACROSS<Q>; }
template <int Q>
DEV int first_head() { return threadIdx.y * Q + threadIdx.x / ACROSS<Q>; }

// Sums of N values over the lanes whose numbers differ in the bits FROM, FROM / 2, … TO. Each level halves the number
// of values, as each of two lanes takes over one half of them: of the lanes, those whose bits have value i keep sums
// i·N/lanes and the following, in v[0] and on. Where the values are fewer than the lanes, several lanes have each sum.
template <int FROM, int TO, int N>
DEV void sum_lanes(float (&v)[N]) {
  int n = N / 2;
#pragma unroll
  for (int mask = FROM; mask >= TO; mask /= 2) {
    const bool upper = threadIdx.x & mask;
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float give = upper ? v[i] : v[i + n];
      v[i] = (upper ? v[i + n] : v[i]) + __shfl_xor_sync(~0u, give, mask);
    }
    if (n == 0) v[0] += __shfl_xor_sync(~0u, v[0], mask);
    n /= 2;
  }
}

// Sums over all heads of V values of each of a thread's Q positions, v[q·V + i]; every thread gets those of its
// positions. part: shared, and not that of the call before, which may still be read.
template <int Q, int V, int W>
DEV void sum_heads(float (&v)[Q * V], float (&part)[W][TILE * V]) {
  const int group = threadIdx.x / ACROSS<Q>, across = lane_across<Q>();
  sum_lanes<TILE / 2, ACROSS<Q>>(v);
#pragma unroll
  for (int i = 0; i < V; ++i) part[threadIdx.y][(Q * across + group) * V + i] = v[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Q * V; ++i) v[i] = 0.f;
  // Few at a time: there are no registers for more.
#pragma unroll(4 / Q)
  for (int k = 0; k < W; k += Q)
#pragma unroll
    for (int i = 0; i < Q * V; ++i) v[i] += part[k + group][Q * V * across + i];
#pragma unroll
  for (int mask = ACROSS<Q>; mask < TILE; mask *= 2)
#pragma unroll
    for (int i = 0; i < Q * V; ++i) v[i] += __shfl_xor_sync(~0u, v[i], mask);
}

// A thread's Q positions of a tile.
template <int Q>
struct Positions {
  i64 at;     // index in x of head 0 at the first position
  i64 stats;  // index of its mean; rstd is L further
  int heads;  // H, or 0 where the positions do not exist (all or none do)

  __device__ Positions(int tile, i64 count, int H, i64 L) {
    const i64 p = (i64)tile * TILE + Q * lane_across<Q>();
    const bool in = p < count;
    const i64 b = in ? quotient(p, L) : 0, t = in ? p - b * L : 0;
    at = b * H * L + t, stats = b * 2 * L + t, heads = in ? H : 0;
  }
};

// Goes through the heads of a thread. What it stands at is made opaque to the compiler, which would compute the addresses
// of all heads in advance and had no registers for them.
template <int W, int Q>
struct Head {
  int h;
  i64 row;  // h·L

  __device__ Head(int slab, i64 L) : h(first_head<Q>() + slab * W * ELEMENTS) {
    asm volatile("" : "+r"(h));
    row = h * L;
  }
  __device__ void next(i64 L) {
    h += W * Q, row += W * Q * L;
    asm volatile("" : "+r"(h), "+l"(row));
  }
};

template <int Q>
DEV void read(float (&v)[Q], const float* p, bool in) {
  if constexpr (Q == 4) {
    const float4 x = in ? *(const float4*)p : make_float4(0.f, 0.f, 0.f, 0.f);
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
  } else {
    v[0] = in ? *p : 0.f;
  }
}
// Brings what p points at into the second-level cache, which takes no register.
DEV void prefetch(const float* p) { asm volatile("prefetch.global.L2 [%0];" : : "l"(p)); }
template <int Q>
DEV void write(float* p, const float (&v)[Q]) {
  if constexpr (Q == 4) *(float4*)p = make_float4(v[0], v[1], v[2], v[3]);
  else *p = v[0];
}

// y = γ(x − mean)·rstd + β, stats (B, 2, L): mean and rstd = 1/√(variance + eps). A slab of W·ELEMENTS heads at a time,
// which are all where KEPT.
template <int W, int Q, bool KEPT>
DEV void layer_norm(float* __restrict__ y, float* __restrict__ stats, const float* __restrict__ x,
                    const float* __restrict__ gamma, const float* __restrict__ beta, float eps, i64 count, int H, i64 L) {
  constexpr int K = ELEMENTS / Q;
  __shared__ __align__(16) float part[2][W][TILE];
  const int tiles = (int)((count + TILE - 1) / TILE);
  const int slabs = KEPT ? 1 : (H + W * ELEMENTS - 1) / (W * ELEMENTS);
  float v[K][Q];
  auto load_slab = [&](const Positions<Q>& p, int slab) {
    Head<W, Q> head(slab, L);
#pragma unroll
    for (int k = 0; k < K; ++k, head.next(L)) read<Q>(v[k], x + p.at + head.row, head.h < p.heads);
  };
  Positions<Q> p(blockIdx.x, count, H, L);
  if (KEPT) load_slab(p, 0);
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const bool writes_stats = p.heads && first_head<Q>() == 0;
    float mean[Q] = {}, rstd[Q] = {};
    for (int slab = 0; slab < slabs; ++slab) {
      if (!KEPT) load_slab(p, slab);
#pragma unroll
      for (int k = 0; k < K; ++k)
#pragma unroll
        for (int q = 0; q < Q; ++q) mean[q] += v[k][q];
    }
    sum_heads<Q, 1>(mean, part[0]);
#pragma unroll
    for (int q = 0; q < Q; ++q) mean[q] /= H;
    if (writes_stats) write<Q>(stats + p.stats, mean);
    for (int slab = 0; slab < slabs; ++slab) {
      if (!KEPT) load_slab(p, slab);
      Head<W, Q> head(slab, L);
#pragma unroll
      for (int k = 0; k < K; ++k, head.next(L))
#pragma unroll
        for (int q = 0; q < Q; ++q) {
          v[k][q] = head.h < H ? v[k][q] - mean[q] : 0.f;
          rstd[q] = fmaf(v[k][q], v[k][q], rstd[q]);
        }
    }
    sum_heads<Q, 1>(rstd, part[1]);
#pragma unroll
    for (int q = 0; q < Q; ++q) rstd[q] = 1.f / sqrtf(rstd[q] / H + eps);
    if (writes_stats) write<Q>(stats + p.stats + L, rstd);
    const Positions<Q> next(tile + gridDim.x, count, H, L);
    for (int slab = 0; slab < slabs; ++slab) {
      if (!KEPT) load_slab(p, slab);
      Head<W, Q> head(slab, L);
#pragma unroll
      for (int k = 0; k < K; ++k, head.next(L)) {
        if (head.h < p.heads) {
          const float g = gamma[head.h], shift = beta[head.h];
          float out[Q];
#pragma unroll
          for (int q = 0; q < Q; ++q) out[q] = fmaf(g * rstd[q], KEPT ? v[k][q] : v[k][q] - mean[q], shift);
          write<Q>(y + p.at + head.row, out);
        }
        if (KEPT) read<Q>(v[k], x + next.at + head.row, head.h < next.heads);
      }
    }
    p = next;
  }
}

// dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) (+ residual, where not null), with g = γ·dy and x̂ = (x − mean)·rstd. sums
// (gridDim.x, 2, H): Σ dy·x̂ and Σ dy over the positions of each block. Heads as for layer_norm.
template <int W, int Q, bool KEPT>
DEV void layer_norm_dx(float* __restrict__ dx, float* __restrict__ sums, const float* __restrict__ dy,
                       const float* __restrict__ x, const float* __restrict__ stats, const float* __restrict__ gamma,
                       const float* __restrict__ residual, i64 count, int H, i64 L) {
  constexpr int K = ELEMENTS / Q, AHEAD = Q == 4 ? 4 : 8;  // AHEAD: heads whose residual is read before it is needed
  static_assert(K == ACROSS<Q>, "each lane keeps the sums of one head");
  __shared__ __align__(16) float part[2][W][TILE * 2];
  const int tiles = (int)((count + TILE - 1) / TILE);
  const int slabs = KEPT ? 1 : (H + W * ELEMENTS - 1) / (W * ELEMENTS);
  const int own_head = first_head<Q>() + lane_across<Q>() * W * Q;  // of a slab: that whose sums this lane keeps
  float* const own_sums = sums + (i64)blockIdx.x * 2 * H;
  float v[K][Q], d[K][Q], mean[Q], rstd[Q], r[AHEAD][Q] = {};
  auto load_slab = [&](const Positions<Q>& p, int slab) {
    Head<W, Q> head(slab, L);
#pragma unroll
    for (int k = 0; k < K; ++k, head.next(L)) {
      read<Q>(v[k], x + p.at + head.row, head.h < p.heads);
      read<Q>(d[k], dy + p.at + head.row, head.h < p.heads);
    }
  };
  auto load_residual = [&](const Positions<Q>& p, int slab) {
    Head<W, Q> head(slab, L);
#pragma unroll
    for (int k = 0; k < AHEAD; ++k, head.next(L))
      read<Q>(r[k], residual + p.at + head.row, residual && head.h < p.heads);
  };
  auto load_stats = [&](const Positions<Q>& p) {
    read<Q>(mean, stats + p.stats, p.heads);
    read<Q>(rstd, stats + p.stats + L, p.heads);
  };
  auto normalize = [&]() {
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int q = 0; q < Q; ++q) v[k][q] = (v[k][q] - mean[q]) * rstd[q];
  };
  float dgamma = 0.f, dbeta = 0.f;
  int turn = 0;
  Positions<Q> p(blockIdx.x, count, H, L);
  load_stats(p);
  if (KEPT) load_slab(p, 0);
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, turn ^= 1) {
    float s[2 * Q] = {};
    for (int slab = 0; slab < slabs; ++slab) {
      if (!KEPT) load_slab(p, slab);
      normalize();
      float of_head[K];
      Head<W, Q> head(slab, L);
#pragma unroll
      for (int k = 0; k < K; ++k, head.next(L)) {
        const float g = head.h < H ? gamma[head.h] : 0.f;
        of_head[k] = 0.f;
#pragma unroll
        for (int q = 0; q < Q; ++q) {
          const float e = d[k][q] * v[k][q];
          s[2 * q] = fmaf(g, d[k][q], s[2 * q]), s[2 * q + 1] = fmaf(g, e, s[2 * q + 1]);
          of_head[k] += e;
        }
      }
      sum_lanes<ACROSS<Q> / 2, 1>(of_head);
      const float tile_dgamma = of_head[0];
#pragma unroll
      for (int k = 0; k < K; ++k) {
        of_head[k] = 0.f;
#pragma unroll
        for (int q = 0; q < Q; ++q) of_head[k] += d[k][q];
      }
      sum_lanes<ACROSS<Q> / 2, 1>(of_head);
      const int h = own_head + slab * W * ELEMENTS;
      if (KEPT) {
        dgamma += tile_dgamma, dbeta += of_head[0];
      } else if (h < H) {
        const bool begun = tile != blockIdx.x;
        own_sums[h] = (begun ? own_sums[h] : 0.f) + tile_dgamma;
        own_sums[H + h] = (begun ? own_sums[H + h] : 0.f) + of_head[0];
      }
    }
    if (KEPT) load_residual(p, 0);
    sum_heads<Q, 2>(s, part[turn]);
#pragma unroll
    for (int i = 0; i < 2 * Q; ++i) s[i] /= H;
    const Positions<Q> next(tile + gridDim.x, count, H, L);
    for (int slab = 0; slab < slabs; ++slab) {
      if (!KEPT) load_residual(p, slab), load_slab(p, slab), normalize();
      Head<W, Q> head(slab, L);
#pragma unroll
      for (int k = 0; k < K; ++k, head.next(L)) {
        if (head.h < p.heads) {
          const float g = gamma[head.h];
          float out[Q];
#pragma unroll
          for (int q = 0; q < Q; ++q)
            out[q] = r[k % AHEAD][q] + rstd[q] * (g * d[k][q] - s[2 * q] - v[k][q] * s[2 * q + 1]);
          write<Q>(dx + p.at + head.row, out);
        }
        if (k + AHEAD < K)
          read<Q>(r[k % AHEAD], residual + p.at + head.row + AHEAD * W * Q * L,
                  residual && head.h + AHEAD * W * Q < p.heads);
        if (KEPT) {
          read<Q>(v[k], x + next.at + head.row, head.h < next.heads);
          read<Q>(d[k], dy + next.at + head.row, head.h < next.heads);
          if (residual && head.h < next.heads) prefetch(residual + next.at + head.row);
        }
      }
    }
    p = next;
    load_stats(p);
  }
  if (KEPT && own_head < H) own_sums[own_head] = dgamma, own_sums[H + own_head] = dbeta;
}

// The kernels for up to 32·W heads, or any number where not KEPT. Block: (32, W). Grid: at most as many blocks as tiles.
#define LAYER_NORM(suffix, W, KEPT)                                                                                   \
  extern "C" __global__ void __launch_bounds__(32 * W, 32 / W) layer_norm_##suffix(                                   \
      float* __restrict__ y, float* __restrict__ stats, const float* __restrict__ x, const float* __restrict__ gamma, \
      const float* __restrict__ beta, float eps, i64 count, int H, i64 L) {                                               \
    if (L % 4 == 0 && aligned(y) && aligned(x) && aligned(stats))                                                     \
      layer_norm<W, 4, KEPT>(y, stats, x, gamma, beta, eps, count, H, L);                                                 \
    else                                                                                                              \
      layer_norm<W, 1, KEPT>(y, stats, x, gamma, beta, eps, count, H, L);                                                 \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(32 * W, 16 / W) layer_norm_dx_##suffix(                                \
      float* __restrict__ dx, float* __restrict__ sums, const float* __restrict__ dy, const float* __restrict__ x,    \
      const float* __restrict__ stats, const float* __restrict__ gamma, const float* __restrict__ residual, i64 count,\
      int H, i64 L) {                                                                                                 \
    if (L % 4 == 0 && aligned(dx) && aligned(dy) && aligned(x) && aligned(stats) && aligned(residual))                \
      layer_norm_dx<W, 4, KEPT>(dx, sums, dy, x, stats, gamma, residual, count, H, L);                                    \
    else                                                                                                              \
      layer_norm_dx<W, 1, KEPT>(dx, sums, dy, x, stats, gamma, residual, count, H, L);                                    \
  }
LAYER_NORM(128, 4, true)
LAYER_NORM(256, 8, true)
LAYER_NORM(512, 16, true)
LAYER_NORM(any, 8, false)

// dγ[h] += Σ dy·x̂, dβ[h] += Σ dy over all positions, from the sums (blocks, 2, H) of layer_norm_dx. Block (32, 16), grid
// 2 H / 32.
KERNEL layer_norm_dparams(float* dgamma, float* dbeta, const float* sums, int blocks, int H) {
  constexpr int WARPS = 16;
  __shared__ float part[WARPS][32];
  const int c = blockIdx.x * 32 + threadIdx.x;
  float s = 0.f;
  if (c < 2 * H)
#pragma unroll 4
    for (int k = threadIdx.y; k < blocks; k += WARPS) s += sums[(i64)k * 2 * H + c];
  part[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  if (threadIdx.y || c >= 2 * H) return;
  s = 0.f;
#pragma unroll
  for (int k = 0; k < WARPS; ++k) s += part[k][threadIdx.x];
  (c < H ? dgamma[c] : dbeta[c - H]) += s;
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
