// A 64 × 64 tile of a small product by plain FMA.
#pragma once
#include "common.cuh"

constexpr int TILE = 64;

// acc[i][j] += Σ_k a(k, row)·b(k, column), rows threadIdx.x / 16 + 16i, columns threadIdx.x % 16 + 16j of the tile.
// Block 256.
template <class F, class A, class B>
DEV void tile_product(F (&acc)[4][4], int depth, A a, B b) {
  constexpr int K = 16, LOADS = K * TILE / 256;
  __shared__ F as[K][TILE], bs[K][TILE];
  const int row = threadIdx.x / 16, column = threadIdx.x % 16;
  for (int k0 = 0; k0 < depth; k0 += K) {
    F x[LOADS], y[LOADS];  // all reads on their way before the first is used
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 256 + threadIdx.x, k = k0 + e / TILE, i = e % TILE;
      x[l] = k < depth ? a(k, i) : F(0);
      y[l] = k < depth ? b(k, i) : F(0);
    }
    __syncthreads();
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 256 + threadIdx.x;
      as[e / TILE][e % TILE] = x[l], bs[e / TILE][e % TILE] = y[l];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const F x = as[k][row + 16 * i];
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[i][j] += x * bs[k][column + 16 * j];
      }
  }
}

#define EACH_CELL(i, j, r, c)                                                                          \
  _Pragma("unroll") for (int i = 0, r = threadIdx.x / 16; i < 4; ++i, r += 16)                       \
      _Pragma("unroll") for (int j = 0, c = threadIdx.x % 16; j < 4; ++j, c += 16)
