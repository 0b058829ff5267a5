// A 64 × 64 tile of a small product by plain FMA.
#pragma once
#include "common/base.cuh"

constexpr int TILE = 64;

// acc[i][j] += Σ_k a(k, row)·b(k, column) for k < depth, with row = threadIdx.x / 16 + 16i and column = threadIdx.x %
// 16 + 16j of the tile. a and b are functions that read an element. Block: 256 threads. Neighbouring threads read
// neighbouring rows or columns, or, where AK (for a) or BK (for b) is set, neighbouring k.
template <bool AK = false, bool BK = false, class F, class A, class B>
DEV void tile_product(F (&acc)[4][4], int depth, A a, B b) {
  constexpr int K = 16, LOADS = K * TILE / 256;
  __shared__ F as[K][TILE + AK], bs[K][TILE + BK];
  auto term = [](int e, bool fast) { return fast ? e % K : e / TILE; };
  auto line = [](int e, bool fast) { return fast ? e / K : e % TILE; };
  const int row = threadIdx.x / 16, column = threadIdx.x % 16;
  F x[LOADS], y[LOADS];  // all reads on their way before the first is used, and those of the next terms before these are multiplied
  auto read = [&](int k0) {
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 256 + threadIdx.x, ka = k0 + term(e, AK), kb = k0 + term(e, BK);
      x[l] = ka < depth ? a(ka, line(e, AK)) : F(0);
      y[l] = kb < depth ? b(kb, line(e, BK)) : F(0);
    }
  };
  read(0);
  for (int k0 = 0; k0 < depth; k0 += K) {
    __syncthreads();
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
      const int e = l * 256 + threadIdx.x;
      as[term(e, AK)][line(e, AK)] = x[l], bs[term(e, BK)][line(e, BK)] = y[l];
    }
    __syncthreads();
    if (k0 + K < depth) read(k0 + K);
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

// Loops over the 16 elements (r, c) of the tile that a thread holds in acc[i][j].
#define EACH_CELL(i, j, r, c)                                                                          \
  _Pragma("unroll") for (int i = 0, r = threadIdx.x / 16; i < 4; ++i, r += 16)                       \
      _Pragma("unroll") for (int j = 0, c = threadIdx.x % 16; j < 4; ++j, c += 16)
