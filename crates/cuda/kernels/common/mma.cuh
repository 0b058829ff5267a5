// Matrix products of 16×8 by 8×8 tiles on the tensor cores, as exact as f32: each operand is split in two TF32 numbers
// (SplitTf32) and three products are added.
//
// m16n8k8: with g = lane / 4 and t = lane % 4 a thread holds
//   A (16×8): a0 = A[g][t], a1 = A[g+8][t], a2 = A[g][t+4], a3 = A[g+8][t+4]
//   B (8×8):  b0 = B[t][g], b1 = B[t+4][g]
//   C (16×8): c0 = C[g][2t], c1 = C[g][2t+1], c2 = C[g+8][2t], c3 = C[g+8][2t+1].
#pragma once
#include "common/base.cuh"

// x = hi + lo with hi and lo in TF32 (11 significant bits each), so a·b ≈ hi·hi + hi·lo + lo·hi to 2⁻²².
struct SplitTf32 {
  u32 hi, lo;
};

// hi is x rounded to TF32 by integer arithmetic, which runs at full rate where cvt.rna.tf32 does not; lo is exact
// and the tensor cores read its upper bits. A NaN stays one in lo, an infinity becomes NaN there.
DEV SplitTf32 split(float x) {
#if __CUDA_ARCH__ >= 800
  const u32 hi = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  return {hi, __float_as_uint(x - __uint_as_float(hi))};
#else
  return {__float_as_uint(x), 0};
#endif
}

// A thread's values of a 16 × 8 tile of A, split.
struct FragA {
  SplitTf32 x[4];
};
// A thread's values of an 8 × 8 tile of B, split.
struct FragB {
  SplitTf32 x[2];
};

DEV FragA frag_a(float a0, float a1, float a2, float a3) {
  return {{split(a0), split(a1), split(a2), split(a3)}};
}
DEV FragB frag_b(float b0, float b1) { return {{split(b0), split(b1)}}; }

#if __CUDA_ARCH__ >= 800
DEV void mma_tf32(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#else
// Turing has no TF32: plain FMA, operands passed around by shuffles. A call, because inlined it would make the
// unrolled kernels too large to compile.
static __device__ __noinline__ float4 mma_plain(float4 c, float4 a, float2 b) {
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int row = g * 4 + (k & 3), col = 8 * t + (k & 3);
    const float a0 = __shfl_sync(~0u, k < 4 ? a.x : a.z, row), a1 = __shfl_sync(~0u, k < 4 ? a.y : a.w, row);
    const float b0 = __shfl_sync(~0u, k < 4 ? b.x : b.y, col), b1 = __shfl_sync(~0u, k < 4 ? b.x : b.y, col + 4);
    c.x = fmaf(a0, b0, c.x), c.y = fmaf(a0, b1, c.y);
    c.z = fmaf(a1, b0, c.z), c.w = fmaf(a1, b1, c.w);
  }
  return c;
}
#endif

// C += A·B.
DEV void mma(float (&c)[4], const FragA& a, const FragB& b) {
#if __CUDA_ARCH__ >= 800
  mma_tf32(c, a.x[0].lo, a.x[1].lo, a.x[2].lo, a.x[3].lo, b.x[0].hi, b.x[1].hi);
  mma_tf32(c, a.x[0].hi, a.x[1].hi, a.x[2].hi, a.x[3].hi, b.x[0].lo, b.x[1].lo);
  mma_tf32(c, a.x[0].hi, a.x[1].hi, a.x[2].hi, a.x[3].hi, b.x[0].hi, b.x[1].hi);
#else
  auto f = [](SplitTf32 s) { return __uint_as_float(s.hi); };
  const float4 r = mma_plain(make_float4(c[0], c[1], c[2], c[3]),
                             make_float4(f(a.x[0]), f(a.x[1]), f(a.x[2]), f(a.x[3])),
                             make_float2(f(b.x[0]), f(b.x[1])));
  c[0] = r.x, c[1] = r.y, c[2] = r.z, c[3] = r.w;
#endif
}
