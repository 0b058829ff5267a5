// Rows of a table picked by token, and the gradient of the table.
#include "common/base.cuh"

// y (B, H, L) = table (V, H) at tokens (B, L).
KERNEL embedding(float* y, const float* table, const int* tokens, i64 n, i64 H, i64 L) {
  const bool vec = L % 4 == 0 && aligned(y) && aligned(tokens);
  const int width = vec ? 4 : 1;
  for (i64 i = index() * width; i < n; i += stride() * width) {
    const i64 line = quotient(i, L), t = i - line * L, b = quotient(line, H), h = line - b * H;
    const float* from = table + h;
    if (vec) {
      const int4 k = *(const int4*)(tokens + b * L + t);
      *(float4*)(y + i) = make_float4(from[k.x * H], from[k.y * H], from[k.z * H], from[k.w * H]);
    } else {
      y[i] = from[tokens[b * L + t] * H];
    }
  }
}

// part (splits, V, H): gradient of each token's row of the table from one of `splits` equal ranges of the positions (b,
// t), added in their order. A thread adds for one token and one head. Block: 128 threads; grid (V, heads / 128,
// splits).
KERNEL embedding_backward(float* part, const float* dy, const int* tokens, i64 positions, int V, int H, i64 L) {
  const int v = blockIdx.x, h = blockIdx.y * 128 + threadIdx.x;
  const i64 each = (positions + gridDim.z - 1) / gridDim.z, first = blockIdx.z * each;
  const i64 last = min(first + each, positions);
  __shared__ int hit[128];
  float s = 0.f;
  for (i64 p0 = first; p0 < last; p0 += 128) {
    const i64 p = p0 + threadIdx.x;
    hit[threadIdx.x] = p < last && tokens[p] == v;
    const int any = __syncthreads_or(hit[threadIdx.x]);
    if (any && h < H)
      for (int k = 0; k < 128; ++k)
        if (hit[k]) {
          const i64 q = p0 + k;
          s += dy[(q / L * H + h) * L + q % L];
        }
    __syncthreads();
  }
  if (h < H) part[((i64)blockIdx.z * V + v) * H + h] = s;
}

constexpr int FEW = 256;  // as in src/dense/embedding.rs: tokens of a vocabulary whose gradients of 32 heads fit in shared memory

// As embedding_backward, for a vocabulary of at most FEW tokens: dy is read once, along time. A lane adds for one head,
// into shared memory; the four warps have a quarter of the tokens each. Block (32, 4); grid (heads / 32, splits).
KERNEL embedding_backward_few(float* part, const float* dy, const int* tokens, i64 positions, int V, int H, i64 L) {
  constexpr int TILE = 64;
  __shared__ float sums[FEW][32], tile[32][TILE + 1];
  const int lane = threadIdx.x, warp = threadIdx.y, h0 = blockIdx.x * 32;
  const i64 each = (positions + gridDim.y - 1) / gridDim.y, first = blockIdx.y * each;
  const i64 last = min(first + each, positions);
  for (int v = warp; v < V; v += 4) sums[v][lane] = 0.f;
  for (i64 p0 = first; p0 < last; p0 += TILE) {
    int token[TILE / 32];
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE / 32; ++j) {
      const i64 p = p0 + 32 * j + lane;
      const bool in = p < last;
      const i64 b = in ? quotient(p, L) : 0, at = (b * H + h0) * L + (in ? p - b * L : 0);
      token[j] = in ? tokens[p] : -1;
#pragma unroll
      for (int k = 0; k < 32; k += 4) {
        const int h = warp + k;
        tile[h][32 * j + lane] = in && h0 + h < H ? dy[at + h * L] : 0.f;
      }
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE / 32; ++j) {
      u32 own = __ballot_sync(~0u, token[j] >= 0 && token[j] % 4 == warp);
      // In the order of the positions.
      for (; own; own &= own - 1) {
        const int i = __ffs(own) - 1, v = __shfl_sync(~0u, token[j], i);
        sums[v][lane] += tile[lane][32 * j + i];
      }
    }
  }
  if (h0 + lane < H)
    for (int v = warp; v < V; v += 4) part[((i64)blockIdx.y * V + v) * H + h0 + lane] = sums[v][lane];
}
