// The products of gemm_bf16.cu by warpgroups (wgmma.cuh): the tensor cores read both operands from shared memory, and
// while they work the same threads load and split the next tile.
#include "common/wgmma.cuh"
#include "dense/gemm_bf16.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int TM = 128, TK = 32;
constexpr int PLANE = CoreMatrices<true>::BYTES;  // the larger of the two layouts
constexpr int STAGE = 4 * PLANE;           // A high, A low, B high, B low
constexpr int LOADS = TM * TK / 4 / 256;

// First (i, k) of load l of a thread, four values: (i, k … k+3) where k is fast, else (i … i+3, k).
template <bool KFAST>
DEV void place(int l, int& i, int& k) {
  const int e = l * 256 + threadIdx.x;
  i = KFAST ? e / 8 : e % 32 * 4, k = KFAST ? e % 8 * 4 : e / 32;
}

template <bool KFAST>
DEV void fetch(float4 (&r)[LOADS], const float* src, i64 si, i64 sk, int i0, i64 k0, int ni, i64 nk, bool vec) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    int i, k;
    place<KFAST>(l, i, k);
    const float* p = src + (i0 + i) * si + (k0 + k) * sk;
    const i64 left = KFAST ? (i0 + i < ni ? nk - k0 - k : 0) : (k0 + k < nk ? ni - i0 - i : 0);
    // Where access by 16 bytes is allowed the matrix's rows end at multiples of four.
    r[l] = vec ? read4_if(p, left > 0)
               : make_float4(read_if(p, left > 0), read_if(p + 1, left > 1), read_if(p + 2, left > 2),
                             read_if(p + 3, left > 3));
  }
}
template <bool KFAST, int PROD>
DEV void put(char* plane, const float4 (&r)[LOADS]) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    int i, k;
    place<KFAST>(l, i, k);
    uint2 high, low;
    split_bf16(high.x, low.x, r[l].x, r[l].y);
    split_bf16(high.y, low.y, r[l].z, r[l].w);
    char* p = plane + CoreMatrices<KFAST>::at(i, k);
    *(uint2*)p = high;
    if (PROD == 3) *(uint2*)(p + PLANE) = low;
  }
}

// Arguments as in gemm_bf16.cu. Two warpgroups, each for 64 × 128 elements of C.
template <bool AK, bool BK, int PROD>
DEV void gemm(float* c, const float* a, const float* b, const float* bias_m, const float* bias_n, int M, int N, i64 K,
              i64 am, i64 ak, i64 bk, i64 bn, i64 cm, i64 abatch, i64 bbatch, i64 cbatch, i64 cpart, int parts, int vec) {
  extern __shared__ __align__(128) char planes[];
  const int part = blockIdx.z % parts, z = blockIdx.z / parts;
  a += z * abatch, b += z * bbatch, c += z * cbatch + part * cpart;
  const int m0 = blockIdx.y * TM, n0 = blockIdx.x * TM;
  const i64 steps = (K + TK - 1) / TK, each = (steps + parts - 1) / parts;
  const i64 first = part * each, last = min(steps, first + each);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const u32 base = shared_address(planes);
  float acc[64];
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
  float4 ra[LOADS], rb[LOADS];
  if (first < last) {
    fetch<AK>(ra, a, am, ak, m0, first * TK, M, K, vec & 1);
    fetch<BK>(rb, b, bn, bk, n0, first * TK, N, K, vec & 2);
    put<AK, PROD>(planes, ra);
    put<BK, PROD>(planes + 2 * PLANE, rb);
  }
  stores_before_wgmma();
  __syncthreads();
  for (i64 s = first; s < last; ++s) {
    const int now = (int)(s - first) & 1;
    if (s + 1 < last) {
      fetch<AK>(ra, a, am, ak, m0, (s + 1) * TK, M, K, vec & 1);
      fetch<BK>(rb, b, bn, bk, n0, (s + 1) * TK, N, K, vec & 2);
    }
    const u32 at_a = base + now * STAGE + (warp >> 2) * 8 * CoreMatrices<AK>::OUTER, at_b = base + now * STAGE + 2 * PLANE;
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < TK / 16; ++k) {
      const u64 ah = CoreMatrices<AK>::describe(at_a + 2 * k * CoreMatrices<AK>::INNER),
                bh = CoreMatrices<BK>::describe(at_b + 2 * k * CoreMatrices<BK>::INNER);
      if (PROD == 3) {
        wgmma<AK, BK>(acc, CoreMatrices<AK>::describe(at_a + PLANE + 2 * k * CoreMatrices<AK>::INNER), bh);
        wgmma<AK, BK>(acc, ah, CoreMatrices<BK>::describe(at_b + PLANE + 2 * k * CoreMatrices<BK>::INNER));
      }
      wgmma<AK, BK>(acc, ah, bh);
    }
    wgmma_end_group();
    if (s + 1 < last) {
      put<AK, PROD>(planes + (now ^ 1) * STAGE, ra);
      put<BK, PROD>(planes + (now ^ 1) * STAGE + 2 * PLANE, rb);
    }
    stores_before_wgmma();
    wgmma_wait();
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int m = m0 + 16 * warp + 8 * r + g;
    if (m >= M) continue;
    const float over = bias_m ? bias_m[m] : 0.f;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int n = n0 + 8 * j + 2 * t;
      store_pair(c, cm, m, n, N, make_float2(acc[4 * j + 2 * r], acc[4 * j + 2 * r + 1]), over, bias_n, vec);
    }
  }
}

GEMMS

#endif
