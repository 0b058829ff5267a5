// Products by a warpgroup of Hopper (wgmma): 64 × 128 += (64 × 16)·(16 × 128) of bf16, both operands in shared memory.
//
// An operand lies in core matrices of 8 × 8 numbers, 128 bytes each without gaps: eight rows of its slow index, eight
// numbers of its fast one. Core matrix (i/8, k/8) is at i/8·OUTER + k/8·INNER, strides in bytes that keep the stores of
// a warp on different banks. wgmma takes either index as the fast one.
#pragma once
#include "common/split16.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Byte offsets of an operand of 128 (index i) × 32 (index k) numbers in shared memory; KFAST: k is the fast index, else
// i.
template <bool KFAST>
struct CoreMatrices {
  static constexpr int INNER = KFAST ? 160 : 16 * 144, OUTER = KFAST ? 4 * 160 : 144;
  static constexpr int BYTES = KFAST ? 16 * OUTER : 4 * INNER;
  // Byte of number (i, k).
  __device__ __forceinline__ static int at(int i, int k) {
    return i / 8 * OUTER + k / 8 * INNER + (KFAST ? i % 8 * 16 + k % 8 * 2 : k % 8 * 16 + i % 8 * 2);
  }
  // The descriptor that wgmma takes of an operand starting at this shared address.
  __device__ __forceinline__ static u64 describe(u32 address) {
    return (u64)(address >> 4 & 0x3fff) | (u64)(INNER >> 4) << 16 | (u64)(OUTER >> 4) << 32;
  }
};

// Stores four 8×8 tiles of 16-bit numbers, held as mma holds its results, to shared memory: lane l gives the address of
// row l % 8 of tile l / 8.
DEV void store_tiles(u32 address, const u32 (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}

// As store_tiles, each tile transposed.
DEV void store_transposed(u32 address, const u32 (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}

DEV void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV void wgmma_end_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEV void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
// Makes this thread's ordinary stores to shared memory visible to wgmma and to TMA.
DEV void stores_before_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// d (64 × 128) += a·b over 16 k, of bf16 or f16, from descriptors of both operands. Thread (g = lane / 4, t = lane % 4) holds
// in d[4j + e] column 8j + 2t + (e & 1) of row g + 8·(e >> 1) of its warp's sixteen rows.
#define WGMMA_128(name, type) \
template <bool AK, bool BK> \
DEV void name(float (&d)[64], u64 a, u64 b) { \
  asm volatile( \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type " " \
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
      "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57," \
      "%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, %66, %67;" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), \
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), \
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), \
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), \
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]) \
      : "l"(a), "l"(b),"n"(AK ? 0 : 1), "n"(BK ? 0 : 1)); \
}
WGMMA_128(wgmma, "bf16.bf16")
WGMMA_128(wgmma_of_f16, "f16.f16")
#undef WGMMA_128

// d (64 × 64) = a·b over 16 k, of f16, a in registers, b in shared memory with k fast; d is overwritten.
DEV void wgmma_f16_first(float (&d)[8][4], const u32 (&a)[4], u64 b) {
#define D(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
      "}, {%32,%33,%34,%35}, %36, 0, 1, 1, 0;"
      : D(0), D(1), D(2), D(3), D(4), D(5), D(6), D(7)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#undef D
}

// The first N columns of d += a·b: (64 × 16)·(16 × N) of f16, a in registers, b in shared memory with k fast.
template <int N, int NT>
DEV void wgmma_f16(float (&d)[NT][4], const u32 (&a)[4], u64 b) {
#define D(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define A_B "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
  if constexpr (N == 64)
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
        "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 0;"
        : D(0), D(1), D(2), D(3), D(4), D(5), D(6), D(7)
        : A_B);
  else if constexpr (N == 48)
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23"
        "}, {%24,%25,%26,%27}, %28, 1, 1, 1, 0;"
        : D(0), D(1), D(2), D(3), D(4), D(5)
        : A_B);
  else if constexpr (N == 32)
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
        "}, {%16,%17,%18,%19}, %20, 1, 1, 1, 0;"
        : D(0), D(1), D(2), D(3)
        : A_B);
  else if constexpr (N == 16)
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7"
        "}, {%8,%9,%10,%11}, %12, 1, 1, 1, 0;"
        : D(0), D(1)
        : A_B);
#undef D
#undef A_B
}

// d += a·b of 64 × 64 × 16, both operands in shared memory, k fast.
DEV void wgmma_f16_shared(float (&d)[8][4], u64 a, u64 b) {
#define D(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
      "}, %32, %33, 1, 1, 1, 0, 0;"
      : D(0), D(1), D(2), D(3), D(4), D(5), D(6), D(7)
      : "l"(a), "l"(b));
#undef D
}

#endif
