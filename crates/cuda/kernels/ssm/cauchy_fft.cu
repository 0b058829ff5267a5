// Real transforms of a power of two of samples in f64, by complex ones of half as many points (see cauchy.cu), between a
// kernel K̄ (kc, H, L) in f32 and its spectra z (group, kc, M) in the order of fft.cuh. Samples beyond L are dropped on
// the way back and 0 on the way there.
#include "common/fft.cuh"

// Index of point p of a transform in shared memory, chosen so that a stride of eight has no bank conflict.
DEV int swapped(int p) { return p ^ (p >> 3 & 7); }

// The kernel of row `row` of the group.
struct Kernels {
  float* first;
  int kc, heads, h0;
  i64 len;

  __device__ float* of(i64 row) const {
    const i64 h = quotient(row, kc);
    return first + ((row - h * kc) * heads + h0 + h) * len;
  }
  // Samples 2l and 2l + 1 of a kernel.
  __device__ void write(float* k, i64 l, double2 v, double scale) const {
    if (2 * l < len) k[2 * l] = (float)(scale * v.x);
    if (2 * l + 1 < len) k[2 * l + 1] = (float)(scale * v.y);
  }
  __device__ double2 read(const float* k, i64 l) const {
    return make_double2(2 * l < len ? k[2 * l] : 0.f, 2 * l + 1 < len ? k[2 * l + 1] : 0.f);
  }
};
#define KERNELS float *kernel, int kc, int heads, int h0, i64 len
#define KERNELS_HERE const Kernels a = {kernel, kc, heads, h0, len}

// Rows of n points, n/8 threads each and several to a block; shared memory: the block's points. `from`: z, or the kernel
// where the row is a whole transform; `to` likewise.
template <class From, class To>
DEV void rows(i64 total, int n, int sign, From from, To to) {
  extern __shared__ double2 memory[];
  const int eighth = n / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 row = (i64)blockIdx.x * (blockDim.x / eighth) + own;
  double2 v[8] = {};
  if (row < total)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = from(row, j + m * eighth);
  transform(v, memory + own * n, n, j, sign, swapped);
  if (row < total)
#pragma unroll
    for (int m = 0; m < 8; ++m) to(row, j + m * eighth, v[m]);
}

extern "C" __global__ void __launch_bounds__(256) cauchy_rows(double2* z, i64 total, int n, int sign) {
  rows(
      total, n, sign, [&](i64 row, int i) { return z[row * n + i]; },
      [&](i64 row, int i, double2 v) { z[row * n + i] = v; });
}
extern "C" __global__ void __launch_bounds__(256) cauchy_rows_to_kernel(KERNELS, const double2* z, i64 total, int n) {
  KERNELS_HERE;
  const double scale = 0.5 / n;
  rows(
      total, n, 1, [&](i64 row, int i) { return z[row * n + i]; },
      [&](i64 row, int i, double2 v) { a.write(a.of(row), i, v, scale); });
}
extern "C" __global__ void __launch_bounds__(256) cauchy_rows_of_kernel(KERNELS, double2* z, i64 total, int n) {
  KERNELS_HERE;
  rows(
      total, n, -1, [&](i64 row, int i) { return a.read(a.of(row), i); },
      [&](i64 row, int i, double2 v) { z[row * n + i] = v; });
}

extern "C" __global__ void __launch_bounds__(512, 1) cauchy_columns_to_kernel(KERNELS, const double2* z, int n1, int n2, int width) {
  extern __shared__ double2 memory[];
  KERNELS_HERE;
  const Columns at(n1, n2, width);
  const i64 n = (i64)n1 * n2;
  double2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = z[at.row * n + at.sample(m)];
  at.between(v, 1);
  at.across(v, memory, 1);
  float* k = a.of(at.row);
#pragma unroll
  for (int m = 0; m < 8; ++m) a.write(k, at.sample(m), v[m], 0.5 / n);
}
extern "C" __global__ void __launch_bounds__(512, 1) cauchy_columns_of_kernel(KERNELS, double2* z, int n1, int n2, int width) {
  extern __shared__ double2 memory[];
  KERNELS_HERE;
  const Columns at(n1, n2, width);
  const float* k = a.of(at.row);
  double2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = a.read(k, at.sample(m));
  at.across(v, memory, -1);
  at.between(v, -1);
#pragma unroll
  for (int m = 0; m < 8; ++m) z[at.row * n1 * n2 + at.sample(m)] = v[m];
}
