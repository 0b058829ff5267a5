// Elements of the matrices of one chunk, from the sequences of chunk_matrices.cu; and the order in which a chunk pass
// holds time steps and state coordinates.
#pragma once
#include "common/complex.cuh"
#include "ssm/chunk.cuh"

// Index along time or state of value i of thread t (of four) on the inner index, and of row g (of eight) of tile nt on
// the outer one. Chosen so that a thread reads x and y as float4, and the result of one product is the operand of the
// next without a shuffle.
DEV int time_inner(int kt2, int t, int i) { return 16 * kt2 + 4 * t + i; }
DEV int state_inner(int kt2, int t, int i) { return 16 * kt2 + 8 * (i >> 1) + 2 * t + (i & 1); }
DEV int time_outer(int nt, int g) { return 16 * (nt >> 1) + 4 * (g >> 1) + 2 * (nt & 1) + (g & 1); }
DEV int state_outer(int nt, int g) { return 8 * nt + g; }

// The matrices of one chunk of head h.
struct Chunk {
  const double *kern, *q;
  const c64 *cols, *rows;
  const float* d;
  int h, heads, pairs, rank, kc, k0, np, anticausal;

  // Toep[t][j] of channel k; anticausal: of the kernel that a bidirectional layer applies to later inputs.
  __device__ double toep(int k, int t, int j) const {
    const int lag = anticausal ? j - t - 1 : t - j;
    if (lag < 0) return 0;
    double x = kern[((i64)h * kc + k0 + k) * T + lag];
    if (d && t == j) x += d[(i64)k * heads + h];
    return x;
  }
  __device__ double w(int k, int t, int n) const {
    const c64* row = rows + (((i64)h * kc + k0 + k) * (T + 1) + (anticausal ? T - 1 - t : t + 1)) * pairs;
    return (n < pairs ? 2 : -2) * coordinate(row, n);
  }
  __device__ double v(int n, int j) const {
    return coordinate(cols + ((i64)h * (rank + 1) * T + (anticausal ? j : T - 1 - j)) * pairs, n);
  }
  // Coordinate n of [Re x; Im x], zero beyond 2·pairs. One read without a branch, so that a loop of them has all its reads on their way.
  __device__ double coordinate(const c64* x, int n) const {
    const double v = ((const double*)x)[n < pairs ? 2 * n : n < 2 * pairs ? 2 * (n - pairs) + 1 : 0];
    return n < 2 * pairs ? v : 0.0;
  }
};
