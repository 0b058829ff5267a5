// The products of gemm.cu in split bf16 (split16.cuh), from compute capability 8.0 on: twice the rate of TF32. PROD =
// 3: all three products of the split numbers; 1: the high parts alone.
//
// Tiles of 128 × 128 × 32; each operand is split once, on its way to shared memory, while the next tile is loaded from
// global memory. Eight warps of 64 × 32. An operand lies in shared memory as in global memory (its fast index fast),
// and ldmatrix transposes where the product needs it.
#include "common/split16.cuh"
#include "dense/gemm_bf16.cuh"

#if __CUDA_ARCH__ >= 800

constexpr int TM = 128, TK = 32;
constexpr int PLANE = TM * (TK + 8);  // the larger of the two layouts: rows of TK, or of TM, and 16 bytes
constexpr int STAGE = 4 * PLANE;      // A high, A low, B high, B low
constexpr int LOADS = TM * TK / 4 / 256;

// Distance, in 16-bit numbers, from one row of a plane to the next. A plane is the high or the low parts of an
// operand's tile.
template <bool KFAST>
DEV constexpr int leading() {
  return KFAST ? TK + 8 : TM + 8;
}

// Each load of a thread reads four values: (i, k … k+3) where k is fast, else (i … i+3, k).
template <bool KFAST>
DEV void fetch(float4 (&r)[LOADS], const float* src, i64 si, i64 sk, int i0, i64 k0, int ni, i64 nk, bool vec) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    const int e = l * 256 + threadIdx.x;
    const i64 i = i0 + (KFAST ? e / 8 : e % 32 * 4), k = k0 + (KFAST ? e % 8 * 4 : e / 32);
    const i64 left = KFAST ? (i < ni ? nk - k : 0) : (k < nk ? ni - i : 0);
    const float* p = src + i * si + k * sk;
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (vec && left >= 4) {
      v = *(const float4*)p;
    } else {
      if (left > 0) v.x = p[0];
      if (left > 1) v.y = p[1];
      if (left > 2) v.z = p[2];
      if (left > 3) v.w = p[3];
    }
    r[l] = v;
  }
}
template <bool KFAST, int PROD>
DEV void put(unsigned short* plane, const float4 (&r)[LOADS]) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    const int e = l * 256 + threadIdx.x;
    unsigned short* p = plane + (KFAST ? e / 8 * leading<true>() + e % 8 * 4 : e / 32 * leading<false>() + e % 32 * 4);
    uint2 high, low;
    split_bf16(high.x, low.x, r[l].x, r[l].y);
    split_bf16(high.y, low.y, r[l].z, r[l].w);
    *(uint2*)p = high;
    if (PROD == 3) *(uint2*)(p + PLANE) = low;
  }
}

// Arguments as in gemm.cu; vec: bit 0 set where A allows access by 16 bytes, bit 1 where B does, bit 2 where C allows
// access by 8.
template <bool AK, bool BK, int PROD>
DEV void gemm(float* c, const float* a, const float* b, const float* bias_m, const float* bias_n, int M, int N, i64 K,
              i64 am, i64 ak, i64 bk, i64 bn, i64 cm, i64 abatch, i64 bbatch, i64 cbatch, i64 cpart, int parts, int vec) {
  extern __shared__ unsigned short planes[];
  const int part = blockIdx.z % parts, z = blockIdx.z / parts;
  a += z * abatch, b += z * bbatch, c += z * cbatch + part * cpart;
  const int m0 = blockIdx.y * TM, n0 = blockIdx.x * TM;
  const i64 steps = (K + TK - 1) / TK, each = (steps + parts - 1) / parts;
  const i64 first = part * each, last = min(steps, first + each);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int wm = (warp & 1) * 64, wn = (warp >> 1) * 32;
  const int row = lane & 7, second = (lane >> 3) & 1, upper = lane >> 4;
  constexpr int LA = leading<AK>(), LB = leading<BK>();
  const u32 at_a = shared_address(planes + (AK ? (wm + second * 8 + row) * LA + upper * 8
                                               : (upper * 8 + row) * LA + wm + second * 8));
  const u32 at_b = shared_address(planes + 2 * PLANE + (BK ? (wn + upper * 8 + row) * LB + second * 8
                                                           : (second * 8 + row) * LB + wn + upper * 8));
  float acc[4][4][4] = {};
  float4 ra[LOADS], rb[LOADS];
  if (first < last) {
    fetch<AK>(ra, a, am, ak, m0, first * TK, M, K, vec & 1);
    fetch<BK>(rb, b, bn, bk, n0, first * TK, N, K, vec & 2);
    put<AK, PROD>(planes, ra);
    put<BK, PROD>(planes + 2 * PLANE, rb);
  }
  __syncthreads();
  for (i64 s = first; s < last; ++s) {
    const int now = (int)(s - first) & 1;
    if (s + 1 < last) {
      fetch<AK>(ra, a, am, ak, m0, (s + 1) * TK, M, K, vec & 1);
      fetch<BK>(rb, b, bn, bk, n0, (s + 1) * TK, N, K, vec & 2);
    }
#pragma unroll
    for (int k = 0; k < TK; k += 16) {
      u32 bh[2][4], bl[2][4];
      const u32 stage = 2 * now * STAGE;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const u32 at = at_b + stage + 2 * (BK ? 16 * j * LB + k : k * LB + 16 * j);
        if (BK) load_tiles(bh[j], at);
        else load_transposed(bh[j], at);
        if (PROD == 3 && BK) load_tiles(bl[j], at + 2 * PLANE);
        else if (PROD == 3) load_transposed(bl[j], at + 2 * PLANE);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u32 ah[4], al[4];
        const u32 at = at_a + stage + 2 * (AK ? 16 * i * LA + k : k * LA + 16 * i);
        if (AK) load_tiles(ah, at);
        else load_transposed(ah, at);
        if (PROD == 3) {
          if (AK) load_tiles(al, at + 2 * PLANE);
          else load_transposed(al, at + 2 * PLANE);
#pragma unroll
          for (int j = 0; j < 4; ++j) mma_bf16(acc[i][j], al, bh[j / 2][j % 2 * 2], bh[j / 2][j % 2 * 2 + 1]);
#pragma unroll
          for (int j = 0; j < 4; ++j) mma_bf16(acc[i][j], ah, bl[j / 2][j % 2 * 2], bl[j / 2][j % 2 * 2 + 1]);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_bf16(acc[i][j], ah, bh[j / 2][j % 2 * 2], bh[j / 2][j % 2 * 2 + 1]);
      }
    }
    if (s + 1 < last) {
      put<AK, PROD>(planes + (now ^ 1) * STAGE, ra);
      put<BK, PROD>(planes + (now ^ 1) * STAGE + 2 * PLANE, rb);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int m = m0 + wm + 16 * i + 8 * r + g;
      if (m >= M) continue;
      const float over = bias_m ? bias_m[m] : 0.f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int n = n0 + wn + 8 * j + 2 * t;
        store_pair(c, cm, m, n, N, make_float2(acc[i][j][2 * r], acc[i][j][2 * r + 1]), over, bias_n, vec);
      }
    }
}

GEMMS

#endif
