// f64 products of 64 × 64 numbers on the tensor cores where the chip has f64 ones.
#pragma once
#include "common/base.cuh"

// c (16 × 8) += a (16 × 16) · b (16 × 8). With g = lane / 4 and t = lane % 4 a thread holds a[2j] = A[g][4j + t],
// a[2j + 1] = A[g + 8][4j + t], b[j] = B[4j + t][g]; p and q are C[g][2t, 2t + 1] and C[g + 8][2t, 2t + 1].
DEV void mma_f64(double* p, double* q, const double (&a)[8], const double (&b)[4]) {
#if __CUDA_ARCH__ >= 900
  asm("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7,%8,%9,%10,%11}, {%12,%13,%14,%15}, "
      "{%0,%1,%2,%3};"
      : "+d"(p[0]), "+d"(p[1]), "+d"(q[0]), "+d"(q[1])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]), "d"(b[0]), "d"(b[1]),
        "d"(b[2]), "d"(b[3]));
#elif __CUDA_ARCH__ >= 800
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    double* c = i & 1 ? q : p;
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+d"(c[0]), "+d"(c[1])
        : "d"(a[i]), "d"(b[i / 2]));
  }
#else
  const int lane = threadIdx.x & 31, t = lane & 3;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    double* c = i & 1 ? q : p;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const double x = __shfl_sync(~0u, a[i], (lane & ~3) + k);
      c[0] += x * __shfl_sync(~0u, b[i / 2], 8 * t + k), c[1] += x * __shfl_sync(~0u, b[i / 2], 8 * t + 4 + k);
    }
  }
#endif
}

// Where acc[i][j] of a thread lies in a tile of 64 × 64: each of eight warps has 16 rows and 32 columns.
DEV int cell_row(int i) { return 16 * (threadIdx.x / 64) + 8 * (i >> 1) + (threadIdx.x & 31) / 4; }
DEV int cell_column(int i, int j) {
  return 32 * (threadIdx.x / 32 & 1) + 16 * (i & 1) + 8 * (j >> 1) + 2 * (threadIdx.x & 3) + (j & 1);
}
#define EACH_PRODUCT(i, j, r, c)                                                      \
  _Pragma("unroll") for (int i = 0; i < 4; ++i) _Pragma("unroll") for (int j = 0, \
      r = cell_row(i), c = cell_column(i, 0); j < 4; ++j, c = cell_column(i, j))

// acc += sixteen terms of the product, from k0 on, of a(k, row) and b(k, column).
template <class A, class B>
DEV void sixteen_terms(double (&acc)[4][4], int k0, A a, B b) {
  const int g = (threadIdx.x & 31) / 4, t = threadIdx.x & 3, row = 16 * (threadIdx.x / 64) + g;
  double x[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = a(k0 + 4 * (i >> 1) + t, row + 8 * (i & 1));
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    double y[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) y[i] = b(k0 + 4 * i + t, 32 * (threadIdx.x / 32 & 1) + 8 * n + g);
    mma_f64(acc[n >> 1] + 2 * (n & 1), acc[2 + (n >> 1)] + 2 * (n & 1), x, y);
  }
}
