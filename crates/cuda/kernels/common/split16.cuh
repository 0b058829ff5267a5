// Matrix products on the tensor cores of f32 numbers, each split in two 16-bit numbers: x = high + low, so that a·b ≈
// high·high + high·low + low·high. Twice as fast as the same from two TF32 numbers (mma.cuh).
//
// Split f16 holds 22 bits of numbers that are first scaled into the range of f16 (by one power of two per row of A and
// one per matrix B); split bf16 holds 16 bits of any f32, for sums in which no such scale exists.
//
// m16n8k16: with g = lane / 4 and t = lane % 4 a thread holds
//   A (16×16): a0 = A[g][2t, 2t+1], a1 = A[g+8][2t, 2t+1], a2 = A[g][2t+8, 2t+9], a3 = A[g+8][2t+8, 2t+9]
//   B (16×8):  b0 = B[2t, 2t+1][g], b1 = B[2t+8, 2t+9][g]
//   C (16×8):  as for m16n8k8 (mma.cuh).
#pragma once
#include "common/base.cuh"

#if __CUDA_ARCH__ >= 800

// Two f32 as f16, the first in the lower 16 bits.
DEV u32 pack_f16(float a, float b) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
  return r;
}
DEV float2 unpack_f16(u32 x) {
  float2 r;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(r.x), "=f"(r.y) : "r"(x));
  return r;
}
DEV u32 pack_bf16(float a, float b) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
  return r;
}

// Splits a·scale and b·scale into f16 numbers, two per register (a in the lower 16 bits); the scale is a power of two.
DEV void split_f16(u32& high, u32& low, float a, float b, float scale) {
  high = pack_f16(a * scale, b * scale);
  const float2 h = unpack_f16(high);
  low = pack_f16(fmaf(a, scale, -h.x), fmaf(b, scale, -h.y));
}
// Splits a and b into bf16 numbers, two per register.
DEV void split_bf16(u32& high, u32& low, float a, float b) {
  high = pack_bf16(a, b);
  low = pack_bf16(a - __uint_as_float(high << 16), b - __uint_as_float(high & 0xffff0000u));
}

DEV void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEV void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^k, with k limited to the exponents of normal f32 numbers, −126 to 127.
DEV float power_of_two(int k) { return __int_as_float((min(max(k, -126), 127) + 127) << 23); }

// The exponent e for which max·2^e lies in [2^14, 2^15), but at most `most`: f16 has room below that for smaller
// values, so arrays of small numbers need no larger scale.
DEV int f16_exponent(float max, int most) { return min(141 - (int)(__float_as_uint(max) >> 23), most); }

// Reads of four (one) elements without a branch; zero, and no access to memory, where `there` is false.
DEV float4 read4_if(const float* p, bool there) {
  float4 v;
  asm volatile(
      "{.reg .pred q; setp.ne.s32 q, %5, 0; mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; "
      "mov.f32 %3, 0f00000000; @q ld.global.v4.f32 {%0, %1, %2, %3}, [%4];}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "l"(p), "r"((int)there));
  return v;
}
DEV float read_if(const float* p, bool there) {
  float v;
  asm volatile("{.reg .pred q; setp.ne.s32 q, %2, 0; mov.f32 %0, 0f00000000; @q ld.global.f32 %0, [%1];}"
               : "=f"(v)
               : "l"(p), "r"((int)there));
  return v;
}

// Writes of four words, two and one without a branch, and none where `there` is false. Between branches registers that wait to be written would be
// used again at once, and each write would wait for the one before.
DEV void write4_if(void* p, u32 a, u32 b, u32 c, u32 d, bool there) {
  asm volatile("{.reg .pred q; setp.ne.s32 q, %5, 0; @q st.global.v4.b32 [%0], {%1, %2, %3, %4};}" ::"l"(p), "r"(a), "r"(b), "r"(c), "r"(d),
               "r"((int)there)
               : "memory");
}
DEV void write2_if(float* p, float a, float b, bool there) {
  asm volatile("{.reg .pred q; setp.ne.s32 q, %3, 0; @q st.global.v2.f32 [%0], {%1, %2};}" ::"l"(p), "f"(a), "f"(b), "r"((int)there) : "memory");
}
DEV void write_if(int* p, int a, bool there) {
  asm volatile("{.reg .pred q; setp.ne.s32 q, %2, 0; @q st.global.b32 [%0], %1;}" ::"l"(p), "r"(a), "r"((int)there) : "memory");
}

DEV u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Starts an asynchronous copy of 16 (4) bytes to shared memory: the first `bytes` are read, the others become zero.
DEV void copy_16(u32 dst, const void* src, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}
DEV void copy_4(u32 dst, const void* src, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}
// Ends the group of copies that this thread has started since the last call.
DEV void copies_end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N of this thread's groups of copies are unfinished.
template <int N>
DEV void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Loads four 8×8 tiles of 16-bit numbers from shared memory as operands of mma: lane l gives the address of row l % 8
// of tile l / 8 and gets elements (lane / 4; 2(lane % 4), +1) of each.
DEV void load_tiles(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
// As load_tiles, each tile transposed.
DEV void load_transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

#endif
