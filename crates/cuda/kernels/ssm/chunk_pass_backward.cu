// Gradients of a chunk's matrices, summed over all sequences and chunks of one head,
//   [dToep, dW; dV, dQ] = [dY | dS]ᵀ·[X | S],
// where the rows of dY and X are (sequence, chunk), each of 64 time steps, S is the state that enters a chunk and dS
// the gradient of the one that leaves it. One product of (T + NP) × (T + NP) per head whose inner index is (sequence,
// chunk), cut into gridDim.y ranges (parts).
#include "common/mma.cuh"
#include "ssm/chunk.cuh"

constexpr int MK = 16;

// gradients: (parts, H, T + NP, T + NP), of which the first `rows` rows are written: T + NP, or T where dToep and dW alone
// are wanted.
// Block 512; grid (H, parts).
template <int NP>
DEV void chunk_grad(float* gradients, const float* dy, const float* ds, const float* x, const float* s, const int* lengths,
                    int B, int H, int out_channels, int out_channel, int chunks, i64 L, int rows) {
  constexpr int I = T + NP, W = I / 32, TILES = W * W, PER = (TILES + 15) / 16, LD = I + 8, LOADS = MK * I / 512;
  static_assert(MK * I % 512 == 0, "whole loads");
  __shared__ float A[MK][LD], Bm[MK][LD];
  const int h = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const i64 total = (i64)B * chunks, steps = (total + MK - 1) / MK, each = (steps + gridDim.y - 1) / gridDim.y;
  const i64 first = blockIdx.y * each, end = min(steps, first + each);
  float acc[PER][2][4][4] = {};
  float na[LOADS], nb[LOADS];
  auto fetch = [&](i64 step) {
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 512 + threadIdx.x, m = e / I, i = e % I;
      const i64 row = step * MK + m;
      float p = 0.f, q = 0.f;
      if (row < total) {
        const i64 b = row / chunks, c = row % chunks;
        if (i < T) {
          const i64 at = c * T + i, len = lengths ? (i64)lengths[b] : L;
          if (at < len) {
            p = dy[((b * out_channels + out_channel) * H + h) * L + at];
            q = x[(b * H + h) * L + at];
          }
        } else {
          const i64 at = (((i64)h * B + b) * chunks + c) * NP + (i - T);
          p = ds[at], q = s[at];
        }
      }
      na[l] = p, nb[l] = q;
    }
  };
  if (first < end) fetch(first);
  for (i64 step = first; step < end; ++step) {
    __syncthreads();
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 512 + threadIdx.x;
      A[e / I][e % I] = na[l], Bm[e / I][e % I] = nb[l];
    }
    __syncthreads();
    if (step + 1 < end) fetch(step + 1);
#pragma unroll
    for (int p = 0; p < PER; ++p) {
      const int result_tile = warp + 16 * p, i0 = result_tile / W * 32, j0 = result_tile % W * 32;
      if (result_tile >= TILES || i0 >= rows) continue;
#pragma unroll
      for (int k = 0; k < MK; k += 8) {
        FragB fb[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) fb[j] = frag_b(Bm[k + t][j0 + 8 * j + g], Bm[k + t + 4][j0 + 8 * j + g]);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int m = i0 + 16 * i + g;
          const FragA fa = frag_a(A[k + t][m], A[k + t][m + 8], A[k + t + 4][m], A[k + t + 4][m + 8]);
#pragma unroll
          for (int j = 0; j < 4; ++j) mma(acc[p][i][j], fa, fb[j]);
        }
      }
    }
  }
  float* o = gradients + ((i64)blockIdx.y * H + h) * I * I;
#pragma unroll
  for (int p = 0; p < PER; ++p) {
    const int result_tile = warp + 16 * p, i0 = result_tile / W * 32, j0 = result_tile % W * 32;
    if (result_tile >= TILES || i0 >= rows) continue;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          o[(i64)(i0 + 16 * i + g + (e >> 1) * 8) * I + j0 + 8 * j + 2 * t + (e & 1)] = acc[p][i][j][e];
  }
}

#define GRAD(name, NP)                                                                                              \
  extern "C" __global__ void __launch_bounds__(512) name(float* gradients, const float* dy, const float* ds,             \
                                                         const float* x, const float* s, const int* lengths, int B, \
                                                         int H, int out_channels, int out_channel, int chunks, i64 L,        \
                                                         int rows) {                                                  \
    chunk_grad<NP>(gradients, dy, ds, x, s, lengths, B, H, out_channels, out_channel, chunks, L, rows);                       \
  }
GRAD(grad_32, 32)
GRAD(grad_64, 64)
GRAD(grad_128, 128)

// dst[i] = Σ_p src[p·n + i], in order of p.
KERNEL sum_parts(float* dst, const float* src, i64 n, int parts) {
  for (i64 i = index(); i < n; i += stride()) {
    float s = 0.f;
    for (int p = 0; p < parts; ++p) s += src[p * n + i];
    dst[i] = s;
  }
}
