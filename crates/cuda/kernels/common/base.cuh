// Types, index arithmetic, sums over warps and blocks, and vector reads that every kernel includes. NVRTC has no
// standard headers; nothing here needs any.
#pragma once

typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL extern "C" __global__ void
#define DEV static __device__ __forceinline__

// Grid-stride loops: for (i64 i = index(); i < n; i += stride()).
DEV i64 index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
DEV i64 stride() { return (i64)gridDim.x * blockDim.x; }

// Sum of x over the 32 lanes of a warp; every lane gets it.
template <class T>
DEV T warp_sum(T x) {
  for (int k = 16; k; k >>= 1) x += __shfl_xor_sync(~0u, x, k);
  return x;
}

// Sum over a block of up to 1024 threads, in an order that depends on the block size alone; every thread gets it.
template <class T>
DEV T block_sum(T x) {
  __shared__ T part[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  x = warp_sum(x);
  __syncthreads();  // part may still be read from the sum before
  if (lane == 0) part[warp] = x;
  __syncthreads();
  x = lane < warps ? part[lane] : T(0);
  return warp_sum(x);
}

// Valid time steps of sequence b of the batch: lengths[b], or len where no lengths are given.
DEV int sequence_len(const int* lengths, int b, int len) { return lengths ? lengths[b] : len; }

// a / b for a ≥ 0 and b > 0: by 32-bit division, which is faster, where both fit in 31 bits.
DEV i64 quotient(i64 a, i64 b) { return (a | b) >> 31 ? a / b : (i64)((u32)a / (u32)b); }

// Reads four elements from p on: the first `count` exist, the others read as 0. vec: p is a multiple of 16 bytes and
// all four exist.
DEV void read4(float (&v)[4], const float* p, i64 count, bool vec) {
  if (vec) {
    const float4 x = *(const float4*)p;
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = i < count ? p[i] : 0.f;
  }
}
// Writes the first `count` of four elements to p on; vec as for read4.
DEV void write4(float* p, const float (&v)[4], i64 count, bool vec) {
  if (vec) {
    *(float4*)p = make_float4(v[0], v[1], v[2], v[3]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < count) p[i] = v[i];
  }
}
// Whether p is a multiple of 16 bytes (or null), as access by float4 needs it.
DEV bool aligned(const void* p) { return ((u64)p & 15) == 0; }
