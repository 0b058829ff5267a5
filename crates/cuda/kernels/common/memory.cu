// Operations on whole arrays: fill, copy, y += α·x, transpose. dst and src have n elements.
#include "common/base.cuh"

KERNEL fill(float* dst, float value, i64 n) {
  for (i64 i = index(); i < n; i += stride()) dst[i] = value;
}

KERNEL copy(float* dst, const float* src, i64 n) {
  const bool vec = aligned(dst) && aligned(src);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float a[4];
    const i64 left = n - q * 4;
    read4(a, src + q * 4, left, vec && left >= 4);
    write4(dst + q * 4, a, left, vec && left >= 4);
  }
}

KERNEL axpy(float* dst, float alpha, const float* src, i64 n) {
  const bool vec = aligned(dst) && aligned(src);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float a[4], b[4];
    const i64 left = n - q * 4;
    read4(a, dst + q * 4, left, vec && left >= 4);
    read4(b, src + q * 4, left, vec && left >= 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] += alpha * b[i];
    write4(dst + q * 4, a, left, vec && left >= 4);
  }
}

// Transposes each matrix of a batch,
// (batch, rows, cols) → (batch, cols, rows); tiles of 32 × 32 through shared memory, block (32, 8). `first`: first row of this launch.
KERNEL transpose(float* dst, const float* src, i64 rows, i64 cols, i64 first) {
  __shared__ float tile[32][33];
  i64 c0 = (i64)blockIdx.x * 32, r0 = first + (i64)blockIdx.y * 32, base = (i64)blockIdx.z * rows * cols;
  for (int k = threadIdx.y; k < 32; k += 8)
    if (r0 + k < rows && c0 + threadIdx.x < cols)
      tile[k][threadIdx.x] = src[base + (r0 + k) * cols + c0 + threadIdx.x];
  __syncthreads();
  for (int k = threadIdx.y; k < 32; k += 8)
    if (c0 + k < cols && r0 + threadIdx.x < rows)
      dst[base + (c0 + k) * rows + r0 + threadIdx.x] = tile[threadIdx.x][k];
}

// Writes to an address outside every allocation: an intentional fault, for tests of how the host reports it.
extern "C" __global__ void fault(int* nowhere) { *nowhere = 1; }
