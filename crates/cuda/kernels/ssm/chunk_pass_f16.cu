// The chunk pass of chunk_pass_f16.cuh by warps: fragments of mma m16n8k16, high and low parts in one 16-byte read.
#include "ssm/chunk_pass_f16.cuh"

#if __CUDA_ARCH__ >= 800

// c0 += A·f0 and c1 += A·f1 for a split A and two 16×8 fragments; the independent products stand next to each other.
template <int PROD>
DEV void multiply(float (&c0)[4], float (&c1)[4], const u32 (&high)[4], const u32 (&low)[4], uint4 f0, uint4 f1) {
  if (PROD == 3) {
    mma_f16(c0, low, f0.x, f0.y), mma_f16(c1, low, f1.x, f1.y);
    mma_f16(c0, high, f0.z, f0.w), mma_f16(c1, high, f1.z, f1.w);
  }
  mma_f16(c0, high, f0.x, f0.y), mma_f16(c1, high, f1.x, f1.y);
}

// A fragment times `scale`, split: high parts in x and y, low parts in z and w.
DEV uint4 split_fragment(float4 f, float scale) {
  uint4 r;
  split_f16(r.x, r.z, f.x, f.y, scale);
  split_f16(r.y, r.w, f.z, f.w, scale);
  return r;
}

// Index of fragment (k, n) of Toep among those that are not zero: n/2 ≥ k in the lower triangle, n/2 ≤ k in the upper.
DEV constexpr int lower_at(int k, int n) { return k * (9 - k) + n - 2 * k; }
DEV constexpr int upper_at(int k, int n) { return k * (k + 1) + n; }
constexpr int TOEP = 20;

template <int NP, int PROD>
struct WarpUnit {
  static constexpr int NT = NP / 8, KS = NP / 16, TOGETHER = 1;
  static constexpr int W = TOEP * 32, V = W + KS * 8 * 32, Q = V + KT * NT * 32, MATRICES = Q + KS * NT * 32;
  uint4* memory;

  // Index of tile n (eight columns of y) among the accumulators.
  template <int MODE>
  __device__ static constexpr int accumulator_of(int n) {
    return n;
  }

  template <int MODE>
  __device__ void toep(int e, float4 f, float scale) {
    constexpr bool lower = MODE == LOWER;
    const int k = e / 256, n = e / 32 % 8;
    if (lower ? n / 2 < k : n / 2 > k) return;
    memory[(lower ? lower_at(k, n) : upper_at(k, n)) * 32 + e % 32] = split_fragment(f, scale);
  }
  template <int MODE>
  __device__ void w(int e, float4 f, float scale) {
    memory[W + e] = split_fragment(f, scale);
  }
  __device__ void v(int e, float4 f, float scale) { memory[V + e] = split_fragment(f, scale); }
  __device__ void q(int e, float4 f, float scale) { memory[Q + e] = split_fragment(f, scale); }
  __device__ void matrices_written() {}

  // c0 and c1 += A·(fragments n and n + 1 of the matrix that starts at `from`).
  template <int P>
  __device__ __forceinline__ void two(float (&c0)[4], float (&c1)[4], const u32 (&high)[4], const u32 (&low)[4], int from,
                                      int n) {
    const uint4* f = memory + from + n * 32 + (threadIdx.x & 31);
    multiply<P>(c0, c1, high, low, f[0], f[32]);
  }

  // s += S·Qᵀ, y += S·Wᵀ, S the states before the chunk.
  template <int MODE>
  __device__ __forceinline__ void states(float (&s)[NT][4], float (&y)[8][4], const u32 (&high)[KS][4],
                                         const u32 (&low)[KS][4]) {
#pragma unroll
    for (int k = 0; k < KS; ++k) {
#pragma unroll
      for (int n = 0; n < NT; n += 2) two<3>(s[n], s[n + 1], high[k], low[k], Q, k * NT + n);
      if (MODE != STATES)
#pragma unroll
        for (int n = 0; n < 8; n += 2) two<PROD>(y[n], y[n + 1], high[k], low[k], W, k * 8 + n);
    }
  }

  // s += X·Vᵀ, y += X·Toepᵀ, X the chunk's inputs.
  template <int MODE, class Splits>
  __device__ __forceinline__ void inputs(float (&s)[NT][4], float (&y)[8][4], Splits splits) {
#pragma unroll
    for (int k = 0; k < KT; ++k) {
      u32 high[4], low[4];
      splits(k, high, low);
#pragma unroll
      for (int n = 0; n < NT; n += 2) two<3>(s[n], s[n + 1], high, low, V, k * NT + n);
      if (MODE == LOWER) {
#pragma unroll
        for (int n = 2 * k; n < 8; n += 2) two<PROD>(y[n], y[n + 1], high, low, 0, lower_at(k, n));
      } else if (MODE == UPPER) {
#pragma unroll
        for (int n = 0; n <= 2 * k; n += 2) two<PROD>(y[n], y[n + 1], high, low, 0, upper_at(k, n));
      }
    }
  }
};

PASSES(WarpUnit, 32)
PASSES(WarpUnit, 64)

#endif
