// The chunk pass of chunk_pass_f16.cuh by Hopper's warpgroups: 64 rows (segments), whose split numbers go to wgmma from
// registers (each warp's sixteen lie as for mma m16n8k16), and matrices that it reads from shared memory.
#include "ssm/chunk_pass_f16.cuh"
#include "common/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <int NP, int PROD>
struct WarpgroupUnit {
  static constexpr int NT = NP / 8, KS = NP / 16, TOGETHER = 4;
  // Bytes of a matrix's high plane, which its low plane follows; and where each matrix starts.
  static constexpr int TT = T * T * 2, ST = NP * T * 2, SS = NP * NP * 2;
  static constexpr int W = 2 * TT, V = W + 2 * ST, Q = V + 2 * ST, MATRICES = (Q + 2 * SS) / 16;
  uint4* memory;

  // Index of tile n (eight columns of y) among the accumulators. Products of the lower triangle leave out its first
  // tiles, and wgmma needs its accumulators from the first on, so there they are in reverse order.
  template <int MODE>
  __device__ static constexpr int accumulator_of(int n) {
    return MODE == LOWER ? 7 - n : n;
  }

  // Writes fragment e of a matrix of `columns` columns: core matrix (k/8, n/8) is at k/8·columns/8 + n/8, its rows are
  // n.
  template <int MODE>
  __device__ __forceinline__ void place(int from, int plane, int columns, int e, float4 f, float scale) {
    const int groups = columns / 8, lane = e & 31, n = accumulator_of<MODE>((e >> 5) % groups), k = (e >> 5) / groups;
    char* p = (char*)memory + from + (2 * k * groups + n) * 128 + (lane >> 2) * 16 + (lane & 3) * 4;
    u32 high, low;
    split_f16(high, low, f.x, f.y, scale);
    *(u32*)p = high, *(u32*)(p + plane) = low;
    split_f16(high, low, f.z, f.w, scale);
    p += groups * 128;
    *(u32*)p = high, *(u32*)(p + plane) = low;
  }
  template <int MODE>
  __device__ void toep(int e, float4 f, float scale) {
    place<MODE>(0, TT, T, e, f, scale);
  }
  template <int MODE>
  __device__ void w(int e, float4 f, float scale) {
    place<MODE>(W, ST, T, e, f, scale);
  }
  __device__ void v(int e, float4 f, float scale) { place<STATES>(V, ST, NP, e, f, scale); }
  __device__ void q(int e, float4 f, float scale) { place<STATES>(Q, SS, NP, e, f, scale); }
  __device__ void matrices_written() { stores_before_wgmma(); }

  // c += A·(rows 16k … 16k + 15 of the first N columns of the matrix at `from`), by P products.
  template <int P, int N, int C>
  __device__ __forceinline__ void product(float (&c)[C][4], const u32 (&high)[4], const u32 (&low)[4], int from, int plane,
                                          int columns, int k) {
    const int groups = columns / 8;
    auto describe = [&](int at) {
      return (u64)((shared_address((char*)memory + at + 2 * k * groups * 128) >> 4) & 0x3fff) |
             (u64)(groups * 8) << 16 | (u64)8 << 32;
    };
    if (P == 3) {
      wgmma_f16<N>(c, low, describe(from));
      wgmma_f16<N>(c, high, describe(from + plane));
    }
    wgmma_f16<N>(c, high, describe(from));
  }

  template <int MODE>
  __device__ __forceinline__ void states(float (&s)[NT][4], float (&y)[8][4], const u32 (&high)[KS][4],
                                         const u32 (&low)[KS][4]) {
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      product<3, NP>(s, high[k], low[k], Q, SS, NP, k);
      if (MODE != STATES) product<PROD, T>(y, high[k], low[k], W, ST, T, k);
    }
    wgmma_end_group();
    wgmma_wait();
  }

  template <int MODE, class Splits>
  __device__ __forceinline__ void inputs(float (&s)[NT][4], float (&y)[8][4], Splits splits) {
    u32 high[KT][4], low[KT][4];
#pragma unroll
    for (int k = 0; k < KT; ++k) splits(k, high[k], low[k]);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KT; ++k) product<3, NP>(s, high[k], low[k], V, ST, NP, k);
    // Of sixteen rows of Toep the lower triangle leaves out the first columns, the upper one the last.
    if (MODE != STATES) {
      constexpr int FIRST = MODE == LOWER ? 0 : 3, STEP = MODE == LOWER ? 1 : -1;
      product<PROD, 64>(y, high[FIRST], low[FIRST], 0, TT, T, FIRST);
      product<PROD, 48>(y, high[FIRST + STEP], low[FIRST + STEP], 0, TT, T, FIRST + STEP);
      product<PROD, 32>(y, high[FIRST + 2 * STEP], low[FIRST + 2 * STEP], 0, TT, T, FIRST + 2 * STEP);
      product<PROD, 16>(y, high[FIRST + 3 * STEP], low[FIRST + 3 * STEP], 0, TT, T, FIRST + 3 * STEP);
    }
    wgmma_end_group();
    wgmma_wait();
  }
};

PASSES(WarpgroupUnit, 32)
PASSES(WarpgroupUnit, 64)

#endif
